//! Verification by common tools at their best: one process a core, each with an equal share of the bytes.

use std::process::Command;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use xshell::cmd;

use super::file_set::FileSet;
use super::rounds::Bench;

/// Compares the set below `destination` with its digests by `sha256sum`.
pub(super) fn sha256sum(bench: &Bench<'_>, set: &FileSet, destination: &Utf8Path) -> Result<Command> {
    let mut lists = Vec::new();
    for (number, part) in set.split(bench.cores).into_iter().enumerate() {
        let list = bench.meter.folder.join(format!("sums.{number}"));
        let sum = part.list(|file| format!("{}  {destination}/{}\n", file.content.sha256_hex(), file.path));
        bench.sh.write_file(&list, sum)?;
        lists.push(list);
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
