//! A part whose digest is unknown. It has a placeholder digest until it is complete, and then gets the name of its own.
//!
//! The placeholder is made from the file's URL, length and validator: an interrupted read is resumed, and bytes of
//! another version never count as this one's. At the end the part is complete and has a journal under its own digest,
//! as after an interrupted fetch. The next fetch verifies and installs it without a download.

use std::sync::{Arc, PoisonError};

use rustix::io::{Errno, retry_on_intr};

use super::names::{FileNames, PartNames};
use super::part_file::{PartFile, SYNCING};
use crate::destination::Destination;
use crate::error::DiskError;
use provision_core::digest::Sha256;
use provision_core::journal;
use provision_core::lockfile::Model;

impl PartFile {
    /// Renames a complete part to the name of its own digest: it becomes the part of the file that `of_digest` returns
    /// for the digest. Returns that file. The caller holds the destination's lock.
    ///
    /// # Errors
    /// [`DiskError::Sealed`] if bytes are missing; nothing has changed then.
    pub fn name_by_own_digest(
        self: Arc<Self>,
        destination: &Destination,
        of_digest: impl FnOnce(Sha256) -> Model,
    ) -> Result<Model, DiskError> {
        self.hash_ready()?;
        self.checkpoint()?;
        let (sha256, hashed) = self.state_when_idle().pieces.whole();
        if hashed != self.size() {
            return Err(DiskError::Sealed { path: self.path() });
        }
        let model = of_digest(sha256);
        let names = FileNames::new(&model, &PartNames::Shared);
        let directory = destination.parent(&model.path, true)?.ok_or_else(|| {
            DiskError::of("creating the directory", destination.root().path(), Errno::NOENT)
        })?;
        let (_, size, placeholder) = self.model();
        let written = self.directory.read_small(&self.names.journal, journal::MAX_BYTES)?.unwrap_or_default();
        let records = journal::parse(&written, &placeholder, size);
        let records = records.into_iter().map(|record| (record.range, record.crc));
        let text = journal::header(&sha256, size) + &journal::records(journal::Reach::Durable, records);
        // The journal comes first: a journal without a part is ignored, a part without a journal is dropped.
        directory.write_small_through(&names.temporary, &names.journal, text.as_bytes())?;
        let (from, to) = (self.names.part.as_str(), names.part.as_str());
        retry_on_intr(|| rustix::fs::renameat(self.directory.handle(), from, directory.handle(), to))
            .map_err(|error| self.error("renaming it", error))?;
        for changed in [&directory, &self.directory] {
            changed.sync().map_err(|_| self.error(SYNCING, Errno::IO))?;
        }
        *self.sealed.write().unwrap_or_else(PoisonError::into_inner) = true;
        self.state().sealed = true;
        // A long file name has no room for a digest: both names are equal then.
        if self.names.journal != names.journal {
            self.directory.remove(&self.names.journal)?;
        }
        Ok(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{CONTENT, Fixture, model};

    #[test]
    fn an_unpinned_part_gets_the_name_of_its_own_digest() {
        let fixture = Fixture::new();
        let unknown = Model { sha256: Sha256::of(b"placeholder"), ..model("d/x", CONTENT) };
        let part = Arc::new(fixture.open(&unknown));
        part.write(0, &CONTENT[..3]).unwrap();
        let by_digest = |sha256| Model { sha256, ..unknown.clone() };
        let refused = part.clone().name_by_own_digest(&fixture.destination, by_digest);
        assert!(refused.is_err(), "incomplete");
        drop(part);
        let part = Arc::new(fixture.open(&unknown));
        assert_eq!(part.held(), 3, "it resumes");
        part.write(3, &CONTENT[3..]).unwrap();
        let named = part.clone().name_by_own_digest(&fixture.destination, by_digest).unwrap();
        assert_eq!(named.sha256, Sha256::of(CONTENT));
        drop(part);
        let known = Arc::new(fixture.open(&model("d/x", CONTENT)));
        assert_eq!(known.held(), CONTENT.len() as u64);
        known.verify().unwrap().install().unwrap();
        let names: Vec<_> = std::fs::read_dir(fixture.file("d")).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }
}
