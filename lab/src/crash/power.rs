//! The power goes: what is on the disk then?
//!
//! The job runs on a file system in an image. Before a chosen call, the call waits and the image is cloned; other clones
//! are made at random moments, and one when the program has ended well and everything has to be there. Nothing is synced.
//! Each clone is then mounted (the file system recovers its journal), held against the invariants, and a run without
//! trouble finishes the job on it.
//!
//! That this finds anything is proved first: with `fsync` of the parts made a no-op a marker has to be found over a wrong
//! file.

#![expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]

use std::collections::BTreeSet;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use camino::Utf8PathBuf;
use fastrand::Rng;
use xshell::Shell;

use super::context::CrashContext;
use super::disk_image::{DiskImages, FileSystem};
use super::injection::spread;
use super::invariants::{self, After, Violation, listing};
use super::job::{Job, JobDir};
use super::kills::record_all;
use super::sandbox::CrashSandbox;
use super::summary::Summary;
use super::tracer::{Call, End, Options};
use super::{CrashArgs, Extent, Part};
use crate::tools::steps::Done;

/// A clone of the disk, and the moment of which it is.
struct Clone {
    image: Utf8PathBuf,
    moment: String,
}

/// When clones are made.
#[derive(Debug, Default)]
struct Moments {
    /// Before these calls.
    calls: BTreeSet<u64>,
    /// Before all calls of these names.
    names: &'static [&'static str],
    /// So many besides, at random, in a run that nothing holds up.
    random: usize,
}

pub(super) fn run(sh: &Shell, context: &CrashContext, args: &CrashArgs) -> Result<Done> {
    if args.no_mounts {
        return Ok(Done::Skipped("--no-mounts: what a power cut leaves was NOT looked at".to_owned()));
    }
    let holder = DiskImages::new(sh, context)?;
    let sandbox = CrashSandbox::new(context, "power")?;
    let mut rng = Rng::with_seed(args.seed ^ 0xB0);
    red(&holder, &sandbox, FileSystem::Ext4)?;
    let recorded = record_all(context)?;
    let mut summary = Summary::default();
    for kind in FileSystem::ALL {
        if args.extent() == Extent::Sample && kind != FileSystem::Ext4 {
            continue;
        }
        if let Some(why) = holder.lacks(kind) {
            ensure!(kind != FileSystem::Ext4, "{why}");
            println!("    {} is left out: {why}", kind.name());
            continue;
        }
        if kind != FileSystem::Ext4 {
            red(&holder, &sandbox, kind)?;
        }
        let count = match kind {
            FileSystem::Ext4 => args.count(Part::Power),
            _ => args.count.unwrap_or(90),
        };
        let jobs: &[Job] = if args.extent() == Extent::Sample {
            &[Job::Fetch, Job::Paced, Job::Replace, Job::Cache]
        } else {
            &Job::ALL
        };
        for (job, calls) in recorded.iter().filter(|(job, _)| jobs.contains(job)) {
            let share = if args.extent() == Extent::Exhaustive && args.count.is_none() {
                calls.len()
            } else {
                count.div_ceil(jobs.len())
            };
            let moments = moments(*job, calls, share, &mut rng);
            let name = kind.name();
            cut(&holder, &sandbox, kind, *job, &moments, &mut rng, &mut summary).with_context(|| {
                format!(
                    "{} on {name}; to repeat: cargo lab crash --only power --seed {}",
                    job.name(),
                    args.seed
                )
            })?;
        }
    }
    top_up(&holder, &sandbox, args, &recorded, &mut rng, &mut summary)?;
    println!("{}", summary.table("job"));
    args.enough(Part::Power, summary.total())?;
    println!("{} clones of the disk; I1 to I3 held, and a run on each finished the job", summary.total());
    Ok(Done::Passed)
}

