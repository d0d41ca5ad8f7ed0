//! The journal of a part that is being written: what is appended to it, and when it is written anew.

use std::fs::File;
use std::io::Write as _;
use std::sync::PoisonError;

use rustix::fs::{Mode, OFlags};
use rustix::io::retry_on_intr;

use super::PartFile;
use crate::StoreError;
use crate::crc_ranges::CrcRanges;
use provision_core::journal::{self, Reach};

/// A journal longer than this is written anew at the next checkpoint, in bytes. With 64 connections to one file it gets that
/// long in a minute or two, and one of more than [`journal::MAX_BYTES`] would not be read.
pub(super) const JOURNAL_BYTES: u64 = 1 << 20;

/// The journal as it is on disk.
#[derive(Debug, Default)]
pub(super) struct JournalFile {
    /// Once there is something to append.
    pub(super) file: Option<File>,
    pub(super) bytes: u64,
    /// What it calls durable, joined: what it is when it is written anew.
    pub(super) durable: CrcRanges,
}

impl PartFile {
    /// How much room the journal of `rest` bytes more may take: it has a line for what each connection brought between two
    /// notes. None of a file that is fetched by one request.
    pub fn max_journal_bytes(size: u64, rest: u64) -> u64 {
        if size > provision_core::schedule::MIN_CLAIM { (rest / 256).min(JOURNAL_BYTES) } else { 0 }
    }

    /// Notes in the journal what has been written, without waiting for the disk: enough for the next run after a
    /// kill, not after a power cut.
    pub fn journal_written(&self) -> Result<(), StoreError> {
        self.check_lease()?;
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let text = {
            let mut state = self.state();
            if state.sealed || state.sync_error.is_some() || state.unjournaled_bytes == 0 {
                return Ok(());
            }
            state.unjournaled_bytes = 0;
            let unjournaled = std::mem::take(&mut state.unjournaled);
            let text = journal::records(Reach::Written, unjournaled.iter());
            state.journaled.append(unjournaled);
            text
        };
        self.append(&mut journal, &text)
    }

    /// Writes the journal anew: what is durable in as few records as there can be, and what was journaled since.
    pub(super) fn rewrite(&self, journal: &mut JournalFile) -> Result<(), StoreError> {
        let text = journal::header(&self.sha256, self.size)
            + &journal::records(Reach::Durable, journal.durable.iter())
            + &journal::records(Reach::Written, self.state().journaled.iter());
        journal.file = None;
        self.directory.write_small_through(&self.names.temporary, &self.names.journal, text.as_bytes())?;
        journal.bytes = text.len() as u64;
        Ok(())
    }

    pub(super) fn append(&self, journal: &mut JournalFile, text: &str) -> Result<(), StoreError> {
        let path = self.directory.path().join(&self.names.journal);
        if journal.file.is_none() {
            journal.file = Some(self.open_journal().map_err(StoreError::at("opening it", &path))?);
        }
        // Opened for appending.
        let written = journal.file.as_mut().map_or(Ok(()), |file| file.write_all(text.as_bytes()));
        journal.bytes += text.len() as u64;
        written.map_err(|error| {
            StoreError::of_volume("writing the journal", &path, error).needing(self.size - self.held())
        })
    }

    fn open_journal(&self) -> std::io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let mut file = File::from(retry_on_intr(|| {
            rustix::fs::openat(self.directory.handle(), &self.names.journal, flags, mode)
        })?);
        if file.metadata()?.len() == 0 {
            file.write_all(journal::header(&self.sha256, self.size).as_bytes())?;
        }
        Ok(file)
    }
}
