//! Suggestions for options and commands of other tools, and the names of variables in errors of options.
//!
//! The parser's own suggestions are by letters (`--desst`). The tables are by meaning: `aria2c -x`, `hf
//! download --local-dir`, `curl -o`. An option is suggested only where the command has it. A suggestion never
//! repeats an argument's value, which may be a token. The parser calls a value from a variable by its option,
//! which was never typed.

use std::ffi::OsString;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use clap::{Arg, Command, Parser};

use super::output::flush;
use super::say;

/// Options of other tools, and the way to get the same here.
struct Advice {
    options: &'static [&'static str],
    /// It holds for commands with one of these arguments.
    commands_with: &'static [&'static str],
    text: &'static str,
}

/// Arguments of the commands that fetch, and of those that ask hosts or read locks.
const FETCHING: &[&str] = &["offline"];
const ASKING: &[&str] = &["dest", "lock_sha256"];

const OPTIONS: [Advice; 8] = [
    Advice {
        options: &[
            "-d",
            "-o",
            "-O",
            "-P",
            "--dir",
            "--local-dir",
            "--out",
            "--out-dir",
            "--output",
            "--output-dir",
        ],
        commands_with: &["dest"],
        text: "the directory is `--dest DIR`, and the lock has the names below it",
    },
    Advice {
        options: &["-j", "-s", "-x", "--max-connection-per-server", "--max-workers", "--parallel", "--split"],
        commands_with: &["connections"],
        text: "the number of connections is `--connections N`; it is a ceiling, and the default adapts to the host",
    },
    Advice {
        options: &["--limit", "--max-download-limit", "--max-overall-download-limit", "--rate"],
        commands_with: &["limit_rate"],
        text: "the bandwidth is `--limit-rate RATE`",
    },
    Advice {
        options: &["--header", "--password", "--token", "--user"],
        commands_with: ASKING,
        text: "credentials come from the environment (HF_TOKEN, CIVITAI_TOKEN, ...) or ~/.netrc: every user of the machine \
               can read a command line",
    },
    Advice {
        options: &["-c", "--continue", "--resume"],
        commands_with: FETCHING,
        text: "each run resumes what an earlier one left",
    },
    Advice {
        options: &["--checksum", "--sha256"],
        commands_with: FETCHING,
        text: "the lock has the digests, and every file is verified",
    },
    Advice {
        options: &["--exclude", "--include"],
        commands_with: &["models"],
        text: "name the models as arguments, by path or by glob, or choose `--group GROUP`",
    },
    Advice {
        options: &["-i", "--input-file"],
        commands_with: ASKING,
        text: "`lock import FILE` takes lists of other tools into the lock",
    },
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
    (&["new", "setup"], "the command is `init`"),
];

/// Parses the command line. On an error it prints the error, with a suggestion or the variable's name, and
/// exits.
pub fn parse<P: Parser>() -> P {
    let typed: Vec<OsString> = std::env::args_os().collect();
    P::try_parse_from(&typed).unwrap_or_else(|mut error| {
        let mut program = P::command();
        program.build();
        let command = chosen(&program, &typed);
        match error.kind() {
            ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand => {
                suggest(&mut error, &program, command);
            }
            ErrorKind::InvalidValue | ErrorKind::ValueValidation | ErrorKind::ArgumentConflict => {
                name_variables(&mut error, command, &typed);
            }
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => error.exit(),
            _ => {}
        }
        // Without its colours: the text repeats arguments, whose escape sequences would pass for them.
        say(error.render().to_string().trim_end());
        flush();
        std::process::exit(error.exit_code())
    })
}

/// The command that was typed, or as much of it as exists.
fn chosen<'c>(program: &'c Command, typed: &[OsString]) -> &'c Command {
    // A command with commands below it has no options with values, so each match is a command.
    typed.iter().skip(1).fold(program, |command, word| command.find_subcommand(word).unwrap_or(command))
}

/// Replaces the parser's suggestion by one from the tables.
fn suggest(error: &mut Error, program: &Command, command: &Command) {
    let found = |kind| match error.get(kind) {
        Some(ContextValue::String(found)) => found.as_str(),
        _ => "",
    };
    let (option, word) = (found(ContextKind::InvalidArg), found(ContextKind::InvalidSubcommand));
    // Without a command, any command may be meant.
    let has =
        |id: &&str| std::ptr::eq(command, program) || command.get_arguments().any(|arg| arg.get_id() == *id);
    let option = OPTIONS.iter().find(|advice| advice.options.contains(&option));
    let advice = match option {
        Some(advice) => advice.commands_with.iter().any(has).then_some(advice.text),
        None => COMMANDS.iter().find(|(words, _)| words.contains(&word)).map(|(_, text)| *text),
    };
    let Some(advice) = advice else { return };
    for by_letters in [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand] {
        error.remove(by_letters);
    }
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(advice)]));
}

/// Names the variable beside each option of the error that was not typed: `PROVISION_RETRIES (--retries
/// <N>)`.
fn name_variables(error: &mut Error, command: &Command, typed: &[OsString]) {
    let named = |shown: &String| {
        let arg = command.get_arguments().find(|arg| arg.to_string() == *shown && !is_typed(arg, typed));
        match arg.and_then(Arg::get_env) {
            Some(variable) => format!("{} ({shown})", variable.display()),
            None => shown.clone(),
        }
    };
    for kind in [ContextKind::InvalidArg, ContextKind::PriorArg] {
        let value = match error.get(kind) {
            Some(ContextValue::String(shown)) => ContextValue::String(named(shown)),
            Some(ContextValue::Strings(shown)) => ContextValue::Strings(shown.iter().map(named).collect()),
            _ => continue,
        };
        error.insert(kind, value);
    }
}

/// Returns true if the command line has the option, in its long or its short form.
fn is_typed(arg: &Arg, typed: &[OsString]) -> bool {
    let is_long =
        |word: &str, long| word.strip_prefix("--").is_some_and(|word| word.split('=').next() == Some(long));
    let is_short = |word: &str, short| {
        word.strip_prefix('-').is_some_and(|flags| !flags.starts_with('-') && flags.contains(short))
    };
    typed.iter().filter_map(|word| word.to_str()).any(|word| {
        arg.get_long().is_some_and(|long| is_long(word, long))
            || arg.get_short().is_some_and(|short| is_short(word, short))
    })
}