/// Calls that a run did not come to and moments after its end have left some clones out: others are made, each time at least
/// the one after the end.
fn top_up(
    holder: &DiskImages,
    sandbox: &CrashSandbox<'_>,
    args: &CrashArgs,
    recorded: &[(Job, Vec<Call>)],
    rng: &mut Rng,
    summary: &mut Summary,
) -> Result<()> {
    /// More clones at once would take too much of the disk that holds them.
    const AT_ONCE: usize = 30;
    let fetch = recorded.iter().filter(|(job, _)| *job == Job::Fetch);
    for (job, calls) in fetch.cycle() {
        let lacking = args.least(Part::Power).saturating_sub(summary.total());
        if lacking == 0 {
            break;
        }
        println!("    {lacking} clones are lacking: more of {}", job.name());
        let moments = moments(*job, calls, lacking.min(AT_ONCE), rng);
        cut(holder, sandbox, FileSystem::Ext4, *job, &moments, rng, summary)
            .with_context(|| format!("{}, clones that were lacking", job.name()))?;
    }
    Ok(())
}

/// Only the proof, for every file system that there is.
pub(super) fn prove_red(sh: &Shell, context: &CrashContext, _args: &CrashArgs) -> Result<()> {
    let holder = DiskImages::new(sh, context)?;
    let sandbox = CrashSandbox::new(context, "power")?;
    for kind in FileSystem::ALL {
        match holder.lacks(kind) {
            Some(why) => println!("    {} is left out: {why}", kind.name()),
            None => red(&holder, &sandbox, kind)?,
        }
    }
    Ok(())
}

/// One of the share is the moment after the end; a third of those of a paced job are at random.
fn moments(job: Job, calls: &[Call], share: usize, rng: &mut Rng) -> Moments {
    let random = if job == Job::Paced { share / 3 } else { 0 };
    let calls = spread(calls, share.saturating_sub(random + 1), rng);
    Moments { calls: calls.into_iter().collect(), random, ..Moments::default() }
}

/// Does the job on a new disk and returns its clones, the last of them made when it had ended.
fn clones(
    holder: &DiskImages,
    sandbox: &CrashSandbox<'_>,
    (kind, job): (FileSystem, Job),
    (moments, no_sync): (&Moments, Option<&str>),
    rng: &mut Rng,
) -> Result<Vec<Clone>> {
    let place = JobDir::at(holder.at().join("place"));
    let (mut clones, cloner) = (Vec::new(), holder.cloner());
    let disk = holder.disk(kind)?;
    job.prepare(sandbox.context, &place)?;
    disk.sync()?;
    let mut before_each = |call: &Call| {
        if moments.calls.contains(&call.number) || moments.names.contains(&call.name.as_str()) {
            let image = cloner.clone_disk(&format!("call-{}.img", call.number))?;
            clones.push(Clone { image, moment: format!("before {call}") });
        }
        Ok(())
    };
    let trace = sandbox.trace(
        job,
        &place,
        Options { no_sync, before_each: Some(&mut before_each), ..Options::default() },
    )?;
    let image = cloner.clone_disk("end.img")?;
    ensure!(trace.end == End::Code(0), "it ended with {}: {}", trace.end, trace.said);
    clones.push(Clone { image, moment: "after it had ended with exit 0".to_owned() });
    if moments.random > 0 {
        drop(disk);
        clones.splice(0..0, at_random(holder, sandbox, (kind, job), moments.random, rng)?);
    }
    Ok(clones)
}

/// As [`clones`], in a run that nothing holds up.
fn at_random(
    holder: &DiskImages,
    sandbox: &CrashSandbox<'_>,
    (kind, job): (FileSystem, Job),
    count: usize,
    rng: &mut Rng,
) -> Result<Vec<Clone>> {
    let place = JobDir::at(holder.at().join("place"));
    let disk = holder.disk(kind)?;
    job.prepare(sandbox.context, &place)?;
    disk.sync()?;
    let waits: Vec<_> = (0..count).map(|_| Duration::from_millis(rng.u64(0..2400 / count as u64))).collect();
    let cloner = holder.cloner();
    let (end, ended) = channel::<()>();
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let mut clones = Vec::new();
            for (number, wait) in waits.into_iter().enumerate() {
                // A timer that the end of the run cuts short.
                if ended.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
                let image = cloner.clone_disk(&format!("random-{number}.img"))?;
                clones.push(Clone { image, moment: format!("random moment {number}") });
            }
            Ok::<_, anyhow::Error>(clones)
        });
        let trace = sandbox.trace(job, &place, Options::default());
        drop(end);
        let clones = thread.join().ok().context("the thread that clones")??;
        let trace = trace?;
        ensure!(trace.end == End::Code(0), "it ended with {}: {}", trace.end, trace.said);
        Ok(clones)
    })
}

