//! Concurrent processes in one destination: eight at once, eight of which one is stopped until another has installed,
//! and one that sleeps before a call while another does the whole job. Locks hold, or `flock` does nothing and
//! succeeds.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use fastrand::Rng;

use super::Outcome;
use super::call::{Call, spread};
use super::invariants::{self, listing};
use super::job::{Job, JobDir};
use super::sandbox::{CrashContext, CrashSandbox, TIME_LIMIT};
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

/// Runs `count` rounds of eight processes, and a third as many of two for each of three jobs. Returns how each process
/// ended.
pub(super) fn run(
    context: &CrashContext,
    recorded: &[(Job, Vec<Call>)],
    count: usize,
    mut rng: Rng,
) -> Result<Vec<Outcome>> {
    let sandbox = CrashSandbox::new(context, "writers")?;
    let mut rounds = Vec::new();
    for number in 0..count {
        let job = if number % 8 < 4 { Job::Fetch } else { Job::Replace };
        let moment = Duration::from_micros(rng.u64(0..120_000));
        let kind = if number % 4 < 2 { Kind::Together } else { Kind::Stopped(moment) };
        rounds.push(Round { job, kind, locks_lie: number % 2 == 1 });
    }
    for (job, calls) in recorded {
        if [Job::Fetch, Job::Replace, Job::Ensure].contains(job) {
            let asleep = |before| Round { job: *job, kind: Kind::Asleep(before), locks_lie: true };
            rounds.extend(spread(calls, (count / 3).max(4), &mut rng).into_iter().map(asleep));
        }
    }
    let mut outcomes = Vec::new();
    for (number, round) in rounds.iter().enumerate() {
        let dir = sandbox.dir(round.job);
        let ends = round.check(&sandbox, &dir).with_context(|| {
            let listing = listing(&dir.root);
            format!("round {number}, {round:?}; to repeat, add --count {count}; there are\n{listing}\n  and")
        })?;
        outcomes.extend(ends.into_iter().map(|end| (round.to_string(), end)));
    }
    Ok(outcomes)
}

impl Round {
    /// Runs the round's processes, and checks their ends and files.
    fn check(&self, sandbox: &CrashSandbox<'_>, dir: &JobDir) -> Result<Vec<&'static str>> {
        sandbox.reset(dir)?;
        let processes = match self.kind {
            Kind::Asleep(before) => self.asleep(sandbox, dir, before)?,
            Kind::Together | Kind::Stopped(_) => self.together(sandbox, dir)?,
        };
        let mut ends = Vec::new();
        for (number, ended) in processes.into_iter().enumerate() {
            // A process that waits for a stopped lock holder gives up with 8 (busy).
            if number > 0 && self.waits_for_stopped() && ended.status.code() == Some(8) {
                ends.push("exit 8");
            } else {
                ended.exited(0).with_context(|| format!("process {number}"))?;
                ends.push("exit 0");
            }
        }
        invariants::ensure_complete(dir, &[])?;
        Ok(ends)
    }

    /// A stopped process may hold the lock.
    fn waits_for_stopped(&self) -> bool {
        matches!(self.kind, Kind::Stopped(_)) && !self.locks_lie
    }

    fn start(&self, sandbox: &CrashSandbox<'_>, dir: &JobDir, number: usize) -> Result<Running> {
        let mut arguments = sandbox.arguments(dir);
        // The last argument is the time to wait for a lock.
        if let (true, Some(wait)) = (self.waits_for_stopped(), arguments.last_mut()) {
            "1s".clone_into(wait);
        }
        sandbox.writer(&format!("writer-{number}"), self.locks_lie)?.args(&arguments).start()
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
            invariants::ensure_final_names(dir)?;
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
                invariants::ensure_final_names(dir).with_context(|| format!("asleep before {call}"))?;
            }
            Ok(())
        };
        let locks_lie = self.locks_lie;
        let options = Options { before_each: Some(&mut before_each), locks_lie, ..Options::default() };
        let sleeper = sandbox.trace(dir, options)?.ended;
        Ok([Some(sleeper), other].into_iter().flatten().collect())
    }
}
