//! Runs of programs as a user starts them, in an environment that the check controls entirely.

use std::fmt;
use std::fs::{self, File};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;
use xshell::Cmd;

use crate::tools::wait;

/// The limit for one run: far above what any check takes on a busy machine.
const TIMEOUT: Duration = Duration::from_mins(2);

/// Runs a command to its end without output. The error of one that fails has both streams.
pub(crate) fn silently(command: Cmd<'_>) -> Result<()> {
    let command = command.quiet().ignore_status();
    let output = command.output()?;
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    ensure!(output.status.success(), "{command} failed:\n{stdout}{stderr}");
    Ok(())
}

/// The file's text; empty where it cannot be read.
fn text_of(folder: &Utf8Path, name: &str) -> String {
    String::from_utf8_lossy(&fs::read(folder.join(name)).unwrap_or_default()).into_owned()
}

/// A run that has not started. Its environment has `PATH`, an empty `HOME`, and what [`Run::env`] adds.
#[derive(Debug)]
pub(crate) struct Run {
    command: Command,
    /// Holds the home directory, the standard streams and the report.
    folder: Utf8PathBuf,
    end_signal: &'static str,
}

/// A run in progress. It is ended when it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    command: String,
    folder: Utf8PathBuf,
    end_signal: &'static str,
    started: Instant,
}

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    command: String,
    /// Has the output, and what the run wrote into its working directory.
    pub(crate) folder: Utf8PathBuf,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Run {
    /// A run of `program` in `folder`, which is created.
    pub(crate) fn new(program: &Utf8Path, path_variable: &str, folder: Utf8PathBuf) -> Result<Self> {
        Self::new_ended_by("KILL", program, path_variable, folder)
    }

    /// A run that the kernel ends by this signal if this process is killed, as does the drop of [`Running`].
    pub(crate) fn new_ended_by(
        end_signal: &'static str,
        program: &Utf8Path,
        path_variable: &str,
        folder: Utf8PathBuf,
    ) -> Result<Self> {
        let home = folder.join("home");
        fs::create_dir_all(&home)?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", end_signal, "--"]).arg(program);
        command.env_clear().env("PATH", path_variable).env("HOME", home).current_dir(&folder);
        Ok(Self { command, folder, end_signal })
    }

    pub(crate) fn args(mut self, args: &[impl AsRef<str>]) -> Self {
        self.command.args(args.iter().map(AsRef::as_ref));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.command.env(name, value.as_ref());
        self
    }

    pub(crate) fn envs(self, variables: &[(&str, impl AsRef<str>)]) -> Self {
        variables.iter().fold(self, |run, (name, value)| run.env(name, value))
    }

    /// Starts the run. Files take its output: they do not fill up as pipes do, so the run never waits for a reader.
    pub(crate) fn start(mut self) -> Result<Running> {
        self.command.stdin(Stdio::null()).stdout(File::create(self.folder.join("stdout"))?);
        self.spawn()
    }

    /// Starts the run with pipes for its standard input and output.
    pub(crate) fn start_with_pipes(mut self) -> Result<(Running, ChildStdin, ChildStdout)> {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = self.spawn()?;
        let pipes = running.child.stdin.take().zip(running.child.stdout.take());
        let (stdin, stdout) = pipes.context("the run has no pipes")?;
        Ok((running, stdin, stdout))
    }

    fn spawn(mut self) -> Result<Running> {
        self.command.stderr(File::create(self.folder.join("stderr"))?);
        let Self { mut command, folder, end_signal } = self;
        let started = Instant::now();
        let line = format!("{command:?}");
        let child = command.spawn().with_context(|| format!("{line} (setpriv is in util-linux)"))?;
        Ok(Running { child, command: line, folder, end_signal, started })
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

    /// Waits for the end. A run that exceeds `limit` is killed, and described as the kernel sees it.
    pub(crate) fn end_within(mut self, limit: Duration) -> Result<Ended> {
        wait::until("the run's end", limit, || self.poll()).with_context(|| self.describe_hang(None))
    }

    /// The end of the run, if it has ended.
    pub(crate) fn poll(&mut self) -> Result<Option<Ended>> {
        Ok(self.child.try_wait()?.map(|status| self.ended(status)))
    }

    /// Waits until a server accepts connections.
    pub(crate) fn listens(mut self, address: impl ToSocketAddrs + Copy) -> Result<Self> {
        wait::until("a server to listen", Duration::from_secs(20), || match self.poll()? {
            Some(ended) => bail!("the server could not start:\n{ended}"),
            None => Ok(TcpStream::connect(address).ok()),
        })?;
        Ok(self)
    }

    /// The run with this end and its output so far.
    pub(crate) fn ended(&self, status: ExitStatus) -> Ended {
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| text_of(&self.folder, name));
        let (command, folder) = (self.command.clone(), self.folder.clone());
        Ended { command, folder, status, stdout, stderr, took: self.started.elapsed() }
    }

    /// Sends a signal by name (`KILL`, `TERM`, `INT`).
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).stderr(Stdio::null()).status()?;
        ensure!(status.success(), "the run ended before it could be sent SIG{name}: {}", self.command);
        Ok(())
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Both of its standard streams so far.
    pub(crate) fn output(&self) -> String {
        ["stdout", "stderr"].map(|name| text_of(&self.folder, name)).concat()
    }

    /// Each thread's place in the kernel (name, function, system call, stack), the open files and the sockets of the
    /// run or of the process that it traces, and the run's output.
    pub(crate) fn describe_hang(&self, traced: Option<u32>) -> String {
        let process = traced.unwrap_or_else(|| self.child.id()).to_string();
        let script = "cd /proc/$0 || exit; grep -s . task/*/comm task/*/wchan task/*/syscall task/*/stack; \
                      ls -l fd; head -n 50 net/tcp";
        let state = Command::new("sh").args(["-c", script, &process]).output();
        let state = state.map(|output| output.stdout).unwrap_or_default();
        format!("{} hangs\n{}\n{}", self.command, String::from_utf8_lossy(&state), self.output())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) && self.signal(self.end_signal).is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Requires this exit code.
    pub(crate) fn exited(self, code: i32) -> Result<Self> {
        ensure!(self.status.code() == Some(code), "expected exit code {code}:\n{self}");
        Ok(self)
    }

    /// The exit code as a shell shows it: 128 more than the number of a signal.
    pub(crate) fn shell_code(&self) -> i32 {
        self.status.code().or_else(|| Some(128 + self.status.signal()?)).unwrap_or(-1)
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
