//! Power cuts: the state of a disk at chosen moments of a job, mounted and checked.
//!
//! The job runs on a file system in an image. Before a chosen call the call waits and the image is cloned. Other clones
//! are made at random moments, and one after exit code 0, which has to hold everything. Nothing is synced. Each clone
//! is then mounted, so that the file system recovers its journal, and checked; an undisturbed run finishes the job on
//! it.
//!
//! First the part checks itself: with `fsync` of the parts disabled, a marker over a wrong file has to be found.

#![expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]

use std::collections::BTreeSet;
use std::fs;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8PathBuf;
use fastrand::Rng;
use xshell::Shell;

use super::call::{Call, spread};
use super::disk_image::{DiskImages, EXT4, FILE_SYSTEMS, FileSystem, clone_image};
use super::extent::Extent;
use super::invariants::{self, After, I2, listing};
use super::job::{Job, JobDir};
use super::sandbox::{CrashContext, CrashSandbox};
use super::summary::Summary;
use super::tracer::Options;

/// The last random moment is so many milliseconds after the start, at most.
const RANDOM_SPAN: u64 = 2400;

/// A clone of the disk, and its moment.
struct Clone {
    image: Utf8PathBuf,
    moment: String,
}

/// The moments of the clones.
struct Moments<'a> {
    before: &'a dyn Fn(&Call) -> bool,
    /// Milliseconds from one random moment to the next.
    random: Vec<u64>,
}

pub(super) struct PowerCut<'a> {
    images: DiskImages,
    sandbox: CrashSandbox<'a>,
    dir: JobDir,
    rng: Rng,
    summary: Summary,
}

impl<'a> PowerCut<'a> {
    pub(super) fn new(sh: &Shell, context: &'a CrashContext, rng: Rng) -> Result<Self> {
        let images = DiskImages::new(sh, &context.folder)?;
        let (sandbox, dir) = (CrashSandbox::new(context, "power")?, JobDir::at(images.at.join("place")));
        Ok(Self { images, sandbox, dir, rng, summary: Summary::default() })
    }

    /// Cuts the power until there are enough clones. Returns how many there are.
    pub(super) fn run(&mut self, recorded: &[(Job, Vec<Call>)], extent: Extent) -> Result<usize> {
        let is_in =
            |job| !extent.is_sample || [Job::Fetch, Job::Paced, Job::Update, Job::Cache].contains(job);
        let recorded: Vec<_> = recorded.iter().filter(|(job, _)| is_in(job)).collect();
        let kinds = self.check_itself(if extent.is_sample { &[EXT4] } else { &FILE_SYSTEMS })?;
        for kind in kinds {
            for (job, calls) in &recorded {
                // File systems other than ext4 get a third.
                let count = if kind.name == EXT4.name { extent.count } else { extent.count.div_ceil(3) };
                let share = if extent.is_exhaustive { calls.len() } else { count.div_ceil(recorded.len()) };
                self.cut(kind, *job, calls, share)?;
            }
        }
        println!("{}", self.summary.table("job"));
        let total = self.summary.total();
        println!("{total} clones of the disk; I1 to I3 held, and a run on each finished the job");
        Ok(total)
    }

    /// Checks that a wrong order of writes is found, and returns the file systems that this machine has.
    pub(super) fn check_itself(&self, kinds: &[FileSystem]) -> Result<Vec<FileSystem>> {
        let mut present = Vec::new();
        for &kind in kinds {
            if let Some(why) = self.images.lacks(kind) {
                ensure!(kind.name != EXT4.name, "{why}");
                println!("    {} is left out: {why}", kind.name);
                continue;
            }
            self.find_wrong_order(kind)?;
            present.push(kind);
        }
        Ok(present)
    }

    /// Clones the disk at moments of a job and checks the clones.
    fn cut(&mut self, kind: FileSystem, job: Job, calls: &[Call], share: usize) -> Result<()> {
        let row = format!("{} {job}", kind.name);
        // One of the share is the moment after the end; a third of the paced job's are at random.
        let random = if job == Job::Paced { share / 3 } else { 0 };
        let numbers: BTreeSet<u64> =
            spread(calls, share.saturating_sub(random + 1), &mut self.rng).into_iter().collect();
        let random = (0..random).map(|_| self.rng.u64(0..RANDOM_SPAN / random as u64)).collect();
        let moments = Moments { before: &|call| numbers.contains(&call.number), random };
        let clones = self.clones(kind, job, &moments, None).with_context(|| row.clone())?;
        let last = clones.len() - 1;
        for (number, Clone { image, moment }) in clones.into_iter().enumerate() {
            let outcome =
                self.check(&image, job, number == last).with_context(|| format!("{row}, {moment}"))?;
            self.summary.add(row.clone(), outcome);
        }
        Ok(())
    }

