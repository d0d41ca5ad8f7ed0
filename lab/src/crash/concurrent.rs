//! Eight processes on one destination: with locks that hold, with locks that do nothing and say that they do, and with one
//! process that is stopped and wakes when another has installed.

#![expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use fastrand::Rng;
use rustix::process::Signal;

use super::context::CrashContext;
use super::injection::spread;
use super::invariants::{self, Look, listing};
use super::job::{Job, JobDir};
use super::process::{Ended, LONGEST, Running};
use super::sandbox::CrashSandbox;
use super::summary::Summary;
use super::tracer::{End, Options};
use super::{CrashArgs, Part};
use crate::tools::wait;

const WRITERS: usize = 8;

/// What a round is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// All at once.
    Together { locks_lie: bool },
    /// One is stopped at a random moment, and goes on when another has ended.
    Stopped { locks_lie: bool },
    /// One waits before a call while another does the whole job; locks do nothing.
    Asleep { before: u64 },
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Together { locks_lie: false } => "8 at once, locks hold",
            Self::Together { locks_lie: true } => "8 at once, locks lie",
            Self::Stopped { locks_lie: false } => "8, one stopped, locks hold",
            Self::Stopped { locks_lie: true } => "8, one stopped, locks lie",
            Self::Asleep { .. } => "1 asleep at a call, locks lie",
        }
    }

    fn locks_lie(self) -> bool {
        match self {
            Self::Together { locks_lie } | Self::Stopped { locks_lie } => locks_lie,
            Self::Asleep { .. } => true,
        }
    }
}

pub(super) fn run(context: &CrashContext, args: &CrashArgs) -> Result<()> {
    let rounds = args.count(Part::Writers);
    let mut rng = Rng::with_seed(args.seed ^ 0xA0);
    let sandbox = CrashSandbox::new(context, "writers")?;
    let mut summary = Summary::default();
    let mut kinds = Vec::new();
    for number in 0..rounds {
        let job = if number % 8 < 4 { Job::Fetch } else { Job::Replace };
        let locks_lie = number % 2 == 1;
        let kind = if number % 4 < 2 { Kind::Together { locks_lie } } else { Kind::Stopped { locks_lie } };
        kinds.push((job, kind));
    }
    for job in [Job::Fetch, Job::Replace, Job::Ensure] {
        let place = sandbox.place();
        job.prepare(context, &place)?;
        let calls = sandbox.trace(job, &place, Options::default())?.calls;
        let share = (rounds / 3).max(4);
        let numbers = spread(&calls, share, &mut rng);
        kinds.extend(numbers.into_iter().map(|before| (job, Kind::Asleep { before })));
    }
    let (all, mut of_eight) = (kinds.len(), 0);
    for (number, (job, kind)) in kinds.into_iter().enumerate() {
        let result = round(&sandbox, job, kind, &mut rng, &mut summary);
        result.with_context(|| {
            format!(
                "round {number}, {}, {kind:?}; to repeat: cargo lab crash --only writers --seed {} --count {rounds}",
                job.name(),
                args.seed
            )
        })?;
        of_eight += usize::from(!matches!(kind, Kind::Asleep { .. }));
    }
    println!("{}", summary.table("processes"));
    println!("{all} rounds; nothing wrong was ever under a final name, and at the end everything was exact");
    args.enough(Part::Writers, of_eight)
}

fn round(
    sandbox: &CrashSandbox<'_>,
    job: Job,
    kind: Kind,
    rng: &mut Rng,
    summary: &mut Summary,
) -> Result<()> {
    let place = sandbox.place();
    job.prepare(sandbox.context, &place)?;
    let ended = match kind {
        Kind::Asleep { before } => asleep(sandbox, job, &place, before),
        Kind::Together { .. } => together(sandbox, job, &place, kind, None),
        Kind::Stopped { .. } => {
            let moment = Duration::from_micros(rng.u64(0..120_000));
            together(sandbox, job, &place, kind, Some(moment))
        }
    };
    let here = || format!("there are\n{}\n  and", listing(&place.root));
    let ended = ended.with_context(here)?;
    for (writer, Ended { end, said }) in ended.iter().enumerate() {
        // Whoever waits for a stopped process that has the lock gives up: busy.
        let may_be_busy = kind == Kind::Stopped { locks_lie: false } && writer > 0;
        let is_right = *end == End::Code(0) || (may_be_busy && *end == End::Code(8));
        ensure!(is_right, "process {writer} ended with {end}: {said}\n{}", here());
        summary.add(kind.name(), end.to_string());
    }
    invariants::complete(&sandbox.context.set, job, &place, &[]).with_context(here)
}

