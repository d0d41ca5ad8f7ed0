//! `provision lock add`.

use std::ops::ControlFlow;

use crate::cli::exit::{Code, Failure};
use clap::Args;
use provision_core::digest::{DigestError, Sha256};
use provision_core::lockfile::TakenPaths;
use provision_lock::edit::Document;
use provision_lock::entry_builder::AddRequest;
use provision_lock::source::Source;

use super::session::{Failures, HostSession};
use super::{AddOptions, EditFailure, write};

/// Options of `lock add`.
#[derive(Debug, Clone, Args)]
pub(crate) struct AddArgs {
    #[arg(
        value_name = "SOURCE",
        required = true,
        help = "A URL, or hf:OWNER/REPO[@REV]/PATH (PATH may be a glob), civitai:VERSION_ID, \
                modelscope:OWNER/REPO[@REV]/PATH, github:OWNER/REPO[@TAG]/ASSET, oci:REGISTRY/NAME@sha256:HEX"
    )]
    sources: Vec<String>,
    /// Its path below the destination; a directory if it ends with `/` [default: the folder that the source's layout or type
    /// names]
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Another source of the same bytes (repeatable), in any of the forms
    #[arg(long = "mirror", value_name = "SOURCE")]
    mirrors: Vec<String>,
    /// Its digest, if the host does not declare it
    #[arg(long, value_name = "HEX", value_parser = digest)]
    sha256: Option<Sha256>,
    /// The options of `lock add` and `lock import`.
    #[command(flatten)]
    options: AddOptions,
}

fn digest(text: &str) -> Result<Sha256, DigestError> {
    text.trim().to_ascii_lowercase().parse()
}

fn source(text: &str) -> Result<Source, Failure> {
    // The error does not repeat the text, which may contain a secret.
    text.parse().map_err(|error| Failure::new(Code::Usage, error))
}

pub(crate) fn run(args: &AddArgs, default: &str) -> Result<(), Failure> {
    let path = args.options.file.writable(default)?;
    let sources = args.sources.iter().map(|text| source(text)).collect::<Result<Vec<_>, _>>()?;
    let mirrors = args.mirrors.iter().map(|text| source(text)).collect::<Result<Vec<_>, _>>()?;
    if sources.len() > 1 {
        let one_file = args.path.as_deref().is_some_and(|path| !path.ends_with('/'));
        if args.sha256.is_some() || !mirrors.is_empty() || one_file {
            let why =
                "--sha256, --mirror and a --path to a file apply to one file: give one SOURCE with them";
            return Err(Failure::new(Code::Usage, why));
        }
    }
    let taken = taken_paths(&path)?;
    let session = HostSession::start(args.options.patience)?;
    let mut builder = session.builder(&args.options.parts, args.options.allow_expiring);
    builder.taken = taken;
    let mut failures = Failures::default();
    let mut writing = write::Writing::new(&session, &path);
    let mut goes_on = ControlFlow::Continue(());
    for source in sources {
        let request = AddRequest {
            mirrors: mirrors.clone(),
            explicit: args.path.clone(),
            sha256: args.sha256,
            groups: args.options.groups.clone(),
            may_lose_mirrors: false,
            ..AddRequest::of(source)
        };
        let made = session.wait_for(builder.build_each(&request, |made| {
            goes_on = writing.take(made, &mut failures);
            goes_on
        }));
        if let Err(error) = made {
            let code = super::session::code_of_entry(&error);
            failures.add_of_host(code, &request.source, error.silence(), &error);
        }
        if goes_on.is_break() {
            break;
        }
    }
    let _ = writing.flush(&mut failures);
    failures.conclude("not added")
}

/// The paths of the lock, before any request. A missing lock will be created.
///
/// # Errors
/// The lock cannot be edited.
pub(super) fn taken_paths(path: &camino::Utf8Path) -> Result<TakenPaths, Failure> {
    if !path.exists() {
        return Ok(Document::empty(path.as_str()).lock().paths());
    }
    let document = provision_lock::file::read(path).map_err(|error| EditFailure::from(error).0)?;
    Ok(document.lock().paths())
}
