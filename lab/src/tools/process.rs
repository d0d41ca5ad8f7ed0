//! Running the command on trial as a user runs it, in an environment with nothing of ours in it.

use std::fmt;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use crate::tools::wait;

/// No run of a check takes nearly as long, on a busy machine either.
const LONGEST: Duration = Duration::from_mins(2);

/// A run in the making. It sees `PATH`, a `HOME` without tokens, and what [`Run::env`] adds.
#[derive(Debug)]
pub(crate) struct Run {
    command: Command,
    /// Where its standard streams and its report go.
    folder: Utf8PathBuf,
    input: Option<Utf8PathBuf>,
}

/// A run that goes on.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    shown: String,
    folder: Utf8PathBuf,
    started: Instant,
}

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    shown: String,
    folder: Utf8PathBuf,
    status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Run {
    /// `program ARGS…`, with `folder` made for what it leaves behind.
    pub(crate) fn new(program: &Utf8Path, path_variable: &str, folder: Utf8PathBuf) -> Result<Self> {
        let home = folder.join("home");
        std::fs::create_dir_all(&home)?;
        // Should this process be killed, the kernel ends the run, too.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command.env_clear().env("PATH", path_variable).env("HOME", home).current_dir(&folder);
        Ok(Self { command, folder, input: None })
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.command.env(name, value.as_ref());
        self
    }

    /// Standard input comes from this text.
    pub(crate) fn input(mut self, text: &str) -> Result<Self> {
        let path = self.folder.join("stdin");
        std::fs::write(&path, text)?;
        self.input = Some(path);
        Ok(self)
    }

    pub(crate) fn start(mut self) -> Result<Running> {
        let stdin = match &self.input {
            Some(path) => Stdio::from(File::open(path)?),
            None => Stdio::null(),
        };
        // Files, not pipes: nobody has to read while it runs.
        self.command
            .stdin(stdin)
            .stdout(File::create(self.folder.join("stdout"))?)
            .stderr(File::create(self.folder.join("stderr"))?);
        let shown = format!("{:?}", self.command);
        let started = Instant::now();
        let child = self.command.spawn().with_context(|| shown.clone())?;
        Ok(Running { child, shown, folder: self.folder, started })
    }

    /// Starts it and waits for its end.
    pub(crate) fn end(self) -> Result<Ended> {
        self.start()?.end()
    }

    /// Starts it, waits, and wants this exit code.
    pub(crate) fn exits(self, code: i32) -> Result<Ended> {
        self.end()?.exited(code)
    }
}

impl Running {
    /// Waits for its end. A run that hangs is killed, so that it does not take CI with it.
    pub(crate) fn end(self) -> Result<Ended> {
        self.end_within(LONGEST)
    }

    /// The same, for what takes longer.
    pub(crate) fn end_within(mut self, limit: Duration) -> Result<Ended> {
        let status = wait::until("the run's end", limit, || Ok(self.child.try_wait()?));
        let took = self.started.elapsed();
        if status.is_err() {
            self.child.kill()?;
        }
        let read = |name: &str| -> Result<String> {
            Ok(String::from_utf8_lossy(&std::fs::read(self.folder.join(name))?).into_owned())
        };
        let ended = Ended {
            shown: self.shown.clone(),
            folder: self.folder.clone(),
            status: self.child.wait()?,
            stdout: read("stdout")?,
            stderr: read("stderr")?,
            took,
        };
        match status {
            Ok(_) => Ok(ended),
            Err(error) => Err(error.context(ended.to_string())),
        }
    }

    /// Sends a signal by name (`KILL`, `TERM`, `INT`).
    pub(crate) fn signal(&mut self, name: &str) -> Result<()> {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status()?;
        ensure!(status.success(), "{} had ended before it could be sent SIG{name}", self.shown);
        Ok(())
    }

    /// Whether it has not ended yet.
    pub(crate) fn goes_on(&mut self) -> Result<bool> {
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
    pub(crate) fn exited(self, code: i32) -> Result<Self> {
        ensure!(self.status.code() == Some(code), "expected exit code {code}, and:\n{self}");
        Ok(self)
    }

    pub(crate) fn died_of(self, signal: i32) -> Result<Self> {
        ensure!(self.status.signal() == Some(signal), "expected death by signal {signal}, and:\n{self}");
        Ok(self)
    }

    /// Wants each of `words` on standard error, in any case.
    pub(crate) fn complains(self, words: &[&str]) -> Result<Self> {
        let text = self.stderr.to_lowercase();
        for word in words {
            ensure!(text.contains(&word.to_lowercase()), "standard error does not say {word:?}:\n{self}");
        }
        Ok(self)
    }

    /// Wants each of `words` on either standard stream.
    pub(crate) fn says(self, words: &[&str]) -> Result<Self> {
        for word in words {
            ensure!(
                self.stdout.contains(word) || self.stderr.contains(word),
                "neither standard stream says {word:?}:\n{self}"
            );
        }
        Ok(self)
    }

    /// The lines of standard output, each of which has to be a JSON object.
    pub(crate) fn json_lines(&self) -> Result<Vec<Value>> {
        let parse = |line: &str| match serde_json::from_str(line) {
            Ok(value @ Value::Object(_)) => Ok(value),
            _ => bail!("not a JSON object on a line of its own: {line:?}\n{self}"),
        };
        self.stdout.lines().map(parse).collect()
    }

    /// The report that the run was told to write to `report.json` in its own folder.
    pub(crate) fn report(&self) -> Result<Value> {
        let path = self.folder.join("report.json");
        let text = std::fs::read_to_string(&path).with_context(|| format!("no report\n{self}"))?;
        serde_json::from_str(&text).with_context(|| format!("the report is not JSON: {text}"))
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shown, status, stdout, stderr, took, .. } = self;
        let tail = |text: &str| {
            let lines: Vec<_> = text.lines().collect();
            lines[lines.len().saturating_sub(60)..].join("\n")
        };
        write!(
            f,
            "{shown}\n{status} after {:.1} s\n--- standard output\n{}\n--- standard error\n{}",
            took.as_secs_f64(),
            tail(stdout),
            tail(stderr)
        )
    }
}

/// What `sha256sum` and others print when they are asked directly.
pub(crate) fn succeeded(what: &str, output: &Output) -> Result<()> {
    ensure!(
        output.status.success(),
        "{what}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
