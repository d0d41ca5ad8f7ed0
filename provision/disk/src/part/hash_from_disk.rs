//! Reads the bytes of a part that are not hashed, and hashes them: two pieces side by side, on several threads.

use std::sync::{Mutex, PoisonError};

use super::hasher::HasherGuard;
use super::part_file::PartFile;
use super::piece_state::PieceEnd;
use crate::crc_ranges::CrcRanges;
use crate::error::DiskError;
use crate::source_file::BLOCK;
use crate::threads::share;
use provision_core::byte_range::ByteRange;

/// A piece that a thread reads and hashes.
struct Lane<'a> {
    guard: HasherGuard<'a>,
    start: u64,
    block: Vec<u8>,
    crc: crc32fast::Hasher,
}

impl PartFile {
    /// Reads the bytes back that can be hashed, and hashes them. Returns once all are hashed, or other threads have
    /// them.
    pub fn hash_ready(&self) -> Result<(), DiskError> {
        self.hash_ready_while(&mut || true)
    }

    /// As [`Self::hash_ready`]. Before each block, `keep_going` says whether to go on.
    pub(super) fn hash_ready_while(&self, keep_going: &mut dyn FnMut() -> bool) -> Result<(), DiskError> {
        self.hash_on_threads(None, keep_going)
    }

    /// Verifies the pieces of a part that was just opened. Drops those that are wrong or cannot be read, and returns
    /// the verified ranges with their checksums, for the journal.
    pub(super) fn verify_claimed(
        &self,
        keep_going: &mut dyn FnMut() -> bool,
    ) -> Result<CrcRanges, DiskError> {
        let verified = Mutex::default();
        self.hash_on_threads(Some(&verified), keep_going)?;
        let mut state = self.state();
        state.written = state.pieces.keep_verified();
        Ok(verified.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn hash_on_threads(
        &self,
        verified: Option<&Mutex<CrcRanges>>,
        keep_going: &mut dyn FnMut() -> bool,
    ) -> Result<(), DiskError> {
        if !self.has_list() {
            return self.hash_lanes(None, &mut || Ok(keep_going()));
        }
        // One thread for each pair of blocks is enough.
        let pairs = usize::try_from(self.ready() / (2 * BLOCK as u64)).unwrap_or(usize::MAX);
        let mut own = || Ok(keep_going());
        share(self.threads.min(pairs), &mut own, |keep_going| self.hash_lanes(verified, keep_going))
    }

    /// Hashes two pieces side by side, as long as there are pieces with bytes.
    fn hash_lanes(
        &self,
        verified: Option<&Mutex<CrcRanges>>,
        keep_going: &mut dyn FnMut() -> Result<bool, DiskError>,
    ) -> Result<(), DiskError> {
        let (mut first, mut second) = (None, None);
        loop {
            for lane in [&mut first, &mut second] {
                self.next_lane(lane, verified);
            }
            if first.is_none() {
                std::mem::swap(&mut first, &mut second);
            }
            let Some(a) = &first else { return Ok(()) };
            if !keep_going()? {
                return Err(DiskError::Interrupted { path: self.path() });
            }
            // Equal lengths: the rest of the longer one finds a new companion.
            let shorter = second.as_ref().map_or(u64::MAX, |b| b.guard.ready()).min(a.guard.ready());
            let len = BLOCK.min(usize::try_from(shorter).unwrap_or(BLOCK));
            for lane in [&mut first, &mut second] {
                read(lane, len, verified.is_some())?;
            }
            match (&mut first, &mut second) {
                (Some(a), Some(b)) => {
                    HasherGuard::update_two([&mut a.guard, &mut b.guard], [&a.block, &b.block]);
                }
                (Some(one), None) | (None, Some(one)) => one.guard.update(&one.block),
                (None, None) => {}
            }
        }
    }

    /// Ends the lane's piece if it has no more bytes, and takes the next one.
    fn next_lane<'a>(&'a self, lane: &mut Option<Lane<'a>>, verified: Option<&Mutex<CrcRanges>>) {
        let block = match lane.take() {
            Some(open) if open.guard.ready() > 0 => return *lane = Some(open),
            Some(Lane { guard, start, block, crc }) => {
                let range = ByteRange::new(start, guard.at());
                if guard.finish() == PieceEnd::Verified
                    && let Some(verified) = verified
                {
                    verified.lock().unwrap_or_else(PoisonError::into_inner).insert(range, crc);
                }
                block
            }
            None => Vec::new(),
        };
        *lane = self.take_ready().map(|guard| {
            let start = guard.at();
            Lane { guard, start, block, crc: crc32fast::Hasher::new() }
        });
    }
}

/// Reads the lane's next bytes. `is_resumed`: a piece that cannot be read back is given up, and fetched again.
fn read(lane: &mut Option<Lane<'_>>, len: usize, is_resumed: bool) -> Result<(), DiskError> {
    let Some(open) = lane else { return Ok(()) };
    match open.guard.read_back(&mut open.block, len) {
        Ok(()) if is_resumed => open.crc.update(&open.block),
        Err(_) if is_resumed => lane.take().into_iter().for_each(|given_up| given_up.guard.give_up()),
        read => return read,
    }
    Ok(())
}