/// Cuts the power at these moments and checks what is left.
fn cut(
    holder: &DiskImages,
    sandbox: &CrashSandbox<'_>,
    kind: FileSystem,
    job: Job,
    moments: &Moments,
    rng: &mut Rng,
    summary: &mut Summary,
) -> Result<()> {
    let place = JobDir::at(holder.at().join("place"));
    let clones = clones(holder, sandbox, (kind, job), (moments, None), rng)?;
    let last = clones.len() - 1;
    for (number, Clone { image, moment }) in clones.into_iter().enumerate() {
        let mounted = holder.mount_clone(&image).with_context(|| format!("mounting the clone {moment}"))?;
        if number == last && job == Job::Layers {
            let why = invariants::laid_out(&sandbox.context.set, &place)?;
            ensure!(why.is_none(), "it had ended with exit 0, and its trees were not durable: {why:?}");
        }
        let found = sandbox.recover(job, &place, After::PowerCut);
        let found =
            found.with_context(|| format!("{moment}; now there are\n{}\n  and", listing(&place.root)))?;
        if number == last {
            ensure!(
                found.is_complete || job == Job::Layers,
                "it had ended with exit 0, and its marker was not durable"
            );
            ensure!(
                found.to_fetch == 0 || job == Job::Layers,
                "it had ended with exit 0, and {} bytes were not durable",
                found.to_fetch
            );
        }
        let outcome = match (found.is_complete, found.to_fetch) {
            (true, _) => "complete",
            (false, rest) if rest < sandbox.context.set.new.size() => "partial",
            (false, _) => "nothing yet",
        };
        summary.add(format!("{} {}", kind.name(), job.name()), outcome);
        drop(mounted);
        std::fs::remove_file(&image)?;
    }
    Ok(())
}

/// With a wrong order of writes a marker over a wrong file has to be found: else nothing here proves anything.
fn red(holder: &DiskImages, sandbox: &CrashSandbox<'_>, kind: FileSystem) -> Result<()> {
    let place = JobDir::at(holder.at().join("place"));
    let moments = Moments { names: &["renameat", "unlinkat"], ..Moments::default() };
    let clones =
        clones(holder, sandbox, (kind, Job::Fetch), (&moments, Some(".part")), &mut Rng::with_seed(0))?;
    let (mut files, mut markers, mut example) = (0, 0, None);
    let all = clones.len();
    for Clone { image, moment } in clones {
        let mounted = holder.mount_clone(&image)?;
        for violation in
            invariants::look(&sandbox.context.set, Job::Fetch, &place, After::PowerCut)?.violations
        {
            match violation {
                Violation::Marker(_) => {
                    markers += 1;
                    example.get_or_insert(format!("{moment}: {violation}"));
                }
                Violation::FinalName(_) | Violation::Journal(_) => files += 1,
            }
        }
        drop(mounted);
        std::fs::remove_file(&image)?;
    }
    let name = kind.name();
    let Some(example) = example else {
        bail!(
            "{name}: without fsync of the parts no marker was found over a wrong file ({files} wrong files in {all} \
             clones): this part proves nothing here"
        )
    };
    println!(
        "    {name}, red as it has to be without fsync of the parts: in {all} clones {files} wrong files, {markers} wrong entries of a marker; the first {example}"
    );
    Ok(())
}
