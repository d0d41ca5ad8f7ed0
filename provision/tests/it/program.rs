//! The program as a process, for every test that starts it: its environment, its start, its outputs and its end.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::ops::Deref;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use provision_testbed::Counters;
use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{Fixture, PATIENCE, chmod};
use crate::secrets;

/// The path of the binary.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_provision");

/// The binary, in a clean environment that is full of secrets.
pub(crate) fn program(fixture: &Fixture) -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear().env("HOME", fixture.destination()).env("PATH", "/usr/bin:/bin");
    // Tests of failures do not wait for a network that may come late.
    command.env("PROVISION_GIVE_UP_AFTER", "0");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    secrets::in_environment(&mut command, &fixture.beside("netrc"), &["127.0.0.1", "models.example"]);
    command
}

/// `provision VERB` for the fixture's lock, which is written beside the destination.
pub(crate) fn verb(fixture: &Fixture, verb: &str, arguments: &[&str]) -> Command {
    let mut command = program(fixture);
    command.arg(verb).arg("--lock").arg(fixture.write_lock());
    command.arg("--dest").arg(fixture.destination()).args(arguments);
    command
}

/// Runs `verb`.
pub(crate) fn run_verb(fixture: &Fixture, name: &str, arguments: &[&str]) -> Ended {
    run(&mut verb(fixture, name, arguments))
}

/// `provision fetch`, as `verb`.
pub(crate) fn fetch(fixture: &Fixture, arguments: &[&str]) -> Command {
    verb(fixture, "fetch", arguments)
}

/// The program's end. Each check names the command and shows both outputs when it fails.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
    /// The command's arguments, and the row of the test's table.
    about: String,
}

impl Ended {
    /// Adds the row of the test's table to the messages.
    pub(crate) fn row(mut self, row: impl Display) -> Self {
        self.about = format!("{row}: {}", self.about);
        self
    }

    /// Asserts the exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Asserts that standard error has each of these texts.
    #[track_caller]
    pub(crate) fn err_has(&self, texts: &[&str]) -> &Self {
        self.has("standard error", &self.err, texts)
    }

    /// Asserts that standard error has none of these texts.
    #[track_caller]
    pub(crate) fn err_lacks(&self, texts: &[&str]) -> &Self {
        for text in texts {
            assert!(!self.err.contains(text), "standard error has {text:?}: {self}");
        }
        self
    }

    /// Asserts that standard output has each of these texts.
    #[track_caller]
    pub(crate) fn out_has(&self, texts: &[&str]) -> &Self {
        self.has("standard output", &self.out, texts)
    }

    /// Asserts the whole standard error.
    #[track_caller]
    pub(crate) fn err_is(&self, text: &str) -> &Self {
        assert_eq!(self.err, text, "{self}");
        self
    }

    /// Asserts the whole standard output.
    #[track_caller]
    pub(crate) fn out_is(&self, text: &str) -> &Self {
        assert_eq!(self.out, text, "{self}");
        self
    }

    #[track_caller]
    fn has(&self, name: &str, output: &str, texts: &[&str]) -> &Self {
        for text in texts {
            assert!(output.contains(text), "{name} lacks {text:?}: {self}");
        }
        self
    }
}

impl Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, out, err, about } = self;
        write!(f, "{about} ended with {code:?}\n{out}{err}")
    }
}

/// The outputs of a program without the secrets that the test looks for.
pub(crate) fn end(output: Output) -> Ended {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    secrets::assert_none("standard output", &out);
    secrets::assert_none("standard error", &err);
    Ended { code: output.status.code(), out, err, about: String::new() }
}

/// Runs the program to its end.
pub(crate) fn run(command: &mut Command) -> Ended {
    start(command).end()
}

/// Starts the program, alone or under another. Every test starts it here, so that all its output is searched for
/// secrets, even if the test ignores it.
pub(crate) fn start(command: &mut Command) -> Run {
    Run::of(command.stdin(Stdio::null()))
}

