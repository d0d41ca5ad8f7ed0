//! Links in a workflow's notes, and in any other text of a widget: Markdown, or bare addresses.
//!
//! A link counts if it is a model's file. The note names its folder: by words on its line or in its paragraph
//! (`ComfyUI/models/loras`), or else the heading above it (`**vae**`). A drawing of the directories that has the file
//! adds the directories below, and counts alone where no words are. Without any, it is the folder of the loader that
//! names the file.
//!
//! In the 644 workflows of `ComfyUI`'s templates 0.1.123, notes have 1,045 such links, and 1,035 get a folder. Of
//! these, 940 are also models of their workflow, and each has the folder there.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::list::last;
use super::unaddressed::Named;
use super::{ImportedModel, List, ListPosition, loader_folders};
use crate::placement::{self, is_model_name};
use crate::source::Source;

/// The longest label of a link and name of a file in a drawing, in bytes.
const LONGEST_NAME: usize = 1024;

/// The longest line that is searched for a folder, in bytes.
const LONGEST_SENTENCE: usize = 4096;

/// A widget's text that may have links.
pub(super) struct Note<'a> {
    pub(super) text: &'a str,
    pub(super) place: ListPosition,
}

/// A link of a note.
#[derive(Debug, PartialEq, Eq)]
struct Link<'a> {
    address: &'a str,
    /// The text in the brackets before it.
    label: Option<&'a str>,
    /// The directory below `models`.
    directory: Option<String>,
}

/// Finds the texts with addresses in a node's widgets, at any depth.
pub(super) fn texts_in<'a>(value: &'a Value, found: &mut impl FnMut(&'a str)) {
    match value {
        Value::String(text) if text.contains("://") => found(text),
        Value::Array(items) => items.iter().for_each(|item| texts_in(item, found)),
        Value::Object(items) => items.values().for_each(|item| texts_in(item, found)),
        _ => {}
    }
}

/// Adds the links of `notes` to the list, once each, except for files that are models of the list.
pub(super) fn links(list: &mut List, notes: &[Note<'_>], named: &[Named]) {
    let mut sources: HashSet<Source> = list.models.iter().map(|model| model.source.clone()).collect();
    let names: HashSet<String> = list.models.iter().map(|model| last(&model.name).to_owned()).collect();
    let loaders: HashMap<&str, &'static str> =
        named.iter().filter_map(|named| Some((last(&named.file), named.folder?))).collect();
    for note in notes {
        for link in links_of(note.text) {
            let Ok(source) = link.address.parse::<Source>() else { continue };
            let name = link.label.filter(|label| is_file(label)).map(|label| last(label).to_owned());
            let name = name.or_else(|| source.file_name().filter(|name| is_file(name)));
            if name.is_none() && !matches!(source, Source::Civitai(_)) {
                continue;
            }
            let name = name.unwrap_or_default();
            if names.contains(&name) || !sources.insert(source.clone()) {
                continue;
            }
            let directory = link.directory.or_else(|| Some((*loaders.get(&*name)?).to_owned()));
            let link = ImportedModel::new(Some(name), source, note.place.clone());
            list.links.push(ImportedModel { directory, ..link });
        }
    }
}

/// True for the name of a model's file.
fn is_file(name: &str) -> bool {
    name.len() <= LONGEST_NAME && is_model_name(name.trim())
}

/// A heading and its level, as Markdown counts: the most general is 1, bold text counts as 7.
struct Heading {
    level: usize,
    directory: Option<String>,
}

/// The links of a note, with the folders that it says.
fn links_of(note: &str) -> Vec<Link<'_>> {
    let tree = tree(note);
    let mut links: Vec<Link<'_>> = Vec::new();
    let mut current: Option<Heading> = None;
    let mut paragraph = Paragraph::default();
    for line in note.lines() {
        let (found, words) = split(line);
        if line.trim().is_empty() {
            std::mem::take(&mut paragraph).end(&mut links);
            paragraph.first = links.len();
            continue;
        }
        let directory = directory_in(&words);
        if !found.is_empty() {
            let said = directory.or_else(|| current.as_ref().and_then(|heading| heading.directory.clone()));
            links.extend(found.into_iter().map(|(address, label)| {
                let file = last(address.split(['?', '#']).next().unwrap_or(address));
                let drawn = label.and_then(|label| tree.get(label)).or_else(|| tree.get(file));
                let drawn = drawn.filter(|drawn| said.as_ref().is_none_or(|said| is_below(drawn, said)));
                Link { address, label, directory: drawn.or(said.as_ref()).cloned() }
            }));
        } else if is_drawn(line) {
            // The drawing was read before.
        } else if let Some(directory) = directory {
            if links.len() == paragraph.first {
                // It is about the following lines.
                current = Some(Heading { level: 7, directory: Some(directory) });
            } else {
                paragraph.said = Some((links.len(), directory));
            }
        } else if let Some(heading) = heading(line) {
            let is_below = current.as_ref().is_some_and(|current| current.level < heading.level);
            if heading.directory.is_some() || !is_below {
                current = Some(heading);
            }
        }
    }
    paragraph.end(&mut links);
    links
}

