//! A worker's sandbox: an origin of its own, whose requests are counted, and a directory for one job at a time.

#![expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use clap::ValueEnum as _;
use provision_testbed::{BlockingOrigin, Counters, OriginConfig, Shape};
use rustix::process::Signal;

use super::call::Call;
use super::context::CrashContext;
use super::invariants::{self, After, Findings};
use super::job::{Job, JobDir};
use super::process::{Command, TIME_LIMIT};
use super::tracer::{self, Options, Trace};

/// Bytes per second of each connection of the paced job, which then takes three seconds.
const PACE: u64 = 550_000;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct CrashSandbox<'a> {
    pub(super) context: &'a CrashContext,
    origin: BlockingOrigin,
    lock: Utf8PathBuf,
    folder: Utf8PathBuf,
}

impl<'a> CrashSandbox<'a> {
    pub(super) fn new(context: &'a CrashContext, name: &str) -> Result<Self> {
        let folder = context.directory(name)?;
        fs::create_dir_all(folder.join("home"))?;
        let (origin, lock) = (BlockingOrigin::start(OriginConfig::default())?, folder.join("models.lock"));
        context.models.new.serve(&origin);
        fs::write(&lock, context.models.new.lock(&origin))?;
        Ok(Self { context, origin, lock, folder })
    }

    /// The sandbox's directory, on the machine's own file system.
    pub(super) fn dir(&self) -> JobDir {
        JobDir::at(self.folder.join("place"))
    }

    pub(super) fn command(&self, job: Job, dir: &JobDir) -> Command {
        self.command_with(job, dir, &self.lock)
    }

    fn command_with(&self, job: Job, dir: &JobDir, lock: &Utf8Path) -> Command {
        Command {
            program: self.context.program.clone(),
            preload: None,
            arguments: job.arguments(&self.context.baked, dir, lock),
            home: self.folder.join("home"),
            output: self.folder.join("output"),
        }
    }

    /// Puts into `dir` what `job` starts from.
    pub(super) fn reset(&self, job: Job, dir: &JobDir) -> Result<()> {
        dir.reset(&self.context.template(job))
    }

    /// Runs `job` under the tracer.
    pub(super) fn trace(&self, job: Job, dir: &JobDir, options: Options<'_>) -> Result<Trace> {
        self.origin.shape(if job == Job::Paced { Shape::rate(PACE) } else { Shape::default() });
        let trace = tracer::run(&self.context.tracer, &self.command(job, dir), options);
        self.origin.shape(Shape::default());
        trace
    }

    /// Checks what is left, then finishes the job with an undisturbed run. That run may request no byte that was held.
    pub(super) fn recover(&self, job: Job, dir: &JobDir, after: After) -> Result<Findings> {
        let models = &self.context.models;
        if job == Job::Layers && dir.layers().exists() {
            invariants::ensure_final_names(models, job, dir)?;
            // The program asks for this, since two sets would mix.
            fs::remove_dir_all(dir.layers())?;
        }
        let findings = invariants::inspect(models, job, dir, after)?;
        invariants::ensure_none(&findings.violations)?;
        let tolerated = invariants::tolerated(models, &findings, dir)?;
        // Requests of the disturbed run must not be counted.
        let quiet = |counters: &Counters| counters.connections_open == 0;
        let before = self.origin.wait_for(Duration::from_secs(30), quiet)?.requests;
        self.command(job, dir).run().context("the undisturbed run")?;
        invariants::ensure_complete(models, job, dir, &tolerated).context("after the undisturbed run")?;
        // Requested bytes, since sent ones can be more: a connection that takes over the rest of a claim discards what
        // the other connection still has in the kernel's buffers.
        let requested = models.new.requested_bytes(&self.origin.requests_since(before));
        let to_fetch = findings.to_fetch;
        ensure!(
            requested <= to_fetch,
            "the undisturbed run requested {requested} bytes; {to_fetch} were missing"
        );
        Ok(findings)
    }
}

/// Makes the directories that jobs start from: an old version, a full cache, and an interrupted fetch.
pub(super) fn prepare_templates(context: &CrashContext) -> Result<()> {
    let sandbox = CrashSandbox::new(context, "templates")?;
    let template = |job| JobDir::at(context.template(job));
    let (origin, old_lock) = (&sandbox.origin, sandbox.folder.join("old.lock"));
    context.models.old.serve(origin);
    fs::write(&old_lock, context.models.old.lock(origin))?;
    sandbox.command_with(Job::Fetch, &template(Job::Replace), &old_lock).run()?;

    let filled = template(Job::Link);
    sandbox.command(Job::Cache, &filled).run()?;
    fs::remove_dir_all(filled.destination())?;

    origin.shape(Shape::rate(2_000_000));
    let half = origin.counters().body_bytes_sent + context.models.new.size() / 2;
    let running = sandbox.command(Job::Fetch, &template(Job::Resume)).start()?;
    origin.wait_for(TIME_LIMIT, |counters| counters.body_bytes_sent > half).context("half of the bytes")?;
    running.signal(Signal::TERM)?;
    running.wait()?.ensure_code(143).context("interrupting a fetch")
}

/// The calls of each job in an undisturbed run.
pub(super) fn record_all(context: &CrashContext) -> Result<Vec<(Job, Vec<Call>)>> {
    let sandbox = CrashSandbox::new(context, "recording")?;
    let dir = sandbox.dir();
    let record = |&job: &Job| -> Result<_> {
        sandbox.reset(job, &dir)?;
        let trace = sandbox.trace(job, &dir, Options::default())?;
        trace.ended.ensure_code(0).with_context(|| format!("recording {job}"))?;
        invariants::ensure_complete(&context.models, job, &dir, &[])?;
        println!("    {job}: {} calls", trace.calls.len());
        Ok((job, trace.calls))
    };
    Job::value_variants().iter().map(record).collect()
}
