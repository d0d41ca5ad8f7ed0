//! `cargo xtask fetch-models`: the program's `fetch` with the project's lock, or the demo.

use provision::cli::arguments::FetchCommand;
use provision::cli::fetch;

use crate::flags::FetchModels;
use crate::{demo, project};

pub(crate) fn run(args: &FetchModels) -> anyhow::Result<()> {
    if args.demo {
        return demo::run(&args.command.fetch);
    }
    let FetchCommand { fetch: options, layers } = &args.command;
    Ok(fetch::run(options, layers, &project::lock())?)
}