/// The lines up to an empty one.
#[derive(Default)]
struct Paragraph {
    /// The number of links before it.
    first: usize,
    /// The directory that a line without a link says last, and the number of links before that line.
    said: Option<(usize, String)>,
}

impl Paragraph {
    /// Gives the links before the last such line its directory.
    fn end(self, links: &mut [Link<'_>]) {
        if let Some((end, directory)) = self.said {
            for link in &mut links[self.first..end] {
                link.directory = Some(directory.clone());
            }
        }
    }
}

/// The addresses of a line with their labels, and the line without the addresses.
fn split(line: &str) -> (Vec<(&str, Option<&str>)>, String) {
    let mut found = Vec::new();
    let mut words = String::new();
    let mut rest = line;
    let is_address = |text: &str| text.starts_with("http://") || text.starts_with("https://");
    let next = |text: &str| text.match_indices("http").map(|(at, _)| at).find(|at| is_address(&text[*at..]));
    while let Some(at) = next(rest) {
        let (before, address) = rest.split_at(at);
        let is_end = |c: char| c.is_whitespace() || c.is_control() || "()<>[]{}\"'`|\\（）。，、".contains(c);
        let (address, after) = address.split_at(address.find(is_end).unwrap_or(address.len()));
        let label = before.strip_suffix("](").and_then(|text| text.rsplit_once('['));
        let label = label.map(|(_, label)| label.trim_matches(['`', '*', ' ']));
        words.push_str(before);
        words.push(' ');
        found.push((address.trim_end_matches(['.', ',', ';', ':', '!', '*', '_']), label));
        rest = after;
    }
    words.push_str(rest);
    (found, words)
}

/// The directory below `models` that a sentence names: `ComfyUI/models/loras`, or `the loras folder`.
fn directory_in(words: &str) -> Option<String> {
    if words.len() > LONGEST_SENTENCE {
        return None;
    }
    let words = words.replace('\\', "/");
    for (at, text) in words.match_indices("models/") {
        let is_part = |c: char| c.is_alphanumeric() || "_-./".contains(c);
        let path = &words[at + text.len()..];
        let path = path[..path.find(|c| !is_part(c)).unwrap_or(path.len())].trim_end_matches(['.', '/']);
        let path =
            if is_file(path) { path.rsplit_once('/').map_or("", |(directory, _)| directory) } else { path };
        let folder = placement::folder(path.split('/').next().unwrap_or(path));
        if let Some(folder) = folder.filter(|_| path.split('/').all(|part| part != "..")) {
            let below = path.split_once('/').map(|(_, below)| format!("/{below}"));
            return Some(format!("{folder}{}", below.unwrap_or_default()));
        }
    }
    let words: Vec<&str> =
        words.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect();
    let is_directory =
        |word: &str| ["folder", "directory"].iter().any(|noun| word.eq_ignore_ascii_case(noun));
    let named =
        words.windows(2).find_map(|pair| placement::folder(pair[0]).filter(|_| is_directory(pair[1])));
    named.map(str::to_owned)
}

/// True if both are in one of `ComfyUI`'s folders, and `said` names no more of the path.
fn is_below(drawn: &str, said: &str) -> bool {
    let (folder, below) = drawn.split_once('/').unwrap_or((drawn, ""));
    let (said, said_below) = said.split_once('/').unwrap_or((said, ""));
    loader_folders::today(folder) == loader_folders::today(said) && below.starts_with(said_below)
}

/// A line that heads the following ones: with `#`, in bold at its beginning, or the name of a folder alone.
fn heading(line: &str) -> Option<Heading> {
    let line = line.trim();
    let level = line.bytes().take_while(|byte| *byte == b'#').count();
    if (1..=6).contains(&level) {
        return Some(Heading { level, directory: folder_named(&line[level..]) });
    }
    let text = line.trim_start_matches(['-', '*', '+', '•', ' ']);
    let is_item = line.starts_with(['-', '+', '•']) || line.starts_with("* ");
    let is_bold = line.strip_prefix("- ").unwrap_or(line).starts_with("**");
    let directory = folder_named(text.split("**").next().unwrap_or(text));
    let is_heading = directory.is_some() || (is_bold && !is_item);
    is_heading.then_some(Heading { level: 7, directory })
}

/// The folder that a heading means: its name, also in the singular, with spaces, or with the word `model` behind it.
fn folder_named(text: &str) -> Option<String> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || "*_`'\"".contains(c)).to_lowercase();
    // Remarks follow the name.
    let name = text.split(['(', ':', '：', '—', '–', ',', '*', '`']).next().unwrap_or_default().trim();
    let name = name.trim_end_matches('/').replace([' ', '-'], "_");
    let name = last(&name);
    let short = name.strip_suffix("_models").or(name.strip_suffix("_model"));
    [Some(name), short].into_iter().flatten().find_map(|name| {
        let plural = placement::folder(&format!("{name}s"));
        placement::folder(name)
            .or(plural)
            .or_else(|| placement::folder(name.strip_suffix('s')?))
            .map(str::to_owned)
    })
}

