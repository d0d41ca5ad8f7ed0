//! `cargo xtask lock`: the verbs that change models.lock, and one that shows it.
//!
//! What a lock is, how its text is changed and what hosts say is `provision-lock`'s; here are the options, what is shown, and what
//! each failure ends with. What was asked for goes to standard output, one line a model; waits, progress and failures go to
//! standard error.

mod add;
mod asking;
mod check;
mod import;
mod list;
mod remove;
mod update;
mod write;

use crate::cli::arguments::Locks;
use crate::cli::environment::Network;
use crate::cli::exit::{Code, Failure};
use crate::cli::locks;
use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use provision_core::lockfile::Lockfile;
use provision_lock::edit::EditError;
use provision_lock::file::FileError;

/// Shows and edits models.lock
#[derive(Debug, Clone, Args)]
pub struct LockArgs {
    /// What to do.
    #[command(subcommand)]
    command: LockCommand,
}

/// What to do with a lock.
#[derive(Debug, Clone, Subcommand)]
enum LockCommand {
    /// Put models into the lock: address pinned, size and digest as their hosts say
    Add(add::AddArgs),
    /// Add what lists in other tools' formats name: workflows, model lists, aria2, pget, addresses, sha256sum
    Import(import::ImportArgs),
    /// Follow branches and tags to what they are now; show old → new
    Update(update::UpdateArgs),
    /// Ask the hosts whether they still have what the lock says; nothing is written or fetched
    Check(check::CheckArgs),
    /// Path, size, groups and source of each model, and whether its address is pinned or moving
    List(list::ListArgs),
    /// Take models out of the lock; what is installed stays where it is
    Remove(remove::RemoveArgs),
}

/// The locks of a verb that reads: as with every reader, several are one set, and one may be an address.
fn read(locks: &Locks, default: &str) -> Result<Lockfile, Failure> {
    let mut network = Network::default();
    locks::read_locks(locks, None, default, &mut locks::Asking::with(&mut network))?.join()
}

/// Which lock.
#[derive(Debug, Clone, Args)]
struct LockFile {
    /// The lockfile [default: models.lock at the workspace root]
    #[arg(long, value_name = "PATH", env = "PROVISION_LOCK", hide_env_values = true)]
    lock: Option<Utf8PathBuf>,
}

impl LockFile {
    fn path(&self, default: &str) -> Utf8PathBuf {
        self.lock.clone().unwrap_or_else(|| default.into())
    }

    /// The path of a lock that can be written.
    fn writable(&self, default: &str) -> Result<Utf8PathBuf, Failure> {
        let path = self.path(default);
        if path == "-" {
            return Err(Failure::new(Code::Usage, "standard input cannot be changed: give --lock a file"));
        }
        if path.as_str().contains("://") || path.as_str().contains(',') {
            // Not repeated: an address may be signed.
            let why = "this changes one lock, and that is a file: give --lock a path (PROVISION_LOCK may name several)";
            return Err(Failure::new(Code::Usage, why));
        }
        Ok(path)
    }
}

/// Runs a verb; `default` is the lock where none is given.
pub fn run(args: &LockArgs, default: &str) -> Result<(), Failure> {
    match &args.command {
        LockCommand::Add(args) => add::run(args, default),
        LockCommand::Import(args) => import::run(args, default),
        LockCommand::Update(args) => update::run(args, default),
        LockCommand::Check(args) => check::run(args, default),
        LockCommand::List(args) => list::run(args, default),
        LockCommand::Remove(args) => remove::run(args, default),
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
            FileError::Restless { .. } | FileError::Busy { .. } => Code::Busy,
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
