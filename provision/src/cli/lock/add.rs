//! `provision lock add`.

use crate::cli::exit::{Code, Failure};
use crate::cli::say;
use clap::Args;
use provision_core::digest::{DigestError, Sha256};
use provision_core::terminal_text::TerminalText;
use provision_lock::entry_builder::AddRequest;
use provision_lock::placement::as_directory;
use provision_lock::source::Source;

use super::AddOptions;
use super::batch::{Batch, WantedSource};
use super::session::{Failures, HostSession};

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
    #[arg(
        long,
        value_name = "PATH",
        help = "Its path below the destination; a directory if it ends with `/` or is the name of one of ComfyUI's folders \
                [default: the folder that the source's layout or type names]"
    )]
    path: Option<String>,
    /// Another source of the same bytes (repeatable), in any of the forms
    #[arg(long = "mirror", value_name = "SOURCE")]
    mirrors: Vec<String>,
    /// Its digest, if the host does not declare it
    #[arg(long, value_name = "HEX", value_parser = digest)]
    sha256: Option<Sha256>,
    /// Its size in bytes, if the host does not declare it
    #[arg(long, value_name = "BYTES")]
    size: Option<u64>,
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
        if args.sha256.is_some() || args.size.is_some() || !mirrors.is_empty() {
            let why = "--sha256, --size and --mirror apply to one file: give one SOURCE with them";
            return Err(Failure::new(Code::Usage, why));
        }
        if let Some(file) = args.path.as_deref().filter(|path| as_directory(path).is_none()) {
            let why = format!(
                "--path {file} is the path of one file: give one SOURCE with it, or --path {file}/ for a folder"
            );
            return Err(Failure::new(Code::Usage, TerminalText(why)));
        }
    }
    let request = |source| AddRequest {
        mirrors: mirrors.clone(),
        explicit: args.path.clone(),
        sha256: args.sha256,
        size: args.size,
        groups: args.options.groups.clone(),
        is_typed: true,
        ..AddRequest::of(source)
    };
    let wanted =
        sources.into_iter().map(|source| WantedSource { request: request(source), place: None }).collect();
    let document = super::current(&path)?;
    let parts = &args.options.parts;
    if let Some(below) = args.path.as_deref().filter(|path| path.starts_with("models/") && parts.is_models())
    {
        say(TerminalText(format_args!(
            "warning: paths are below the directory `models` already, so the file will be at models/{below}; if that is not \
             meant, leave `models/` out"
        )));
    }
    let session = HostSession::start(args.options.patience)?;
    let mut batch = args.options.batch(&session, &path, &document, Failures::default())?;
    let checked = batch.check(wanted);
    // A mistake is corrected and the command repeated: nothing is downloaded before that.
    if batch.failures.is_empty() {
        let _ = batch.add(checked);
    }
    let Batch { mut writing, mut failures, mut builder, .. } = batch;
    let _ = writing.flush(&mut failures);
    args.options.write_pieces(&writing, builder.reader.take_lists(), &mut failures)?;
    if args.options.dry_run {
        writing.summarize();
    }
    failures.conclude("not added")
}
