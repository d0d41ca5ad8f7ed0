//! `provision lock import`.
//!
//! A model without an address in the list is a note, not a failure: in most workflows a widget names a file that
//! `properties.models` does not, and `import … && fetch` has to work. A model with an address that did not get into
//! the lock is a failure, and so is a list that added nothing.
//!
//! Lists come from others, so they must not reach into the user's network: without an option, only public addresses are asked,
//! over https (fault 115). The URLs that `lock add` gets are the user's own words, and any of them is asked.

use std::collections::HashSet;
use std::fmt::Display;
use std::io::Read as _;

use crate::cli::exit::{Code, Failure};
use crate::cli::process::invocation;
use crate::cli::say;
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use provision_core::terminal_text::TerminalText;
use provision_http::Sources;
use provision_lock::entry_builder::AddRequest;
use provision_lock::import::{Format, ImportedModel, List, Unused, UnusedReason, join, read};
use provision_lock::source::Source;

use super::AddOptions;
use super::batch::{Batch, Wanted};
use super::session::{Failures, HostSession};
use super::write::Writing;

/// Options of `lock import`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ImportArgs {
    /// The lists; `-` is standard input. Output of sha256sum gives digests to what the others name
    #[arg(value_name = "FILE", required = true)]
    files: Vec<Utf8PathBuf>,
    /// The format of the lists [default: detected for each]: workflow, manager, aria2, pget, urls, sha256sum
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Ask private and loopback addresses of the lists too, without a login
    #[arg(long, env = "PROVISION_ALLOW_PRIVATE", value_parser = clap::builder::FalseyValueParser::new())]
    allow_private: bool,
    /// Ask hosts of the lists over plain http too
    #[arg(long)]
    allow_http: bool,
    /// The path of one source of the lists (repeatable), as for `lock add --path`
    // A source may have a secret, and clap's errors repeat a value.
    #[arg(long = "path-of", value_name = "SOURCE=PATH")]
    paths: Vec<String>,
    /// The options of `lock add` and `lock import`.
    #[command(flatten)]
    options: AddOptions,
}

/// The ways to split a value of `--path-of`, the longest source first: a URL and a path may each have a `=`.
///
/// # Errors
/// No split has a source. The message does not repeat the value, which may contain a secret.
fn splits(text: &str) -> Result<Vec<(Source, &str)>, Failure> {
    let refused = |why: &dyn Display| Failure::new(Code::Usage, format!("--path-of: {why}"));
    let mut error = None;
    let mut splits = Vec::new();
    for (at, _) in text.rmatch_indices('=') {
        match text[..at].parse::<Source>() {
            Ok(source) => splits.push((source, &text[at + 1..])),
            Err(why) => error = error.or(Some(why)),
        }
    }
    match error {
        Some(error) if splits.is_empty() => Err(refused(&error)),
        None if splits.is_empty() => Err(refused(&"it has the form SOURCE=PATH")),
        _ => Ok(splits),
    }
}

/// Gives the sources of the lists their chosen paths. One that no list names is one of the failures. Only the lists tell a `=` of a
/// query from the one before the path, so the message has no path.
fn place(lists: &mut [List], paths: &[Vec<(Source, &str)>], failures: &mut Failures) {
    for splits in paths {
        let is_named = |source: &Source| {
            lists.iter().flat_map(|list| &list.models).any(|model| model.source.is_same(source))
        };
        let chosen = splits.iter().find(|(source, path)| !path.is_empty() && is_named(source));
        let Some((source, path)) = chosen else {
            let source = splits.first().map(|(source, _)| source.to_string()).unwrap_or_default();
            let why = format!("--path-of {source}: no list names this source before a `=PATH`");
            failures.add(Code::Usage, TerminalText(why));
            continue;
        };
        let models = lists.iter_mut().flat_map(|list| &mut list.models);
        for model in models.filter(|model| model.source.is_same(source)) {
            model.chosen = Some((*path).to_owned());
        }
    }
}

/// The longest list, in bytes.
const MAX_LIST: u64 = 64 << 20;

fn bytes(path: &Utf8PathBuf) -> Result<(String, Vec<u8>), Failure> {
    let name = if path == "-" { "standard input" } else { path.as_str() };
    let cannot = |error: std::io::Error| Failure::new(Code::Usage, format!("{name} cannot be read: {error}"));
    let source: Box<dyn std::io::Read> = if path == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(cannot)?)
    };
    let mut bytes = Vec::new();
    source.take(MAX_LIST + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MAX_LIST {
        return Err(Failure::new(
            Code::Usage,
            format!("{name} is larger than {} MiB, the limit for a list of models", MAX_LIST >> 20),
        ));
    }
    Ok((name.to_owned(), bytes))
}

