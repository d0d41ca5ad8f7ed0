//! `cargo xtask fetch-models`.

use provision::cli::exit::Failure;
use provision::cli::fetch;

use crate::flags::FetchModels;
use crate::{demo, project};

/// The real job, or the demo.
pub(crate) fn run(args: &FetchModels) -> Result<(), Failure> {
    if args.demo { demo::run(&args.fetch) } else { fetch::run(&args.fetch, &project::lock()) }
}
