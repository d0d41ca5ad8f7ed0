//! Runs of a program under test as a user starts it, in an environment that the check controls entirely.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use crate::tools::wait;

/// The limit for one run: far above what any check takes on a busy machine.
const TIMEOUT: Duration = Duration::from_mins(2);

/// A run that has not started. Its environment has `PATH`, an empty `HOME`, and what [`Run::env`] adds.
#[derive(Debug)]
pub(crate) struct Run {
    command: Command,
    /// Holds the home directory, the standard streams and the report.
    folder: Utf8PathBuf,
}

/// A run in progress. It is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    command: String,
    folder: Utf8PathBuf,
    started: Instant,
}

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    command: String,
    folder: Utf8PathBuf,
    status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Run {
    /// A run of `program` in `folder`, which is created.
    pub(crate) fn new(program: &Utf8Path, path_variable: &str, folder: Utf8PathBuf) -> Result<Self> {
        let home = folder.join("home");
        fs::create_dir_all(&home)?;
        // The kernel kills the run if this process is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).stdin(Stdio::null());
        command.env_clear().env("PATH", path_variable).env("HOME", home).current_dir(&folder);
        Ok(Self { command, folder })
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.command.env(name, value.as_ref());
        self
    }

    pub(crate) fn start(mut self) -> Result<Running> {
        // Files do not fill up as pipes do, so the run never waits for a reader.
        self.command.stdout(File::create(self.folder.join("stdout"))?);
        self.command.stderr(File::create(self.folder.join("stderr"))?);
        let command = format!("{:?}", self.command);
        let started = Instant::now();
        let child = self.command.spawn().with_context(|| command.clone())?;
        Ok(Running { child, command, folder: self.folder, started })
    }

    /// Runs to the end and requires this exit code.
    pub(crate) fn exits(self, code: i32) -> Result<Ended> {
        self.start()?.end()?.exited(code)
    }
}

impl Running {
    /// Waits for the end, for two minutes at most.
    pub(crate) fn end(self) -> Result<Ended> {
        self.end_within(TIMEOUT)
    }

    /// Waits for the end. A run that exceeds `limit` is killed.
    pub(crate) fn end_within(mut self, limit: Duration) -> Result<Ended> {
        let waited = wait::until("the run's end", limit, || Ok(self.child.try_wait()?));
        let took = self.started.elapsed();
        if waited.is_err() {
            self.child.kill()?;
        }
        let status = self.child.wait()?;
        let read = |name| fs::read(self.folder.join(name)).map(|text| String::from_utf8_lossy(&text).into());
        let (stdout, stderr) = (read("stdout")?, read("stderr")?);
        let (command, folder) = (self.command.clone(), self.folder.clone());
        let ended = Ended { command, folder, status, stdout, stderr, took };
        waited.with_context(|| ended.to_string())?;
        Ok(ended)
    }

    /// Sends a signal by name (`KILL`, `TERM`, `INT`).
    pub(crate) fn signal(&mut self, name: &str) -> Result<()> {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status()?;
        ensure!(status.success(), "the run ended before it could be sent SIG{name}: {}", self.command);
        Ok(())
    }

    pub(crate) fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Requires this exit code.
    pub(crate) fn exited(self, code: i32) -> Result<Self> {
        ensure!(self.status.code() == Some(code), "expected exit code {code}:\n{self}");
        Ok(self)
    }

    /// Requires an end by this signal.
    pub(crate) fn died_of(self, signal: i32) -> Result<Self> {
        ensure!(self.status.signal() == Some(signal), "expected an end by signal {signal}:\n{self}");
        Ok(self)
    }

    /// Requires each of `words` on standard error, in any letter case.
    pub(crate) fn complains(self, words: &[&str]) -> Result<Self> {
        let text = self.stderr.to_lowercase();
        let missing = words.iter().find(|word| !text.contains(&word.to_lowercase()));
        ensure!(missing.is_none(), "standard error lacks {missing:?}:\n{self}");
        Ok(self)
    }

    /// Requires each of `words` on one of the standard streams.
    pub(crate) fn says(self, words: &[&str]) -> Result<Self> {
        let missing =
            words.iter().find(|word| !self.stdout.contains(**word) && !self.stderr.contains(**word));
        ensure!(missing.is_none(), "both standard streams lack {missing:?}:\n{self}");
        Ok(self)
    }

    /// The report that the run wrote to `report.json` in its working directory.
    pub(crate) fn report(&self) -> Result<Value> {
        let text = fs::read_to_string(self.folder.join("report.json"));
        let text = text.with_context(|| format!("the run wrote no report.json:\n{self}"))?;
        serde_json::from_str(&text).with_context(|| format!("the report is not JSON: {text}"))
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, status, stdout, stderr, took, .. } = self;
        writeln!(f, "{command}\n{status} after {:.1} s", took.as_secs_f64())?;
        for (name, text) in [("output", stdout), ("error", stderr)] {
            let lines: Vec<_> = text.lines().collect();
            let end = lines[lines.len().saturating_sub(60)..].join("\n");
            writeln!(f, "--- standard {name}\n{end}")?;
        }
        Ok(())
    }
}
