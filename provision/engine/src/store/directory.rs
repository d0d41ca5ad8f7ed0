//! A directory of this machine, such as a mounted volume: `DIR/SHA256`, written by the protocol of every install.
//!
//! A file is in place if an install has put it there, which its modification time shows, or if its bytes are right.

use camino::Utf8Path;

use super::StoredState;
use super::error::PushError;
use super::reader::Reader;
use super::session::{Session, Transfer};
use provision_core::digest::Sha256;
use provision_core::lockfile::Model;
use provision_core::model_path::ModelPath;
use provision_disk::{
    CopyError, Destination, DiskError, Found, HashedRead, PartNames, SourceFile, install_copy,
};

/// The protocol. The directory may not exist when it is only asked.
pub(super) struct DirectoryStore(Option<Destination>);

impl DirectoryStore {
    pub(super) fn open(path: &Utf8Path, create: bool) -> Result<Self, PushError> {
        let opened = if create { Destination::create(path).map(Some) } else { Destination::open(path) };
        opened.map(Self).map_err(PushError::Directory)
    }

    /// True if the file is there.
    pub(super) fn has(&self, model: &Model) -> Result<bool, PushError> {
        let Some(place) = &self.0 else { return Ok(false) };
        match place.find(&named(&model.sha256)).map_err(PushError::Directory)? {
            Found::File(stamp) if stamp.size == model.size && stamp.is_of(&model.sha256) => Ok(true),
            Found::File(stamp) if stamp.size == model.size => {
                Ok(matches!(self.read(model, || true)?, StoredState::There))
            }
            _ => Ok(false),
        }
    }

    /// Reads the file.
    pub(super) fn read(&self, model: &Model, go_on: impl FnMut() -> bool) -> Result<StoredState, PushError> {
        self.read_named(&model.sha256, go_on)
    }

    fn read_named(&self, digest: &Sha256, mut go_on: impl FnMut() -> bool) -> Result<StoredState, PushError> {
        let Some(place) = &self.0 else { return Ok(StoredState::Missing) };
        let opened = SourceFile::open_below(place, &named(digest)).map_err(PushError::Directory)?;
        let Some(file) = opened else { return Ok(StoredState::Missing) };
        let mut reading = HashedRead::new(file);
        while reading.read(&mut go_on).map_err(PushError::Directory)? {
            reading.hash();
        }
        let (_, _, found) = reading.finish();
        Ok(if found == *digest { StoredState::There } else { StoredState::Wrong(found) })
    }

    /// Reads a piece list of at most `at_most` bytes. Returns its length; `None` if it is not there, or has other
    /// bytes.
    pub(super) fn read_list(&self, digest: &Sha256, at_most: u64) -> Result<Option<u64>, PushError> {
        let Some(place) = &self.0 else { return Ok(None) };
        let Found::File(stamp) = place.find(&named(digest)).map_err(PushError::Directory)? else {
            return Ok(None);
        };
        let is_right =
            stamp.size <= at_most && matches!(self.read_named(digest, || true)?, StoredState::There);
        Ok(is_right.then_some(stamp.size))
    }

    pub(super) fn put(
        &self,
        model: &Model,
        reader: &Reader,
        transfer: &Transfer,
        session: &Session,
    ) -> Result<(), PushError> {
        let Some(place) = &self.0 else { return Err(PushError::NoAddress) };
        let named = Model { path: named(&model.sha256), ..model.clone() };
        let counter = transfer.counter();
        let mut unreported = 0;
        let step = |bytes| {
            unreported += bytes;
            if unreported >= 8 << 20 {
                counter(std::mem::take(&mut unreported));
            }
            !session.is_stopped()
        };
        let copied = install_copy((place, &PartNames::Shared), &named, reader.source(), step);
        if unreported > 0 {
            counter(unreported);
        }
        match copied {
            Ok(_) => Ok(()),
            Err(CopyError::Part(DiskError::Interrupted { .. })) => Err(PushError::Interrupted),
            Err(CopyError::Source(DiskError::Mismatch { path, expected, found })) => {
                Err(PushError::Wrong { path, expected, found })
            }
            Err(CopyError::Part(error)) => Err(PushError::Directory(error)),
            Err(error) => Err(PushError::Disk(error.into_disk_error())),
        }
    }
}

/// A file's name in the directory.
fn named(digest: &Sha256) -> ModelPath {
    digest.to_string().parse().unwrap_or_else(|_| unreachable!("hex digits are portable"))
}
