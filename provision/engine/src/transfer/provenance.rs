//! Provenance: the source of each byte range of a file in this run. A wrong piece is blamed on the source that alone
//! sent it.
//!
//! Bytes of an earlier run, and bytes that were copied on this machine, have no source. A verified piece is forgotten,
//! so the ranges are at most those of the pieces in progress.

use std::collections::BTreeMap;

use provision_core::byte_range::ByteRange;

/// The sources of a file's bytes.
#[derive(Debug, Default)]
pub(super) struct Provenance {
    /// start → (end, source); neighbours of one source are joined.
    ranges: BTreeMap<u64, (u64, usize)>,
}

/// The senders of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Senders {
    /// Each source with the number of its bytes, in the order of the sources.
    pub(super) sources: BTreeMap<usize, u64>,
    /// The number of bytes without a source.
    pub(super) unknown: u64,
}

impl Senders {
    /// The source that sent every byte.
    pub(super) fn only(&self) -> Option<usize> {
        match self.sources.first_key_value() {
            Some((source, _)) if self.sources.len() == 1 && self.unknown == 0 => Some(*source),
            _ => None,
        }
    }
}

impl Provenance {
    /// `source` sends the bytes of `range`, which replace earlier ones.
    pub(super) fn record(&mut self, range: ByteRange, source: usize) {
        if range.is_empty() {
            return;
        }
        self.forget(range);
        let ByteRange { mut start, mut end } = range;
        if let Some(&(right_end, right)) = self.ranges.get(&end)
            && right == source
        {
            self.ranges.remove(&end);
            end = right_end;
        }
        if let Some((&left_start, &(left_end, left))) = self.ranges.range(..start).next_back()
            && left_end == start
            && left == source
        {
            start = left_start;
        }
        self.ranges.insert(start, (end, source));
    }

    /// The bytes of `range` have no source.
    pub(super) fn forget(&mut self, range: ByteRange) {
        let touched: Vec<_> =
            self.touching(range).map(|(start, (end, source))| (*start, *end, *source)).collect();
        for (start, end, source) in touched {
            self.ranges.remove(&start);
            if start < range.start {
                self.ranges.insert(start, (range.start, source));
            }
            if end > range.end {
                self.ranges.insert(range.end, (end, source));
            }
        }
    }

    fn touching(&self, range: ByteRange) -> impl Iterator<Item = (&u64, &(u64, usize))> {
        let before = self.ranges.range(..range.end).rev();
        before.take_while(move |(_, (end, _))| *end > range.start && !range.is_empty())
    }

    /// No byte has a source.
    pub(super) fn clear(&mut self) {
        self.ranges.clear();
    }

    /// The senders of `range`.
    pub(super) fn senders(&self, range: ByteRange) -> Senders {
        let mut senders = Senders { sources: BTreeMap::new(), unknown: range.len() };
        for (&start, &(end, source)) in self.touching(range) {
            let bytes = end.min(range.end) - start.max(range.start);
            *senders.sources.entry(source).or_default() += bytes;
            senders.unknown -= bytes;
        }
        senders
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn provenance_is_what_a_table_of_bytes_would_be(
            steps in prop::collection::vec((0u64..64, 0u64..20, prop::option::of(0usize..3)), 0..40),
            (at, len) in (0u64..64, 0u64..30),
        ) {
            let mut provenance = Provenance::default();
            let mut table = [None; 100];
            for (start, len, source) in steps {
                let range = ByteRange::new(start, start + len);
                match source {
                    Some(source) => provenance.record(range, source),
                    None => provenance.forget(range),
                }
                table[start as usize..(start + len) as usize].fill(source);
            }
            let senders = provenance.senders(ByteRange::new(at, at + len));
            let asked = &table[at as usize..(at + len) as usize];
            let count = |source| asked.iter().filter(|byte| **byte == source).count() as u64;
            for source in 0..3 {
                prop_assert_eq!(senders.sources.get(&source).copied().unwrap_or(0), count(Some(source)));
            }
            prop_assert_eq!(senders.unknown, count(None));
            // Neighbours of one source are one range: memory follows the changes of source, not the writes.
            let changes = table.windows(2).filter(|pair| pair[0] != pair[1] && pair[1].is_some()).count();
            prop_assert!(provenance.ranges.len() <= changes + usize::from(table[0].is_some()));
        }
    }
}
