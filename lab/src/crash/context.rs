//! What all parts work with: the binary, the tracer, the files, and what earlier runs left for the jobs that begin with
//! something.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use provision_testbed::Shape;
use tempfile::TempDir;
use xshell::{Shell, cmd};

use super::job::{Job, JobDir};
use super::models::ModelSet;
use super::process::Command;
use super::sandbox::CrashSandbox;
use super::tracer::End;
use crate::project;
use crate::tools::program;

/// See the module's documentation. Its directory goes with it.
#[derive(Debug)]
pub(super) struct CrashContext {
    pub(super) program: Utf8PathBuf,
    pub(super) tracer: Utf8PathBuf,
    /// A library that makes locks lie.
    pub(super) no_flock: Utf8PathBuf,
    pub(super) set: ModelSet,
    /// A directory with all files, as an image has it.
    pub(super) baked: Utf8PathBuf,
    /// The first thing wrong does not end it.
    pub(super) keep_going: bool,
    folder: Utf8PathBuf,
    _scratch: TempDir,
}

impl CrashContext {
    pub(super) fn new(sh: &Shell, keep_going: bool) -> Result<Self> {
        let scratch = tempfile::Builder::new().prefix("crash-").tempdir()?;
        let folder = Utf8PathBuf::from_path_buf(scratch.path().to_owned())
            .ok()
            .context("the temporary directory's path is not UTF-8")?;
        // In an image of a test the temporary directory may be a symlink, and the kernel's paths are resolved ones.
        let folder = folder.canonicalize_utf8()?;
        let sources = project::root().join("lab/src/crash");
        let (tracer, no_flock) = (folder.join("tracer"), folder.join("no_flock.so"));
        cmd!(sh, "cc -O2 -o {tracer} {sources}/tracer.c").quiet().run()?;
        cmd!(sh, "cc -O2 -shared -fPIC -o {no_flock} {sources}/no_flock.c").quiet().run()?;
        // A copy: a build meanwhile must not replace the program on trial.
        let built = program::target(sh).join("debug/provision");
        let program = folder.join("provision");
        fs::copy(&built, &program).with_context(|| format!("copying {built}"))?;
        let context = Self {
            program,
            tracer,
            no_flock,
            set: ModelSet::new(),
            baked: folder.join("baked"),
            keep_going,
            folder,
            _scratch: scratch,
        };
        context.prepare().context("preparing what the jobs begin with")?;
        Ok(context)
    }

    /// A directory of this name, made.
    pub(super) fn directory(&self, name: &str) -> Result<Utf8PathBuf> {
        let path = self.folder.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// What `job` begins with; `None` where that is nothing.
    pub(super) fn template(&self, job: Job) -> Option<Utf8PathBuf> {
        let name = match job {
            Job::Resume => "half",
            Job::Replace => "old",
            Job::Link => "filled",
            _ => return None,
        };
        Some(self.folder.join("templates").join(name))
    }

    fn prepare(&self) -> Result<()> {
        for file in &self.set.new.files {
            write_below(&self.baked, file.path, &file.bytes)?;
        }
        let sandbox = CrashSandbox::new(self, "preparing")?;
        let place = |job| self.template(job).map(JobDir::at).context("a job without a template");

        let old = place(Job::Replace)?;
        sandbox.command(Job::Fetch, &old, &sandbox.old_lock).ends(self, 0)?;

        let filled = place(Job::Link)?;
        sandbox.command(Job::Cache, &filled, &sandbox.lock).ends(self, 0)?;
        fs::remove_dir_all(filled.destination())?;

        self.interrupt_midway(&sandbox, &place(Job::Resume)?)
    }

    /// Leaves half of the bytes with their journals: a run that is told to stop.
    fn interrupt_midway(&self, sandbox: &CrashSandbox<'_>, half: &JobDir) -> Result<()> {
        sandbox.origin.shape(Shape::rate(2_000_000));
        let before = sandbox.origin.counters().body_bytes_sent;
        let running = sandbox.command(Job::Fetch, half, &sandbox.lock).start(&[])?;
        let enough = before + self.set.new.size() / 2;
        sandbox
            .origin
            .wait_for(super::process::LONGEST, |counters| counters.body_bytes_sent > enough)
            .context("half of the bytes")?;
        running.signal(rustix::process::Signal::TERM)?;
        let ended = running.wait()?;
        sandbox.origin.shape(Shape::default());
        ensure!(ended.end == End::Code(143), "told to stop, it ended with {}: {}", ended.end, ended.said);
        Ok(())
    }
}

fn write_below(directory: &Utf8Path, path: &str, bytes: &[u8]) -> Result<()> {
    let path = directory.join(path);
    fs::create_dir_all(path.parent().unwrap_or(directory))?;
    Ok(fs::write(path, bytes)?)
}

impl Command {
    /// Runs it to its end, which has to be this exit code.
    pub(super) fn ends(&self, _workshop: &CrashContext, code: i32) -> Result<()> {
        let ended = self.start(&[])?.wait()?;
        ensure!(ended.end == End::Code(code), "{self} ended with {}: {}", ended.end, ended.said);
        Ok(())
    }
}
