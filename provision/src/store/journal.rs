//! The journal: which bytes of a part file are durable.
//!
//! Text, one record a line, each with a checksum of its own, so that a torn or flipped record is dropped and the
//! others stay:
//!
//! ```text
//! provision-journal 1 a70580f0…023d1f 253806246 5d3c9a01     version, digest, size, CRC-32 of the line before it
//! 0 8388608 1c291ca3 0b1e6c55                                 start, end, CRC-32 of the bytes, CRC-32 of the line
//! 16777216 20971520 99aa1234 7c0d2f11
//! ```
//!
//! A record is appended only after `fdatasync` of the bytes that it names (I3). What it claims is proven again by
//! reading the bytes before it counts. A header that does not fit (another version, digest or size) makes the whole
//! journal worth nothing.

use std::fmt::Write as _;

use crate::byte_range::ByteRange;
use crate::digest::Sha256;

/// The longest journal that is read. Records join, so a real one has a few thousand lines.
pub(super) const MAX_BYTES: u64 = 64 << 20;

/// A claim: these bytes were durable and had this CRC-32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) range: ByteRange,
    pub(super) crc: u32,
}

pub(super) fn header(sha256: &Sha256, size: u64) -> String {
    sealed(format!("provision-journal 1 {sha256} {size}"))
}

pub(super) fn records(records: impl IntoIterator<Item = (ByteRange, u32)>) -> String {
    records.into_iter().fold(String::new(), |mut text, (range, crc)| {
        text.push_str(&sealed(format!("{} {} {crc:08x}", range.start, range.end)));
        text
    })
}

/// The records of a journal that belongs to these bytes: disjoint, within the size. Empty for anything else.
pub(super) fn parse(bytes: &[u8], sha256: &Sha256, size: u64) -> Vec<Record> {
    let mut lines =
        bytes.split_inclusive(|b| *b == b'\n').map(|line| std::str::from_utf8(line).unwrap_or(""));
    if lines.next() != Some(header(sha256, size).as_str()) {
        return Vec::new();
    }
    let mut held = crate::byte_range::RangeSet::new();
    lines
        .filter_map(record)
        .filter(|record| {
            let before = held.len();
            let fits = !record.range.is_empty() && record.range.end <= size;
            if fits {
                held.insert(record.range);
            }
            // One that overlaps an earlier one was not written by this program.
            fits && held.len() - before == record.range.len()
        })
        .collect()
}

fn record(line: &str) -> Option<Record> {
    let (body, _) = line.strip_suffix('\n')?.rsplit_once(' ')?;
    if sealed(body.to_owned()) != line {
        return None;
    }
    let mut fields = body.split(' ');
    let (start, end) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let crc = u32::from_str_radix(fields.next()?, 16).ok()?;
    (fields.next().is_none() && start <= end).then_some(Record { range: ByteRange { start, end }, crc })
}

fn sealed(mut line: String) -> String {
    let crc = crc32fast::hash(line.as_bytes());
    let _ = writeln!(line, " {crc:08x}");
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> (Sha256, Vec<(ByteRange, u32)>) {
        let ranges = [(0, 10), (20, 30), (30, 31)].map(|(start, end)| (ByteRange::new(start, end), 7));
        (Sha256::of(b"x"), ranges.to_vec())
    }

    #[test]
    fn records_round_trip() {
        let (sha, ranges) = sample();
        let text = header(&sha, 31) + &records(ranges.clone());
        let parsed = parse(text.as_bytes(), &sha, 31);
        assert_eq!(parsed.iter().map(|r| (r.range, r.crc)).collect::<Vec<_>>(), ranges);
        assert!(parse(text.as_bytes(), &sha, 32).is_empty(), "another size");
        assert!(parse(text.as_bytes(), &Sha256::of(b"y"), 31).is_empty(), "another digest");
        assert!(parse(text.replace("journal 1", "journal 2").as_bytes(), &sha, 31).is_empty());
    }

    #[test]
    fn fault_76_a_cut_zeroed_or_greedy_journal_claims_nothing_false() {
        let (sha, ranges) = sample();
        let text = header(&sha, 31) + &records(ranges);
        for cut in 0..text.len() {
            assert!(parse(&text.as_bytes()[..cut], &sha, 31).len() <= 3);
        }
        assert!(parse(&vec![0; text.len()], &sha, 31).is_empty());
        let greedy = header(&sha, 31) + &records([(ByteRange::new(0, 32), 1), (ByteRange::new(5, 5), 1)]);
        assert!(parse(greedy.as_bytes(), &sha, 31).is_empty(), "beyond the end, and empty");
        let twice = header(&sha, 31) + &records([(ByteRange::new(0, 20), 1), (ByteRange::new(10, 30), 1)]);
        assert_eq!(parse(twice.as_bytes(), &sha, 31).len(), 1, "overlapping");
    }

    proptest! {
        #[test]
        fn a_flipped_bit_costs_its_record_only(at in 0usize..200, bit in 0u8..8) {
            let (sha, ranges) = sample();
            let head = header(&sha, 31);
            let mut bytes = (head.clone() + &records(ranges.clone())).into_bytes();
            let at = head.len() + at % (bytes.len() - head.len());
            bytes[at] ^= 1 << bit;
            let parsed = parse(&bytes, &sha, 31);
            prop_assert!(parsed.iter().all(|r| ranges.contains(&(r.range, r.crc))));
            prop_assert!(parsed.len() >= 1);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes, &Sha256::of(b"x"), 31);
        }
    }
}
