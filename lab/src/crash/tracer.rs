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
    /// Each call waits until this returns.
    pub(super) before_each: Option<BeforeEach<'a>>,
}

pub(super) fn run(tracer: &Utf8Path, command: &Command, mut options: Options<'_>) -> Result<Trace> {
    let mut process = command.process(tracer);
    process.args(["-o", command.output.as_str()]);
    if let Some((at, action)) = options.action {
        process.args(["-n", &at.to_string(), "-a", action.tracer_word]);
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
        let (event, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match event {
            "pid" => pid = rest.parse()?,
            "call" | "hit" => {
                let call = Call::parse(rest).with_context(|| format!("the tracer printed {line}"))?;
                if event == "hit" && hit.is_none() {
                    hit = Some(call.clone());
                }
                if let Some(before) = &mut options.before_each {
                    before(&call)?;
                    // Fails if the tracer has ended since.
                    let _ = answers.write_all(b"g");
                }
                calls.push(call);
            }
            "hang" => {
                let (threads, said) = (describe_hang(pid), said(&command.output));
                bail!("the run hangs after {} calls:\n{threads}\n{said}", calls.len());
            }
            "end" => {
                let ended =
                    Ended { status: ExitStatus::from_raw(rest.parse()?), said: said(&command.output) };
                return Ok(Trace { calls, hit, ended });
            }
            _ => bail!("the tracer printed {line}"),
        }
    }
    bail!("the tracer ended early: {}", said(&command.output))
}
