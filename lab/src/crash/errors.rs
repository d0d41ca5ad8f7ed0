//! A call that fails, or writes half.
//!
//! A failure of the disk has to end the run with exit code 7 and a message that names the file and the way out, with the
//! old version untouched. Where the call is dispensable the run may go on ([`DISPENSABLE`]); a call that was interrupted
//! (EINTR) or short has to be done again.

#![expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]

use std::sync::Mutex;

use anyhow::{Context as _, Result, bail, ensure};
use fastrand::Rng;

use super::context::CrashContext;
use super::injection::{Action, Errno, Injection, spread};
use super::invariants::After;
use super::job::{Job, JobDir};
use super::kills::{describe, in_parallel, lock, record_all};
use super::sandbox::CrashSandbox;
use super::summary::Summary;
use super::tracer::{Call, End, Options, Trace};
use super::{CrashArgs, Extent, Part};

const MARGIN: u64 = 8;

/// Calls that may fail in a run that succeeds, by kind, and why.
const DISPENSABLE: [(&str, &str); 9] = [
    ("FICLONE part", "sharing blocks is the fast way; the bytes are copied then"),
    (
        "copy_file_range part",
        "the kernel's copy is the fast way; reading and writing finds out what is wrong, if anything is",
    ),
    ("unlinkat lock", "the next holder uses the file again"),
    ("utimensat object", "when an object was used last matters to pruning only"),
    ("linkat temporary", "the bytes are copied then"),
    (
        "openat record of what is proven",
        "what is proven is kept as a courtesy: the next run reads the files again",
    ),
    ("unlinkat temporary", "what is left under the name is removed by the next run"),
    (
        "unlinkat journal",
        "after a link, a journal that nobody needs any more is tidied away, and the next fetch removes it",
    ),
    ("unlinkat part", "a part that nobody needs any more takes room, and the next run removes it"),
];

/// A cache saves time and nothing else: whatever fails in it, the run may go on without.
const IN_CACHE: &str = "anything in the cache";

/// A baked original that cannot be made durable is not used: its bytes are fetched.
const BAKED: &str = "anything outside the destination, which is the baked directory";

/// What a message may tell a person to do.
const WAYS_OUT: [&str; 9] = [
    "free some space",
    "mount it writable",
    "check the owner",
    "choose another",
    "run again",
    "is not used",
    "move it away",
    "raise",
    "next run will check",
];

pub(super) fn run(context: &CrashContext, args: &CrashArgs) -> Result<()> {
    let strikes = strikes(context, args)?;
    let (by_call, by_action) = strike_all(context, strikes)?;
    println!("{}\n\n{}", by_action.table("error"), by_call.table("call"));
    println!("{} errors; what was there stayed, and each next run finished the job", by_call.total());
    println!("calls that may fail in a run that succeeds:");
    for (call, why) in DISPENSABLE {
        println!("    {call}: {why}");
    }
    println!("    {IN_CACHE}: it is fetched past it");
    println!("    {BAKED}: it is fetched");
    args.enough(Part::Errors, by_call.total())
}

fn strikes(context: &CrashContext, args: &CrashArgs) -> Result<Vec<Injection>> {
    let count = args.count(Part::Errors);
    let mut rng = Rng::with_seed(args.seed ^ 0xE0);
    let singles = Errno::ALL.map(Action::Fail);
    // Nothing is interrupted for ever.
    let lasting = [Errno::Enospc, Errno::Eio, Errno::Erofs].map(Action::FailOn);
    let actions: Vec<_> = singles.into_iter().chain(lasting).chain([Action::Short]).collect();
    let mut strikes = Vec::new();
    for (job, calls) in record_all(context)? {
        if args.extent() == Extent::Exhaustive && args.count.is_none() {
            let last = calls.len() as u64 + MARGIN;
            let each = |at| actions.iter().map(move |action| Injection { job, at, action: *action });
            strikes.extend((1..=last).flat_map(each));
        } else {
            let share = count.div_ceil(Job::ALL.len());
            let mut next = rng.usize(..actions.len());
            // As often through the calls as it takes: with another error each time.
            while strikes.iter().filter(|strike: &&Injection| strike.job == job).count() < share {
                let left = share - strikes.iter().filter(|strike| strike.job == job).count();
                for at in spread(&calls, left, &mut rng) {
                    strikes.push(Injection { job, at, action: actions[next] });
                    next = (next + 1) % actions.len();
                }
            }
        }
    }
    Ok(strikes)
}

