//! `hf_transfer`: a Python module, so a small script of ours calls it.

use std::fmt::Write as _;
use std::fs;

use anyhow::Result;
use camino::Utf8Path;
use xshell::{Shell, cmd};

use super::{Found, Job, Tool};
use crate::bench::invocation::Invocation;
use crate::project;

const SCRIPT: &str = include_str!("hf_transfer.py");

/// A Python that has it, by itself or from the wheels.
pub(super) fn find(sh: &Shell, wheels: &Utf8Path) -> Option<Found> {
    let ask = "import hf_transfer, sys; from importlib.metadata import version; \
               print(sys.executable); print('hf_transfer', version('hf_transfer'))";
    let command = cmd!(sh, "python3 -c {ask}").quiet().ignore_stderr().env("PYTHONPATH", wheels);
    let said = command.read().ok()?;
    let mut lines = said.lines();
    // The interpreter itself: what is on PATH may be a script that looks for it, at a cost of its own.
    let (program, version) = (lines.next()?.into(), lines.next()?.to_owned());
    Some(Found { tool: Tool::HfTransfer, program, version })
}

pub(super) fn prepare(program: &Utf8Path, job: &Job<'_>) -> Result<Invocation> {
    job.set.make_directories(job.destination)?;
    let mut text = String::new();
    for file in &job.set.files {
        writeln!(text, "{}/{}\t{}/{}", job.base, file.path, job.destination, file.path)?;
    }
    let list = job.folder.join("hf_transfer.list");
    fs::write(&list, text)?;
    let script = job.folder.join("hf_transfer.driver.py");
    fs::write(&script, SCRIPT)?;
    let invocation = Invocation::new(program, [script.as_str(), list.as_str()]);
    Ok(invocation.see("PYTHONPATH", project::root().join(super::WHEELS).as_str()))
}
