//! Piece lists at a store: each under its own digest, as any file. A list is optional, so its failure is a warning.
//!
//! A store whose address needs more than a digest has no lists: a reader knows only the digest.

use std::collections::HashSet;

use super::error::PushError;
use super::session::Transfer;
use super::{LocalFiles, Store, StoredState, Target};
use provision_core::digest::{Hasher, Sha256};
use provision_core::lockfile::Model;
use provision_core::piece_list::{DIRECTORY, PieceList};
use provision_disk::{DiskError, SourceFile};

/// The lists of a push.
#[derive(Debug, Default)]
pub struct PushedLists {
    /// Those that the store has now.
    pub there: usize,
    /// Those that are neither at the store nor on this machine, or failed; each with a warning.
    pub missing: usize,
    /// True if the run was stopped before the last one.
    pub is_stopped: bool,
}

/// A list as a file of its own.
fn as_file(digest: Sha256, size: u64) -> Option<Model> {
    let path = format!("{DIRECTORY}/{digest}").parse().ok()?;
    let (sources, groups) = (Vec::new(), Vec::new());
    Some(Model { path, sources, size, sha256: digest, pieces: None, groups, source: None })
}

impl LocalFiles {
    /// The length of a list, if this machine has it.
    ///
    /// # Errors
    /// It does not, and a place of lists cannot be read.
    fn list_of(&self, digest: Sha256, at_most: u64) -> Result<Option<u64>, DiskError> {
        let mut error = None;
        for directory in &self.lists {
            match SourceFile::open(&directory.join(digest.to_string())) {
                Ok(Some(file)) if file.stamp().size <= at_most && file.verify(digest, || true).is_ok() => {
                    return Ok(Some(file.stamp().size));
                }
                Ok(_) => {}
                Err(why) => error = Some(why),
            }
        }
        error.map_or(Ok(None), Err)
    }
}

impl Store {
    /// True if the store can have lists.
    fn takes_lists(&self) -> bool {
        self.address.source_of_list(&Sha256::from_bytes([0; 32])).is_some()
    }

    /// Sends the lists of `models`. Returns those that the store has.
    pub(super) async fn push_lists(
        &self,
        having: &LocalFiles,
        models: &[&Model],
    ) -> (PushedLists, Vec<Model>) {
        let (mut end, mut there, mut seen) = (PushedLists::default(), Vec::new(), HashSet::new());
        for model in models.iter().filter(|_| self.takes_lists()) {
            let Some(digest) = model.pieces.filter(|digest| seen.insert(*digest)) else { continue };
            if self.session.is_stopped() {
                end.is_stopped = true;
                break;
            }
            let transfer = Transfer::without_progress(model, &self.session);
            let here = having.list_of(digest, PieceList::max_bytes(model.size));
            let found = match here {
                Ok(Some(size)) => Some(Ok(Some(size))),
                // Another machine may have sent it.
                _ => self.session.unless_stopped(self.read_list(digest, model.size)).await,
            };
            let list = match found {
                None => {
                    end.is_stopped = true;
                    break;
                }
                Some(Ok(size)) => size.and_then(|size| as_file(digest, size)),
                Some(Err(_)) => None,
            };
            let Some(list) = list else {
                end.missing += 1;
                let why = here.err().map_or_else(String::new, |error| format!(": {error}"));
                transfer.warn(&format!("its piece list is neither on this machine nor at the store{why}"));
                continue;
            };
            match self.push_list(having, &list, &transfer).await {
                Ok(()) => there.push(list),
                Err(error) => {
                    end.missing += 1;
                    transfer.warn(&format!("its piece list is not at the store: {error}"));
                    if error.is_silence() {
                        break;
                    }
                }
            }
        }
        end.there = there.len();
        (end, there)
    }

    async fn push_list(
        &self,
        having: &LocalFiles,
        list: &Model,
        transfer: &Transfer,
    ) -> Result<(), PushError> {
        let sending = async {
            if self.has(list).await? {
                return Ok(());
            }
            Box::pin(self.push_from(having, list, transfer)).await
        };
        self.session.unless_stopped_midway(sending).await.unwrap_or(Err(PushError::Interrupted))
    }

    /// The state of a model's list; `None` if the lock names none, or the store can have none.
    pub(super) async fn check_list(&self, model: &Model) -> Option<StoredState> {
        let digest = model.pieces.filter(|_| self.takes_lists())?;
        Some(match self.read_list(digest, model.size).await {
            Ok(Some(_)) => StoredState::There,
            Ok(None) => StoredState::Missing,
            Err(error) => StoredState::Unknown(error),
        })
    }

    /// Reads a list at the store. Returns its length; `None` if the store does not have it, or has other bytes.
    async fn read_list(&self, digest: Sha256, size_of_file: u64) -> Result<Option<u64>, PushError> {
        let at_most = PieceList::max_bytes(size_of_file);
        if let Target::Directory(directory) = &self.target {
            return tokio::task::block_in_place(|| directory.read_list(&digest, at_most));
        }
        let url = self.address.source_of_list(&digest).ok_or(PushError::NoAddress)?;
        let at = self.session.client.at_store(&url, self.pushes)?;
        let mut hasher = Hasher::new();
        let length = self.session.read(&at, at_most, &mut hasher).await?;
        Ok(length.filter(|_| hasher.finish() == digest))
    }
}
