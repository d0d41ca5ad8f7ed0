//! The parts `kills` and `errors`: one loop that disturbs runs at their calls, by several workers, with other actions.

#![expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;

use super::call::{Call, spread};
use super::extent::Extent;
use super::injection::{Action, Injection};
use super::invariants::{After, listing};
use super::job::Job;
use super::sandbox::{CrashContext, CrashSandbox};
use super::summary::Summary;
use super::tracer::Options;
use super::verdict::{self, KILLED, MISSES};
use crate::tools::parallel;

/// Runs differ in their number of calls; so many numbers beyond the recorded ones are tried.
const MARGIN: u64 = 8;
/// More than processors, since the paced job waits most of the time.
const WORKERS: usize = 4;

/// The injections of a part: every call with every action, or about as many for each job as the extent says.
pub(super) fn choose(
    recorded: &[(Job, Vec<Call>)],
    actions: &[Action],
    extent: Extent,
    rng: &mut Rng,
) -> Vec<Injection> {
    let share = extent.count.div_ceil(recorded.len());
    let mut injections = Vec::new();
    for (job, calls) in recorded {
        let mut add = |at, action| injections.push(Injection { job: *job, at, action });
        if extent.is_exhaustive {
            for at in 1..=calls.len() as u64 + MARGIN {
                for action in actions {
                    add(at, *action);
                }
            }
            continue;
        }
        // Through its calls as often as it takes, with changing actions.
        let mut numbers = Vec::new();
        while numbers.len() < share {
            numbers.extend(spread(calls, share - numbers.len(), rng));
        }
        let turns = actions.iter().cycle().skip(rng.usize(..actions.len()));
        numbers.into_iter().zip(turns).for_each(|(at, action)| add(at, *action));
    }
    injections
}

/// Disturbs the jobs, by several workers, and prints the outcomes. Returns how many calls were hit. The first failure
/// ends all.
pub(super) fn run(context: &CrashContext, mut injections: Vec<Injection>) -> Result<usize> {
    println!("    {} injections", injections.len());
    // The slow job comes first.
    injections.sort_by_key(|injection| injection.job != Job::Paced);
    let sandbox = |number| CrashSandbox::new(context, &format!("worker-{number}"));
    let free = Mutex::new((0..WORKERS).map(sandbox).collect::<Result<Vec<_>>>()?);
    let free = || free.lock().unwrap_or_else(PoisonError::into_inner);
    let has_failed = AtomicBool::new(false);
    let results = parallel::map(&injections, WORKERS, |&injection| {
        if has_failed.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let sandbox = free().pop().context("a worker without a sandbox")?;
        let result = inject(&sandbox, injection);
        free().push(sandbox);
        has_failed.fetch_or(result.is_err(), Ordering::Relaxed);
        result.map(Some).with_context(|| {
            format!("to repeat: cargo lab crash --strike {injection} (threads vary: it may take several)")
        })
    });
    let (mut by_call, mut by_action, mut failures) = (Summary::default(), Summary::default(), Vec::new());
    for (injection, result) in injections.iter().zip(results) {
        match result {
            Ok(Some((call, outcome))) => {
                let column = if outcome == KILLED { injection.job.to_string() } else { outcome.to_owned() };
                by_call.add(call, column);
                by_action.add(injection.action.to_string(), outcome);
            }
            Ok(None) => {}
            Err(error) => failures.push(format!("- {error:#}")),
        }
    }
    ensure!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    let hits = by_action.total() - MISSES.iter().map(|miss| by_action.column(miss)).sum::<usize>();
    println!("{}\n\n{}", by_action.table("action"), by_call.table("call"));
    println!("{hits} hits; I1 to I3 held, and each next run finished the job");
    let tried = injections.len();
    ensure!(
        hits * 10 >= tried * 7,
        "most of the {tried} injections hit nothing: the tracer misses the calls"
    );
    Ok(hits)
}

/// Disturbs one run, checks its end, and lets the next run finish the job. Returns the call's kind, and the end.
fn inject(sandbox: &CrashSandbox<'_>, injection: Injection) -> Result<(String, &'static str)> {
    let (Injection { job, at, action }, dir) = (injection, sandbox.dir());
    sandbox.reset(job, &dir)?;
    let options = Options { action: Some((at, action)), ..Options::default() };
    let trace = sandbox.trace(job, &dir, false, options)?;
    let outcome = verdict::check(action, &trace, &dir);
    let recovered = outcome.and_then(|outcome| sandbox.recover(job, &dir, After::Death).map(|_| outcome));
    let outcome = recovered.with_context(|| {
        let hit = trace.hit.as_ref().map_or_else(|| "no call".to_owned(), Call::to_string);
        format!("{action} at {hit}, {}; now there are\n{}\n  and", trace.ended, listing(&dir.root))
    })?;
    Ok((trace.hit.map_or_else(|| outcome.to_owned(), |hit| hit.kind()), outcome))
}
