//! The sandboxes in which jobs run: what all of them share, and for each an origin of its own, whose requests are
//! counted, with a directory for one job at a time.

#![expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use clap::ValueEnum as _;
use provision_testbed::{BlockingOrigin, Counters, OriginConfig, Shape};
use tempfile::TempDir;
use xshell::{Shell, cmd};

use super::call::Call;
use super::invariants::{self, After, Findings};
use super::job::{Job, JobDir};
use super::models::{NEW, OLD, Version};
use super::tracer::{self, Options, Trace};
use crate::project;
use crate::tools::process::Run;
use crate::tools::program;

/// A run that takes longer hangs: the slowest job takes three seconds.
pub(super) const TIME_LIMIT: Duration = Duration::from_mins(1);
/// Bytes per second of each connection of the paced job, which then takes three seconds.
const PACE: u64 = 550_000;

/// The parts that all sandboxes share: the program, the tracer, and the directories that jobs start from. Its directory
/// is removed with it.
#[derive(Debug)]
pub(super) struct CrashContext {
    pub(super) program: Utf8PathBuf,
    tracer: Utf8PathBuf,
    /// A directory with all files, as in an image.
    baked: Utf8PathBuf,
    pub(super) folder: Utf8PathBuf,
    path_variable: String,
    _scratch: TempDir,
}

impl CrashContext {
    /// Compiles the tracer, copies the program, and makes the directories that jobs start from.
    pub(super) fn new(sh: &Shell) -> Result<Self> {
        let scratch = tempfile::Builder::new().prefix("crash-").tempdir()?;
        // The tracer reads resolved paths from the kernel, and the temporary directory may be a symlink.
        let folder = Utf8PathBuf::try_from(scratch.path().canonicalize()?)?;
        let (source, tracer) = (project::root().join("lab/src/crash/tracer.c"), folder.join("tracer"));
        cmd!(sh, "cc -O2 -o {tracer} {source}").quiet().run()?;
        // A copy: a build meanwhile must not replace the program under test.
        let program = folder.join("provision");
        sh.copy_file(program::target(sh).join("debug/provision"), &program)?;
        let baked = folder.join("baked");
        for file in &NEW.files {
            sh.write_file(baked.join(file.path), &file.bytes)?;
        }
        let path_variable = sh.var("PATH")?;
        let context = Self { program, tracer, baked, folder, path_variable, _scratch: scratch };
        context.prepare_templates().context("preparing the directories that jobs start from")?;
        Ok(context)
    }

    /// The directory that `job` starts from; there is none for a job that starts from nothing.
    fn template(&self, job: Job) -> JobDir {
        JobDir { job, root: self.folder.join("templates").join(job.to_string()) }
    }

    /// Makes an old version, a full cache, and an interrupted fetch.
    fn prepare_templates(&self) -> Result<()> {
        let sandbox = CrashSandbox::new(self, "preparation")?;
        let origin = &sandbox.origin;
        OLD.serve(origin);
        sandbox.write_locks(&OLD)?;
        for job in [Job::Replace, Job::Update] {
            sandbox.command(&self.template(job))?.exits(0)?;
        }
        sandbox.write_locks(&NEW)?;

        let filled = self.template(Job::Link);
        sandbox.command(&filled)?.exits(0)?;
        fs::remove_dir_all(filled.destination())?;

        origin.shape(Shape::rate(2_000_000));
        let half = origin.counters().body_bytes_sent + NEW.size() / 2;
        let running = sandbox.command(&self.template(Job::Resume))?.start()?;
        origin
            .wait_for(TIME_LIMIT, |counters| counters.body_bytes_sent > half)
            .context("half of the bytes")?;
        running.signal("TERM")?;
        running.end()?.exited(143).context("interrupting a fetch").map(drop)
    }
}

/// An origin, locks of its files without piece lists and with them, and a directory.
#[derive(Debug)]
pub(super) struct CrashSandbox<'a> {
    context: &'a CrashContext,
    origin: BlockingOrigin,
    folder: Utf8PathBuf,
}

impl<'a> CrashSandbox<'a> {
    pub(super) fn new(context: &'a CrashContext, name: &str) -> Result<Self> {
        let folder = context.folder.join(name);
        fs::create_dir_all(&folder)?;
        let origin = BlockingOrigin::start(OriginConfig::default())?;
        NEW.serve(&origin);
        let sandbox = Self { context, origin, folder };
        sandbox.write_locks(&NEW)?;
        Ok(sandbox)
    }

    fn lock(&self, has_lists: bool) -> Utf8PathBuf {
        self.folder.join(if has_lists { "listed.lock" } else { "models.lock" })
    }

