//! A shell script or Dockerfile that downloads models, such as the provisioning scripts of rented machines. It is read
//! as text and never run.
//!
//! `shell` parses, `evaluate` follows variables, loops and functions, and `tools` knows the programs' options. So the
//! downloads of `provisioning_get_models "$DIR" "${LORA_MODELS[@]}"` come from the script's own loop. An array whose
//! addresses reach no download that can be followed is taken by itself; then its name says the folder.
//!
//! Downloads that only a run would know are left out and listed with their lines. Headers and logins are never
//! imported.

mod evaluate;
mod folders;
mod shell;
mod tools;

use std::collections::HashSet;

use super::{
    At, Format, ImportError, ImportedModel, List, ListPosition, ScriptProblem, Unused, UnusedReason, digest,
};
use crate::placement::{self, is_model_name};
use crate::source::Source;
use evaluate::{Call, UNKNOWN, joined};
use folders::{Folder, folder_of, folder_of_array};
use shell::Text;
use tools::{CommandLine, Tool};

/// The longest script in bytes. A parsed one takes a hundred times its length at most.
const LONGEST: usize = 1 << 20;

/// Programs whose arguments are no downloads, although an address may be among them.
const NO_DOWNLOADS: [&str; 22] = [
    "[", "test", "echo", "printf", "git", "pip", "pip3", "uv", "apt", "apt-get", "log", "cat", "grep", "sed",
    "awk", "rm", "mkdir", "python", "python3", "npm", "conda", "export",
];

/// Arrays that never have models.
const NO_MODELS: [&str; 6] = ["NODES", "WORKFLOWS", "EXTENSIONS", "APT_PACKAGES", "PIP_PACKAGES", "REPOS"];

/// Returns true for a shell script or a Dockerfile.
pub(super) fn is_script(text: &str) -> bool {
    if let Some(shebang) = text.strip_prefix("#!") {
        let program = shebang.lines().next().unwrap_or_default();
        return program
            .split(['/', ' ', '\t'])
            .any(|part| matches!(part, "sh" | "bash" | "zsh" | "dash" | "ksh"));
    }
    is_dockerfile(text) || super::lines(text).any(|(_, line)| is_command(line))
}

fn is_dockerfile(text: &str) -> bool {
    super::lines(text).map(|(_, line)| line.trim_start()).find(|line| !line.starts_with("ARG ")).is_some_and(
        |line| line.get(..5).is_some_and(|from| from.eq_ignore_ascii_case("FROM ")) && !line.contains("://"),
    )
}

/// Returns true for a line that downloads, or that begins an array of models.
fn is_command(line: &str) -> bool {
    let is_prefix =
        |word: &&str| matches!(*word, "sudo" | "RUN" | "!" | "nohup" | "do" | "then" | "else" | "if");
    let downloads = |part: &str| {
        let mut words = part.split_whitespace().skip_while(is_prefix);
        match words.next().unwrap_or_default() {
            "wget" | "curl" | "aria2c" => words.next().is_some(),
            "hf" | "huggingface-cli" => words.next() == Some("download"),
            _ => false,
        }
    };
    let first = line.split_whitespace().next().unwrap_or_default();
    let begins_array = first.split_once("=(").is_some_and(|(name, _)| {
        let name = name.trim_end_matches('+');
        !name.is_empty() && shell::is_name(name)
    });
    begins_array || !first.contains("://") && line.split([';', '&', '|', '(', '{']).any(downloads)
}

pub(super) fn read(name: &str, text: &str) -> Result<List, ImportError> {
    if text.len() > LONGEST {
        return Err(ImportError::LongScript { list: name.to_owned(), most: LONGEST });
    }
    let mut text = text.replace(UNKNOWN, "").replace("\r\n", "\n");
    if is_dockerfile(&text) {
        text = without_inner_comments(&text);
    }
    let script = shell::parse(&text, 1);
    let trace = evaluate::evaluate(&script.items);
    let mut reader = Reader { list_name: name, ..Reader::default() };
    for call in &trace.calls {
        reader.call(call);
    }
    let mut has_arrays = false;
    for (name, elements) in &trace.arrays {
        has_arrays |= reader.array(name, elements);
    }
    for (line, is_whole) in std::mem::take(&mut reader.unknown) {
        if !reader.known.contains(&line) {
            let is_of_array = has_arrays && is_whole;
            let problem = if is_of_array { ScriptProblem::OfArray } else { ScriptProblem::Address };
            reader.leave_out("a download", UnusedReason::Script(problem), line);
        }
    }
    if let Some(line) = script.unclosed {
        reader.leave_out("the rest of the script", UnusedReason::Script(ScriptProblem::Unclosed), line);
    }
    reader.unused.sort_by_key(|unused| match unused.place.at {
        At::Line(line) => line,
        At::Entry(_) => usize::MAX,
    });
    let mut list = List { models: reader.models, unused: reader.unused, ..List::new(Format::Script) };
    if trace.is_cut {
        let why = UnusedReason::Script(ScriptProblem::TooLong);
        list.leave_out("the script", why, &ListPosition::entry(name, "its end"));
    }
    // A branch that does not tell the folder adds nothing to one that does.
    let placed = list.models.iter().filter(|model| model.directory.is_some());
    let placed: HashSet<Source> = placed.map(|model| model.source.clone()).collect();
    list.models.retain(|model| model.directory.is_some() || !placed.contains(&model.source));
    if list.models.is_empty() && list.unused.is_empty() {
        return Err(ImportError::NoDownload { list: name.to_owned() });
    }
    Ok(list)
}

