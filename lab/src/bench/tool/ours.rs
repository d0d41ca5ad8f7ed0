//! This program: one `models.lock`, the default options.

use std::fmt::Write as _;
use std::fs;

use anyhow::Result;
use camino::Utf8Path;
use xshell::Shell;

use super::{Found, Job, Tool};
use crate::bench::invocation::Invocation;
use crate::bench::set::Set;
use crate::tools::program;

impl Found {
    /// The program under test: `given`, or the runtime binary of this checkout.
    pub(in crate::bench) fn ours(sh: &Shell, given: Option<&Utf8Path>, version: String) -> Result<Self> {
        let program = match given {
            Some(program) => program.to_owned(),
            None => program::release(sh)?,
        };
        Ok(Self { tool: Tool::Ours, program, version })
    }
}

/// The name of the command: xtask has longer ones, since it has others beside them.
fn fetch(program: &Utf8Path) -> &'static str {
    if program.file_name() == Some("xtask") { "fetch-models" } else { "fetch" }
}

pub(in crate::bench) fn write_lock(path: &Utf8Path, set: &Set, base: &str) -> Result<()> {
    let mut text = "version = 1\n".to_owned();
    for file in &set.files {
        let (path, size, sha256) = (&file.path, file.content.size(), file.content.sha256_hex());
        write!(text, "\n[[model]]\npath = \"{path}\"\nurl = \"{base}/{path}\"\n")?;
        writeln!(text, "size = {size}\nsha256 = \"{sha256}\"")?;
    }
    Ok(fs::write(path, text)?)
}

pub(super) fn prepare(program: &Utf8Path, job: &Job<'_>) -> Result<Invocation> {
    let lock = job.folder.join("models.lock");
    write_lock(&lock, job.set, job.base)?;
    let words = ["--lock", lock.as_str(), "--dest", job.destination.as_str(), "--progress", "none"];
    let invocation = Invocation::new(program, [fetch(program)]).with(words);
    Ok(match job.connections {
        Some(number) => {
            let number = number.to_string();
            invocation.with(["--connections", &number, "--connections-per-host", &number])
        }
        None => invocation,
    })
}

/// A fetch of what is already there, with whatever options.
pub(in crate::bench) fn again(
    program: &Utf8Path,
    lock: &Utf8Path,
    destination: &Utf8Path,
    options: &[&str],
) -> Invocation {
    Invocation::new(program, [fetch(program), "--lock", lock.as_str(), "--dest", destination.as_str()])
        .with(["--progress", "none"])
        .with(options.iter().copied())
}

pub(in crate::bench) fn verify(program: &Utf8Path, lock: &Utf8Path, destination: &Utf8Path) -> Invocation {
    Invocation::new(program, ["verify", "--lock", lock.as_str(), "--dest", destination.as_str()])
}
