//! Half-open byte ranges, sets of them, and the `Content-Range` header.
//!
//! HTTP ranges include their last byte (RFC 9110 section 14.1.2); this project excludes it, as slices do. All
//! conversion happens here.

use std::collections::BTreeMap;
use std::fmt;

/// The bytes `start..end` of a file: `end` is the first that is not in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteRange {
    /// The first byte.
    pub start: u64,
    /// The first byte after it.
    pub end: u64,
}

impl ByteRange {
    /// The bytes `start..end`; empty where `end` is not past `start`.
    pub const fn new(start: u64, end: u64) -> Self {
        Self { start, end: if end < start { start } else { end } }
    }

    /// The number of bytes.
    pub const fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Returns true if it has no bytes.
    pub const fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// The value of a `Range` header for it: `bytes=0-0` is one byte. The range must not be empty.
    pub fn to_header(self) -> String {
        debug_assert!(!self.is_empty(), "HTTP has no empty range");
        format!("bytes={}-{}", self.start, self.end - 1)
    }
}

impl fmt::Debug for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

/// The value of a `Content-Range` header (RFC 9110 section 14.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentRange {
    /// `bytes 0-9/100`, or with `*` for an unknown total.
    Part {
        /// The bytes that the body has.
        range: ByteRange,
        /// The length of the whole, if the origin says it.
        total: Option<u64>,
    },
    /// `bytes */100`, as a 416 has it.
    Unsatisfied {
        /// The length of the whole.
        total: u64,
    },
}

impl ContentRange {
    /// Parses the header's value; `None` for anything that RFC 9110 does not allow.
    pub fn parse(value: &str) -> Option<Self> {
        let (unit, rest) = value.trim().split_once(' ')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (range, total) = rest.trim_start().split_once('/')?;
        if range == "*" {
            return Some(Self::Unsatisfied { total: digits(total)? });
        }
        let (first, last) = range.split_once('-')?;
        let (first, last) = (digits(first)?, digits(last)?);
        let total = if total == "*" { None } else { Some(digits(total)?) };
        // A total that the range does not fit into is valid here: it tells the reader that the file is another.
        if last < first {
            return None;
        }
        Some(Self::Part { range: ByteRange::new(first, last.checked_add(1)?), total })
    }
}

/// A number with digits only: `u64::from_str` would also take a plus sign.
fn digits(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// A set of bytes, kept as disjoint ranges that do not touch.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// start → end
    ranges: BTreeMap<u64, u64>,
}

impl RangeSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `range`, and joins it with the ranges that it touches or overlaps.
    pub fn insert(&mut self, range: ByteRange) {
        if range.is_empty() {
            return;
        }
        let ByteRange { mut start, mut end } = range;
        while let Some((&s, &e)) = self.ranges.range(..=end).next_back() {
            if e < start {
                break;
            }
            self.ranges.remove(&s);
            start = start.min(s);
            end = end.max(e);
        }
        self.ranges.insert(start, end);
    }

    /// Takes the bytes of `range` out.
    pub fn remove(&mut self, range: ByteRange) {
        if range.is_empty() {
            return;
        }
        while let Some((&start, &end)) =
            self.ranges.range(..range.end).next_back().filter(|(_, end)| **end > range.start)
        {
            self.ranges.remove(&start);
            if start < range.start {
                self.ranges.insert(start, range.start);
            }
            if range.end < end {
                self.ranges.insert(range.end, end);
            }
            if start <= range.start {
                return;
            }
        }
    }

    /// The end of the contiguous bytes from `at` on: `at` itself if it lacks that byte.
    pub fn end_from(&self, at: u64) -> u64 {
        self.ranges.range(..=at).next_back().map_or(at, |(_, &end)| end.max(at))
    }

    /// Returns true if it has a byte of `range`.
    pub fn overlaps(&self, range: ByteRange) -> bool {
        !range.is_empty()
            && self.ranges.range(..range.end).next_back().is_some_and(|(_, &end)| end > range.start)
    }

    /// Returns true if it has every byte of `range`.
    pub fn contains(&self, range: ByteRange) -> bool {
        range.is_empty()
            || self.ranges.range(..=range.start).next_back().is_some_and(|(_, &end)| end >= range.end)
    }

    /// The number of bytes.
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|(start, end)| end - start).sum()
    }

    /// Returns true if it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The ranges, ascending.
    pub fn iter(&self) -> impl Iterator<Item = ByteRange> + '_ {
        self.ranges.iter().map(|(&start, &end)| ByteRange { start, end })
    }

    /// The parts of `0..size` that it lacks, ascending.
    pub fn missing(&self, size: u64) -> Vec<ByteRange> {
        let mut missing = Vec::new();
        let mut at = 0;
        for range in self.iter().take_while(|range| range.start < size) {
            if range.start > at {
                missing.push(ByteRange::new(at, range.start));
            }
            at = range.end;
        }
        if at < size {
            missing.push(ByteRange::new(at, size));
        }
        missing
    }
}

