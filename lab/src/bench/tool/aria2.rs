//! aria2c and its fork.

use std::fmt::Write as _;
use std::fs;

use anyhow::Result;
use camino::Utf8Path;

use super::Job;
use crate::bench::invocation::Invocation;

/// Sixteen connections for each file is the most that aria2c takes. It does not allocate: that is for disks that turn.
const OPTIONS: [&str; 6] = ["-x16", "-s16", "-k1M", "--file-allocation=none", "--no-conf", "--quiet"];

/// All files at once, as long as that is not thousands of connections.
const AT_ONCE: usize = 32;

pub(super) fn prepare(program: &Utf8Path, job: &Job<'_>, check: bool) -> Result<Invocation> {
    let mut text = String::new();
    for file in &job.set.files {
        let path = &file.path;
        writeln!(text, "{}/{path}\n  dir={}\n  out={path}", job.base, job.destination)?;
        if check {
            writeln!(text, "  checksum=sha-256={}", file.content.sha256_hex())?;
        }
    }
    let list = job.folder.join("aria2.list");
    fs::write(&list, text)?;
    let at_once = format!("-j{}", job.set.files.len().min(AT_ONCE));
    let invocation = Invocation::new(program, OPTIONS).with(["-i", list.as_str(), at_once.as_str()]);
    Ok(match job.authority {
        Some(authority) => invocation.with([format!("--ca-certificate={authority}")]),
        None => invocation,
    })
}

/// What makes it keep what it has when it is killed: it would else note its progress once a minute.
pub(in crate::bench) const SURVIVES: [&str; 2] = ["--continue=true", "--auto-save-interval=1"];
