//! Verification by common tools at their best: as many processes as there are cores. xargs gives the next files to the
//! first one that is done.

use std::process::Command;

use anyhow::Result;
use camino::Utf8Path;
use xshell::cmd;

use super::file_set::FileSet;
use super::rounds::Bench;

/// Enough for an even load, and few enough that the starts of processes cost nothing.
const STARTS_PER_CORE: usize = 4;

/// Compares the set below `destination` with its digests by `sha256sum`.
pub(super) fn sha256sum(bench: &Bench<'_>, set: &FileSet, destination: &Utf8Path) -> Result<Command> {
    let sums = set.list(|file| format!("{}  {destination}/{}\n", file.content.sha256_hex(), file.path));
    let check = r#"printf '%s\n' "$@" | sha256sum --check --strict --quiet"#;
    parallel(bench, set, &sums, &["sh", "-c", check, "sha256sum"])
}

/// Hashes the set by `openssl dgst`, which cannot compare.
pub(super) fn openssl(bench: &Bench<'_>, set: &FileSet, destination: &Utf8Path) -> Result<Command> {
    let paths = set.list(|file| format!("{destination}/{}\n", file.path));
    parallel(bench, set, &paths, &["openssl", "dgst", "-sha256"])
}

/// Runs `program` with the lines of a list, some at a time, on all cores.
fn parallel(bench: &Bench<'_>, set: &FileSet, lines: &str, program: &[&str]) -> Result<Command> {
    let list = bench.meter.folder.join(format!("{}.arguments", program[0]));
    bench.sh.write_file(&list, lines)?;
    let at_once = set.0.len().div_ceil(STARTS_PER_CORE * bench.cores).to_string();
    let cores = bench.cores.to_string();
    Ok(cmd!(bench.sh, "xargs --arg-file {list} --delimiter \\n -P {cores} -n {at_once} {program...}").into())
}