    /// Checks a clone and finishes the job on it. Returns how far the job was.
    fn check(&self, image: &Utf8PathBuf, job: Job, is_last: bool) -> Result<&'static str> {
        let _mounted = self.images.mount(image).context("mounting the clone")?;
        fs::remove_file(image)?;
        let models = &self.sandbox.context.models;
        if is_last {
            invariants::ensure_durable(models, job, &self.dir).context("it had ended with exit code 0")?;
        }
        let recovered = self.sandbox.recover(job, &self.dir, After::PowerCut);
        let found =
            recovered.with_context(|| format!("now there are\n{}\n  and", listing(&self.dir.root)))?;
        Ok(match (found.is_complete, found.to_fetch) {
            (true, _) => "complete",
            (false, rest) if rest < models.new.size() => "partial",
            (false, _) => "nothing yet",
        })
    }

    /// Runs the job on a new disk and returns its clones, the one after the end last.
    fn clones(
        &self,
        kind: FileSystem,
        job: Job,
        moments: &Moments<'_>,
        no_sync: Option<&str>,
    ) -> Result<Vec<Clone>> {
        let disk = self.images.disk(kind)?;
        self.sandbox.reset(job, &self.dir)?;
        disk.sync()?;
        let image = self.images.image();
        let clone = |name: String, moment: String| {
            Ok::<_, anyhow::Error>(Clone { image: clone_image(&image, &name)?, moment })
        };
        let mut clones = Vec::new();
        let mut before_each = |call: &Call| {
            if (moments.before)(call) {
                clones.push(clone(format!("call-{}.img", call.number), format!("before {call}"))?);
            }
            Ok(())
        };
        let (clone, random) = (&clone, &moments.random);
        let (running, ended) = channel::<()>();
        let (trace, random) = std::thread::scope(|scope| {
            let timer = scope.spawn(move || {
                let waits = random.iter().map(|millis| Duration::from_millis(*millis));
                // The end of the run cuts the wait short.
                let reached =
                    waits.take_while(|wait| ended.recv_timeout(*wait) == Err(RecvTimeoutError::Timeout));
                let at =
                    |(number, _)| clone(format!("random-{number}.img"), format!("random moment {number}"));
                reached.enumerate().map(at).collect::<Result<Vec<_>>>()
            });
            let options = Options { no_sync, before_each: Some(&mut before_each), ..Options::default() };
            let trace = self.sandbox.trace(job, &self.dir, false, options);
            drop(running);
            (trace, timer.join())
        });
        trace?.ended.exited(0)?;
        clones.extend(random.ok().context("the thread that clones")??);
        clones.push(clone("end.img".to_owned(), "after exit code 0".to_owned())?);
        Ok(clones)
    }

    /// Finds a marker over a wrong file where `fsync` of the parts does nothing.
    fn find_wrong_order(&self, kind: FileSystem) -> Result<()> {
        let before = |call: &Call| ["renameat", "unlinkat"].contains(&call.name.as_str());
        let moments = Moments { before: &before, random: Vec::new() };
        let clones = self.clones(kind, Job::Fetch, &moments, Some(".part"))?;
        let (name, count) = (kind.name, clones.len());
        let (mut files, mut markers) = (0, Vec::new());
        for Clone { image, moment } in clones {
            let _mounted = self.images.mount(&image)?;
            fs::remove_file(&image)?;
            let models = &self.sandbox.context.models;
            for violation in invariants::inspect(models, Job::Fetch, &self.dir, After::PowerCut)?.violations {
                if violation.starts_with(I2) {
                    markers.push(format!("{moment}: {violation}"));
                } else {
                    files += 1;
                }
            }
        }
        let found =
            format!("{count} clones, {files} wrong files, {} wrong entries of a marker", markers.len());
        ensure!(
            !markers.is_empty(),
            "{name}, without fsync of the parts: {found}: this part finds nothing here"
        );
        println!(
            "    {name}, red as it has to be without fsync of the parts: {found}; the first {}",
            markers[0]
        );
        Ok(())
    }
}
