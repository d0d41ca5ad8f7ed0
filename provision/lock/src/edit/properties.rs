//! Property tests of edits, over locks as people write them.

use proptest::prelude::*;
use provision_core::digest::Sha256;

use super::tests::entry;
use super::*;

/// A model as a person writes it. Its comments contain the model's path, so that a lost comment can be identified.
#[derive(Debug, Clone)]
struct Written {
    path: &'static str,
    blank_lines: usize,
    /// Places of comments: above the header, below the last key, behind values, between keys.
    comments: [bool; 4],
    indent: &'static str,
    /// The rotation of the key order.
    turn: usize,
    list: usize,
    mirrors: usize,
    /// The spelling of the header.
    header: &'static str,
    source: bool,
    /// The spelling of a hint, of the model or of the lock.
    hint: usize,
    pieces: bool,
}

/// The line endings; `Mixed` has a bit for each line, as after edits on several systems.
#[derive(Debug, Clone, Copy)]
enum Ends {
    Lf,
    CrLf,
    Mixed(u64),
}

fn written() -> impl Strategy<Value = Written> {
    let layout = (0..3usize, any::<[bool; 6]>(), prop_oneof![Just(""), Just("  "), Just("\t")]);
    let header = prop_oneof![
        4 => Just("[[model]]"),
        1 => Just("  [[ model ]]  # header"),
        1 => Just("[[\"model\"]]"),
    ];
    (layout, 0..8usize, 0..5usize, 0..4usize, header, 0..8usize).prop_map(
        |((blank_lines, flags, indent), turn, list, mirrors, header, hint)| {
            let [comments @ .., source, pieces] = flags;
            let path = "";
            Written { path, blank_lines, comments, indent, turn, list, mirrors, header, source, hint, pieces }
        },
    )
}

fn text_of(models: &[Written], head: &str, ends: Ends, last_newline: bool, end: &str) -> String {
    let mut text = head.to_owned();
    for model in models {
        let Written { path, indent, comments: [above, below, behind, between], .. } = *model;
        let comment =
            |there: bool, text: &str| if there { format!("# {path} {text}\n") } else { String::new() };
        let behind = if behind { format!(" # {path} behind") } else { String::new() };
        let list = match model.list {
            0 => None,
            1 => Some("['g']".to_owned()),
            2 => Some("[ \"g\",\"h\" ]".to_owned()),
            3 => Some(format!("[\n{indent}  \"g\", # {path} first\n{indent}  \"h\" # {path} second\n]")),
            _ => Some("[\n\"g\",\n\n\"h\",\n]".to_owned()),
        };
        let mut keys = vec![
            format!("path = \"{path}\"{behind}"),
            format!("url  = 'https://h.example/{path}'"),
            "size=5".to_owned(),
            format!("\"sha256\" = \"\"\"{}\"\"\"{behind}", entry(path).sha256),
        ];
        keys.extend(list.map(|list| format!("groups = {list}")));
        keys.extend(match model.mirrors {
            0 => None,
            1 => Some("mirrors = []".to_owned()),
            2 => Some(format!("mirrors = [\"http://m.example/{path}\"] # {path} mirror")),
            _ => Some(format!("mirrors = [ # {path} mirrors\n\n  'http://m.example/a' ,\n]\n")),
        });
        keys.extend(model.source.then(|| "source = \"hf:o/r/x\"".to_owned()));
        keys.extend(model.pieces.then(|| format!("pieces = '{}'", Sha256::of(b"list"))));
        // A dotted key at the end of the model, or a key anywhere.
        keys.extend(match model.hint {
            1 => Some(format!("hint-of = \"{path}\" # {path} hint")),
            2 => Some(format!("hint-of.a.b = [ \"{path}\",\n\n'' ]")),
            _ => None,
        });
        let turn = model.turn % keys.len();
        keys.rotate_left(turn);
        text.push_str(&"\n".repeat(model.blank_lines));
        text.push_str(&comment(above, "above"));
        text.extend([model.header, "\n"]);
        for (at, key) in keys.iter().enumerate() {
            text.push_str(&comment(between && at == 1, "between"));
            text.extend([indent, key.as_str(), "\n"]);
        }
        let tables = match model.hint {
            3 => format!("{indent}[model.hint-of] # {path} table\n{indent}  a = \"hint-of {path}\"\n"),
            4 => format!("\n[[model.hint-of.a]]\n[[model.hint-of.a]]\nsize = \"hint-of {path}\"\n"),
            _ => String::new(),
        };
        text.push_str(&tables);
        text.push_str(&comment(below, "below"));
        text.push_str(match model.hint {
            5 => "[[hint-log]]\na = \"hint-log 5\"\n",
            6 => "\n  [[hint-log]]\npath = \"hint-log 6\"\nb.c = 1\n\n",
            _ => "",
        });
    }
    text.push_str(end);
    if !last_newline {
        text.truncate(text.trim_end_matches('\n').len());
    }
    let is_crlf = |line: usize| match ends {
        Ends::Lf => false,
        Ends::CrLf => true,
        Ends::Mixed(bits) => bits >> (line % 64) & 1 == 1,
    };
    let lines = text.split_inclusive('\n').enumerate();
    lines.map(|(at, line)| if is_crlf(at) { line.replace('\n', "\r\n") } else { line.to_owned() }).collect()
}

