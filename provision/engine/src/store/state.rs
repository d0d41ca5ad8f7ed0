//! The states of interrupted uploads, with which a later push goes on. One small file each, below the directory `push`
//! of a cache; only this user may read it.
//!
//! A state names the place of an upload at the store's own host (a registry's `Location`, or a bucket's upload), and
//! the parts that the store has confirmed. It holds no credential, and a place at another host, which may be signed, is
//! not kept.
//!
//! One push at a time uses the states of a cache: two would go on with one upload. Another one works without.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use camino::Utf8Path;

use provision_core::digest::Sha256;
use provision_disk::{Acquire, Destination, DestinationLock};

/// The directory below the cache.
const DIRECTORY: &str = "push";
/// The first line. It changes with the format.
const FORMAT: &str = "provision push 1";
/// The longest state, in bytes: ten thousand parts with their names.
const MAX_BYTES: u64 = 4 << 20;

/// The states below a cache, for one store.
pub(super) struct States {
    place: Destination,
    store: String,
    _lock: DestinationLock,
}

/// An upload that is not complete.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct UploadState {
    /// The upload's own name: a URL, or an identifier.
    pub(super) place: String,
    /// The bytes of a part, if all parts but the last are alike.
    pub(super) part_size: u64,
    /// The confirmed parts, by their numbers.
    pub(super) parts: BTreeMap<u32, ConfirmedPart>,
}

/// A part that the store has confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConfirmedPart {
    /// Its SHA-256 in base64.
    pub(super) checksum: String,
    /// The store's name of it.
    pub(super) name: String,
}

impl States {
    /// Opens the states for `store`; `None` if they cannot be used, or if another push uses them.
    pub(super) fn open(cache: &Utf8Path, store: &str) -> Option<Self> {
        let place = Destination::create(&cache.join(DIRECTORY)).ok()?;
        let Acquire::Acquired(lock) = DestinationLock::try_acquire(&place).ok()? else { return None };
        Some(Self { place, store: store.to_owned(), _lock: lock })
    }

    /// The state of a file's upload.
    pub(super) fn load(&self, sha256: &Sha256) -> Option<UploadState> {
        let bytes = self.place.root().read_small(&self.name(sha256), MAX_BYTES).ok()??;
        UploadState::parse(std::str::from_utf8(&bytes).ok()?)
    }

    /// Keeps a state. Without it a later push begins again, so a failure is none of this one.
    pub(super) fn save(&self, sha256: &Sha256, state: &UploadState) {
        let _ = self.place.root().write_private(&self.name(sha256), state.to_text().as_bytes());
    }

    /// Removes the state of an upload that is complete or lost.
    pub(super) fn remove(&self, sha256: &Sha256) {
        let _ = self.place.root().remove(&self.name(sha256));
    }

    fn name(&self, sha256: &Sha256) -> String {
        let of_store = Sha256::of(self.store.as_bytes());
        format!("{sha256}.{}", of_store.short())
    }
}

impl UploadState {
    fn to_text(&self) -> String {
        let mut text = format!("{FORMAT}\n{}\n{}\n", self.place, self.part_size);
        for (number, ConfirmedPart { checksum, name }) in &self.parts {
            let _ = writeln!(text, "{number} {checksum} {name}");
        }
        text
    }

    /// Reads a state; `None` for a text that is cut, or of another format.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        if lines.next()? != FORMAT {
            return None;
        }
        let (place, part_size) = (lines.next()?.to_owned(), lines.next()?.parse().ok()?);
        let part = |line: &str| {
            let (number, rest) = line.split_once(' ')?;
            let (checksum, name) = rest.split_once(' ')?;
            let part = ConfirmedPart { checksum: checksum.to_owned(), name: name.to_owned() };
            Some((number.parse().ok()?, part))
        };
        let parts = lines.map(part).collect::<Option<_>>()?;
        Some(Self { place, part_size, parts })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::test_support::directory;

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let part = |name: &str| ConfirmedPart { checksum: "c2hh".to_owned(), name: name.to_owned() };
        let parts = [(1, part("\"a\"")), (12, part("b"))].into();
        let state = UploadState { place: "https://h/v2/a?_state=x".to_owned(), part_size: 16, parts };
        assert_eq!(UploadState::parse(&state.to_text()), Some(state));
        let (cut, unnamed) = ("provision push 1\nx\n", "provision push 1\nx\n1\n2 c2hh\n");
        for wrong in ["", cut, unnamed, "provision push 1\nx\n1\ny\n", "provision push 2\nx\n1\n"] {
            assert_eq!(UploadState::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_state_is_for_this_user_and_for_one_push_at_a_time() {
        let (_keep, path) = directory();
        let states = States::open(&path, "oci://h/a").unwrap();
        assert!(States::open(&path, "oci://h/a").is_none(), "a second push");
        let (sha256, state) = (Sha256::of(b"x"), UploadState { place: "u".to_owned(), ..Default::default() });
        states.save(&sha256, &state);
        let file = path.join("push").join(states.name(&sha256));
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(states.load(&sha256), Some(state));
        drop(states);
        let other = States::open(&path, "oci://h/b").unwrap();
        assert_eq!(other.load(&sha256), None, "another store");
        drop(other);
        let states = States::open(&path, "oci://h/a").unwrap();
        states.remove(&sha256);
        assert_eq!(states.load(&sha256), None);
    }
}
