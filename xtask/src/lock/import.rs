//! `cargo xtask lock import`.

#![expect(clippy::print_stderr, reason = "what nothing came of is said")]

use std::io::Read as _;

use camino::Utf8PathBuf;
use clap::Args;
use provision::cli::exit::{Code, Failure};
use provision_lock::import::{Format, Why, join, read};
use provision_lock::make::Order;

use super::asking::{Asking, Failures, Parts};
use super::{LockFile, add, write};

/// Options of `lock import`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ImportArgs {
    /// The lists; `-` is standard input. Output of sha256sum gives digests to what the others name
    #[arg(value_name = "FILE", required = true)]
    files: Vec<Utf8PathBuf>,
    /// What the lists are [default: seen from each]: workflow, manager, aria2, pget, urls, sha256sum
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// A group that all of them belong to (repeatable)
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// Where bytes go that have to be read.
    #[command(flatten)]
    parts: Parts,
    /// Which lock.
    #[command(flatten)]
    file: LockFile,
}

/// The longest list, in bytes.
const MAX_LIST: u64 = 64 << 20;

fn text(path: &Utf8PathBuf) -> Result<(String, String), Failure> {
    let name = if path == "-" { "standard input" } else { path.as_str() };
    let cannot = |error: std::io::Error| Failure::new(Code::Usage, format!("{name} cannot be read: {error}"));
    let source: Box<dyn std::io::Read> = if path == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(cannot)?)
    };
    let mut text = String::new();
    source.take(MAX_LIST + 1).read_to_string(&mut text).map_err(cannot)?;
    if text.len() as u64 > MAX_LIST {
        return Err(Failure::new(Code::Usage, format!("{name} is larger than any list of models")));
    }
    Ok((name.to_owned(), text))
}

/// Whether a model is missing because of it; else it is only a remark.
fn is_failure(why: &Why) -> bool {
    match why {
        Why::Source(_) | Why::NoAddress | Why::Repository | Why::Elsewhere { .. } | Why::SamePath { .. } => {
            true
        }
        Why::HashKind { .. } | Why::Digest(_) | Why::Option | Why::NoModel | Why::Ambiguous { .. } => false,
    }
}

pub(crate) fn run(args: &ImportArgs) -> Result<(), Failure> {
    let path = args.file.writable()?;
    let usage = |error| Failure::new(Code::Usage, error);
    let mut lists = Vec::with_capacity(args.files.len());
    for file in &args.files {
        let (name, text) = text(file)?;
        lists.push(read(&name, &text, args.format).map_err(usage)?);
    }
    let imported = join(lists).map_err(usage)?;
    add::readable(&path)?;
    let asking = Asking::start()?;
    let mut maker = asking.maker(&args.parts);
    let (mut entries, mut failures) = (Vec::new(), Failures::default());
    for wanted in &imported.wanted {
        let order = Order { groups: args.groups.clone(), ..Order::from(wanted) };
        match asking.wait_for(maker.make(&order)) {
            Ok(made) => made.into_iter().for_each(|entry| write::collect(&mut entries, entry, &mut failures)),
            Err(error) => {
                failures.add(super::asking::code_of_make(&error), format!("{}: {error}", wanted.place));
            }
        }
    }
    write::put(&path, &entries, &mut failures)?;
    for unused in &imported.unused {
        if is_failure(&unused.why) {
            failures.add(Code::Usage, unused);
        } else {
            eprintln!("not used: {unused}");
        }
    }
    failures.conclude("not imported")
}
