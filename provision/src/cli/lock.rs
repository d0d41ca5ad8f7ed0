//! `lock`: the commands that edit models.lock, one that lists it, and those that write its torrents and piece lists.
//!
//! The crate `provision-lock` knows sources, edits and hosts; this module has options, output and exit codes. Results
//! go to standard output, one line a model; waits, progress and failures go to standard error.

mod add;
mod answer_progress;
mod batch;
mod check;
mod check_pieces;
mod command_line;
mod import;
mod list;
mod local_files;
mod path_question;
mod pieces;
mod remove;
mod session;
mod torrent;
mod update;
mod write;

use crate::cli::arguments::{Locks, Patience};
use crate::cli::environment::Network;
use crate::cli::exit::{Code, Failure};
use crate::cli::locks;
use camino::{Utf8Path, Utf8PathBuf};
use clap::builder::FalseyValueParser;
use clap::{Args, Subcommand};
use provision_core::lockfile::Lockfile;
use provision_core::piece_list::PieceList;
use provision_lock::edit::{Document, EditError};
use provision_lock::file::FileError;

use batch::Batch;
use session::{Failures, HostSession, Parts};
use write::Writing;

/// Shows and edits models.lock
#[derive(Debug, Clone, Args)]
pub struct LockArgs {
    /// The verb.
    #[command(subcommand)]
    command: LockCommand,
}

/// A verb on a lock.
#[derive(Debug, Clone, Subcommand)]
enum LockCommand {
    /// Add models: address pinned, size and digest as their hosts say
    Add(add::AddArgs),
    /// Add the models of other tools' lists: workflows, model lists, aria2, pget, addresses, sha256sum
    Import(import::ImportArgs),
    /// Follow branches and tags to their current commits; show old → new. A plain URL is read again only if a MODEL
    /// names it
    Update(update::UpdateArgs),
    /// Ask the hosts for the files of the lock, or with --pieces check the piece lists; nothing is written or fetched
    Check(check::CheckArgs),
    /// List path, size, groups and source of each model, and if its address is pinned or moving
    List(list::ListArgs),
    /// Write the piece lists of installed or cached files beside the lock, and their digests into it
    Pieces(pieces::PiecesArgs),
    /// Remove models from the lock; installed files stay
    Remove(remove::RemoveArgs),
    /// Write a torrent for each installed model, with the lock's addresses as web seeds
    Torrent(torrent::TorrentArgs),
}

/// The locks of a verb that reads: several are one set, and each may be an address.
fn read(locks: &Locks, default: &str) -> Result<Lockfile, Failure> {
    let mut network = Network::default();
    locks::read_locks(locks, None, default, &mut locks::Access::with(&mut network))?.join()
}

/// The lock to edit.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct LockFile {
    /// The lockfile [default: models.lock, for cargo xtask at the workspace root]
    #[arg(long, value_name = "PATH", env = "PROVISION_LOCK", hide_env_values = true)]
    lock: Option<Utf8PathBuf>,
}

/// Options of the verbs that add entries.
#[derive(Debug, Clone, Args)]
struct AddOptions {
    /// A group that the models belong to (repeatable)
    #[arg(long = "group", alias = "only", value_name = "GROUP", value_delimiter = ',', value_parser = clap::builder::NonEmptyStringValueParser::new())]
    groups: Vec<String>,
    /// Only say what would be written; nothing is downloaded
    #[arg(long, env = "PROVISION_DRY_RUN", value_parser = FalseyValueParser::new())]
    dry_run: bool,
    /// Write piece lists of the files whose bytes are on this machine then
    #[arg(long)]
    pieces: bool,
    /// Accept URLs that expire, such as signed ones
    #[arg(long)]
    allow_expiring: bool,
    /// The directory for bytes that must be read.
    #[command(flatten)]
    parts: Parts,
    /// The patience with hosts.
    #[command(flatten)]
    patience: Patience,
    /// The lock.
    #[command(flatten)]
    file: LockFile,
}

impl AddOptions {
    /// The batch of a command that edits the lock at `path`, which is `document` now.
    fn batch<'a>(
        &self,
        session: &'a HostSession,
        path: &'a Utf8Path,
        document: &'a Document,
        failures: Failures,
    ) -> Result<Batch<'a>, Failure> {
        let mut builder = session.builder(&self.parts, self.allow_expiring)?;
        builder.taken = document.lock().paths();
        if self.pieces {
            builder.reader.make_lists();
        }
        let writing = Writing::new(session, path, self.dry_run);
        Ok(Batch { session, builder, writing, failures, document })
    }

    /// Writes the piece lists of the entries, if they are wanted. `made` are lists of bytes that passed.
    fn write_pieces(
        &self,
        writing: &Writing<'_>,
        made: Vec<PieceList>,
        failures: &mut Failures,
    ) -> Result<(), Failure> {
        if !self.pieces || self.dry_run {
            return Ok(());
        }
        pieces::by_product(writing.path, writing.paths(), made, &self.parts.files(), failures)
    }
}

/// The lock at `path`, before any request. A missing lock will be created.
///
/// # Errors
/// The lock cannot be edited.
fn current(path: &Utf8Path) -> Result<Document, Failure> {
    if !path.exists() {
        return Ok(Document::empty(path.as_str()));
    }
    let document = provision_lock::file::read(path).map_err(|error| EditFailure::from(error).0)?;
    document.check_editable().map_err(|error| EditFailure::from(error).0)?;
    Ok(document)
}

impl LockFile {
    fn path(&self, default: &str) -> Utf8PathBuf {
        self.lock.clone().unwrap_or_else(|| default.into())
    }

    /// The path of a lock that can be written.
    pub(in crate::cli) fn writable(&self, default: &str) -> Result<Utf8PathBuf, Failure> {
        let path = self.path(default);
        if path == "-" {
            return Err(Failure::new(Code::Usage, "standard input cannot be edited: give --lock a file"));
        }
        if path.as_str().contains("://") || path.as_str().contains(',') {
            // The message does not repeat the address, which may be signed.
            let why =
                "this command edits one lock file: give --lock a path (PROVISION_LOCK may name several)";
            return Err(Failure::new(Code::Usage, why));
        }
        Ok(path)
    }
}

/// Runs a verb; `default` is the lock if none is given.
pub fn run(args: &LockArgs, default: &str) -> Result<(), Failure> {
    match &args.command {
        LockCommand::Add(args) => add::run(args, default),
        LockCommand::Import(args) => import::run(args, default),
        LockCommand::Update(args) => update::run(args, default),
        LockCommand::Check(args) => check::run(args, default),
        LockCommand::List(args) => list::run(args, default),
        LockCommand::Pieces(args) => pieces::run(args, default),
        LockCommand::Remove(args) => remove::run(args, default),
        LockCommand::Torrent(args) => torrent::run(args, default),
    }
}

/// A failed edit with its exit code.
#[derive(Debug)]
struct EditFailure(Failure);

impl From<FileError> for EditFailure {
    fn from(error: FileError) -> Self {
        let code = match &error {
            FileError::Lock(_) => Code::Lock,
            FileError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Code::Usage,
            FileError::Io { .. } | FileError::Dangling { .. } => Code::Disk,
            FileError::KeepsChanging { .. } | FileError::Busy { .. } => Code::Busy,
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