/// True for a line of a drawing of directories.
fn is_drawn(line: &str) -> bool {
    line.contains(['├', '└', '│', '╰', '📂', '📁'])
}

/// The directories below `models` of the files in a drawing of directories.
fn tree(note: &str) -> HashMap<&str, String> {
    let mut files = HashMap::new();
    // The open directories with their columns.
    let mut open: Vec<(usize, &str)> = Vec::new();
    for line in note.lines() {
        if !is_drawn(line) {
            open.clear();
            continue;
        }
        let is_branch = |c: char| matches!(c, '├' | '└' | '╰');
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '(' | '[' | '<');
        let Some(at) = line.find(is_name) else { continue };
        let (drawing, name) = line.split_at(at);
        // A branch belongs below an entry without one in the same column.
        let indent = drawing.chars().take_while(|c| c.is_whitespace()).count();
        let branch = drawing.chars().enumerate().filter(|(_, c)| is_branch(*c)).last();
        let column = branch.map_or(2 * indent, |(column, _)| 2 * column + 1);
        let end =
            [" (", " #", " <", " ←", "  ", "├", "└", "│"].iter().filter_map(|mark| name.find(mark)).min();
        let name = name[..end.unwrap_or(name.len())].trim().trim_end_matches('/');
        open.truncate(open.iter().rposition(|(known, _)| *known < column).map_or(0, |at| at + 1));
        if is_file(name) {
            // A drawing of more levels than this is none.
            let path: Vec<&str> = open.iter().take(16).map(|(_, name)| *name).chain([name]).collect();
            if let Some(path) = placement::from_layout(&path.join("/")) {
                let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
                files.insert(name, directory.to_owned());
            }
        } else {
            open.push((column, name));
        }
    }
    files
}

#[cfg(test)]
mod tests;
