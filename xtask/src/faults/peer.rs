//! placeholder
use super::{FaultsArgs, catalogue::Case};
use anyhow::Result;
use clap::ValueEnum;
use xshell::Shell;
/// A tool
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    Aria2c,
    Curl,
    Wget,
}
pub(super) fn run(_: &Shell, _: &FaultsArgs, _: &[Case]) -> Result<()> {
    Ok(())
}
