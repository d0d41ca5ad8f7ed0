//! Power cuts: the state of a disk at chosen moments of a job, mounted and checked.
//!
//! The job runs on a file system in an image. Before a chosen call the call waits and the image is cloned. Other clones
//! are made at random moments, and one after exit code 0, which has to hold everything. Nothing is synced. Each clone
//! is then mounted, so that the file system recovers its journal, and checked; an undisturbed run finishes the job on
//! it.
//!
//! First the part checks itself: with `fsync` of the parts disabled, a marker over a wrong file has to be found.

#![expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use fastrand::Rng;
use xshell::Shell;

use super::Outcome;
use super::call::{Call, spread};
use super::disk_image::{DiskImages, EXT4, FILE_SYSTEMS, FileSystem, clone_image};
use super::invariants::{self, After, I2, listing};
use super::job::{Job, JobDir};
use super::sandbox::{CrashContext, CrashSandbox};
use super::tracer::Options;

/// The last random moment is so many milliseconds after the start, at most.
const RANDOM_SPAN: u64 = 2400;

/// An image of the disk, and the moment of which it is.
type Clone = (Utf8PathBuf, String);

pub(super) struct PowerCut<'a> {
    images: DiskImages,
    sandbox: CrashSandbox<'a>,
    rng: Rng,
}

impl<'a> PowerCut<'a> {
    pub(super) fn new(sh: &Shell, context: &'a CrashContext, rng: Rng) -> Result<Self> {
        let images = DiskImages::new(sh, &context.folder)?;
        Ok(Self { images, sandbox: CrashSandbox::new(context, "power")?, rng })
    }

    fn dir(&self, job: Job) -> JobDir {
        JobDir { job, root: self.images.at.join("place") }
    }

    /// Cuts the power at about `count` moments on ext4, and at a third as many on each other file system; with `None`,
    /// before every call. Returns how far the job was at each.
    pub(super) fn run(
        &mut self,
        recorded: &[(Job, Vec<Call>)],
        count: Option<usize>,
        is_sample: bool,
    ) -> Result<Vec<Outcome>> {
        let is_in = |job| !is_sample || [Job::Fetch, Job::Paced, Job::Update, Job::Cache].contains(job);
        let recorded: Vec<_> = recorded.iter().filter(|(job, _)| is_in(job)).collect();
        let mut outcomes = Vec::new();
        for kind in self.check_itself(if is_sample { &[EXT4] } else { &FILE_SYSTEMS })? {
            let shares = recorded.len() * if kind.name == EXT4.name { 1 } else { 3 };
            for (job, calls) in &recorded {
                let share = count.map_or(calls.len(), |count| count.div_ceil(shares));
                let row = format!("{} {job}", kind.name);
                let cut = self.cut(kind, &self.dir(*job), calls, share).with_context(|| row.clone())?;
                outcomes.extend(cut.into_iter().map(|outcome| (row.clone(), outcome)));
            }
        }
        Ok(outcomes)
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

    /// Clones the disk at `share` moments of a job and checks the clones.
    fn cut(
        &mut self,
        kind: FileSystem,
        dir: &JobDir,
        calls: &[Call],
        share: usize,
    ) -> Result<Vec<&'static str>> {
        // One of the share is the moment after the end; a third of the paced job's are at random.
        let random = if dir.job == Job::Paced { share / 3 } else { 0 };
        let numbers: BTreeSet<u64> =
            spread(calls, share.saturating_sub(random + 1), &mut self.rng).into_iter().collect();
        let waits = (0..random).map(|_| Duration::from_millis(self.rng.u64(0..RANDOM_SPAN / random as u64)));
        let waits: Vec<_> = waits.collect();
        // The slow job's are also behind each sync of a journal: its records must be true at once.
        let was_journal = Cell::new(false);
        let is_chosen = |call: &Call| {
            let is_behind = was_journal.replace(call.syncs_journal()) && dir.job == Job::Paced;
            is_behind || numbers.contains(&call.number)
        };
        let clones = self.clones(kind, dir, &is_chosen, &waits, None)?;
        let last = clones.len() - 1;
        let check = |(number, (image, moment)): (usize, Clone)| {
            self.check(&image, dir, number == last).with_context(|| moment)
        };
        clones.into_iter().enumerate().map(check).collect()
    }