/// As `start`, with these outputs instead of pipes that `end` reads.
pub(crate) fn start_into(command: &mut Command, out: Stdio, err: Stdio) -> Run {
    let child = spawn(command.stdin(Stdio::null()).stdout(out).stderr(err));
    Run { child: Some(child), about: about(command), out: None, err: None }
}

/// As `start`, in a terminal: standard input and standard error are that.
pub(crate) fn start_in_terminal(command: &mut Command, terminal: std::fs::File) -> Run {
    let input = terminal.try_clone().unwrap();
    let child = spawn(command.stdin(input).stdout(Stdio::piped()).stderr(terminal));
    Run { child: Some(child), about: about(command), out: None, err: None }
}

/// A terminal: the side of its user, and the side of a program.
pub(crate) fn terminal() -> (std::fs::File, std::fs::File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&user).unwrap();
    unlockpt(&user).unwrap();
    let name = ptsname(&user, Vec::new()).unwrap();
    let program = std::fs::File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    (user.into(), program)
}

/// Writes a program. Another process does it: a child that another test starts meanwhile inherits each file that this
/// process has open for writing, and the kernel refuses to run such a file (ETXTBSY).
pub(crate) fn write_program(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "cat > \"$0\" && chmod 755 \"$0\""]).arg(path.as_ref()).stdin(Stdio::piped());
    let mut writer = shell.spawn().unwrap();
    writer.stdin.take().unwrap().write_all(bytes.as_ref()).unwrap();
    assert!(writer.wait().unwrap().success(), "{}", path.as_ref().display());
}

/// Copies the binary, as `write_program` does.
pub(crate) fn copy_program(path: impl AsRef<Path>) {
    write_program(path, std::fs::read(BINARY).unwrap());
}

/// `command` of the program as the user `nobody`, which gets the right to enter the fixture's directory.
pub(crate) fn as_nobody(fixture: &Fixture, command: &Command) -> Command {
    let program = fixture.beside("provision");
    if !program.exists() {
        copy_program(&program);
        chmod(fixture.beside(""), 0o755);
    }
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(program);
    nobody.args(command.get_args()).env_clear().envs(environment(command));
    nobody
}

/// `command` under strace with these arguments.
pub(crate) fn strace(command: &Command, log: &Path, arguments: &[&str]) -> Command {
    let mut traced = Command::new("strace");
    traced.args(["-f", "--seccomp-bpf", "-y", "-s", "80", "-o"]).arg(log).args(arguments);
    traced.arg(command.get_program()).args(command.get_args());
    traced.env_clear().envs(environment(command));
    traced
}

/// The variables of `command`, for another command that starts it; they hold its secrets.
pub(crate) fn environment(command: &Command) -> impl Iterator<Item = (&OsStr, &OsStr)> {
    command.get_envs().filter_map(|(name, value)| Some((name, value?)))
}

/// What a fetch reports, which must succeed.
pub(crate) fn report_of(fixture: &Fixture, arguments: &[&str]) -> serde_json::Value {
    let path = fixture.beside("report.json");
    run(fetch(fixture, arguments).arg("--report").arg(&path)).exits(0);
    read_report(path)
}