fn environment<'a>(sandbox: &'a CrashSandbox<'_>, kind: Kind) -> Vec<(&'a str, &'a str)> {
    if kind.locks_lie() { vec![("LD_PRELOAD", sandbox.context.no_flock.as_str())] } else { Vec::new() }
}

/// All at once; the first is stopped `after` a while.
fn together(
    sandbox: &CrashSandbox<'_>,
    job: Job,
    place: &JobDir,
    kind: Kind,
    after: Option<Duration>,
) -> Result<Vec<Ended>> {
    let start = |number: usize| {
        let mut command = sandbox.command_as(job, place, &sandbox.lock, &number.to_string());
        if let (Kind::Stopped { locks_lie: false }, Some(wait)) = (kind, command.arguments.last_mut()) {
            "1s".clone_into(wait);
        }
        command.start(&environment(sandbox, kind))
    };
    let started = Instant::now();
    let mut running = (0..WRITERS).map(start).collect::<Result<Vec<Running>>>()?;
    let mut ended: Vec<Option<Ended>> = running.iter().map(|_| None).collect();
    let (mut to_stop, mut stopped) = (after, false);
    wait::until("all writers to end", LONGEST * 2, || {
        if to_stop.is_some_and(|after| started.elapsed() >= after) {
            to_stop = None;
            if ended[0].is_none() {
                running[0].signal(Signal::STOP)?;
                stopped = true;
            }
        }
        for (process, ended) in running.iter_mut().zip(&mut ended).filter(|(_, ended)| ended.is_none()) {
            *ended = process.poll()?;
        }
        let others = ended[1..].iter().filter(|ended| ended.is_some()).count();
        let may_wake = if kind.locks_lie() { others > 0 } else { others == WRITERS - 1 };
        if stopped && may_wake {
            stopped = false;
            // It may have ended before the signal that was to stop it.
            if ended[0].is_none() {
                running[0].signal(Signal::CONT)?;
            }
        }
        let violations = invariants::final_names(&sandbox.context.set, job, place)?;
        Look { violations, ..Look::default() }.sound()?;
        Ok(ended.iter().all(Option::is_some).then_some(()))
    })?;
    Ok(ended.into_iter().flatten().collect())
}

/// One waits before a call, and another does the whole job meanwhile.
fn asleep(sandbox: &CrashSandbox<'_>, job: Job, place: &JobDir, before: u64) -> Result<Vec<Ended>> {
    let environment = environment(sandbox, Kind::Asleep { before });
    let mut other = None;
    let mut sleep = |call: &super::tracer::Call| {
        if call.number == before {
            let ended = sandbox.command_as(job, place, &sandbox.lock, "1").start(&environment)?.wait()?;
            let violations = invariants::final_names(&sandbox.context.set, job, place)?;
            Look { violations, ..Look::default() }
                .sound()
                .with_context(|| format!("asleep before {call}"))?;
            other = Some((ended, call.to_string()));
        }
        Ok(())
    };
    let options = Options { before_each: Some(&mut sleep), environment: &environment, ..Options::default() };
    let trace = sandbox.trace(job, place, options)?;
    let sleeper = Ended { end: trace.end, said: trace.said };
    let Some((other, call)) = other else { return Ok(vec![sleeper]) };
    let codes = [sleeper.end, other.end];
    if codes != [End::Code(0); 2] {
        bail!(
            "asleep before {call}: the sleeper ended with {}, the other with {}: {} | {}",
            codes[0],
            codes[1],
            sleeper.said,
            other.said
        );
    }
    Ok(vec![sleeper, other])
}
