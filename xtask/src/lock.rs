//! `cargo xtask lock`: the verbs that change models.lock, and one that shows it.
//!
//! What a lock is and how its text is changed is `provision-lock`'s; here are the options, and what each failure ends with.

mod list;
mod remove;

use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use provision::cli::exit::{Code, Failure};
use provision_lock::edit::EditError;
use provision_lock::file::FileError;

use crate::project;

/// Shows and edits models.lock
#[derive(Debug, Clone, Args)]
pub(crate) struct LockArgs {
    /// What to do.
    #[command(subcommand)]
    command: LockCommand,
}

/// What to do with a lock.
#[derive(Debug, Clone, Subcommand)]
enum LockCommand {
    /// Path, size, groups and source of each model, and whether its address is pinned or moving
    List(list::ListArgs),
    /// Take models out of the lock; what is installed stays where it is
    Remove(remove::RemoveArgs),
}

/// Which lock.
#[derive(Debug, Clone, Args)]
struct LockFile {
    /// The lockfile [default: models.lock at the workspace root]
    #[arg(long, value_name = "PATH", env = "PROVISION_LOCK")]
    lock: Option<Utf8PathBuf>,
}

impl LockFile {
    fn path(&self) -> Utf8PathBuf {
        self.lock.clone().unwrap_or_else(|| project::lock().into())
    }

    /// The path of a lock that can be written.
    fn writable(&self) -> Result<Utf8PathBuf, Failure> {
        let path = self.path();
        if path == "-" {
            return Err(Failure::new(Code::Usage, "standard input cannot be changed: give --lock a file"));
        }
        Ok(path)
    }
}

pub(crate) fn run(args: &LockArgs) -> Result<(), Failure> {
    match &args.command {
        LockCommand::List(args) => list::run(args),
        LockCommand::Remove(args) => remove::run(args),
    }
}

/// A failure of an edit, with what the program ends with for it. The failure itself is made elsewhere, and so are the
/// errors; what they have in common is here.
#[derive(Debug)]
struct EditFailure(Failure);

impl From<FileError> for EditFailure {
    fn from(error: FileError) -> Self {
        let code = match &error {
            FileError::Lock(_) => Code::Lock,
            FileError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Code::Usage,
            FileError::Io { .. } | FileError::Dangling { .. } => Code::Disk,
            FileError::Restless { .. } => Code::Busy,
        };
        Self(Failure::new(code, error))
    }
}

impl From<EditError> for EditFailure {
    fn from(error: EditError) -> Self {
        let code = match &error {
            EditError::Invalid(_) | EditError::Inline { .. } => Code::Lock,
            EditError::Missing { .. } | EditError::Twice { .. } => Code::Usage,
        };
        Self(Failure::new(code, error))
    }
}

impl From<Failure> for EditFailure {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

#[cfg(test)]
mod tests;
