//! axel: it fetches one file, so one runs for each.

use std::fmt::Write as _;
use std::fs;

use anyhow::Result;
use camino::Utf8Path;

use super::Job;
use crate::bench::invocation::Invocation;

const AT_ONCE: usize = 16;

/// A file below this size is not worth a second connection.
const WORTH_SPLITTING: u64 = 4_000_000;

pub(super) fn prepare(program: &Utf8Path, job: &Job<'_>) -> Result<Invocation> {
    job.set.make_directories(job.destination)?;
    let mut text = String::new();
    for file in &job.set.files {
        let path = &file.path;
        writeln!(text, "{}/{path}\n{}/{path}", job.destination, job.base)?;
    }
    let list = job.folder.join("axel.list");
    fs::write(&list, text)?;
    let connections = if job.set.largest() < WORTH_SPLITTING { "1" } else { "16" };
    let at_once = job.set.files.len().min(AT_ONCE).to_string();
    let mut invocation = Invocation::new("xargs", ["--arg-file", list.as_str(), "-P", &at_once, "-n", "2"])
        .with([program.as_str(), "--quiet", "--num-connections", connections]);
    if job.authority.is_some() {
        // It knows no way to be told of an authority, and Debian's 2.17.11 takes no certificate for `localhost`. The
        // check costs nothing that would show.
        invocation = invocation.with(["--insecure"]);
    }
    // The last word: xargs puts the file's name and its address behind it.
    Ok(invocation.with(["--output"]))
}
