//! One worker's sandbox: an origin of its own, so that its bytes can be counted, and a directory for one job at a time.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use provision_testbed::{BlockingOrigin, OriginConfig, Shape};

use super::context::CrashContext;
use super::invariants::{self, After, Look};
use super::job::{Job, JobDir};
use super::process::Command;
use super::tracer::{self, End, Options, Trace};

/// So that the paced job takes three seconds: a quarter of it for each of its connections.
const PACE: u64 = 550_000;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct CrashSandbox<'a> {
    pub(super) context: &'a CrashContext,
    pub(super) origin: BlockingOrigin,
    /// Of the new version.
    pub(super) lock: Utf8PathBuf,
    pub(super) old_lock: Utf8PathBuf,
    folder: Utf8PathBuf,
}

impl<'a> CrashSandbox<'a> {
    pub(super) fn new(context: &'a CrashContext, name: &str) -> Result<Self> {
        let folder = context.directory(name)?;
        let origin = BlockingOrigin::start(OriginConfig::default())?;
        context.set.new.serve(&origin);
        context.set.old.serve(&origin);
        let (lock, old_lock) = (folder.join("models.lock"), folder.join("old.lock"));
        fs::write(&lock, context.set.new.lock(&origin))?;
        fs::write(&old_lock, context.set.old.lock(&origin))?;
        fs::create_dir_all(folder.join("home"))?;
        Ok(Self { context, origin, lock, old_lock, folder })
    }

    /// This worker's own place, on the machine's file system.
    pub(super) fn place(&self) -> JobDir {
        JobDir::at(self.folder.join("place"))
    }

    pub(super) fn command(&self, job: Job, place: &JobDir, lock: &Utf8Path) -> Command {
        self.command_as(job, place, lock, "0")
    }

    /// As [`CrashSandbox::command`], for several at once.
    pub(super) fn command_as(&self, job: Job, place: &JobDir, lock: &Utf8Path, name: &str) -> Command {
        Command {
            program: self.context.program.clone(),
            arguments: job.arguments(self.context, place, lock),
            home: self.folder.join("home"),
            output: self.folder.join(format!("output-{name}")),
        }
    }

    /// Does the prepared job under the tracer.
    pub(super) fn trace(&self, job: Job, place: &JobDir, options: Options<'_>) -> Result<Trace> {
        self.origin.shape(if job == Job::Paced { Shape::rate(PACE) } else { Shape::default() });
        let trace = tracer::run(&self.context.tracer, &self.command(job, place, &self.lock), options);
        self.origin.shape(Shape::default());
        trace
    }

    /// What a strike has left, which has to be sound; then a run without trouble, which has to finish the job.
    pub(super) fn recover(&self, job: Job, place: &JobDir, after: After) -> Result<Look> {
        let set = &self.context.set;
        if job == Job::Layers && place.layers().exists() {
            invariants::final_names(set, job, place)
                .map(|violations| Look { violations, ..Look::default() })?
                .sound()?;
            // What the program asks for, since two sets would mix.
            fs::remove_dir_all(place.layers())?;
        }
        let look = invariants::look(set, job, place, after)?.sound()?;
        let harmless = invariants::harmless(set, &look, place)?;
        // Nothing of the last run may be counted.
        let quiet = |counters: &provision_testbed::Counters| counters.connections_open == 0;
        let before = self.origin.wait_for(Duration::from_secs(30), quiet)?.requests;
        let ended = self.command(job, place, &self.lock).start(&[])?.wait()?;
        ensure!(ended.end == End::Code(0), "the run afterwards ended with {}: {}", ended.end, ended.said);
        invariants::complete(set, job, place, &harmless).context("after the run without trouble")?;
        // What was asked for, not what was sent: at the end of a set connections take over what others have left of a
        // claim, and what was then on its way to those, in the kernel's buffers, is thrown away.
        let requests = self.origin.requests_since(before);
        let asked = set.new.asked_for(&requests);
        ensure!(
            asked <= look.to_fetch,
            "the run afterwards asked for {asked} bytes, and {} were missing",
            look.to_fetch
        );
        Ok(look)
    }
}