/// A Dockerfile whose comments between continued lines are continued, too: there, a comment does not end a command.
fn without_inner_comments(text: &str) -> String {
    let mut is_continued = false;
    let lines = text.lines().map(|line| {
        if is_continued && line.trim_start().starts_with('#') {
            return "\\\n".to_owned();
        }
        is_continued = line.trim_end().ends_with('\\');
        format!("{line}\n")
    });
    lines.collect()
}

/// A file's target, as far as the script tells it.
#[derive(Debug, Default)]
struct Target {
    directory: Option<String>,
    name: Option<String>,
}

impl Target {
    /// The target for a directory in the script.
    fn directory(path: &str) -> Self {
        Self { directory: Some(path.to_owned()), name: None }
    }

    /// The target for a file's path in the script.
    fn file(path: &str) -> Self {
        match path.rsplit_once('/') {
            Some((directory, "")) => Self::directory(directory),
            Some((directory, name)) => {
                Self { directory: Some(directory.to_owned()), name: Some(name.to_owned()) }
            }
            None => Self { directory: None, name: Some(path.to_owned()) },
        }
    }
}

#[derive(Default)]
struct Reader<'a> {
    list_name: &'a str,
    models: Vec<ImportedModel>,
    unused: Vec<Unused>,
    /// Files that were added: source, directory, name.
    seen: HashSet<(Source, Option<String>, String)>,
    /// Addresses that reached a download.
    used: HashSet<String>,
    /// Lines with an address that is known.
    known: HashSet<usize>,
    /// Lines whose address only a run would know, and whether no part of it is known.
    unknown: Vec<(usize, bool)>,
    /// Problems that were listed.
    told: HashSet<(usize, String)>,
    has_told_login: bool,
}

