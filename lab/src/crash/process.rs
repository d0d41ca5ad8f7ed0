//! Running the program as it is, with a time limit: what hangs is shown as the kernel sees it, and killed.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use camino::Utf8PathBuf;
use rustix::process::{Pid, Signal, kill_process};

use super::tracer::End;
use crate::tools::wait;

/// A run that takes longer hangs. A job takes a tenth of a second, one of them three.
pub(super) const LONGEST: Duration = Duration::from_mins(1);

/// A command, as data.
#[derive(Debug, Clone)]
pub(super) struct Command {
    pub(super) program: Utf8PathBuf,
    pub(super) arguments: Vec<String>,
    /// An empty directory.
    pub(super) home: Utf8PathBuf,
    /// What it says goes there.
    pub(super) output: Utf8PathBuf,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.program, self.arguments.join(" "))
    }
}

/// A process that is killed when it is dropped.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    output: Utf8PathBuf,
    started: Instant,
}

/// How a run ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) end: End,
    pub(super) said: String,
}

impl Command {
    /// The process's environment: nothing of a person's.
    pub(super) fn prepare(&self, program: &Utf8PathBuf) -> std::process::Command {
        let mut command = std::process::Command::new(program);
        command.env_clear().env("HOME", &self.home).env("RUST_BACKTRACE", "1").current_dir(&self.home);
        command
    }

    /// Starts it, with more in its environment.
    pub(super) fn start(&self, environment: &[(&str, &str)]) -> Result<Running> {
        let output = File::create(&self.output)?;
        let child = self
            .prepare(&self.program)
            .args(&self.arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("starting {self}"))?;
        Ok(Running { child, output: self.output.clone(), started: Instant::now() })
    }
}

impl Running {
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let pid =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process's number")?;
        kill_process(pid, signal).context("sending a signal")
    }

    /// How it ended, if it has.
    pub(super) fn poll(&mut self) -> Result<Option<Ended>> {
        let Some(status) = self.child.try_wait()? else {
            if self.started.elapsed() > LONGEST {
                bail!("it hangs:\n{}\n{}", portrait(self.child.id()), said(&self.output));
            }
            return Ok(None);
        };
        let end = status.code().map_or(End::Signal(status.signal().unwrap_or(0)), End::Code);
        Ok(Some(Ended { end, said: said(&self.output) }))
    }

    pub(super) fn wait(mut self) -> Result<Ended> {
        wait::until("a run to end", LONGEST * 2, || self.poll())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a run said, the end of it.
pub(super) fn said(output: &Utf8PathBuf) -> String {
    let text = String::from_utf8_lossy(&fs::read(output).unwrap_or_default()).into_owned();
    let skip = text.len().saturating_sub(4000);
    text[text.ceil_char_boundary(skip)..].trim().to_owned()
}

/// Where each thread of a process is, and what it has open: for one that hangs.
pub(super) fn portrait(pid: u32) -> String {
    let mut lines = Vec::new();
    let read = |path: String| fs::read_to_string(path).unwrap_or_default().trim().replace('\n', " < ");
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let at = task.path().display().to_string();
        lines.push(format!(
            "  thread {}: in {} (system call {}; {})",
            read(format!("{at}/comm")),
            read(format!("{at}/wchan")),
            read(format!("{at}/syscall")),
            read(format!("{at}/stack")),
        ));
    }
    for descriptor in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        if let Ok(target) = fs::read_link(descriptor.path()) {
            lines.push(format!("  open: {} = {}", descriptor.file_name().display(), target.display()));
        }
    }
    let sockets = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    lines.extend(sockets.lines().take(50).map(|line| format!("  tcp: {line}")));
    lines.join("\n")
}
