//! Verification by common tools at their best: as many processes as there are cores. xargs gives the next list or file
//! to the first one that is done.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use xshell::cmd;

use super::file_set::FileSet;
use super::rounds::Bench;

/// Enough for an even load, and few enough that the starts of processes cost nothing.
const LISTS_PER_CORE: usize = 4;

/// Compares the set below `destination` with its digests by `sha256sum`.
pub(super) fn sha256sum(bench: &Bench<'_>, set: &FileSet, destination: &Utf8Path) -> Result<Command> {
    let mut sums = vec![String::new(); set.0.len().min(LISTS_PER_CORE * bench.cores)];
    let lists: Vec<_> = (0..sums.len()).map(|list| bench.meter.folder.join(format!("sums.{list}"))).collect();
    for (file, list) in set.0.iter().zip((0..sums.len()).cycle()) {
        let _ = writeln!(sums[list], "{}  {destination}/{}", file.content.sha256_hex(), file.path);
    }
    for (list, sums) in lists.iter().zip(sums) {
        bench.sh.write_file(list, sums)?;
    }
    parallel(bench, &lists, &["sha256sum", "--check", "--strict", "--quiet"])
}

/// Hashes the set by `openssl dgst`, which cannot compare.
pub(super) fn openssl(bench: &Bench<'_>, set: &FileSet, destination: &Utf8Path) -> Result<Command> {
    let files: Vec<_> = set.0.iter().map(|file| destination.join(&file.path)).collect();
    parallel(bench, &files, &["openssl", "dgst", "-sha256"])
}

/// Runs `program` once for each argument, as many at a time as there are cores.
fn parallel(bench: &Bench<'_>, arguments: &[Utf8PathBuf], program: &[&str]) -> Result<Command> {
    let list = bench.meter.folder.join(format!("{}.arguments", program[0]));
    let lines: Vec<_> = arguments.iter().map(|argument| argument.as_str()).collect();
    bench.sh.write_file(&list, lines.join("\n"))?;
    let cores = bench.cores.to_string();
    Ok(cmd!(bench.sh, "xargs --arg-file {list} -P {cores} -n 1 {program...}").into())
}
