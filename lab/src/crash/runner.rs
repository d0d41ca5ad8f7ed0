//! The parts `kills` and `errors`: one loop that disturbs runs at their calls, by several workers, with other actions.

#![expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;

use super::Outcome;
use super::call::{Call, spread};
use super::injection::{Action, EINTR, Injection};
use super::invariants::{After, listing};
use super::job::Job;
use super::sandbox::{CrashContext, CrashSandbox};
use super::tracer::Options;
use super::verdict::{self, MISSED};
use crate::tools::parallel;

/// Runs differ in their number of calls; so many numbers beyond the recorded ones are tried.
const MARGIN: u64 = 8;
/// More than processors, since the paced job waits most of the time.
const WORKERS: [usize; 4] = [0, 1, 2, 3];

/// The injections of a part: about `count` over all jobs; with `None`, every call with every action.
pub(super) fn choose(
    recorded: &[(Job, Vec<Call>)],
    actions: &[Action],
    count: Option<usize>,
    rng: &mut Rng,
) -> Vec<Injection> {
    let Some(count) = count else {
        let calls = recorded
            .iter()
            .flat_map(|(job, calls)| (1..=calls.len() as u64 + MARGIN).map(move |at| (*job, at)));
        return calls
            .flat_map(|(job, at)| actions.iter().map(move |action| Injection { job, at, action: *action }))
            .collect();
    };
    let mut injections = if actions.contains(&EINTR) { interrupted(recorded, rng) } else { Vec::new() };
    injections.truncate(count);
    let share = (count - injections.len()).div_ceil(recorded.len());
    for (job, calls) in recorded {
        // Through its calls as often as it takes, with changing actions.
        let mut numbers = Vec::new();
        while numbers.len() < share {
            numbers.extend(spread(calls, share - numbers.len(), rng));
        }
        let turns = actions.iter().cycle().skip(rng.usize(..actions.len()));
        let add = |(at, action): (u64, &Action)| Injection { job: *job, at, action: *action };
        injections.extend(numbers.into_iter().zip(turns).map(add));
    }
    injections
}

/// Two calls of each kind, in any jobs: each place that makes a call has to make it again. Two, since a number may lead to
/// another call in the next run.
fn interrupted(recorded: &[(Job, Vec<Call>)], rng: &mut Rng) -> Vec<Injection> {
    let mut kinds = BTreeMap::<String, Vec<Injection>>::new();
    for (job, call) in recorded.iter().flat_map(|(job, calls)| calls.iter().map(|call| (*job, call))) {
        kinds.entry(call.kind()).or_default().push(Injection { job, at: call.number, action: EINTR });
    }
    kinds.into_values().flat_map(|places| rng.choose_multiple(places, 2)).collect()
}

/// Disturbs the jobs, by several workers. The first failure ends all.
pub(super) fn run(context: &CrashContext, mut injections: Vec<Injection>) -> Result<Vec<Outcome>> {
    let tried = injections.len();
    println!("    {tried} injections");
    // The workers share the slow job's evenly, and begin with them.
    injections.sort_by_key(|injection| injection.job != Job::Paced);
    let has_failed = AtomicBool::new(false);
    let results = parallel::map(&WORKERS, WORKERS.len(), |&worker| {
        let sandbox = CrashSandbox::new(context, &format!("worker-{worker}"))?;
        let own = injections.iter().skip(worker).step_by(WORKERS.len());
        let outcome = |injection: &Injection| {
            let outcome = inject(&sandbox, *injection);
            has_failed.fetch_or(outcome.is_err(), Relaxed);
            let outcome = outcome.with_context(|| {
                format!("to repeat: cargo lab crash --strike {injection} (threads vary: it may take several)")
            })?;
            Ok((injection.action.to_string(), outcome))
        };
        own.take_while(|_| !has_failed.load(Relaxed)).map(outcome).collect::<Result<Vec<_>>>()
    });
    let outcomes = results.into_iter().collect::<Result<Vec<_>>>()?.concat();
    let hits = outcomes.iter().filter(|(_, outcome)| *outcome != MISSED).count();
    ensure!(hits * 10 >= tried * 7, "{hits} of {tried} injections hit: the tracer misses the calls");
    Ok(outcomes)
}

/// Disturbs one run, checks its end, and lets the next run finish the job.
fn inject(sandbox: &CrashSandbox<'_>, Injection { job, at, action }: Injection) -> Result<&'static str> {
    let dir = sandbox.dir(job);
    sandbox.reset(&dir)?;
    let trace = sandbox.trace(&dir, Options { action: Some((at, action)), ..Options::default() })?;
    let outcome = verdict::check(action, &trace, &dir);
    let recovered = outcome.and_then(|outcome| sandbox.recover(&dir, After::Death).map(|_| outcome));
    recovered.with_context(|| {
        let hit = trace.hit.as_ref().map_or_else(|| "no call".to_owned(), Call::to_string);
        format!("{action} at {hit}, {}; now there are\n{}\n  and", trace.ended, listing(&dir.root))
    })
}