/// The meaning of a model that is not in the lock.
enum Loss {
    /// The list has an address for it, or a line that cannot be parsed.
    Failure,
    /// The list has no address for it.
    NoAddress,
    /// Every model is in the lock.
    Remark,
}

impl Loss {
    fn of(why: &UnusedReason) -> Self {
        match why {
            UnusedReason::Source(_)
            | UnusedReason::Line(_)
            | UnusedReason::Repository
            | UnusedReason::Elsewhere { .. }
            | UnusedReason::SamePath { .. } => Self::Failure,
            UnusedReason::NoAddress => Self::NoAddress,
            UnusedReason::Mirror(_)
            | UnusedReason::HashKind { .. }
            | UnusedReason::Digest(_)
            | UnusedReason::Option
            | UnusedReason::NoModel
            | UnusedReason::Ambiguous { .. } => Self::Remark,
        }
    }
}

pub(crate) fn run(args: &ImportArgs, default: &str) -> Result<(), Failure> {
    let path = args.options.file.writable(default)?;
    let paths = args.paths.iter().map(|text| splits(text)).collect::<Result<Vec<_>, _>>()?;
    let mut failures = Failures::default();
    let mut lists = Vec::with_capacity(args.files.len());
    for file in &args.files {
        let list = bytes(file).and_then(|(name, bytes)| {
            read(&name, &bytes, args.format).map_err(|error| Failure::new(Code::Usage, error))
        });
        match list {
            Ok(list) => lists.push(list),
            Err(failure) => failures.add(failure.code, failure.message),
        }
    }
    if lists.is_empty() {
        return failures.conclude("not imported");
    }
    place(&mut lists, &paths, &mut failures);
    let imported = join(lists).map_err(|error| Failure::new(Code::Usage, error))?;
    let document = super::current(&path)?;
    let (private, http) = (args.allow_private, args.allow_http);
    let session = HostSession::start_for(Sources::Listed { private, http }, args.options.patience)?;
    let mut batch = args.options.batch(&session, &path, &document, failures)?;
    let request =
        |model: &ImportedModel| AddRequest { groups: args.options.groups.clone(), ..AddRequest::from(model) };
    let wanted =
        imported.models.iter().map(|model| Wanted { request: request(model), place: Some(&model.place) });
    let checked = batch.check(wanted.collect());
    // Ends early if the lock cannot be written.
    if batch.add(checked).is_continue() {
        let _ = imported.same_paths.into_iter().try_for_each(|again| {
            let request = request(&again.model);
            batch.add_again(again, request)
        });
    }
    let Batch { mut writing, mut failures, .. } = batch;
    let _ = writing.flush(&mut failures);
    writing.summarize();
    let mut without_address = Vec::new();
    for unused in &imported.unused {
        match Loss::of(&unused.why) {
            Loss::Failure => failures.add(Code::Usage, TerminalText(unused)),
            Loss::NoAddress => without_address.push(unused),
            Loss::Remark => say(TerminalText(format_args!("not used: {unused}"))),
        }
    }
    note(&path, &writing, &without_address);
    if imported.models.is_empty() && failures.is_empty() {
        failures.add(
            Code::Usage,
            "no list has a file with a URL, so nothing was added; add models with `lock add SOURCE`",
        );
    }
    failures.conclude("not imported")
}

/// Prints the models without an address that are not in the lock otherwise.
fn note(lock: &Utf8Path, writing: &Writing<'_>, without_address: &[&Unused]) {
    let document = lock.exists().then(|| provision_lock::file::read(lock).ok()).flatten();
    let models = document.as_ref().map_or(&[][..], |document| document.lock().models());
    let last = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let paths = models.iter().map(|model| &model.path).chain(writing.paths());
    let known: HashSet<String> = paths.map(|path| last(path.as_str())).collect();
    let missing: Vec<&&Unused> =
        without_address.iter().filter(|unused| !known.contains(&last(&unused.what))).collect();
    if missing.is_empty() {
        return;
    }
    say(format_args!(
        "note: not in the lock, because the lists have no URL (`{} lock add SOURCE` adds one):",
        invocation()
    ));
    for unused in missing {
        say(TerminalText(format_args!("  {}: {}", unused.place, unused.what)));
    }
}
