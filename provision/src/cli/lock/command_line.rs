//! The `lock add` commands in messages, for a person to paste into a shell.
//!
//! Sources come from others' lists, so every word is quoted. A source that is not shown whole has no command: pasted,
//! the shown text would be another address.

use provision_lock::source::Source;

use crate::cli::process::invocation;

/// The command that adds `source` at `path`.
pub(super) fn add(source: &Source, path: &str) -> String {
    let source = word(source).unwrap_or_else(|| "SOURCE".to_owned());
    format!("{} lock add {source} --path {}", invocation(), quoted(path))
}

/// The command that adds `mirror` to the entry of `source` at `path`.
pub(super) fn add_mirror(source: &Source, path: &str, mirror: &Source) -> String {
    let mirror = word(mirror).unwrap_or_else(|| "MIRROR".to_owned());
    format!("{} --mirror {mirror}", add(source, path))
}

/// The option that gives the file of `source` a path beside `path`: with its own name, or else with a number.
pub(super) fn path_of(source: &Source, path: &str) -> String {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let own = source.file_name().filter(|own| own != name).unwrap_or_else(|| match name.rsplit_once('.') {
        Some((stem, suffix)) => format!("{stem}-2.{suffix}"),
        None => format!("{name}-2"),
    });
    let beside = if directory.is_empty() { own } else { format!("{directory}/{own}") };
    option(source, &beside)
}

/// The option that gives the file of `source` any path.
pub(super) fn any_path_of(source: &Source) -> String {
    option(source, "FOLDER/NAME")
}

fn option(source: &Source, path: &str) -> String {
    let shown = if is_shown(source) { source.to_string() } else { "SOURCE".to_owned() };
    format!("`--path-of {}`", quoted(&format!("{shown}={path}")))
}

/// The rest of the sentence after such a command, for a source that is not shown.
pub(super) fn remark(source: &Source) -> &'static str {
    if is_shown(source) { "" } else { ", where SOURCE is its whole address" }
}

/// True if a message may show the whole source.
pub(super) fn is_shown(source: &Source) -> bool {
    word(source).is_some()
}

/// The source as a word; `None` if it is shown without its query or a part of its path.
fn word(source: &Source) -> Option<String> {
    let shown = source.to_string();
    (shown.parse().as_ref() == Ok(source)).then(|| quoted(&shown))
}

/// A word of a shell's command line.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/:@%+=.,_-".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_survives_a_shell() {
        for (word, expected) in [
            ("hf:o/r@main/vae/x.bin", "hf:o/r@main/vae/x.bin"),
            ("hf:o/r/*.bin", "'hf:o/r/*.bin'"),
            ("it's", "'it'\\''s'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }

    #[test]
    fn a_source_without_its_query_is_in_no_command() {
        for (source, expected) in [
            ("https://h/x", "lock add https://h/x --path vae/"),
            ("https://h/$(touch%20x);y", "lock add 'https://h/$(touch%20x);y' --path vae/"),
            ("https://h/x?v=1", "lock add SOURCE --path vae/"),
            ("https://h/x?", "lock add SOURCE --path vae/"),
            ("civitai:7?type=Model", "lock add 'civitai:7?type=Model' --path vae/"),
        ] {
            let source: Source = source.parse().unwrap();
            assert!(add(&source, "vae/").ends_with(expected), "{}", add(&source, "vae/"));
            assert_eq!(remark(&source).is_empty(), !expected.contains("SOURCE"));
        }
    }
}
