//! GNU wget: it fetches one file after the other, so several run at once, each with its part of the set.

use std::fs;

use anyhow::Result;
use camino::Utf8Path;

use super::Job;
use crate::bench::invocation::Invocation;
use crate::bench::set;

/// One for each file, as long as that is not thousands of processes: each keeps its connection for its whole part.
const AT_ONCE: usize = 16;

/// Each file at its path, without a directory for the host.
pub(super) const LAYOUT: [&str; 2] = ["--force-directories", "--no-host-directories"];

pub(super) fn prepare(program: &Utf8Path, job: &Job<'_>) -> Result<Invocation> {
    let parts = job.set.parts(AT_ONCE);
    let mut lists = String::new();
    for (number, part) in parts.iter().enumerate() {
        let list = job.folder.join(format!("wget.{number}"));
        let urls = set::list(part.iter().copied(), |file| format!("{}/{}", job.base, file.path));
        fs::write(&list, urls)?;
        lists.push_str(list.as_str());
        lists.push('\n');
    }
    let all = job.folder.join("wget.lists");
    fs::write(&all, lists)?;
    let at_once = parts.len().to_string();
    let mut invocation = Invocation::new("xargs", ["--arg-file", all.as_str(), "-P", &at_once, "-n", "1"])
        .with([program.as_str(), "--no-config", "--quiet"])
        .with(LAYOUT)
        .with(["--directory-prefix", job.destination.as_str()]);
    if let Some(authority) = job.authority {
        invocation = invocation.with(["--ca-certificate", authority.as_str()]);
    }
    // The last word: xargs puts the list behind it.
    Ok(invocation.with(["--input-file"]))
}
