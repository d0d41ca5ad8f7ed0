//! Completion of the command line in bash, zsh and fish: subcommands, options, paths, and the models and groups of the
//! lock.
//!
//! `provision completions` prints a shell's script. The script starts the program with `VARIABLE` and the words, and
//! the program answers from its command tree and from the lock that the words name. Nothing reaches standard error and
//! no request is made, because a message would land in the prompt and a host would delay it: a lock that cannot be
//! read, or is at an address, completes nothing.

use std::ffi::OsStr;
use std::path::Path;

use clap::{Args, Command, ValueEnum, ValueHint};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{Bash, CompleteEnv, EnvCompleter, Fish, Shells, Zsh};
use provision_core::lockfile::Lockfile;

use super::exit::{Code, Failure};
use super::{environment, locks, print_line, units};

/// The variable of a shell's question. Its value is the shell's name.
const VARIABLE: &str = "PROVISION_COMPLETE";

/// zsh runs a script of its function directories at the first question: then the script must answer, too.
const ZSH_FIRST: &str = "[[ $funcstack[1] == _provision ]] && _clap_dynamic_completer_provision";

/// A shell with completion.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// Bash 4.4 or later
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// Options of `completions`.
#[derive(Args, Debug, Clone)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
}

/// Prints the shell's script.
///
/// # Errors
/// None that is known: the script is written to memory.
pub fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let script = script(args.shell).map_err(|error| Failure::new(Code::Unexpected, error))?;
    print_line(script.trim_end());
    Ok(())
}

/// The shell's script, to be sourced or installed as a file.
///
/// # Errors
/// As [`run`].
pub fn script(shell: Shell) -> std::io::Result<String> {
    let completer: &dyn EnvCompleter = match shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, "provision", "provision", "provision", &mut script)?;
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if shell == Shell::Zsh {
        script.push_str(ZSH_FIRST);
        script.push('\n');
    }
    Ok(script)
}

/// Answers a shell's question. Returns false if this process was not started for one. The script's first argument is
/// `--`: without it, the variable alone must not keep a command from its work. `lock` is the default lock.
pub fn answer(program: fn() -> Command, lock: &'static str) -> bool {
    if std::env::args_os().nth(1).is_none_or(|word| word != "--") {
        return false;
    }
    let complete = CompleteEnv::with_factory(|| with_values(program(), lock));
    let complete = complete.var(VARIABLE).shells(Shells(&[&Bash, &Fish, &Zsh]));
    // A question that has no answer is answered by silence.
    complete.try_complete(std::env::args_os(), std::env::current_dir().ok().as_deref()).unwrap_or(true)
}

/// The command with the sources of its arguments' values, which their names tell.
fn with_values(command: Command, lock: &'static str) -> Command {
    let command = command.mut_args(|arg| {
        let name = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
        match name.as_deref() {
            Some("MODEL") => arg.add(ArgValueCompleter::new(move |word: &OsStr| models(word, lock))),
            // The engine knows visible names only.
            Some("GROUP") => {
                arg.add(ArgValueCompleter::new(move |word: &OsStr| groups(word, lock))).visible_alias("only")
            }
            Some("DIR") => arg.value_hint(ValueHint::DirPath),
            Some("PATH" | "PATH|URL" | "FILE") => arg.value_hint(ValueHint::AnyPath),
            _ => arg,
        }
    });
    command.mut_subcommands(|command| with_values(command, lock))
}

/// The models whose path begins with the word, else the file stems that do.
fn models(word: &OsStr, lock: &str) -> Vec<CompletionCandidate> {
    let locks = locks_of(&words(), lock);
    let models = || locks.iter().flat_map(Lockfile::models);
    let paths: Vec<_> = models()
        .filter(|model| begins(model.path.as_str(), word))
        .map(|model| {
            CompletionCandidate::new(model.path.as_str()).help(Some(units::bytes(model.size).into()))
        })
        .collect();
    if !paths.is_empty() {
        return paths;
    }
    let stem = |path: &str| Path::new(path).file_stem().and_then(OsStr::to_str).map(str::to_owned);
    unique(models().filter_map(|model| stem(model.path.as_str())), word)
}

/// The groups that begin with the word.
fn groups(word: &OsStr, lock: &str) -> Vec<CompletionCandidate> {
    let locks = locks_of(&words(), lock);
    unique(locks.iter().flat_map(Lockfile::models).flat_map(|model| model.groups.iter().cloned()), word)
}

fn unique(texts: impl Iterator<Item = String>, word: &OsStr) -> Vec<CompletionCandidate> {
    let texts: std::collections::BTreeSet<String> = texts.filter(|text| begins(text, word)).collect();
    texts.into_iter().map(CompletionCandidate::new).collect()
}

fn begins(text: &str, word: &OsStr) -> bool {
    word.to_str().is_some_and(|word| text.starts_with(word))
}

/// The words of the question, in the script's arguments after `--`.
fn words() -> Vec<String> {
    let words = std::env::args_os().skip_while(|word| word != "--").skip(1);
    words.filter_map(|word| word.into_string().ok()).collect()
}

/// The readable locks that the words name, else those of the variable, else the default.
fn locks_of(words: &[String], default: &str) -> Vec<Lockfile> {
    // bash splits `--lock=PATH` into three words.
    let mut words = words.iter().map(String::as_str).filter(|word| *word != "=");
    let mut named = Vec::new();
    while let Some(word) = words.next() {
        if word == "--lock" {
            named.extend(words.next().map(str::to_owned));
        }
        named.extend(word.strip_prefix("--lock=").map(str::to_owned));
    }
    if named.is_empty() {
        named.push(environment::lock().unwrap_or_else(|| default.to_owned()));
    }
    named.iter().flat_map(|named| named.split(',')).filter_map(read).collect()
}

/// A lock that lies in a regular file: a pipe or standard input would wait for its writer.
fn read(path: &str) -> Option<Lockfile> {
    std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    locks::read(path.into()).ok()
}
