//! SIGKILL at a call, before or after it.

#![expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]

use std::sync::Mutex;

use anyhow::{Context as _, Error, Result, ensure};
use fastrand::Rng;

use super::job::Job;
use super::look::{After, listing};
use super::stage::Stage;
use super::strike::{Action, Strike, spread};
use super::tally::Tally;
use super::tracer::{Call, End, Options};
use super::workshop::Workshop;
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

pub(super) fn run(workshop: &Workshop, args: &CrashArgs) -> Result<()> {
    let recorded = record_all(workshop)?;
    let mut rng = Rng::with_seed(args.seed);
    let strikes = strikes(args, &recorded, &mut rng);
    let mut wanted = strikes.len();
    println!("    {wanted} strikes");
    let mut tally = strike_all(workshop, strikes)?;
    for _ in 0..TOP_UPS {
        let lacking = args.least(Part::Kills).saturating_sub(kills(&tally));
        if lacking == 0 {
            break;
        }
        let more = chosen(&recorded, lacking + lacking / 4 + Job::ALL.len(), &mut rng);
        wanted += more.len();
        println!("    {lacking} kills are lacking: {} more strikes", more.len());
        tally.merge(strike_all(workshop, more)?);
    }
    println!("{}", tally.table("call"));
    let kills = kills(&tally);
    println!("{kills} kills of {wanted} tries; I1 to I3 held, and each next run finished the job");
    ensure!(kills * 10 >= wanted * 7, "most of the strikes did not kill: the tracer misses the calls");
    args.enough(Part::Kills, kills)
}

fn kills(tally: &Tally) -> usize {
    tally.total() - MISSES.map(|miss| tally.column(miss)).iter().sum::<usize>()
}

fn strikes(args: &CrashArgs, recorded: &[(Job, Vec<Call>)], rng: &mut Rng) -> Vec<Strike> {
    if args.extent() != Extent::Exhaustive || args.count.is_some() {
        return chosen(recorded, args.count(Part::Kills), rng);
    }
    let of_job = |(job, calls): &(Job, Vec<Call>)| {
        let (job, last) = (*job, calls.len() as u64 + MARGIN);
        (1..=last).flat_map(move |at| ACTIONS.map(|action| Strike { job, at, action }))
    };
    recorded.iter().flat_map(of_job).collect()
}

/// About `count` strikes, as many for each job.
fn chosen(recorded: &[(Job, Vec<Call>)], count: usize, rng: &mut Rng) -> Vec<Strike> {
    let share = count.div_ceil(Job::ALL.len());
    let mut strikes = Vec::new();
    for (job, calls) in recorded {
        for at in spread(calls, share, rng) {
            strikes.push(Strike { job: *job, at, action: ACTIONS[rng.usize(..2)] });
        }
    }
    strikes
}

/// Each job's calls in a run that nobody strikes.
pub(super) fn record_all(workshop: &Workshop) -> Result<Vec<(Job, Vec<Call>)>> {
    let stage = Stage::new(workshop, "recording")?;
    let record = |job: Job| {
        let place = stage.place();
        job.prepare(workshop, &place)?;
        let trace = stage.trace(job, &place, Options::default())?;
        ensure!(trace.end == End::Code(0), "it ended with {}: {}", trace.end, trace.said);
        super::look::complete(&workshop.set, job, &place, &[])?;
        println!("    {}: {} calls", job.name(), trace.calls.len());
        Ok((job, trace.calls))
    };
    Job::ALL.into_iter().map(|job| record(job).with_context(|| format!("recording {}", job.name()))).collect()
}

/// Strikes and checks, on several threads; the first thing wrong ends all. Kills by call and job.
pub(super) fn strike_all(workshop: &Workshop, strikes: Vec<Strike>) -> Result<Tally> {
    let tally = Mutex::new(Tally::default());
    in_parallel(workshop, strikes, |stage, strike| {
        let (call, outcome) = one(stage, *strike)?;
        let call = call.map_or_else(|| "none so late".to_owned(), |call| call.kind());
        let column = if outcome == KILLED { strike.job.name() } else { outcome };
        lock(&tally).add(call, column);
        Ok(())
    })?;
    Ok(tally.into_inner().unwrap_or_default())
}

fn one(stage: &Stage<'_>, strike: Strike) -> Result<(Option<Call>, &'static str)> {
    let place = stage.place();
    let Strike { job, at, action } = strike;
    job.prepare(stage.workshop, &place)?;
    let trace = stage.trace(job, &place, Options { strike: Some((at, action)), ..Options::default() })?;
    let outcome = match (trace.end, &trace.struck) {
        (End::Signal(9), Some(_)) => KILLED,
        // What comes after it may be the end.
        (End::Code(0), Some(_)) if action == Action::KillAfter => MISSES[0],
        (End::Code(0), None) => MISSES[1],
        (end, _) => anyhow::bail!("it ended with {end}: {}", trace.said),
    };
    let checked = stage.recover(job, &place, After::Death);
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
    workshop: &Workshop,
    mut strikes: Vec<Strike>,
    work: impl Fn(&Stage<'_>, &Strike) -> Result<()> + Sync,
) -> Result<()> {
    // The longest first: nobody waits for a slow one at the end.
    strikes.sort_by_key(|strike| strike.job == Job::Paced);
    let (queue, failures) = (Mutex::new(strikes), Mutex::new(Vec::<Error>::new()));
    let is_over = || !workshop.keep_going && !lock(&failures).is_empty();
    std::thread::scope(|scope| {
        for number in 0..WORKERS {
            let (queue, failures, is_over, work) = (&queue, &failures, &is_over, &work);
            scope.spawn(move || match Stage::new(workshop, &format!("worker-{number}")) {
                Ok(stage) => {
                    while !is_over()
                        && let Some(strike) = { lock(queue).pop() }
                    {
                        if let Err(error) = work(&stage, &strike).with_context(|| strike.repeat()) {
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
