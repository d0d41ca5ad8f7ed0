//! Suggestions for options and commands of other tools: the parser knows only what resembles an option of ours.
//!
//! The parser's own suggestions are by letters (`--desst`). This table is by meaning: `aria2c -x`, `hf download
//! --local-dir`, `curl -o`. An argument's value is never repeated, since it may be a token.

use clap::Parser;
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

/// Options of other tools, and the way to get the same here.
const OPTIONS: [(&[&str], &str); 8] = [
    (
        &["-d", "-o", "-O", "-P", "--dir", "--local-dir", "--out", "--out-dir", "--output", "--output-dir"],
        "the directory is `--dest DIR`, and the lock has the names below it",
    ),
    (
        &["-j", "-s", "-x", "--max-connection-per-server", "--max-workers", "--parallel", "--split"],
        "the number of connections is `--connections N`; it is a ceiling, and the default adapts to the host",
    ),
    (
        &["--limit", "--max-download-limit", "--max-overall-download-limit", "--rate"],
        "the bandwidth is `--limit-rate RATE`",
    ),
    (
        &["--header", "--password", "--token", "--user"],
        "credentials come from the environment (HF_TOKEN, CIVITAI_TOKEN, ...) or ~/.netrc: every user of the machine can \
         read a command line",
    ),
    (&["-c", "--continue", "--resume"], "each run resumes what an earlier one left"),
    (&["--checksum", "--sha256"], "the lock has the digests, and every file is verified"),
    (
        &["--exclude", "--include"],
        "name the models as arguments, by path or by glob, or choose `--group GROUP`",
    ),
    (&["-i", "--input-file"], "`lock import FILE` takes lists of other tools into the lock"),
];

/// Commands of other tools, and commands that are below `lock` or `cache`.
const COMMANDS: [(&[&str], &str); 4] = [
    (
        &["download", "get", "install", "pull", "sync"],
        "the command is `fetch` (of cargo xtask: `fetch-models`)",
    ),
    (
        &["add", "check", "import", "list", "remove", "update"],
        "the commands on the lock are below `lock`: `lock import`",
    ),
    (&["clean", "gc", "prune"], "the command is `cache prune`"),
    (&["init", "new"], "`lock add SOURCE` and `lock import FILE` make a lock"),
];

/// Parses the command line. On an error it prints the error, with a suggestion, and exits.
pub fn parse<P: Parser>() -> P {
    P::try_parse().unwrap_or_else(|error| with_suggestion(error).exit())
}

/// The error with a suggestion from the tables.
fn with_suggestion(mut error: Error) -> Error {
    let (table, kind): (&[(&[&str], &str)], _) = match error.kind() {
        ErrorKind::UnknownArgument => (&OPTIONS, ContextKind::InvalidArg),
        ErrorKind::InvalidSubcommand => (&COMMANDS, ContextKind::InvalidSubcommand),
        _ => return error,
    };
    let Some(ContextValue::String(found)) = error.get(kind) else { return error };
    let advice = table.iter().find(|(names, _)| names.contains(&found.as_str())).map(|(_, advice)| *advice);
    if let Some(advice) = advice {
        for by_letters in [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand] {
            error.remove(by_letters);
        }
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(advice)]));
    }
    error
}
