//! Runs a command under `tracer.c`: reads the events that it prints, and lets calls go on.
//!
//! strace cannot do this: `inject=…:when=N` counts the calls of each thread apart, and the program has a dozen threads.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};

use anyhow::{Context as _, Result, bail};
use camino::Utf8Path;

use super::call::Call;
use super::injection::Action;
use super::process::{Command, Ended, Running, describe_hang, said};

/// A traced run.
#[derive(Debug)]
pub(super) struct Trace {
    pub(super) calls: Vec<Call>,
    /// The first call that the action happened to.
    pub(super) hit: Option<Call>,
    pub(super) ended: Ended,
}

/// A callback before a call.
type BeforeEach<'a> = &'a mut dyn FnMut(&Call) -> Result<()>;

/// The options of a traced run.
#[derive(Default)]
pub(super) struct Options<'a> {
    /// The number of a call, and what happens to it.
    pub(super) action: Option<(u64, Action)>,
    /// `fsync` and `fdatasync` do nothing on files whose names end with this.
    pub(super) no_sync: Option<&'a str>,
    /// Variables for the program.
    pub(super) environment: &'a [(&'a str, &'a str)],
    /// Each call waits until this returns.
    pub(super) before_each: Option<BeforeEach<'a>>,
}

pub(super) fn run(tracer: &Utf8Path, command: &Command, mut options: Options<'_>) -> Result<Trace> {
    let mut process = command.process(tracer);
    process.envs(options.environment.iter().copied()).args(["-o", command.output.as_str()]);
    if let Some((at, action)) = options.action {
        process.args(["-n", &at.to_string(), "-a", &action.tracer_word()]);
    }
    if let Some(suffix) = options.no_sync {
        process.args(["-s", suffix]);
    }
    if options.before_each.is_some() {
        process.arg("-p");
    }
    process.arg(&command.program).args(&command.arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = Running::spawn(&mut process, &command.output)?;
    let lines = running.child.stdout.take().context("the tracer's output")?;
    let mut answers = running.child.stdin.take().context("the tracer's input")?;
    let (mut pid, mut calls, mut hit) = (0, Vec::new(), None);
    for line in BufReader::new(lines).lines() {
        let line = line?;
        match parse(&line).with_context(|| format!("unknown line of the tracer: {line}"))? {
            Line::Pid(number) => pid = number,
            Line::Call(call, is_hit) => {
                if is_hit && hit.is_none() {
                    hit = Some(call.clone());
                }
                if let Some(before) = &mut options.before_each {
                    before(&call)?;
                    // Fails if the tracer has ended since.
                    let _ = answers.write_all(b"g");
                }
                calls.push(call);
            }
            Line::Hang => {
                let (threads, said) = (describe_hang(pid), said(&command.output));
                bail!("the run hangs after {} calls:\n{threads}\n{said}", calls.len());
            }
            Line::End(status) => {
                return Ok(Trace { calls, hit, ended: Ended { status, said: said(&command.output) } });
            }
        }
    }
    bail!("the tracer ended early: {}", said(&command.output))
}

/// An event.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Pid(u32),
    /// A call; the action happened to it.
    Call(Call, bool),
    End(ExitStatus),
    Hang,
}

fn parse(line: &str) -> Option<Line> {
    let mut words = line.splitn(4, ' ');
    let event = words.next()?;
    Some(match event {
        "pid" => Line::Pid(words.next()?.parse().ok()?),
        "call" | "hit" => {
            let (number, name) = (words.next()?.parse().ok()?, words.next()?.to_owned());
            Line::Call(Call { number, name, path: words.next()?.to_owned() }, event == "hit")
        }
        "end" => Line::End(ExitStatus::from_raw(words.next()?.parse().ok()?)),
        "hang" => Line::Hang,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_parse_and_other_lines_do_not() {
        assert_eq!(parse("pid 17"), Some(Line::Pid(17)));
        assert_eq!(parse("hang"), Some(Line::Hang));
        let end = |line: &str| match parse(line) {
            Some(Line::End(status)) => (status.code(), status.signal()),
            other => panic!("{other:?}"),
        };
        assert_eq!(end("end 1792"), (Some(7), None));
        assert_eq!(end("end 9"), (None, Some(9)));
        let call = Call { number: 3, name: "fsync".to_owned(), path: "/a b/c".to_owned() };
        assert_eq!(parse("call 3 fsync /a b/c"), Some(Line::Call(call.clone(), false)));
        assert_eq!(parse("hit 3 fsync /a b/c"), Some(Line::Call(call, true)));
        assert_eq!(parse("call x fsync /a"), None);
        assert_eq!(parse("nonsense"), None);
    }
}