    /// Checks a clone and finishes the job on it. Returns how far the job was.
    fn check(&self, image: &Utf8Path, dir: &JobDir, is_last: bool) -> Result<&'static str> {
        let _mounted = self.images.mount(image).context("mounting the clone")?;
        fs::remove_file(image)?;
        if is_last {
            invariants::ensure_durable(dir).context("it had ended with exit code 0")?;
        }
        let recovered = self.sandbox.recover(dir, After::PowerCut);
        let found = recovered.with_context(|| format!("now there are\n{}\n  and", listing(&dir.root)))?;
        Ok(match (found.is_complete, found.to_fetch) {
            (true, _) => "complete",
            (false, rest) if rest < super::models::NEW.size() => "partial",
            (false, _) => "nothing yet",
        })
    }

    /// Runs the job on a new disk. Returns the clones before the chosen calls, those after each of `waits`, and the one
    /// after the end, which is the last.
    fn clones(
        &self,
        kind: FileSystem,
        dir: &JobDir,
        is_chosen: &dyn Fn(&Call) -> bool,
        waits: &[Duration],
        no_sync: Option<&str>,
    ) -> Result<Vec<Clone>> {
        let disk = self.images.disk(kind)?;
        self.sandbox.reset(dir)?;
        disk.sync()?;
        let image = &self.images.image();
        let mut clones = Vec::new();
        let mut before_each = |call: &Call| {
            if is_chosen(call) {
                let clone = clone_image(image, &format!("call-{}.img", call.number))?;
                clones.push((clone, format!("before {call}")));
            }
            Ok(())
        };
        let (running, ended) = channel::<()>();
        let (trace, at_random) = std::thread::scope(|scope| {
            let timer = scope.spawn(move || {
                // The end of the run cuts the wait short.
                let has_passed =
                    |wait: &&Duration| ended.recv_timeout(**wait) == Err(RecvTimeoutError::Timeout);
                let clone = |(number, _)| {
                    let clone = clone_image(image, &format!("random-{number}.img"))?;
                    Ok((clone, format!("random moment {number}")))
                };
                waits.iter().take_while(has_passed).enumerate().map(clone).collect::<Result<Vec<Clone>>>()
            });
            let options = Options { no_sync, before_each: Some(&mut before_each), ..Options::default() };
            let trace = self.sandbox.trace(dir, options);
            drop(running);
            (trace, timer.join())
        });
        trace?.ended.exited(0)?;
        clones.extend(at_random.ok().context("the thread that clones")??);
        clones.push((clone_image(image, "end.img")?, "after exit code 0".to_owned()));
        Ok(clones)
    }

    /// Finds a marker over a wrong file where `fsync` of the parts does nothing.
    fn find_wrong_order(&self, kind: FileSystem) -> Result<()> {
        let dir = self.dir(Job::Fetch);
        let is_chosen = |call: &Call| ["renameat", "unlinkat"].contains(&call.name.as_str());
        let clones = self.clones(kind, &dir, &is_chosen, &[], Some(".part"))?;
        let (name, count) = (kind.name, clones.len());
        let mut violations = Vec::new();
        for (image, moment) in clones {
            let _mounted = self.images.mount(&image)?;
            fs::remove_file(&image)?;
            let found = invariants::inspect(&dir, After::PowerCut)?.violations;
            violations.extend(found.into_iter().map(|violation| (moment.clone(), violation)));
        }
        let (markers, files): (Vec<_>, Vec<_>) =
            violations.into_iter().partition(|(_, violation)| violation.starts_with(I2));
        let (files, entries) = (files.len(), markers.len());
        let found = format!("{count} clones, {files} wrong files, {entries} wrong entries of a marker");
        let Some((moment, violation)) = markers.first() else {
            anyhow::bail!("{name}, without fsync of the parts: {found}: this part finds nothing here")
        };
        println!("    {name}, red as it has to be without fsync of the parts: {found}");
        println!("    the first, {moment}: {violation}");
        Ok(())
    }
}
