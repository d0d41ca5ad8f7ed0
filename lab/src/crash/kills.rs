//! SIGKILL at a call, before or after it.

#![expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]

use std::sync::Mutex;

use anyhow::{Context as _, Error, Result, ensure};
use fastrand::Rng;

use super::context::CrashContext;
use super::injection::{Action, Injection, spread};
use super::invariants::{After, listing};
use super::job::Job;
use super::sandbox::CrashSandbox;
use super::summary::Summary;
use super::tracer::{Call, End, Options};
use super::{CrashArgs, Extent, Part};

const ACTIONS: [Action; 2] = [Action::Kill, Action::KillAfter];
const KILLED: &str = "killed";
/// How a run ended that was not.
const MISSES: [&str; 2] = ["ended first", "not reached"];
/// Runs differ in their number of calls; so many more than the longest seen are tried.
const MARGIN: u64 = 8;
/// How often strikes are added where too few have killed.
const TOP_UPS: usize = 4;
/// The paced job waits most of the time: more workers than processors.
const WORKERS: usize = 4;

pub(super) fn run(context: &CrashContext, args: &CrashArgs) -> Result<()> {
    let recorded = record_all(context)?;
    let mut rng = Rng::with_seed(args.seed);
    let strikes = strikes(args, &recorded, &mut rng);
    let mut wanted = strikes.len();
    println!("    {wanted} strikes");
    let mut summary = strike_all(context, strikes)?;
    for _ in 0..TOP_UPS {
        let lacking = args.least(Part::Kills).saturating_sub(kills(&summary));
        if lacking == 0 {
            break;
        }
        let more = chosen(&recorded, lacking + lacking / 4 + Job::ALL.len(), &mut rng);
        wanted += more.len();
        println!("    {lacking} kills are lacking: {} more strikes", more.len());
        summary.merge(strike_all(context, more)?);
    }
    println!("{}", summary.table("call"));
    let kills = kills(&summary);
    println!("{kills} kills of {wanted} tries; I1 to I3 held, and each next run finished the job");
    ensure!(kills * 10 >= wanted * 7, "most of the strikes did not kill: the tracer misses the calls");
    args.enough(Part::Kills, kills)
}

fn kills(summary: &Summary) -> usize {
    summary.total() - MISSES.map(|miss| summary.column(miss)).iter().sum::<usize>()
}

fn strikes(args: &CrashArgs, recorded: &[(Job, Vec<Call>)], rng: &mut Rng) -> Vec<Injection> {
    if args.extent() != Extent::Exhaustive || args.count.is_some() {
        return chosen(recorded, args.count(Part::Kills), rng);
    }
    let of_job = |(job, calls): &(Job, Vec<Call>)| {
        let (job, last) = (*job, calls.len() as u64 + MARGIN);
        (1..=last).flat_map(move |at| ACTIONS.map(|action| Injection { job, at, action }))
    };
    recorded.iter().flat_map(of_job).collect()
}

/// About `count` strikes, as many for each job.
fn chosen(recorded: &[(Job, Vec<Call>)], count: usize, rng: &mut Rng) -> Vec<Injection> {
    let share = count.div_ceil(Job::ALL.len());
    let mut strikes = Vec::new();
    for (job, calls) in recorded {
        for at in spread(calls, share, rng) {
            strikes.push(Injection { job: *job, at, action: ACTIONS[rng.usize(..2)] });
        }
    }
    strikes
}

/// Each job's calls in a run that nobody strikes.
pub(super) fn record_all(context: &CrashContext) -> Result<Vec<(Job, Vec<Call>)>> {
    let sandbox = CrashSandbox::new(context, "recording")?;
    let record = |job: Job| {
        let place = sandbox.place();
        job.prepare(context, &place)?;
        let trace = sandbox.trace(job, &place, Options::default())?;
        ensure!(trace.end == End::Code(0), "it ended with {}: {}", trace.end, trace.said);
        super::invariants::complete(&context.set, job, &place, &[])?;
        println!("    {}: {} calls", job.name(), trace.calls.len());
        Ok((job, trace.calls))
    };
    Job::ALL.into_iter().map(|job| record(job).with_context(|| format!("recording {}", job.name()))).collect()
}