/// Strikes and checks; what became of it by call, and by error.
pub(super) fn strike_all(context: &CrashContext, strikes: Vec<Injection>) -> Result<(Summary, Summary)> {
    let summaries = Mutex::new((Summary::default(), Summary::default()));
    in_parallel(context, strikes, |sandbox, strike| {
        let (call, end) = one(sandbox, *strike)?;
        let Some(call) = call else { return Ok(()) };
        let mut summaries = lock(&summaries);
        summaries.0.add(call.kind(), format!("exit {end}"));
        summaries.1.add(strike.action.to_string(), format!("exit {end}"));
        Ok(())
    })?;
    Ok(summaries.into_inner().unwrap_or_default())
}

fn one(sandbox: &CrashSandbox<'_>, strike: Injection) -> Result<(Option<Call>, i32)> {
    let place = sandbox.place();
    let Injection { job, at, action } = strike;
    job.prepare(sandbox.context, &place)?;
    let trace = sandbox.trace(job, &place, Options { strike: Some((at, action)), ..Options::default() })?;
    let End::Code(code) = trace.end else { bail!("it ended with {}: {}", trace.end, trace.said) };
    let judged = match &trace.struck {
        None => {
            ensure!(code == 0, "nothing was struck, and it ended with exit {code}: {}", trace.said);
            Ok(())
        }
        Some(call) => judge(call, action, code, &trace, &place),
    };
    judged.with_context(|| describe(trace.struck.as_ref(), &place.root))?;
    let checked = sandbox.recover(job, &place, After::Death);
    checked.with_context(|| {
        format!("{}\n  (it had said: {})", describe(trace.struck.as_ref(), &place.root), trace.said)
    })?;
    Ok((trace.struck, code))
}

/// Whether that is the right end.
fn judge(call: &Call, action: Action, code: i32, trace: &Trace, place: &JobDir) -> Result<()> {
    let kind = call.kind();
    let said = &trace.said;
    match (action, code) {
        (Action::Short | Action::Fail(Errno::Eintr), 0) => Ok(()),
        (Action::Short | Action::Fail(Errno::Eintr), _) => {
            bail!("{action} has to be tried again, and it ended with exit {code}: {said}")
        }
        (Action::Fail(_), 0) => {
            ensure!(is_dispensable(call, place), "{action} at {kind}, and it ended with exit 0: {said}");
            Ok(())
        }
        (Action::FailOn(_), 0) => {
            let mut all = trace.calls.iter().filter(|later| later.number >= call.number);
            let needed = all.find(|later| !is_dispensable(later, place));
            ensure!(
                needed.is_none(),
                "{action} from {kind} on, {needed:?} too, and it ended with exit 0: {said}"
            );
            Ok(())
        }
        (_, 7) => {
            ensure!(said.contains(place.root.as_str()), "{action}: the message names no file: {said}");
            ensure!(
                WAYS_OUT.iter().any(|way| said.contains(way)),
                "{action}: the message names no way out: {said}"
            );
            Ok(())
        }
        _ => bail!("{action} at {kind}, and it ended with exit {code}, not 7: {said}"),
    }
}

fn is_dispensable(call: &Call, place: &JobDir) -> bool {
    let kind = call.kind();
    DISPENSABLE.iter().any(|(known, _)| *known == kind)
        || call.what.starts_with(place.cache().as_str())
        || !call.what.starts_with(place.root.as_str())
}
