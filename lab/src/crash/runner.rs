//! The parts `kills` and `errors`: one loop that disturbs runs at their calls, by several workers, with other actions.

#![expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;

use super::call::{Call, spread};
use super::context::CrashContext;
use super::extent::Extent;
use super::injection::{Action, Injection};
use super::invariants::{After, listing};
use super::job::Job;
use super::sandbox::CrashSandbox;
use super::summary::Summary;
use super::tracer::Options;
use super::verdict::{self, KILLED, MISSES};
use crate::tools::parallel;

/// Runs differ in their number of calls; so many numbers beyond the recorded ones are tried.
const MARGIN: u64 = 8;
/// Rounds of further injections, if too few have hit a call.
const TOP_UPS: usize = 4;
/// More than processors, since the paced job waits most of the time.
const WORKERS: usize = 4;

/// Disturbs jobs at their `recorded` calls until enough are hit. Returns how many were.
pub(super) fn run(
    context: &CrashContext,
    recorded: &[(Job, Vec<Call>)],
    actions: &[Action],
    extent: Extent,
    mut rng: Rng,
) -> Result<usize> {
    let mut injections = if extent.is_exhaustive {
        all(recorded, actions)
    } else {
        chosen(recorded, actions, extent.count, &mut rng)
    };
    let (mut tried, mut outcomes) = (0, Outcomes::default());
    for _ in 0..=TOP_UPS {
        tried += injections.len();
        println!("    {} injections", injections.len());
        inject_all(context, injections, &mut outcomes)?;
        let lacking = extent.least.saturating_sub(outcomes.hits());
        if lacking == 0 {
            break;
        }
        let more = lacking + lacking / 4 + recorded.len();
        injections = chosen(recorded, actions, more, &mut rng);
    }
    outcomes.print();
    let hits = outcomes.hits();
    println!("{hits} hits of {tried} injections; I1 to I3 held, and each next run finished the job");
    ensure!(hits * 10 >= tried * 7, "most of the injections hit nothing: the tracer misses the calls");
    Ok(hits)
}

/// One injection, twenty times.
pub(super) fn repeat(context: &CrashContext, injection: Injection) -> Result<()> {
    let mut outcomes = Outcomes::default();
    inject_all(context, vec![injection; 20], &mut outcomes)?;
    outcomes.print();
    Ok(())
}

/// Every call with every action.
fn all(recorded: &[(Job, Vec<Call>)], actions: &[Action]) -> Vec<Injection> {
    let mut injections = Vec::new();
    for (job, calls) in recorded {
        let numbers = 1..=calls.len() as u64 + MARGIN;
        let each = |at| actions.iter().map(move |&action| Injection { job: *job, at, action });
        injections.extend(numbers.flat_map(each));
    }
    injections
}

/// About `count` injections, as many for each job, through its calls as often as it takes with changing actions.
fn chosen(recorded: &[(Job, Vec<Call>)], actions: &[Action], count: usize, rng: &mut Rng) -> Vec<Injection> {
    let share = count.div_ceil(recorded.len());
    let mut injections = Vec::new();
    for (job, calls) in recorded {
        let mut numbers = Vec::new();
        while numbers.len() < share {
            numbers.extend(spread(calls, share - numbers.len(), rng));
        }
        let turns = actions.iter().cycle().skip(rng.usize(..actions.len()));
        injections.extend(numbers.into_iter().zip(turns).map(|(at, &action)| Injection {
            job: *job,
            at,
            action,
        }));
    }
    injections
}

/// The outcomes so far.
#[derive(Debug, Default)]
struct Outcomes {
    by_call: Summary,
    by_action: Summary,
}

impl Outcomes {
    fn hits(&self) -> usize {
        self.by_action.total() - MISSES.iter().map(|miss| self.by_action.column(miss)).sum::<usize>()
    }

    fn print(&self) {
        println!("{}\n\n{}", self.by_action.table("action"), self.by_call.table("call"));
    }
}

/// Injects on several threads. The first failure ends all, unless failures are collected.
fn inject_all(context: &CrashContext, mut injections: Vec<Injection>, outcomes: &mut Outcomes) -> Result<()> {
    // The slow job comes first.
    injections.sort_by_key(|injection| injection.job != Job::Paced);
    let sandbox = |number| CrashSandbox::new(context, &format!("worker-{number}"));
    let free = Mutex::new((0..WORKERS).map(sandbox).collect::<Result<Vec<_>>>()?);
    let free = || free.lock().unwrap_or_else(PoisonError::into_inner);
    let has_failed = AtomicBool::new(false);
    let results = parallel::map(&injections, WORKERS, |&injection| {
        if has_failed.load(Ordering::Relaxed) && !context.keep_going {
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
    let mut failures = Vec::new();
    for (injection, result) in injections.into_iter().zip(results) {
        match result {
            Ok(Some((call, outcome))) => {
                let column = if outcome == KILLED { injection.job.to_string() } else { outcome.to_owned() };
                outcomes.by_call.add(call, column);
                outcomes.by_action.add(injection.action.to_string(), outcome);
            }
            Ok(None) => {}
            Err(error) => failures.push(format!("- {error:#}")),
        }
    }
    ensure!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    Ok(())
}

/// Disturbs one run, checks its end, and lets the next run finish the job. Returns the call's kind, and the end.
fn inject(sandbox: &CrashSandbox<'_>, injection: Injection) -> Result<(String, &'static str)> {
    let (Injection { job, at, action }, dir) = (injection, sandbox.dir());
    sandbox.reset(job, &dir)?;
    let trace = sandbox.trace(job, &dir, Options { action: Some((at, action)), ..Options::default() })?;
    let outcome = verdict::check(action, &trace, &dir);
    let recovered = outcome.and_then(|outcome| sandbox.recover(job, &dir, After::Death).map(|_| outcome));
    let outcome = recovered.with_context(|| {
        let hit = trace.hit.as_ref().map_or_else(|| "no call".to_owned(), Call::to_string);
        format!("{action} at {hit}, {}; now there are\n{}\n  and", trace.ended, listing(&dir.root))
    })?;
    Ok((trace.hit.map_or_else(|| outcome.to_owned(), |hit| hit.kind()), outcome))
}
