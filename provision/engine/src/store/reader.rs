//! Reads a file for a push, and hashes every byte in the order of the file, also those that the store has already.
//!
//! The digest is compared before the last bytes are given away, so no store gets a whole file of wrong bytes.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::error::PushError;
use provision_core::digest::{Hasher, Sha256};
use provision_core::lockfile::Model;
use provision_disk::SourceFile;
use provision_http::{Sent, UploadBody};

/// The bytes that are read at a time where they are sent as one body.
const BLOCK: u64 = 1 << 20;
/// The blocks that wait for a connection.
const AHEAD: usize = 4;

/// A file that is read once, from its beginning.
#[derive(Clone)]
pub(super) struct Reader {
    source: Arc<SourceFile>,
    hasher: Hasher,
    at: u64,
    size: u64,
    expected: Sha256,
}

impl Reader {
    pub(super) fn new(source: SourceFile, model: &Model) -> Self {
        Self {
            source: Arc::new(source),
            hasher: Hasher::new(),
            at: 0,
            size: model.size,
            expected: model.sha256,
        }
    }

    /// The file.
    pub(super) fn source(&self) -> &SourceFile {
        &self.source
    }

    /// The bytes that are not read yet.
    pub(super) fn left(&self) -> u64 {
        self.size - self.at
    }

    /// The next `length` bytes. Those at the file's end come only if the digest is right.
    pub(super) fn take(&mut self, length: u64) -> Result<Bytes, PushError> {
        tokio::task::block_in_place(|| self.read(length))
    }

    fn read(&mut self, length: u64) -> Result<Bytes, PushError> {
        let mut block = vec![0; length.min(self.left()) as usize];
        if self.source.fill(self.at, &mut block)? < block.len() {
            // It was cut since it was opened.
            return Err(self.wrong(self.hasher.clone().finish()));
        }
        self.hasher.update(&block);
        self.at += block.len() as u64;
        if self.at == self.size {
            let found = self.hasher.clone().finish();
            if found != self.expected {
                return Err(self.wrong(found));
            }
        }
        Ok(block.into())
    }

    /// Reads up to the byte at `to`, which the store has already.
    pub(super) async fn skip(&mut self, to: u64) -> Result<(), PushError> {
        while self.at < to {
            self.take((8 * BLOCK).min(to - self.at))?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// A body with the rest of the file, which is read while it is sent. `failure` gets the cause, if it ends early.
    pub(super) fn body(&self, sent: Sent, failure: &Arc<Mutex<Option<PushError>>>) -> UploadBody {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let (mut reader, failure) = (self.clone(), failure.clone());
        let left = reader.left();
        tokio::task::spawn_blocking(move || {
            while reader.left() > 0 {
                match reader.read(BLOCK).map(|block| sender.blocking_send(block).is_ok()) {
                    Ok(true) => {}
                    // The request has ended.
                    Ok(false) => return,
                    Err(error) => {
                        *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        return;
                    }
                }
            }
        });
        UploadBody::read(receiver, left, sent)
    }

    fn wrong(&self, found: Sha256) -> PushError {
        PushError::Wrong { path: self.source.path().to_owned(), expected: self.expected, found }
    }
}