/// A lock with up to five models, in any order.
fn lock() -> impl Strategy<Value = String> {
    const PATHS: [&str; 5] = ["clip/a", "loras/m", "unet/x.y", "vae/b", "vae/c"];
    let models = prop::collection::vec(written(), 0..=5);
    let heads = prop_oneof![
        Just("version = 1\n"),
        Just("# file\n\nversion = 1 # v\n# head\n\n# section\n\n"),
        Just("marker = \".m\"\nversion = 1\n\n\n"),
        Just("version = 1\n# directly above\n"),
        Just("hint-lock = 1\nversion = 1\nhint-more.x.y = { z = 1 }\n"),
        Just("version = 1\n\n[hint-lock]\nx = 1\n# directly above\n"),
        Just("version = 1\n\n[hint-lock.deep]\nx = 1\n\n"),
        Just("\u{feff}  version = 0x1\n\n"),
    ];
    let ends = prop_oneof![Just(""), Just("\n# end\n"), Just("\n\n"), Just("# end\n"), Just("  \n")];
    let shuffled = Just(PATHS.to_vec()).prop_shuffle();
    let sorted = any::<bool>();
    let lines = prop_oneof![Just(Ends::Lf), Just(Ends::CrLf), any::<u64>().prop_map(Ends::Mixed)];
    (models, heads, (lines, any::<bool>()), ends, shuffled, sorted).prop_map(
        |(mut models, head, (lines, last_newline), end, shuffled, sorted)| {
            let mut paths = shuffled[..models.len()].to_vec();
            if sorted {
                paths.sort_unstable();
            }
            models.iter_mut().zip(paths).for_each(|(model, path)| model.path = path);
            text_of(&models, head, lines, last_newline, end)
        },
    )
}

fn comments(text: &str) -> Vec<&str> {
    let mut found: Vec<&str> =
        text.lines().filter_map(|line| line.find('#').map(|at| line[at..].trim_end())).collect();
    found.sort_unstable();
    found
}

/// The lines with hints of this kind.
fn hints<'a>(text: &'a str, kind: &str) -> Vec<&'a str> {
    text.lines().map(str::trim).filter(|line| line.contains(kind)).collect()
}

/// Returns true if all lines end with a carriage return; `None` for a mix.
fn line_ends(text: &str) -> Option<bool> {
    let ends: Vec<bool> =
        text.split_inclusive('\n').filter(|l| l.ends_with('\n')).map(|l| l.ends_with("\r\n")).collect();
    let crlf = *ends.first()?;
    ends.iter().all(|end| *end == crlf).then_some(crlf)
}

/// The paths in text order.
fn written_order(document: &Document) -> Vec<String> {
    document.models().unwrap().iter().map(|span| span.path.clone()).collect()
}

