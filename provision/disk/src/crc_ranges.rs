//! Written ranges with a checksum each. Adjacent ranges are joined, within a block of the file.
//!
//! A joined checksum cannot be taken apart: a range that loses a byte is lost. The blocks bound that loss.
//!
//! CRC-32 detects accidents: torn writes, zero pages after a power cut, a foreign part file. It need not withstand an
//! attacker, because the digest of the whole file decides. CRC-32 costs a tenth of SHA-256, and the checksums of two
//! adjacent ranges combine into one without reading a byte again.

use std::collections::BTreeMap;

use crc32fast::Hasher;

use provision_core::byte_range::ByteRange;

/// Ranges in different blocks of this length, in bytes, are not joined.
const BLOCK: u64 = 256 << 20;

/// Disjoint ranges, each with the CRC-32 of its bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct CrcRanges {
    /// start → (end, checksum)
    ranges: BTreeMap<u64, (u64, Hasher)>,
}

impl CrcRanges {
    /// Adds a range that overlaps no other.
    pub(crate) fn insert(&mut self, range: ByteRange, mut crc: Hasher) {
        let (mut start, mut end) = (range.start, range.end);
        let is_one_block = |start: u64, end: u64| start / BLOCK == (end - 1) / BLOCK;
        if self.ranges.get(&end).is_some_and(|(right_end, _)| is_one_block(start, *right_end))
            && let Some((right_end, right)) = self.ranges.remove(&end)
        {
            crc.combine(&right);
            end = right_end;
        }
        let left = self.ranges.range(..start).next_back().filter(|(_, (end, _))| *end == start);
        if let Some((&left_start, _)) = left
            && is_one_block(left_start, end)
            && let Some((_, mut left)) = self.ranges.remove(&left_start)
        {
            left.combine(&crc);
            (start, crc) = (left_start, left);
        }
        self.ranges.insert(start, (end, crc));
    }

    /// Forgets every range that has a byte of `range`. Returns true if there was one.
    pub(crate) fn forget(&mut self, range: ByteRange) -> bool {
        let overlapping = |ranges: &BTreeMap<u64, (u64, Hasher)>| {
            let last = ranges.range(..range.end).next_back();
            last.filter(|(_, (end, _))| *end > range.start).map(|(start, _)| *start)
        };
        let before = self.ranges.len();
        while let Some(start) = overlapping(&self.ranges) {
            self.ranges.remove(&start);
        }
        self.ranges.len() < before
    }

    /// The ranges with their checksums, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ByteRange, u32)> + '_ {
        self.ranges.iter().map(|(&start, (end, crc))| (ByteRange::new(start, *end), crc.clone().finalize()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Adds all ranges of `other`, which overlap no other.
    pub(crate) fn append(&mut self, other: Self) {
        for (start, (end, crc)) in other.ranges {
            self.insert(ByteRange::new(start, end), crc);
        }
    }

    /// The number of bytes.
    pub(crate) fn len(&self) -> u64 {
        self.ranges.iter().map(|(start, (end, _))| end - start).sum()
    }
}

/// The checksum of bytes.
pub(crate) fn checksum(bytes: &[u8]) -> Hasher {
    let mut crc = Hasher::new();
    crc.update(bytes);
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_ranges_join_in_any_order() {
        let bytes: Vec<u8> = (0..100u8).collect();
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
            let mut ranges = CrcRanges::default();
            for at in order {
                let slice = &bytes[at * 25..(at + 1) * 25];
                ranges.insert(ByteRange::new(at as u64 * 25, (at as u64 + 1) * 25), checksum(slice));
            }
            let all: Vec<_> = ranges.iter().collect();
            assert_eq!(all, [(ByteRange::new(0, 100), crc32fast::hash(&bytes))]);
        }
    }

    #[test]
    fn a_lost_byte_costs_the_ranges_of_its_block() {
        let mut ranges = CrcRanges::default();
        // Zeros: their checksums combine without them.
        for at in 0..4 * 8 {
            let range = ByteRange::new(at * BLOCK / 8, (at + 1) * BLOCK / 8);
            ranges.insert(range, Hasher::new_with_initial_len(0, range.len()));
        }
        assert_eq!(ranges.iter().count(), 4);
        assert!(ranges.forget(ByteRange::new(2 * BLOCK - 1, 2 * BLOCK + 1)));
        let left: Vec<_> = ranges.iter().map(|(range, _)| range).collect();
        assert_eq!(left, [ByteRange::new(0, BLOCK), ByteRange::new(3 * BLOCK, 4 * BLOCK)]);
        assert!(!ranges.forget(ByteRange::new(BLOCK, 3 * BLOCK)));
    }
}
