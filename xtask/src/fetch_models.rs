//! `cargo xtask fetch-models`.

use provision::cli::arguments::FetchCommand;
use provision::cli::exit::Failure;
use provision::cli::fetch;

use crate::flags::FetchModels;
use crate::{demo, project};

/// The real job, or the demo.
pub(crate) fn run(args: &FetchModels) -> Result<(), Failure> {
    if args.demo {
        return demo::run(&args.command.fetch);
    }
    let FetchCommand { fetch: options, layers } = &args.command;
    fetch::run(options, layers, &project::lock())
}
