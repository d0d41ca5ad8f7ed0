//! The tracer's other half: starts it, reads what it says, and answers it.
//!
//! strace can do what it does for one thread: `inject=…:when=N` counts the calls of each thread by itself, and this
//! program has a dozen. So that every call of a run is struck once, they have to be counted together.

use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use camino::Utf8Path;

use super::injection::Action;
use super::process::{self, Command, LONGEST};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Code(i32),
    Signal(i32),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// A call that changes a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    /// Over all threads, from 1.
    pub(super) number: u64,
    pub(super) name: String,
    /// The path of the file.
    pub(super) what: String,
}

impl Call {
    /// The call and the kind of file.
    pub(super) fn kind(&self) -> String {
        format!("{} {}", self.name, file_kind(&self.what))
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {}, {} on {}", self.number, self.name, self.what)
    }
}

/// What a file is to the program, by its name.
fn file_kind(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or_default();
    let is_digest = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    if name == ".provision.lock" {
        return "lock";
    } else if name.contains(".provision.journal") {
        return "record of what is proven";
    } else if name.contains(".models-installed") {
        return "marker";
    }
    match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "part" => "part",
        "journal" => "journal",
        "tmp" => "temporary",
        "safetensors" => "file",
        _ if is_digest => "object",
        _ => "directory",
    }
}

/// A traced run.
#[derive(Debug)]
pub(super) struct Trace {
    pub(super) calls: Vec<Call>,
    /// The first call that was struck.
    pub(super) struck: Option<Call>,
    pub(super) end: End,
    pub(super) said: String,
}

/// What is done before a call.
type BeforeEach<'a> = &'a mut dyn FnMut(&Call) -> Result<()>;

/// How to trace.
#[derive(Default)]
pub(super) struct Options<'a> {
    pub(super) strike: Option<(u64, Action)>,
    /// `fsync` and `fdatasync` of files whose names end so do nothing.
    pub(super) no_sync: Option<&'a str>,
    /// More of it.
    pub(super) environment: &'a [(&'a str, &'a str)],
    /// Each call waits until this has returned.
    pub(super) before_each: Option<BeforeEach<'a>>,
}

/// Kills the tracer, and with it the program.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `command` under the tracer.
pub(super) fn run(tracer: &Utf8Path, command: &Command, mut options: Options<'_>) -> Result<Trace> {
    let mut process = command.prepare(&tracer.to_owned());
    process.envs(options.environment.iter().copied());
    process.args(["--output", command.output.as_str()]);
    if let Some((at, action)) = options.strike {
        process.args(["--strike", &at.to_string(), "--do", &action.word()]);
    }
    if let Some(names) = options.no_sync {
        process.args(["--no-sync", names]);
    }
    if options.before_each.is_some() {
        process.arg("--pause");
    }
    process.arg("--").arg(&command.program).args(&command.arguments);
    let child = process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
    let mut guard = Guard(child.context("starting the tracer")?);
    let lines = guard.0.stdout.take().context("the tracer's output")?;
    let mut answers = guard.0.stdin.take().context("the tracer's input")?;
    let (sender, receiver) = channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(lines).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let started = Instant::now();
    let (mut pid, mut calls, mut struck, mut end) = (0, Vec::new(), None, None);
    loop {
        match receiver.recv_timeout(LONGEST.saturating_sub(started.elapsed())) {
            Ok(line) => match read(&line) {
                Line::Pid(number) => pid = number,
                Line::End(how) => end = Some(how),
                Line::Call(call, is_struck) => {
                    if is_struck && struck.is_none() {
                        struck = Some(call.clone());
                    }
                    if let Some(before) = &mut options.before_each {
                        before(&call)?;
                        // Where it has just been killed nobody reads this.
                        let _ = answers.write_all(b"g");
                    }
                    calls.push(call);
                }
                Line::Other => bail!("the tracer says: {line}"),
            },
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let portrait = process::portrait(pid);
                drop(guard);
                let said = process::said(&command.output);
                bail!("it hangs, after {} calls:\n{portrait}\n{said}", calls.len());
            }
        }
    }
    drop(guard);
    let _ = reader.join();
    let end = end.with_context(|| format!("the tracer ended early; {}", process::said(&command.output)))?;
    Ok(Trace { calls, struck, end, said: process::said(&command.output) })
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    Pid(u32),
    Call(Call, bool),
    End(End),
    Other,
}

/// Reads a line of the tracer's.
fn read(line: &str) -> Line {
    let parsed = || {
        let (word, rest) = line.split_once(' ')?;
        Some(match word {
            "pid" => Line::Pid(rest.parse().ok()?),
            "exit" => Line::End(End::Code(rest.parse().ok()?)),
            "signal" => Line::End(End::Signal(rest.parse().ok()?)),
            "call" | "struck" => {
                let mut words = rest.splitn(3, ' ');
                let (number, name) = (words.next()?.parse().ok()?, words.next()?.to_owned());
                let what = words.next().unwrap_or_default().to_owned();
                Line::Call(Call { number, name, what }, word == "struck")
            }
            _ => return None,
        })
    };
    parsed().unwrap_or(Line::Other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        assert_eq!(read("pid 17"), Line::Pid(17));
        assert_eq!(read("exit 7"), Line::End(End::Code(7)));
        assert_eq!(read("signal 9"), Line::End(End::Signal(9)));
        let call = Call { number: 3, name: "fsync".to_owned(), what: "/a b/c".to_owned() };
        assert_eq!(read("call 3 fsync /a b/c"), Line::Call(call.clone(), false));
        assert_eq!(read("struck 3 fsync /a b/c"), Line::Call(call, true));
        assert_eq!(read("call x fsync /a"), Line::Other);
        assert_eq!(read("nonsense"), Line::Other);
    }

    #[test]
    fn files_are_told_apart_by_their_names() {
        for (path, kind) in [
            ("/d/.provision.lock", "lock"),
            ("/d/.provision.journal", "record of what is proven"),
            ("/d/..provision.journal.0a1b2c3d.tmp", "record of what is proven"),
            ("/d/..models-installed.0a1b2c3d.tmp", "marker"),
            ("/d/vae/.x.safetensors.a70580f0.part", "part"),
            ("/d/vae/.x.safetensors.a70580f0.journal", "journal"),
            ("/d/vae/.x.safetensors.a70580f0.tmp", "temporary"),
            ("/d/vae/x.safetensors", "file"),
            ("/d/vae", "directory"),
            ("/d/layers/vae/tmp", "directory"),
        ] {
            assert_eq!(file_kind(path), kind, "{path}");
        }
    }
}