fn paths_of(document: &Document) -> Vec<ModelPath> {
    document.lock().models().iter().map(|model| model.path.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn adding_and_removing_gives_the_same_bytes(
        text in lock(),
        paths in prop::collection::hash_set(
            prop_oneof![Just("a"), Just("loras/n"), Just("unet/z"), Just("vae/bb"), Just("zz")], 1..4),
        full in any::<bool>(),
    ) {
        let mut document = Document::parse("models.lock", &text).unwrap();
        let entries: Vec<Entry> = paths.iter().map(|path| {
            let mut entry = entry(path);
            if full {
                entry.groups = vec!["g".into()];
                entry.mirrors = vec!["http://m.example/x".parse().unwrap()];
                entry.source = Some("civitai:1".into());
            }
            entry
        }).collect();
        let before = paths_of(&document);
        let was_sorted = written_order(&document).is_sorted();
        document.put_all(&entries).unwrap();
        prop_assert_eq!(hints(document.text(), "hint-"), hints(&text, "hint-"));
        for entry in &entries {
            prop_assert_eq!(document.get(&entry.path), Some(entry.clone()));
        }
        prop_assert!(!was_sorted || written_order(&document).is_sorted(), "{}", document.text());
        if let Some(crlf) = line_ends(&text) {
            prop_assert_eq!(line_ends(document.text()), Some(crlf));
        }
        prop_assert_eq!(document.lock().models().len(), before.len() + entries.len());
        prop_assert_eq!(document.text().ends_with('\n'), text.ends_with('\n'));
        for entry in &entries {
            document.remove(&entry.path).unwrap();
        }
        prop_assert_eq!(document.text(), &text);
        document.put_all(&entries).unwrap();
        let paths: Vec<ModelPath> = entries.iter().map(|entry| entry.path.clone()).collect();
        document.remove_all(&paths).unwrap();
        prop_assert_eq!(document.text(), &text);
    }

    #[test]
    fn an_inline_array_stays_as_it_is(
        count in 0..4usize, style in 0..3usize, crlf in any::<bool>(), which in 0..3usize, by_removal in any::<bool>(),
    ) {
        let paths = &["clip/a", "loras/m", "vae/b"][..count.min(3)];
        let model = |path: &&str| format!(
            "{{ path = \"{path}\", url='http://h/{path}', size = 5, sha256 = \"{}\", groups = [ 'g' ] }}",
            entry(path).sha256
        );
        let models: Vec<String> = paths.iter().map(model).collect();
        let separator = [", ", ",\n  # between\n  ", " ,\n\n"][style];
        let text = format!("version = 1 # v\nmodel = [ {} ] # end", models.join(separator));
        let text = if crlf { text.replace('\n', "\r\n") } else { text };
        let mut document = Document::parse("models.lock", &text).unwrap();
        let there: Vec<Entry> = document.lock().models().iter().map(Entry::from).collect();
        prop_assert_eq!(there.len(), paths.len());
        prop_assert!(document.put_all(&there).unwrap().iter().all(|outcome| *outcome == Outcome::Unchanged));
        let refused = match paths.get(which) {
            Some(path) if by_removal => document.remove(&path.parse().unwrap()).map(drop),
            Some(path) => document.put(&Entry { size: 6, ..entry(path) }).map(drop),
            None => document.put(&entry("zz")).map(drop),
        };
        prop_assert!(matches!(refused, Err(EditError::Inline { .. })), "{refused:?}");
        prop_assert_eq!(document.text(), &text);
    }

    #[test]
    fn putting_an_existing_entry_changes_nothing(text in lock()) {
        let mut document = Document::parse("models.lock", &text).unwrap();
        let entries: Vec<Entry> = document.lock().models().iter().map(Entry::from).collect();
        let outcomes = document.put_all(&entries).unwrap();
        prop_assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Unchanged));
        prop_assert_eq!(document.text(), &text);
    }

    #[test]
    fn a_changed_model_has_the_new_values_and_all_comments(text in lock(), more in any::<[bool; 5]>()) {
        let mut document = Document::parse("models.lock", &text).unwrap();
        for path in paths_of(&document) {
            let mut changed = document.get(&path).unwrap();
            if more[0] {
                changed.size = 77;
                changed.url = "https://other.example/x".parse().unwrap();
            }
            if more[1] {
                changed.groups.push("new".into());
            }
            if more[2] {
                changed.mirrors.push("http://m.example/y".parse().unwrap());
            }
            if more[3] {
                changed.source = Some("civitai:2".into());
            }
            if more[4] {
                changed.pieces = changed.pieces.is_none().then(|| Sha256::of(b"another list"));
            }
            document.put(&changed).unwrap();
            prop_assert_eq!(document.get(&path), Some(changed));
        }
        prop_assert_eq!(comments(document.text()), comments(&text));
        prop_assert_eq!(hints(document.text(), "hint-"), hints(&text, "hint-"));
        if let Some(crlf) = line_ends(&text) {
            prop_assert_eq!(line_ends(document.text()), Some(crlf));
        }
    }

    #[test]
    fn removing_a_model_keeps_other_models_comments(text in lock(), which in 0..5usize) {
        let mut document = Document::parse("models.lock", &text).unwrap();
        let paths = paths_of(&document);
        prop_assume!(!paths.is_empty());
        let gone = &paths[which % paths.len()];
        document.remove(gone).unwrap();
        let mut left = hints(&text, "hint-");
        left.retain(|line| !(line.contains("hint-of") && line.contains(gone.as_str())));
        for kind in ["hint-lo", "hint-of ", "hint-of ="] {
            let of_kind = |lines: &[&str]| lines.iter().filter(|line| line.contains(kind)).map(|line| (*line).to_owned()).collect::<Vec<_>>();
            prop_assert_eq!(of_kind(&hints(document.text(), "hint-")), of_kind(&left));
        }
        // A comment directly below one model and directly above the next belongs to the next.
        let name = |comment: &str| comment.split(' ').nth(1).map(str::to_owned);
        let lost: Vec<String> = {
            let left = comments(document.text());
            let mut before = comments(&text);
            for comment in left {
                let at = before.iter().position(|known| *known == comment);
                prop_assert!(at.is_some(), "{comment:?} is new");
                before.remove(at.unwrap_or_default());
            }
            before.into_iter().filter(|c| !c.ends_with("below")).filter_map(name).collect()
        };
        prop_assert!(lost.iter().all(|owner| owner == gone.as_str() || ["directly", "end", "header"].contains(&owner.as_str())), "{lost:?}");
    }
}
