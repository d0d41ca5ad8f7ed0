//! `provision lock check`.

use crate::cli::arguments::{Choice, Locks, Patience};
use crate::cli::exit::Failure;
use crate::cli::print_line;
use crate::cli::{locks, units};
use clap::Args;
use provision_core::terminal_text::TerminalText;
use provision_lock::check::{Verdict, check};
use provision_lock::resolve::Kind;

use super::check_pieces;
use super::local_files::FilesArgs;
use super::session::{Failures, HostSession, code_of};

/// Options of `lock check`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CheckArgs {
    /// The models.
    #[command(flatten)]
    choice: Choice,
    /// The locks.
    #[command(flatten)]
    locks: Locks,
    /// Instead of asking hosts: check that the piece lists beside the lock describe the installed or cached files,
    /// which are read completely
    #[arg(long)]
    pieces: bool,
    /// The location of the files, with --pieces.
    #[command(flatten)]
    files: FilesArgs,
    /// The patience with hosts.
    #[command(flatten)]
    patience: Patience,
}

/// One word for the state of a model's addresses.
fn word(verdicts: &[Verdict]) -> &'static str {
    match verdicts.iter().filter_map(Verdict::kind).max() {
        Some(Kind::Differs) => "differs",
        Some(Kind::Refused) => "refused",
        Some(Kind::Gone) => "gone",
        Some(Kind::Unreachable | Kind::Untrusted) => "unreachable",
        None if verdicts.iter().all(|verdict| matches!(verdict, Verdict::Right)) => "right",
        None => "there",
    }
}

pub(crate) fn run(args: &CheckArgs, default: &str) -> Result<(), Failure> {
    if args.pieces {
        return check_pieces::run(&args.choice, &args.files, &args.locks, default);
    }
    let lock = super::read(&args.locks, default)?;
    let models = locks::select(&lock, &args.choice.clone().into())?;
    let session = HostSession::start(args.patience)?;
    let resolver = session.resolver();
    let mut failures = Failures::default();
    for model in models {
        let verdicts = session.wait_for(check(&resolver, model));
        let sources = units::count(verdicts.len(), "source");
        let note = match word(&verdicts) {
            "there" if verdicts.iter().any(|verdict| matches!(verdict, Verdict::Present)) => {
                "; not every host declares the size and the digest"
            }
            "there" => ", of the right size; not every host declares the digest",
            _ => "",
        };
        print_line(format_args!(
            "{:<11}  {}  {}  {sources}{note}",
            word(&verdicts),
            model.path,
            units::bytes(model.size)
        ));
        for (url, verdict) in model.sources.iter().zip(&verdicts) {
            if let Some(kind) = verdict.kind() {
                let told = format_args!("{}: {}: {verdict}", model.path, session.asked(url));
                failures.add_of_host(code_of(kind), &model.path, verdict.silence(), TerminalText(told));
            }
        }
    }
    failures.conclude("not confirmed")
}
