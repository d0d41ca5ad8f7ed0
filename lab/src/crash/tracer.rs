//! Runs a command under `tracer.c`: reads the events that it prints, and lets calls go on.
//!
//! strace cannot do this: `inject=…:when=N` counts the calls of each thread apart, and the program has a dozen threads.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use anyhow::{Context as _, Result, bail};

use super::call::Call;
use super::injection::Action;
use crate::tools::process::{Ended, Run};

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
    /// `flock` does nothing and succeeds.
    pub(super) locks_lie: bool,
}

/// Runs `command` by `run`, a run of the tracer.
pub(super) fn run(mut run: Run, command: &[String], mut options: Options<'_>) -> Result<Trace> {
    if let Some((at, action)) = options.action {
        run = run.args(&["-n", &at.to_string(), "-a", action.tracer_word]);
    }
    if let Some(suffix) = options.no_sync {
        run = run.args(&["-s", suffix]);
    }
    if options.before_each.is_some() {
        run = run.args(&["-p"]);
    }
    let (running, mut answers, lines) = run.args(command).start_with_pipes()?;
    let (mut pid, mut calls, mut hit) = (None, Vec::new(), None);
    for line in BufReader::new(lines).lines() {
        let line = line?;
        let (event, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match event {
            "pid" => pid = Some(rest.parse()?),
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
                bail!("the run hangs after {} calls:\n{}", calls.len(), running.describe_hang(pid));
            }
            "end" => {
                let ended = running.ended(ExitStatus::from_raw(rest.parse()?));
                return Ok(Trace { calls, hit, ended });
            }
            _ => bail!("the tracer printed {line}"),
        }
    }
    bail!("the tracer ended early:\n{}", running.end()?)
}
