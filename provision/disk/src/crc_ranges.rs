//! Written ranges with a checksum each. Adjacent ranges are joined.
//!
//! CRC-32 detects accidents: torn writes, zero pages after a power cut, a foreign part file. It need not withstand an
//! attacker, because the digest of the whole file decides. CRC-32 costs a tenth of SHA-256, and the checksums of two
//! adjacent ranges combine into one without reading a byte again.

use std::collections::BTreeMap;

use crc32fast::Hasher;

use provision_core::byte_range::ByteRange;

/// Disjoint, non-adjacent ranges, each with the CRC-32 of its bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct CrcRanges {
    /// start → (end, checksum)
    ranges: BTreeMap<u64, (u64, Hasher)>,
}

impl CrcRanges {
    /// Adds a range that overlaps no other.
    pub(crate) fn insert(&mut self, range: ByteRange, mut crc: Hasher) {
        let (mut start, mut end) = (range.start, range.end);
        if let Some((_, (right_end, right))) = self.ranges.remove_entry(&end) {
            crc.combine(&right);
            end = right_end;
        }
        let left = self.ranges.range(..start).next_back().filter(|(_, (end, _))| *end == start);
        if let Some((&left_start, _)) = left
            && let Some((_, mut left)) = self.ranges.remove(&left_start)
        {
            left.combine(&crc);
            (start, crc) = (left_start, left);
        }
        self.ranges.insert(start, (end, crc));
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
}