    /// Writes the locks of a version. Its lists are beside them, and no others: an installed file's are where the
    /// destination keeps them.
    fn write_locks(&self, version: &Version) -> Result<()> {
        for has_lists in [false, true] {
            fs::write(self.lock(has_lists), version.lock(&self.origin, has_lists))?;
        }
        let directory = self.folder.join("models.pieces");
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir(&directory)?;
        for (list, pin) in version.files.iter().filter_map(|file| file.list()) {
            fs::write(directory.join(pin), list)?;
        }
        Ok(())
    }

    /// `job` in the sandbox's directory, on the machine's own file system.
    pub(super) fn dir(&self, job: Job) -> JobDir {
        JobDir { job, root: self.folder.join("place") }
    }

    fn command(&self, dir: &JobDir) -> Result<Run> {
        Ok(self.run(&self.context.program, "run", false)?.args(&self.arguments(dir)))
    }

    /// The program's arguments. The last is the time to wait for a lock.
    pub(super) fn arguments(&self, dir: &JobDir) -> Vec<String> {
        dir.arguments(&self.context.baked, &self.lock(dir.job.has_lists()))
    }

    /// A run of the program in the folder `name`.
    pub(super) fn writer(&self, name: &str, locks_lie: bool) -> Result<Run> {
        self.run(&self.context.program, name, locks_lie)
    }

    /// A run in the folder `name`. With `locks_lie`, `flock` does nothing and succeeds.
    fn run(&self, program: &Utf8Path, name: &str, locks_lie: bool) -> Result<Run> {
        let CrashContext { tracer, path_variable, .. } = self.context;
        let first = if locks_lie { tracer } else { program };
        let run = Run::new(first, path_variable, self.folder.join(name))?.env("RUST_BACKTRACE", "1");
        Ok(if locks_lie { run.args(&["-l", program.as_str()]) } else { run })
    }

    /// Puts into `dir` what its job starts from.
    pub(super) fn reset(&self, dir: &JobDir) -> Result<()> {
        dir.reset(&self.context.template(dir.job).root)
    }

    /// Runs the job under the tracer.
    pub(super) fn trace(&self, dir: &JobDir, options: Options<'_>) -> Result<Trace> {
        self.origin.shape(if dir.job == Job::Paced { Shape::rate(PACE) } else { Shape::default() });
        let run = self.run(&self.context.tracer, "traced", options.locks_lie)?;
        let command = [vec![self.context.program.to_string()], self.arguments(dir)].concat();
        let trace = tracer::run(run, &command, options);
        self.origin.shape(Shape::default());
        trace
    }

    /// Checks what is left, then finishes the job with an undisturbed run. That run may request no byte that was held.
    pub(super) fn recover(&self, dir: &JobDir, after: After) -> Result<Findings> {
        if dir.job == Job::Layers && dir.layers().exists() {
            invariants::ensure_final_names(dir)?;
            // The program asks for this, since two sets would mix.
            fs::remove_dir_all(dir.layers())?;
        }
        let findings = invariants::inspect(dir, after)?;
        invariants::ensure_none(&findings.violations)?;
        let tolerated = invariants::tolerated(&findings, dir)?;
        // Requests of the disturbed run must not be counted.
        let quiet = |counters: &Counters| counters.connections_open == 0;
        let before = self.origin.wait_for(Duration::from_secs(30), quiet)?.requests;
        self.command(dir)?.exits(0).context("the undisturbed run")?;
        invariants::ensure_complete(dir, &tolerated).context("after the undisturbed run")?;
        // Requested bytes, since sent ones can be more: a connection that takes over the rest of a claim discards what
        // the other connection still has in the kernel's buffers.
        let requested = NEW.requested_bytes(&self.origin.requests_since(before));
        let to_fetch = findings.to_fetch;
        ensure!(
            requested <= to_fetch,
            "the undisturbed run requested {requested} bytes; {to_fetch} were missing"
        );
        Ok(findings)
    }
}

/// The calls of each job in an undisturbed run.
pub(super) fn record_all(context: &CrashContext) -> Result<Vec<(Job, Vec<Call>)>> {
    let sandbox = CrashSandbox::new(context, "recording")?;
    let record = |&job: &Job| -> Result<_> {
        let dir = sandbox.dir(job);
        sandbox.reset(&dir)?;
        let trace = sandbox.trace(&dir, Options::default())?;
        trace.ended.exited(0).with_context(|| format!("recording {job}"))?;
        invariants::ensure_complete(&dir, &[])?;
        println!("    {job}: {} calls", trace.calls.len());
        Ok((job, trace.calls))
    };
    Job::value_variants().iter().map(record).collect()
}
