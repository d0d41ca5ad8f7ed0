//! curl, all files in one process.

use std::fmt::Write as _;
use std::fs;

use anyhow::Result;
use camino::Utf8Path;

use super::Job;
use crate::bench::invocation::Invocation;

/// As many transfers as ours has connections; a connection's next file does not wait for another to be opened.
const OPTIONS: [&str; 8] = [
    "--disable",
    "--silent",
    "--show-error",
    "--fail",
    "--parallel",
    "--parallel-max",
    "64",
    "--create-dirs",
];

pub(super) fn prepare(program: &Utf8Path, job: &Job<'_>) -> Result<Invocation> {
    let mut text = String::new();
    for file in &job.set.files {
        let path = &file.path;
        writeln!(text, "url = \"{}/{path}\"\noutput = \"{}/{path}\"", job.base, job.destination)?;
    }
    let list = job.folder.join("curl.config");
    fs::write(&list, text)?;
    let invocation = Invocation::new(program, OPTIONS).with(["--config", list.as_str()]);
    Ok(match job.authority {
        Some(authority) => invocation.with(["--cacert", authority.as_str()]),
        None => invocation,
    })
}
