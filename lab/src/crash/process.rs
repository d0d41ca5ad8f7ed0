//! Processes of the program under a time limit. One that hangs is described as the kernel sees it, and killed.

use std::fmt;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::{Pid, Signal, kill_process};

use crate::tools::wait;

/// A run that takes longer hangs: the slowest job takes three seconds.
pub(super) const TIME_LIMIT: Duration = Duration::from_mins(1);
/// The end of a run's output that a failure shows, in bytes.
const SHOWN: usize = 4000;

/// A command line of the program.
#[derive(Debug, Clone)]
pub(super) struct Command {
    pub(super) program: Utf8PathBuf,
    pub(super) arguments: Vec<String>,
    /// A library that is loaded first.
    pub(super) preload: Option<Utf8PathBuf>,
    /// An empty directory.
    pub(super) home: Utf8PathBuf,
    /// The file that takes standard output and error.
    pub(super) output: Utf8PathBuf,
}

/// A process that is killed when it is dropped.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) child: Child,
    output: Utf8PathBuf,
    started: Instant,
}

/// The end of a run.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) said: String,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.said)
    }
}

impl Ended {
    pub(super) fn ensure_code(&self, code: i32) -> Result<()> {
        ensure!(self.status.code() == Some(code), "the run ended with {self}, not with {code}");
        Ok(())
    }
}

impl Command {
    /// A process with none of the caller's environment.
    pub(super) fn process(&self, program: &Utf8Path) -> std::process::Command {
        let mut process = std::process::Command::new(program);
        process.env_clear().env("HOME", &self.home).env("RUST_BACKTRACE", "1").current_dir(&self.home);
        process.envs(self.preload.iter().map(|library| ("LD_PRELOAD", library)));
        process
    }

    pub(super) fn start(&self) -> Result<Running> {
        let output = File::create(&self.output)?;
        let mut process = self.process(&self.program);
        process.args(&self.arguments).stdin(Stdio::null());
        process.stdout(output.try_clone()?).stderr(output);
        Running::spawn(&mut process, &self.output)
    }

    /// Runs it to its end, which has to be exit code 0.
    pub(super) fn run(&self) -> Result<()> {
        self.start()?.wait()?.ensure_code(0).with_context(|| self.arguments.join(" "))
    }
}

impl Running {
    pub(super) fn spawn(process: &mut std::process::Command, output: &Utf8Path) -> Result<Self> {
        let child = process.spawn().with_context(|| format!("starting {process:?}"))?;
        Ok(Self { child, output: output.to_owned(), started: Instant::now() })
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).context("sending a signal")
    }

    /// The end of the run, if it has ended.
    pub(super) fn poll(&mut self) -> Result<Option<Ended>> {
        let status = self.child.try_wait()?;
        if status.is_none() && self.started.elapsed() > TIME_LIMIT {
            bail!("the run hangs:\n{}\n{}", describe_hang(self.child.id()), said(&self.output));
        }
        Ok(status.map(|status| Ended { status, said: said(&self.output) }))
    }

    pub(super) fn wait(mut self) -> Result<Ended> {
        wait::until("a run to end", TIME_LIMIT * 2, || self.poll())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The end of a run's output.
pub(super) fn said(output: &Utf8Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(output).unwrap_or_default()).into_owned();
    text[text.ceil_char_boundary(text.len().saturating_sub(SHOWN))..].trim().to_owned()
}

/// Each thread's place in the kernel (name, function, system call, stack), the open files and the sockets of a process.
pub(super) fn describe_hang(pid: u32) -> String {
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default().trim().replace('\n', " < ");
    let entries = |name: &str| fs::read_dir(format!("/proc/{pid}/{name}")).into_iter().flatten().flatten();
    let mut lines = Vec::new();
    for task in entries("task") {
        let facts = ["comm", "wchan", "syscall", "stack"].map(|name| read(&task.path().join(name)));
        lines.push(format!("  thread {}", facts.join(", ")));
    }
    for file in entries("fd") {
        lines.push(format!("  open: {}", fs::read_link(file.path()).unwrap_or_default().display()));
    }
    let sockets = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    lines.extend(sockets.lines().take(50).map(|line| format!("  tcp: {line}")));
    lines.join("\n")
}
