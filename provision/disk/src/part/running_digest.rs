//! The running digest of a piece, and of a file whose list is made on the way.

use provision_core::digest::{Hasher, Sha256};
use provision_core::piece_list::{Lister, PieceList};

/// A digest of the bytes so far.
#[derive(Debug, Default)]
pub(super) struct RunningDigest {
    hasher: Hasher,
    /// Makes the list of the same bytes.
    lister: Option<Box<Lister>>,
}

impl RunningDigest {
    /// The digest of a file of `size` bytes, with its list.
    pub(super) fn with_list(size: u64) -> Self {
        Self { hasher: Hasher::new(), lister: Some(Box::new(Lister::new(size))) }
    }

    /// Goes on from the bytes that `hasher` has taken.
    pub(super) fn of(hasher: Hasher) -> Self {
        Self { hasher, lister: None }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match &mut self.lister {
            Some(lister) => lister.update_beside(&mut self.hasher, bytes),
            None => self.hasher.update(bytes),
        }
    }

    /// Takes the next bytes of two, side by side unless one makes a list, which is two digests already.
    pub(super) fn update_two([a, b]: [&mut Self; 2], bytes: [&[u8]; 2]) {
        if a.lister.is_none() && b.lister.is_none() {
            return Hasher::update_two([&mut a.hasher, &mut b.hasher], bytes);
        }
        a.update(bytes[0]);
        b.update(bytes[1]);
    }

    pub(super) fn finish(&self) -> Sha256 {
        self.hasher.clone().finish()
    }

    /// The list of the bytes, which are complete. `None` if it makes none, or the file needs none.
    pub(super) fn take_list(&mut self) -> Option<PieceList> {
        let file = self.finish();
        self.lister.take().map(|lister| lister.finish(file)).filter(|list| !list.is_whole())
    }
}