pub(crate) fn read_report(path: impl AsRef<Path>) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Waits until this is true, for that long at most.
#[expect(clippy::disallowed_methods, reason = "no event tells of a file of another process")]
pub(crate) fn wait_until(limit: Duration, what: &str, is_true: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_true() {
        assert!(began.elapsed() < limit, "{what} is not there after {limit:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Two commands whose destinations share a folder take turns: the second one waits while the first one downloads the
/// file at `path`, whose size is given, and finds it there.
pub(crate) fn assert_take_turns(
    fixture: &Fixture,
    (path, size): (&str, u64),
    first: &mut Command,
    other: &mut Command,
) {
    let first = start(first);
    let has_begun = |counters: &Counters| counters.path(path).body_bytes > 50_000;
    fixture.origin.wait_for(PATIENCE, has_begun).unwrap();
    let ended = run(other);
    first.end().exits(0);
    ended.exits(0).err_has(&["waiting for another run", "acquired"]);
    assert_eq!(fixture.origin.counters().path(path).body_bytes, size);
}

/// As `start`, with a pipe to its standard input.
pub(crate) fn start_with_input(command: &mut Command) -> (Run, ChildStdin) {
    let mut run = Run::of(command.stdin(Stdio::piped()));
    let input = run.child.as_mut().and_then(|child| child.stdin.take()).unwrap();
    (run, input)
}

/// An output of the running program, as far as a test has read it.
struct Reading<R> {
    stream: BufReader<R>,
    text: String,
}

impl<R: Read> Reading<R> {
    fn of(stream: Option<R>) -> Self {
        Self { stream: BufReader::new(stream.unwrap()), text: String::new() }
    }

    /// Reads until a line contains this text; returns all lines so far.
    fn wait_for(&mut self, wanted: &str) -> &str {
        while !self.text.lines().last().is_some_and(|line| line.contains(wanted)) {
            assert!(self.stream.read_line(&mut self.text).unwrap() > 0, "it ended: {}", self.text);
        }
        &self.text
    }
}

/// The running program; killed if a test ends before it does.
pub(crate) struct Run {
    child: Option<Child>,
    /// For the messages of its end.
    about: String,
    /// Its outputs, from a test's first look at them.
    out: Option<Reading<ChildStdout>>,
    err: Option<Reading<ChildStderr>>,
}

/// Starts the process with the default actions of SIGINT and SIGHUP: a shell's `&` and `nohup` start the tests with
/// both ignored, and the program leaves them so (fault 106).
fn spawn(command: &mut Command) -> Child {
    let default_signals = || {
        for number in [libc::SIGINT, libc::SIGHUP] {
            // SAFETY: the default action needs no handler.
            unsafe { libc::signal(number, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: `signal` may be called between fork and exec.
    unsafe { command.pre_exec(default_signals) };
    command.spawn().unwrap()
}

/// The arguments of a command, for messages.
fn about(command: &Command) -> String {
    format!("{:?}", command.get_args().collect::<Vec<_>>())
}

impl Run {
    fn of(command: &mut Command) -> Self {
        let child = spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        Self { child: Some(child), about: about(command), out: None, err: None }
    }

    /// Waits until a line of its standard output contains this text; returns all lines so far.
    pub(crate) fn wait_for_line(&mut self, wanted: &str) -> &str {
        let child = self.child.as_mut().unwrap();
        self.out.get_or_insert_with(|| Reading::of(child.stdout.take())).wait_for(wanted)
    }

    /// As `wait_for_line`, of its standard error.
    pub(crate) fn wait_for_message(&mut self, wanted: &str) -> &str {
        let child = self.child.as_mut().unwrap();
        self.err.get_or_insert_with(|| Reading::of(child.stderr.take())).wait_for(wanted)
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        self.finish()
    }

    fn finish(&mut self) -> Ended {
        fn rest<R: Read>(reading: Option<Reading<R>>) -> String {
            let Some(Reading { mut stream, mut text }) = reading else { return String::new() };
            stream.read_to_string(&mut text).unwrap();
            text
        }
        let (out, err) = (rest(self.out.take()), rest(self.err.take()));
        let ended = end(self.child.take().unwrap().wait_with_output().unwrap());
        secrets::assert_none("standard output", &out);
        secrets::assert_none("standard error", &err);
        let about = std::mem::take(&mut self.about);
        Ended { code: ended.code, out: out + &ended.out, err: err + &ended.err, about }
    }
}

impl Deref for Run {
    type Target = Child;

    fn deref(&self) -> &Child {
        self.child.as_ref().unwrap()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        let _ = child.kill();
        if !std::thread::panicking() {
            self.finish();
        }
    }
}

pub(crate) fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}