impl Reader<'_> {
    fn leave_out(&mut self, what: impl Into<String>, why: UnusedReason, line: usize) {
        let what = what.into();
        if self.told.insert((line, format!("{what}: {why}"))) {
            self.unused.push(Unused { what, why, place: ListPosition::line(self.list_name, line) });
        }
    }

    fn call(&mut self, call: &Call) {
        let name = call.words.first().map_or("", |word| word.text.as_str());
        if let Some((tool, named_by)) = Tool::of(&call.words) {
            let line = tool.parse(&call.words[named_by..]);
            let before = self.models.len();
            match tool {
                Tool::Wget | Tool::Curl | Tool::Aria2 => self.download(tool, call, &line),
                Tool::Hub => self.hub(call, &line),
                Tool::Comfy => self.comfy(call, &line),
            }
            let login = line.login(tool).filter(|_| self.models.len() > before && !self.has_told_login);
            if let Some(option) = login {
                self.has_told_login = true;
                self.leave_out(option, UnusedReason::Option, call.line);
            }
        } else if matches!(name, "xargs" | "parallel") {
            // Its addresses come through a pipe.
            if (1..call.words.len().min(16)).any(|at| Tool::of(&call.words[at..]).is_some()) {
                self.no_address(call, &Text::default());
            }
        } else if name.starts_with("python") {
            self.python(call);
        } else if name == "git" {
            self.git(call);
        } else if !NO_DOWNLOADS.contains(&name) {
            self.other(call);
        }
    }

    /// `wget`, `curl` or `aria2c`.
    fn download(&mut self, tool: Tool, call: &Call, line: &CommandLine) {
        type Names = &'static [&'static str];
        let (directory, output, list): (Names, Names, Names) = match tool {
            Tool::Wget => (&["directory-prefix", "P"], &["output-document", "O"], &["input-file", "i"]),
            Tool::Curl => (&["output-dir"], &["output", "o"], &["config", "K"]),
            _ => (&["dir", "d"], &["out", "o"], &["input-file", "i"]),
        };
        let mut outputs: Vec<&Text> = line.all(output).collect();
        let names_itself = match tool {
            Tool::Curl => line.has(&["remote-name", "O", "remote-name-all"]),
            _ => outputs.is_empty(),
        };
        if outputs.last().is_none_or(|output| output.text == "-") && !names_itself {
            outputs = call.output.iter().collect();
        }
        let is_dropped = outputs.iter().any(|output| output.text.starts_with("/dev/"));
        if is_dropped || outputs.is_empty() && !names_itself {
            // To the standard output: a question to a host, or a program that is run.
            return;
        }
        // Wget's output is not below its prefix.
        let is_prefix = tool != Tool::Wget || outputs.is_empty();
        let prefix = line.value(directory).filter(|_| is_prefix).map_or("", |prefix| prefix.text.as_str());
        let directory = joined(&call.directory, prefix);
        let mut addresses: Vec<Text> = line.all(&["url"]).cloned().collect();
        match line.value(list) {
            Some(name) if name.text == "-" && tool == Tool::Wget && call.input.is_some() => {
                let lines = call.input.iter().flat_map(|input| {
                    let lines = input.text.lines().enumerate();
                    lines.map(|(at, text)| Text { text: text.trim().to_owned(), line: input.line + at })
                });
                addresses.extend(lines.filter(|line| !line.text.is_empty()));
            }
            Some(_) => {
                let why = UnusedReason::Script(ScriptProblem::AnotherFile);
                self.leave_out("its list", why, call.line);
            }
            None => addresses.extend(self.addresses(call, line, outputs.last().copied())),
        }
        // Several addresses are sources of one file, unless `-Z` says otherwise.
        let has_mirrors = tool == Tool::Aria2 && !line.has(&["force-sequential", "Z"]);
        let mirrors = addresses.split_off(if has_mirrors { addresses.len().min(1) } else { addresses.len() });
        let before = self.models.len();
        for (at, address) in addresses.iter().enumerate() {
            let output = if tool == Tool::Curl { outputs.get(at) } else { outputs.last() };
            let target = match output {
                Some(output) => Target::file(&joined(&directory, &output.text)),
                None => Target::directory(&directory),
            };
            self.add(call, address, target);
        }
        if let Some(model) = self.models.get_mut(before).filter(|_| has_mirrors) {
            model.mirrors = mirrors.iter().filter_map(|address| source_at(address).ok()).collect();
            let checksum =
                line.value(&["checksum"]).and_then(|checksum| checksum.text.strip_prefix("sha-256="));
            match checksum.map(digest).transpose() {
                Ok(sha256) => model.sha256 = sha256,
                Err(error) => self.leave_out("checksum", UnusedReason::Digest(error), call.line),
            }
        }
    }

    /// `hf download REPO [FILE…]`.
    fn hub(&mut self, call: &Call, line: &CommandLine) {
        let mut operands = line.operands.iter();
        let Some(repository) = operands.next() else { return };
        if !repository.is_known() {
            return self.no_address(call, &repository.with(format!("hf:{}", repository.text)));
        }
        let files: Vec<&Text> = operands.chain(line.all(&["include"])).collect();
        let local = line.value(&["local-dir"]).map(|local| joined(&call.directory, &local.text));
        let revision = line
            .value(&["revision"])
            .map_or_else(String::new, |revision| format!("@{}", revision.text.replace('/', "%2F")));
        let kind = line.value(&["repo-type"]).map_or_else(String::new, |kind| match kind.text.as_str() {
            "dataset" => "datasets/".to_owned(),
            "space" => "spaces/".to_owned(),
            _ => String::new(),
        });
        if files.is_empty() {
            return self.leave_out(format!("{kind}{}", repository.text), UnusedReason::Repository, call.line);
        }
        for file in files {
            let address = file.with(format!("hf:{kind}{}{revision}/{}", repository.text, file.text));
            let target = match &local {
                None => Target::default(),
                // The file keeps its path below the directory; a pattern's files get the directory.
                Some(local) if !file.text.contains(['*', '?']) => Target::file(&joined(local, &file.text)),
                Some(local) => Target::directory(local),
            };
            self.add(call, &address, target);
        }
    }

    fn comfy(&mut self, call: &Call, line: &CommandLine) {
        let Some(address) = line.value(&["url"]) else { return };
        let directory = line.value(&["relative-path"]).map(|path| path.text.clone());
        let name = line.value(&["filename"]).map(|name| name.text.clone());
        self.add(call, address, Target { directory, name });
    }

    /// A Python program in the script, which is not followed.
    fn python(&mut self, call: &Call) {
        const DOWNLOADS: [&str; 3] = ["hf_hub_download", "snapshot_download", "urlretrieve"];
        let input = call.input.iter().map(|input| input.text.as_str());
        let mut texts = call.words.iter().map(|word| word.text.as_str()).chain(input);
        if texts.any(|text| DOWNLOADS.iter().any(|download| text.contains(download))) {
            let why = UnusedReason::Script(ScriptProblem::Python);
            self.leave_out("a Python program", why, call.line);
        }
    }

    /// A clone of a repository of models. Clones of programs are ignored.
    fn git(&mut self, call: &Call) {
        // The address may have a login.
        let path_of = |word: &Text| {
            let path = word.text.split_once("huggingface.co/").or_else(|| word.text.split_once("hf.co/"))?.1;
            is_address(&word.text).then(|| path.split('?').next().unwrap_or_default().to_owned())
        };
        let is_clone = call.words.iter().any(|word| word.text == "clone");
        let path = call.words.iter().find_map(path_of).filter(|path| !path.starts_with("spaces/"));
        if let Some(path) = path.filter(|path| is_clone && !path.contains(UNKNOWN)) {
            self.leave_out(path, UnusedReason::Repository, call.line);
        }
    }

    /// Docker's `ADD`, and a command that the script does not define: an address of a model and a target.
    fn other(&mut self, call: &Call) {
        let words = call.words[1..].iter().filter(|word| !word.text.starts_with('-'));
        let (addresses, others): (Vec<&Text>, Vec<&Text>) = words.partition(|word| is_address(&word.text));
        let [address] = addresses[..] else { return };
        let is_of_model = |source: &Source| {
            matches!(source, Source::Civitai(_))
                || source.file_name().is_some_and(|name| is_model_name(&name))
        };
        if !source_at(address).is_ok_and(|source| is_of_model(&source)) {
            return;
        }
        let paths: Vec<&&Text> =
            others.iter().filter(|word| word.text.contains('/') || is_model_name(&word.text)).collect();
        let target = match paths[..] {
            [path] if is_model_name(&path.text) => Target::file(&joined(&call.directory, &path.text)),
            [path] => Target::directory(&joined(&call.directory, &path.text)),
            _ => Target::default(),
        };
        self.add(call, address, target);
    }

    /// The addresses of a command line.
    fn addresses(&mut self, call: &Call, line: &CommandLine, output: Option<&Text>) -> Vec<Text> {
        let is_known = |word: &&Text| is_address(&word.text);
        let addresses: Vec<Text> = line.operands.iter().filter(is_known).cloned().collect();
        let is_no_model = output.is_some_and(|output| {
            let target = Target::file(&output.text);
            let is_other = |name: &String| !name.contains(UNKNOWN) && !is_model_name(name);
            target.name.as_ref().is_some_and(is_other)
                && matches!(target.directory.as_deref().map(folder_of), None | Some(Folder::Unknown))
        });
        // Beside an address, an unknown word is an option.
        let unknown = line.operands.iter().find(|word| !word.is_known());
        if let (true, Some(unknown), false) = (addresses.is_empty(), unknown, is_no_model) {
            self.no_address(call, unknown);
        }
        addresses
    }

    /// A download whose address, as far as it is known, is not enough. Its line is the one that gives the address, such
    /// as that of a function's call.
    fn no_address(&mut self, call: &Call, address: &Text) {
        if !call.is_uncalled {
            let is_whole = address.text.chars().all(|letter| letter == UNKNOWN);
            self.unknown.push((call.line_of(address), is_whole));
        }
    }

    /// Adds a file.
    fn add(&mut self, call: &Call, address: &Text, target: Target) {
        let (address, column) = match address.text.split_once('|') {
            Some((text, column)) => (address.with(text.trim()), Some(column.trim().to_owned())),
            None => (address.clone(), None),
        };
        let line = call.line_of(&address);
        let source = match source_at(&address) {
            Ok(source) => source,
            Err(None) => return self.no_address(call, &address),
            Err(Some(why)) => {
                let name = target.name.filter(|name| !name.contains(UNKNOWN));
                return self.leave_out(name.unwrap_or_else(|| "a URL".to_owned()), why, line);
            }
        };
        self.known.insert(line);
        self.used.insert(address.text.clone());
        let target = match column {
            Some(column) => Target { name: Target::file(&column).name, ..target },
            None => target,
        };
        self.push(source, target, line);
    }

    fn push(&mut self, source: Source, target: Target, line: usize) {
        let given = target.name.filter(|name| !name.contains(UNKNOWN) && !name.is_empty());
        let name = given.or_else(|| source.file_name()).unwrap_or_default();
        let directory = match target.directory.as_deref().map(folder_of) {
            Some(Folder::Below(directory)) => Some(directory),
            Some(Folder::Elsewhere(directory)) => {
                if is_model_name(&name) {
                    self.leave_out(name, UnusedReason::Elsewhere { directory }, line);
                }
                return;
            }
            Some(Folder::Unknown) | None => None,
        };
        let may_be_model =
            matches!(source, Source::Civitai(_)) || source.may_be_glob() || is_model_name(&name);
        if directory.is_none() && !may_be_model {
            let what = if name.is_empty() { source.to_string() } else { name };
            return self.leave_out(what, UnusedReason::Script(ScriptProblem::NoModel), line);
        }
        if !self.seen.insert((source.clone(), directory.clone(), name.clone())) {
            return;
        }
        let place = ListPosition::line(self.list_name, line);
        self.models.push(ImportedModel { directory, ..ImportedModel::new(Some(name), source, place) });
    }

    /// Takes those elements of an array whose addresses reached no download; returns true if there are any.
    fn array(&mut self, name: &str, elements: &[Text]) -> bool {
        let name = name.to_ascii_uppercase();
        let before = self.models.len();
        if !NO_MODELS.iter().any(|none| name.contains(none)) {
            let folder = folder_of_array(&name);
            for element in elements {
                self.element(element, folder);
            }
        }
        self.models.len() > before
    }

    /// Takes an array's element with an address: `URL`, `URL|NAME`, `NAME|URL`, `URL NAME`, `[URL]=NAME`.
    fn element(&mut self, element: &Text, folder: Option<&str>) {
        let text = element
            .text
            .strip_prefix('[')
            .map_or_else(|| element.text.clone(), |text| text.replacen("]=", "|", 1));
        let separator = |c: char| if text.contains('|') { c == '|' } else { c.is_whitespace() };
        let columns: Vec<&str> =
            text.split(separator).map(str::trim).filter(|column| !column.is_empty()).collect();
        let Some(address) = columns.iter().find(|column| is_address(column)) else { return };
        // The script's loop may split it at another character: `URL,NAME`.
        let ends = address.match_indices([',', ';', ':', '@', '#']).map(|(at, _)| at);
        if ends.take(16).chain([address.len()]).any(|end| self.used.contains(&address[..end])) {
            return;
        }
        let others = columns.iter().filter(|column| !is_address(column));
        let mut target = Target { directory: folder.map(str::to_owned), name: None };
        for column in others {
            let path = Target::file(column);
            match path.name.filter(|name| is_model_name(name) && !name.contains(UNKNOWN)) {
                Some(name) => {
                    target.name = Some(name);
                    target.directory = path.directory.or(target.directory);
                }
                None if placement::folder(column).is_some() || column.contains('/') => {
                    target.directory = Some((*column).to_owned());
                }
                None => {}
            }
        }
        match source_at(&element.with(*address)) {
            Ok(source) => self.push(source, target, element.line),
            Err(Some(why)) => self.leave_out("a URL", why, element.line),
            Err(None) => self.unknown.push((element.line, false)),
        }
    }
}

/// The source at an address; an error without a reason if only a run would know it.
fn source_at(address: &Text) -> Result<Source, Option<UnusedReason>> {
    let text = without_unknown_login(&address.text);
    if text.contains(UNKNOWN) {
        return Err(None);
    }
    text.parse().map_err(|error| Some(UnusedReason::Source(error)))
}

fn is_address(text: &str) -> bool {
    let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
    scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
}

/// The address without parameters for a login whose value only a run would know (`?token=$CIVITAI_TOKEN`). The lock
/// must not have them anyway.
fn without_unknown_login(address: &str) -> String {
    let Some((path, query)) = address.split_once('?').filter(|(_, query)| query.contains(UNKNOWN)) else {
        return address.to_owned();
    };
    let stays = |pair: &&str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        !(value.contains(UNKNOWN) && Source::is_login(name))
    };
    let kept: Vec<&str> = query.split('&').filter(stays).collect();
    if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) }
}

#[cfg(test)]
mod tests;
