//! A part whose digest nobody has said: it is collected under a digest that stands in for the unknown one, and named by its own
//! when it is whole.
//!
//! What stands in is made from what is known of the file (its address, length and validator), so an interrupted read goes on
//! where it was, and bytes of another version are never taken for this one's. In the end there is a part as an interrupted fetch
//! leaves one, whole, with a journal of that name: the next fetch proves and installs it, and fetches nothing.

use std::sync::Arc;

use super::{FileNames, PartFile, PartNames, SYNCING};
use crate::StoreError;
use provision_core::digest::Sha256;
use provision_core::journal;
use provision_core::lockfile::Model;

impl PartFile {
    /// Gives a whole part the name that its bytes' own digest has, and returns that digest. `model` is the file as it was
    /// opened. The caller holds the destination's lock.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] where bytes are missing; nothing has changed then.
    pub fn name_by_own_digest(self: Arc<Self>, model: &Model) -> Result<Sha256, StoreError> {
        self.hash_ready()?;
        self.checkpoint()?;
        let state = self.state_with_hasher();
        if state.hashed != self.size {
            drop(state);
            return Err(StoreError::Sealed { path: self.path() });
        }
        let sha256 = state.hasher.clone().unwrap_or_default().finish();
        drop(state);
        let names = FileNames::new(&Model { sha256, ..model.clone() }, &PartNames::Shared);
        let written = self.directory.read_small(&self.names.journal, journal::MAX_BYTES)?.unwrap_or_default();
        let records = journal::parse(&written, &self.sha256, self.size);
        let records = records.into_iter().map(|record| (record.range, record.crc));
        let text = journal::header(&sha256, self.size) + &journal::records(journal::Reach::Durable, records);
        // A journal without a part says nothing, a part without a journal is worth nothing: so in this order.
        self.directory.write_small_through(&names.temporary, &names.journal, text.as_bytes())?;
        let handle = self.directory.handle();
        let (from, to) = (self.names.part.as_str(), names.part.as_str());
        rustix::io::retry_on_intr(|| rustix::fs::renameat(handle, from, handle, to))
            .map_err(|error| self.error("renaming it", error))?;
        self.directory.sync().map_err(|_| self.error(SYNCING, rustix::io::Errno::IO))?;
        *self.sealed.write().unwrap_or_else(std::sync::PoisonError::into_inner) = true;
        self.state().sealed = true;
        // A name too long for a digest is the same for both.
        if self.names.journal != names.journal {
            self.directory.remove(&self.names.journal)?;
        }
        Ok(sha256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Destination;

    fn model(sha256: Sha256) -> Model {
        Model {
            path: "vae/x".parse().unwrap(),
            sources: vec!["http://h/x".parse().unwrap()],
            size: 6,
            sha256,
            groups: Vec::new(),
            source: None,
        }
    }

    #[test]
    fn a_part_of_an_unknown_digest_becomes_one_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let destination =
            Destination::create(camino::Utf8Path::from_path(directory.path()).unwrap()).unwrap();
        let unknown = model(Sha256::of(b"stands in"));
        let open = |model: &Model| PartFile::open(&destination, model, &PartNames::Shared, || true).unwrap();
        let part = Arc::new(open(&unknown));
        part.write(0, b"abc").unwrap();
        assert!(part.clone().name_by_own_digest(&unknown).is_err(), "not whole");
        drop(part);
        let part = Arc::new(open(&unknown));
        assert_eq!(part.held(), 3, "it goes on");
        part.write(3, b"def").unwrap();
        let sha256 = part.clone().name_by_own_digest(&unknown).unwrap();
        assert_eq!(sha256, Sha256::of(b"abcdef"));
        drop(part);
        let known = Arc::new(open(&model(sha256)));
        assert_eq!(known.held(), 6);
        known.verify().unwrap().install().unwrap();
        let names: Vec<_> = std::fs::read_dir(directory.path().join("vae")).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }
}
