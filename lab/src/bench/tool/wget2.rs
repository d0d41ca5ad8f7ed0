//! GNU wget2: many threads in one process.
//!
//! It could also fetch a large file in pieces (`--chunk-size`), but Debian's 1.99.1 never ended when told so.

use std::fs;

use anyhow::Result;
use camino::Utf8Path;

use super::{Job, wget};
use crate::bench::invocation::Invocation;
use crate::bench::set;

/// All files at once, as long as that is not thousands of threads.
const AT_ONCE: usize = 16;

pub(super) fn prepare(program: &Utf8Path, job: &Job<'_>) -> Result<Invocation> {
    let list = job.folder.join("wget2.list");
    fs::write(&list, set::list(&job.set.files, |file| format!("{}/{}", job.base, file.path)))?;
    let threads = format!("--max-threads={}", job.set.files.len().min(AT_ONCE));
    let invocation = Invocation::new(program, ["--no-config", "--quiet", &threads])
        .with(wget::LAYOUT)
        .with(["--directory-prefix", job.destination.as_str(), "--input-file", list.as_str()]);
    Ok(match job.authority {
        Some(authority) => invocation.with([format!("--ca-certificate={authority}")]),
        None => invocation,
    })
}
