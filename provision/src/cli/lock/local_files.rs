//! The models' files on this machine, for the verbs that read them: installed, else in a cache.

use camino::Utf8PathBuf;
use clap::Args;
use provision_core::event::Observer;
use provision_core::lockfile::Model;
use provision_core::piece_list::PieceList;
use provision_disk::{Destination, FollowLinks};
use provision_engine::cache::Cache;
use provision_engine::inspect::{self, FileState};

use crate::cli::arguments::DestinationArg;
use crate::cli::exit::{Code, Failure};
use crate::cli::progress::{Mode, Verbosity, Work};
use crate::cli::{draw, environment, say, verify};

/// The location of the files.
#[derive(Debug, Clone, Args)]
pub(super) struct FilesArgs {
    /// The destination.
    #[command(flatten)]
    pub(super) at: DestinationArg,
    /// The cache that is read where a file is not installed [default: the user's]
    #[arg(long, value_name = "DIR", env = "PROVISION_CACHE")]
    pub(super) cache: Option<Utf8PathBuf>,
}

/// The directories that have files; neither has to exist.
pub(super) struct Files {
    destination: Option<Destination>,
    cache: Option<Cache>,
}

/// The states of files in the order of their models, and the piece lists of the right ones.
pub(super) type Reading = (Vec<FileState>, Vec<Option<PieceList>>);

impl FilesArgs {
    /// Opens the directories that exist. A cache that cannot be read is left out.
    pub(super) fn open(&self) -> Result<Files, Failure> {
        let at = self.at.with_installation()?;
        let folders = at.installation().folders.clone();
        let destination = Destination::open(&at.path())?
            .map(|destination| destination.with_links(FollowLinks::Own).with_folders(folders));
        let path = self.cache.clone().or_else(environment::user_cache);
        let cache = path.and_then(|path| match Cache::open_existing(&path) {
            Ok(cache) => cache,
            Err(error) => {
                say(format_args!("warning: the cache is not used: {error}"));
                None
            }
        });
        Ok(Files { destination, cache })
    }
}

impl Files {
    /// Reads each model's installed file; where that is missing or wrong, the cache's. `read` reads files below a
    /// directory. With `distrusts`, no marker vouches for a wrong file afterwards, so the next fetch replaces it. Draws
    /// progress meanwhile.
    pub(super) fn read(
        &self,
        models: &[&Model],
        distrusts: bool,
        read: impl Fn(&Destination, &[&Model], &dyn Observer) -> Reading,
    ) -> Reading {
        let progress = draw(Mode::Auto, Verbosity::Normal, Work::Install);
        let reading = self.read_drawn(models, distrusts, |place, models| read(place, models, &*progress));
        progress.finish();
        reading
    }

    fn read_drawn(
        &self,
        models: &[&Model],
        distrusts: bool,
        read: impl Fn(&Destination, &[&Model]) -> Reading,
    ) -> Reading {
        let (mut states, mut lists) = match &self.destination {
            Some(destination) => {
                let reading = read(destination, models);
                if distrusts {
                    // Without the right to say so here, the message is all.
                    let _ = inspect::distrust(destination, models, &reading.0);
                }
                reading
            }
            None => models.iter().map(|_| (FileState::Missing, None)).unzip(),
        };
        let Some(cache) = &self.cache else { return (states, lists) };
        let is_decided =
            |state: &FileState| matches!(state, FileState::Right(_) | FileState::WrongList { .. });
        let others: Vec<usize> = (0..models.len()).filter(|at| !is_decided(&states[*at])).collect();
        let objects: Vec<Model> = others.iter().map(|at| Cache::object(models[*at])).collect();
        let cached = read(cache.place(), &objects.iter().collect::<Vec<_>>());
        for (at, (state, list)) in others.into_iter().zip(cached.0.into_iter().zip(cached.1)) {
            if is_decided(&state) {
                (states[at], lists[at]) = (state, list);
            }
        }
        (states, lists)
    }
}

/// The exit code for a file that is not right.
pub(super) fn code_of(state: &FileState) -> Code {
    if matches!(state, FileState::Unreadable(_)) { Code::Disk } else { Code::Integrity }
}

/// The problem of a model's file, and the way out. `again` is the step after it. A marker may vouch for a wrong file
/// that is not `distrusted`.
pub(super) fn refusal(model: &Model, state: &FileState, distrusted: bool, again: &str) -> String {
    let what = verify::describe(model, state);
    let is_read = matches!(state, FileState::WrongDigest { .. } | FileState::WrongPieces { .. });
    let full = if is_read && !distrusted { " --verify full" } else { "" };
    let way_out = match state {
        FileState::WrongList { found, .. } if *found == model.sha256 => {
            format!("; `lock pieces {}` writes a right one", model.path)
        }
        // A fetch takes a file that matches its list for right.
        FileState::WrongList { .. } => {
            format!(
                "; take `pieces` of {} out of the lock, run `fetch --verify full`, then `lock pieces`",
                model.path
            )
        }
        FileState::WrongDigest { .. } if model.pieces.is_some() => {
            format!(
                "; run `fetch{full}`, then {again}; if that does not help, take its `pieces` out of the lock first"
            )
        }
        _ if state.is_mended_by_fetch() => format!("; run `fetch{full}`, then {again}"),
        _ => String::new(),
    };
    format!("{}: {what}{way_out}", model.path)
}
