//! The context that all parts share: the program, the tracer, the model files, and the templates that jobs start from.

use std::fs;

use anyhow::{Context as _, Result};
use camino::Utf8PathBuf;
use tempfile::TempDir;
use xshell::{Shell, cmd};

use super::job::Job;
use super::models::ModelSet;
use crate::project;
use crate::tools::program;

/// See the module's documentation. Its directory is removed with it.
#[derive(Debug)]
pub(super) struct CrashContext {
    pub(super) program: Utf8PathBuf,
    pub(super) tracer: Utf8PathBuf,
    /// A library under which `flock` does nothing.
    pub(super) no_flock: Utf8PathBuf,
    pub(super) models: ModelSet,
    /// A directory with all files, as in an image.
    pub(super) baked: Utf8PathBuf,
    /// Failures are collected and do not end the command.
    pub(super) keep_going: bool,
    folder: Utf8PathBuf,
    _scratch: TempDir,
}

impl CrashContext {
    pub(super) fn new(sh: &Shell, keep_going: bool) -> Result<Self> {
        let scratch = tempfile::Builder::new().prefix("crash-").tempdir()?;
        // The tracer reads resolved paths from the kernel, and the temporary directory may be a symlink.
        let folder = Utf8PathBuf::try_from(scratch.path().canonicalize()?)?;
        let sources = project::root().join("lab/src/crash");
        let (tracer, no_flock) = (folder.join("tracer"), folder.join("no_flock.so"));
        cmd!(sh, "cc -O2 -o {tracer} {sources}/tracer.c").quiet().run()?;
        cmd!(sh, "cc -O2 -shared -fPIC -o {no_flock} {sources}/no_flock.c").quiet().run()?;
        // A copy: a build meanwhile must not replace the program under test.
        let (built, program) = (program::target(sh).join("debug/provision"), folder.join("provision"));
        fs::copy(&built, &program).with_context(|| format!("copying {built}"))?;
        let (models, baked) = (ModelSet::new(), folder.join("baked"));
        for file in &models.new.files {
            let path = baked.join(file.path);
            fs::create_dir_all(path.parent().unwrap_or(&baked))?;
            fs::write(path, &*file.bytes)?;
        }
        Ok(Self { program, tracer, no_flock, models, baked, keep_going, folder, _scratch: scratch })
    }

    /// Creates a directory of this name.
    pub(super) fn directory(&self, name: &str) -> Result<Utf8PathBuf> {
        let path = self.folder.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// The directory that `job` starts from; there is none for a job that starts from nothing.
    pub(super) fn template(&self, job: Job) -> Utf8PathBuf {
        self.folder.join("templates").join(job.to_string())
    }
}
