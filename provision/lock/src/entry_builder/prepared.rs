//! Entries between the steps: as the hosts describe them, and finished.

use provision_core::digest::Sha256;
use provision_core::model_path::ModelPath;
use provision_core::source_url::SourceUrl;

use super::EntryError;
use crate::entry::Entry;
use crate::resolve::Found;
use crate::source::Source;

/// An entry as its hosts describe it. Its file is read if none of them declares the digest.
#[derive(Debug)]
pub struct PreparedEntry {
    pub(super) found: Found,
    pub(super) path: ModelPath,
    pub(super) mirrors: Vec<Found>,
    pub(super) follows: Option<String>,
    pub(super) sha256: Option<Sha256>,
    pub(super) groups: Vec<String>,
    pub(super) may_lose_mirrors: bool,
    /// The host chose the file's name, and so the path.
    pub(super) is_named_by_host: bool,
    /// The failures of the mirrors that are left out.
    pub lost_mirrors: Vec<EntryError>,
}

impl PreparedEntry {
    /// The entry's path.
    pub fn path(&self) -> &ModelPath {
        &self.path
    }

    /// The first source.
    pub fn source(&self) -> &Source {
        &self.found.source
    }

    /// The first download URL.
    pub fn url(&self) -> &SourceUrl {
        &self.found.url
    }

    /// The length in bytes, if the host or the request declares one.
    pub fn size(&self) -> Option<u64> {
        self.found.size
    }

    /// The file's digest, if the host or the request declares one.
    pub fn sha256(&self) -> Option<Sha256> {
        self.sha256
    }

    /// True if the file has to be read, for its digest or its length.
    pub fn has_to_be_read(&self) -> bool {
        self.sha256.is_none() || self.found.size.is_none()
    }

    /// True if the host chose the file's name, and so the path.
    pub fn is_named_by_host(&self) -> bool {
        self.is_named_by_host
    }

    /// True if both digests are known and the files are equal.
    pub fn has_bytes_of(&self, other: &Self) -> bool {
        self.sha256.is_some() && self.sha256 == other.sha256 && !self.has_another_size(other)
    }

    /// True if both digests or both lengths are known, and they show that the files differ.
    pub fn differs_from(&self, other: &Self) -> bool {
        self.sha256.zip(other.sha256).is_some_and(|(a, b)| a != b) || self.has_another_size(other)
    }

    fn has_another_size(&self, other: &Self) -> bool {
        self.size().zip(other.size()).is_some_and(|(a, b)| a != b)
    }

    /// Adds the sources of another entry with these bytes as mirrors. The bytes have one length, so either host may
    /// declare it.
    pub fn add_mirrors(&mut self, other: Self) {
        self.found.size = self.found.size.or(other.found.size);
        self.mirrors.push(other.found);
        self.mirrors.extend(other.mirrors);
        self.lost_mirrors.extend(other.lost_mirrors);
    }
}

/// A finished entry.
#[derive(Debug)]
pub struct BuiltEntry {
    /// The entry.
    pub entry: Entry,
    /// True if the file was read for it.
    pub was_read: bool,
    /// The failures of the mirrors that are left out.
    pub lost_mirrors: Vec<EntryError>,
}