/// Strikes and checks, on several threads; the first thing wrong ends all. Kills by call and job.
pub(super) fn strike_all(context: &CrashContext, strikes: Vec<Injection>) -> Result<Summary> {
    let summary = Mutex::new(Summary::default());
    in_parallel(context, strikes, |sandbox, strike| {
        let (call, outcome) = one(sandbox, *strike)?;
        let call = call.map_or_else(|| "none so late".to_owned(), |call| call.kind());
        let column = if outcome == KILLED { strike.job.name() } else { outcome };
        lock(&summary).add(call, column);
        Ok(())
    })?;
    Ok(summary.into_inner().unwrap_or_default())
}

fn one(sandbox: &CrashSandbox<'_>, strike: Injection) -> Result<(Option<Call>, &'static str)> {
    let place = sandbox.place();
    let Injection { job, at, action } = strike;
    job.prepare(sandbox.context, &place)?;
    let trace = sandbox.trace(job, &place, Options { strike: Some((at, action)), ..Options::default() })?;
    let outcome = match (trace.end, &trace.struck) {
        (End::Signal(9), Some(_)) => KILLED,
        // What comes after it may be the end.
        (End::Code(0), Some(_)) if action == Action::KillAfter => MISSES[0],
        (End::Code(0), None) => MISSES[1],
        (end, _) => anyhow::bail!("it ended with {end}: {}", trace.said),
    };
    let checked = sandbox.recover(job, &place, After::Death);
    checked.with_context(|| describe(trace.struck.as_ref(), &place.root))?;
    Ok((trace.struck, outcome))
}

/// For a failure: where it was struck, and what lies there.
pub(super) fn describe(struck: Option<&Call>, root: &camino::Utf8Path) -> String {
    let call = struck.map_or_else(|| "no call".to_owned(), ToString::to_string);
    format!("struck at {call}; now there are\n{}\n  and", listing(root))
}

/// Does `work` for every strike. A failure carries what repeats it.
pub(super) fn in_parallel(
    context: &CrashContext,
    mut strikes: Vec<Injection>,
    work: impl Fn(&CrashSandbox<'_>, &Injection) -> Result<()> + Sync,
) -> Result<()> {
    // The longest first: nobody waits for a slow one at the end.
    strikes.sort_by_key(|strike| strike.job == Job::Paced);
    let (queue, failures) = (Mutex::new(strikes), Mutex::new(Vec::<Error>::new()));
    let is_over = || !context.keep_going && !lock(&failures).is_empty();
    std::thread::scope(|scope| {
        for number in 0..WORKERS {
            let (queue, failures, is_over, work) = (&queue, &failures, &is_over, &work);
            scope.spawn(move || match CrashSandbox::new(context, &format!("worker-{number}")) {
                Ok(sandbox) => {
                    while !is_over()
                        && let Some(strike) = { lock(queue).pop() }
                    {
                        if let Err(error) = work(&sandbox, &strike).with_context(|| strike.repeat()) {
                            lock(failures).push(error);
                        }
                    }
                }
                Err(error) => lock(failures).push(error),
            });
        }
    });
    all_or_none(failures.into_inner().unwrap_or_default())
}

/// One error of several.
pub(super) fn all_or_none(mut failures: Vec<Error>) -> Result<()> {
    match failures.len() {
        0 => Ok(()),
        1 => Err(failures.remove(0)),
        count => {
            let all: Vec<_> = failures.iter().map(|error| format!("- {error:#}")).collect();
            anyhow::bail!("{count} things are wrong:\n{}", all.join("\n"))
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