impl fmt::Debug for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl FromIterator<ByteRange> for RangeSet {
    fn from_iter<I: IntoIterator<Item = ByteRange>>(ranges: I) -> Self {
        let mut set = Self::new();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_counts_its_last_byte_in() {
        assert_eq!(ByteRange::new(0, 1).to_header(), "bytes=0-0");
        assert_eq!(ByteRange::new(5, 10).to_header(), "bytes=5-9");
    }

    #[test]
    fn content_range_takes_what_the_rfc_allows() {
        let part = |start, end, total| Some(ContentRange::Part { range: ByteRange::new(start, end), total });
        assert_eq!(ContentRange::parse("bytes 0-9/100"), part(0, 10, Some(100)));
        assert_eq!(ContentRange::parse("Bytes 5-5/*"), part(5, 6, None));
        assert_eq!(ContentRange::parse("bytes */100"), Some(ContentRange::Unsatisfied { total: 100 }));
        for bad in [
            "",
            "bytes",
            "bytes 0-9",
            "bytes 9-0/100",
            "bytes -9/100",
            "bytes 0-/100",
            "bytes +0-9/100",
            "bytes */*",
            "items 0-9/100",
            "bytes 0-18446744073709551615/*",
            "bytes 0-9/1e3",
            "bytes 0-99999999999999999999/*",
        ] {
            assert_eq!(ContentRange::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_set_joins_what_touches() {
        let mut set = RangeSet::new();
        set.insert(ByteRange::new(10, 20));
        set.insert(ByteRange::new(30, 40));
        assert_eq!(set.missing(50), [ByteRange::new(0, 10), ByteRange::new(20, 30), ByteRange::new(40, 50)]);
        set.insert(ByteRange::new(20, 30));
        assert_eq!(set.iter().collect::<Vec<_>>(), [ByteRange::new(10, 40)]);
        assert!(set.contains(ByteRange::new(15, 40)));
        assert!(!set.contains(ByteRange::new(9, 11)));
    }

    proptest! {
        #[test]
        fn a_set_is_what_a_bitmap_would_be(
            ranges in prop::collection::vec((0u64..64, 0u64..20, prop::bool::weighted(0.7)), 0..20),
        ) {
            let mut set = RangeSet::new();
            let mut bitmap = [false; 100];
            for (start, len, is_added) in ranges {
                let range = ByteRange::new(start, start + len);
                if is_added { set.insert(range) } else { set.remove(range) }
                bitmap[start as usize..(start + len) as usize].fill(is_added);
            }
            prop_assert_eq!(set.len(), bitmap.iter().filter(|b| **b).count() as u64);
            for at in 0..100u64 {
                prop_assert_eq!(set.contains(ByteRange::new(at, at + 1)), bitmap[at as usize]);
                let any = bitmap[at as usize..(at as usize + 7).min(100)].contains(&true);
                prop_assert_eq!(set.overlaps(ByteRange::new(at, (at + 7).min(100))), any);
                let end = (at..100).find(|at| !bitmap[*at as usize]).unwrap_or(100);
                prop_assert_eq!(set.end_from(at), end);
            }
            let missing: RangeSet = set.missing(100).into_iter().collect();
            prop_assert_eq!(missing.len() + set.len(), 100);
        }

        #[test]
        fn no_content_range_makes_it_panic(value in ".*") {
            let _ = ContentRange::parse(&value);
        }
    }
}
