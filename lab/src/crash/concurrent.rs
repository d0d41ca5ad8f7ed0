//! Concurrent processes in one destination: eight at once, eight of which one is stopped until another has installed,
//! and one that sleeps before a call while another does the whole job. Locks hold, or `flock` does nothing and
//! succeeds.

#![expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use fastrand::Rng;

use super::call::{Call, spread};
use super::extent::Extent;
use super::invariants::{self, listing};
use super::job::{Job, JobDir};
use super::sandbox::{CrashContext, CrashSandbox, TIME_LIMIT};
use super::summary::Summary;
use super::tracer::Options;
use crate::tools::process::{Ended, Running};
use crate::tools::wait;

const WRITERS: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Eight at once.
    Together,
    /// Eight, the first of which is stopped after a while. It continues when another has ended.
    Stopped(Duration),
    /// One waits before this call while another does the whole job.
    Asleep(u64),
}

#[derive(Debug, Clone, Copy)]
struct Round {
    job: Job,
    kind: Kind,
    /// `flock` does nothing and succeeds.
    locks_lie: bool,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Together => "8 at once",
            Kind::Stopped(_) => "8, one stopped",
            Kind::Asleep(_) => "1 asleep at a call",
        };
        write!(f, "{kind}, locks {}", if self.locks_lie { "lie" } else { "hold" })
    }
}

/// Returns the number of rounds of eight.
pub(super) fn run(
    context: &CrashContext,
    recorded: &[(Job, Vec<Call>)],
    extent: Extent,
    mut rng: Rng,
) -> Result<usize> {
    let sandbox = CrashSandbox::new(context, "writers")?;
    let mut rounds = Vec::new();
    for number in 0..extent.count {
        let job = if number % 8 < 4 { Job::Fetch } else { Job::Replace };
        let moment = Duration::from_micros(rng.u64(0..120_000));
        let kind = if number % 4 < 2 { Kind::Together } else { Kind::Stopped(moment) };
        rounds.push(Round { job, kind, locks_lie: number % 2 == 1 });
    }
    for (job, calls) in recorded {
        if [Job::Fetch, Job::Replace, Job::Ensure].contains(job) {
            let asleep = |before| Round { job: *job, kind: Kind::Asleep(before), locks_lie: true };
            rounds.extend(spread(calls, (extent.count / 3).max(4), &mut rng).into_iter().map(asleep));
        }
    }
    let mut summary = Summary::default();
    for (number, round) in rounds.iter().enumerate() {
        let repeat = || format!("round {number}, {round:?}; to repeat, add --count {}", extent.count);
        round.check(&sandbox, &mut summary).with_context(repeat)?;
    }
    println!("{}", summary.table("processes"));
    println!(
        "{} rounds; final names were right at all times, and at the end everything was exact",
        rounds.len()
    );
    Ok(extent.count)
}

impl Round {
    fn check(&self, sandbox: &CrashSandbox<'_>, summary: &mut Summary) -> Result<()> {
        let dir = sandbox.dir();
        sandbox.reset(self.job, &dir)?;
        let listing = || format!("there are\n{}\n  and", listing(&dir.root));
        let ended = match self.kind {
            Kind::Asleep(before) => self.asleep(sandbox, &dir, before),
            Kind::Together | Kind::Stopped(_) => self.together(sandbox, &dir),
        };
        for (process, ended) in ended.with_context(listing)?.into_iter().enumerate() {
            // A process that waits for a stopped lock holder gives up with 8 (busy).
            let may_be_busy = self.waits_for_stopped() && process > 0;
            match ended.status.code() {
                Some(code) if code == 0 || (code == 8 && may_be_busy) => {
                    summary.add(self.to_string(), format!("exit {code}"));
                }
                _ => {
                    let process = || format!("process {process}, {}", listing());
                    return ended.exited(0).with_context(process).map(drop);
                }
            }
        }
        invariants::ensure_complete(&sandbox.context.models, self.job, &dir, &[]).with_context(listing)
    }

    /// A stopped process may hold the lock.
    fn waits_for_stopped(&self) -> bool {
        matches!(self.kind, Kind::Stopped(_)) && !self.locks_lie
    }

    fn start(&self, sandbox: &CrashSandbox<'_>, dir: &JobDir, number: usize) -> Result<Running> {
        let mut arguments = sandbox.arguments(self.job, dir);
        // The last argument is the time to wait for a lock.
        if let (true, Some(wait)) = (self.waits_for_stopped(), arguments.last_mut()) {
            "1s".clone_into(wait);
        }
        let run = sandbox.run(&sandbox.context.program, &format!("writer-{number}"), self.locks_lie)?;
        run.args(&arguments).start()
    }

    fn together(&self, sandbox: &CrashSandbox<'_>, dir: &JobDir) -> Result<Vec<Ended>> {
        let started = Instant::now();
        let start = |number| self.start(sandbox, dir, number);
        let mut running = (0..WRITERS).map(start).collect::<Result<Vec<Running>>>()?;
        let mut ended: Vec<Option<Ended>> = running.iter().map(|_| None).collect();
        let mut stop_after = if let Kind::Stopped(moment) = self.kind { Some(moment) } else { None };
        let mut is_stopped = false;
        wait::until("all writers to end", TIME_LIMIT * 2, || {
            if ended[0].is_none() && stop_after.take_if(|moment| started.elapsed() >= *moment).is_some() {
                running[0].signal("STOP")?;
                is_stopped = true;
            }
            for (process, ended) in running.iter_mut().zip(&mut ended).filter(|(_, ended)| ended.is_none()) {
                *ended = process.poll()?;
            }
            let others = ended[1..].iter().flatten().count();
            if is_stopped && others >= if self.locks_lie { 1 } else { WRITERS - 1 } {
                is_stopped = false;
                // It may have ended before it was stopped.
                if ended[0].is_none() {
                    running[0].signal("CONT")?;
                }
            }
            invariants::ensure_final_names(&sandbox.context.models, self.job, dir)?;
            Ok(ended.iter().all(Option::is_some).then_some(()))
        })
        .with_context(|| {
            let hanging = running.iter().zip(&ended).filter(|(_, ended)| ended.is_none());
            hanging.map(|(process, _)| process.describe_hang(None)).collect::<Vec<_>>().join("\n")
        })?;
        Ok(ended.into_iter().flatten().collect())
    }

    fn asleep(&self, sandbox: &CrashSandbox<'_>, dir: &JobDir, before: u64) -> Result<Vec<Ended>> {
        let mut other = None;
        let mut before_each = |call: &Call| {
            if call.number == before {
                other = Some(self.start(sandbox, dir, 1)?.end()?);
                invariants::ensure_final_names(&sandbox.context.models, self.job, dir)
                    .with_context(|| format!("asleep before {call}"))?;
            }
            Ok(())
        };
        let options = Options { before_each: Some(&mut before_each), ..Options::default() };
        let sleeper = sandbox.trace(self.job, dir, self.locks_lie, options)?.ended;
        Ok([Some(sleeper), other].into_iter().flatten().collect())
    }
}
