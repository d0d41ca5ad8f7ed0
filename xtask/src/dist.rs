//! `cargo xtask dist`: builds the static `provision` for images, and prints its path, size and digest.

#![expect(clippy::print_stdout, reason = "path, size and digest are the command's output")]

pub(crate) mod binary;

use anyhow::Result;
use clap::Args;
use provision_core::byte_size::ByteSize;
use xshell::{Shell, cmd};

use crate::project;

/// Builds the static `provision` for images, checks it, and prints its path, size and SHA-256
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DistArgs {
    /// The machine type, such as aarch64-unknown-linux-gnu (repeatable) [default: this machine's]
    #[arg(long, value_name = "TRIPLE")]
    target: Vec<String>,
}

pub(crate) fn run(args: &DistArgs) -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    let targets = if args.target.is_empty() { vec![binary::host(&sh)?] } else { args.target.clone() };
    for target in targets {
        let path = binary::build(&sh, &target)?;
        let exact = ByteSize(path.metadata()?.len()).exact();
        let sum = cmd!(sh, "sha256sum {path}").quiet().read()?;
        let sha256 = sum.split_whitespace().next().unwrap_or_default();
        println!("{path}\n{exact}, static, stripped\nsha256 {sha256}");
    }
    Ok(())
}
