//! The journal's text: the ranges of a part file that the next run need not fetch.
//!
//! Text, one record a line. Each record has its own checksum, so a torn or flipped record is dropped and the others
//! stay:
//!
//! ```text
//! provision-journal 1 a70580f0…023d1f 253806246 5d3c9a01     version, digest, size, CRC-32 of the line before it
//! written 0 65536 1c291ca3 0b1e6c55                           start, end, CRC-32 of the bytes, CRC-32 of the line
//! durable 0 65536 1c291ca3 7c0d2f11
//! ```
//!
//! A `durable` record is appended only after `fdatasync` of its bytes: it holds after a power cut (I3). A `written`
//! record is appended every few moments without waiting for the disk. It holds after a kill, since the page cache
//! outlives the process, so a kill costs milliseconds of a transfer instead of the seconds between two syncs.
//!
//! Neither record is trusted: a resume reads the bytes and compares their CRC first. A `written` record that a power
//! cut made false costs its range only. A header with another version, digest or size makes the whole journal void.

use std::fmt::Write as _;

use crate::byte_range::ByteRange;
use crate::digest::Sha256;

/// The longest journal that is read. Records join, so a real one has a few thousand lines.
pub const MAX_BYTES: u64 = 64 << 20;

/// The storage that bytes had reached when their record was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Into the page cache.
    Written,
    /// Onto the disk.
    Durable,
}

/// A statement that these bytes were stored with this CRC-32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// The storage they had reached.
    pub reach: Reach,
    /// The bytes, by position in the file.
    pub range: ByteRange,
    /// CRC-32 of the bytes.
    pub crc: u32,
}

/// The first line of the journal of a part for these bytes.
pub fn header(sha256: &Sha256, size: u64) -> String {
    sealed(format!("provision-journal 1 {sha256} {size}"))
}

/// One line for each range and the CRC-32 of its bytes.
pub fn records(reach: Reach, records: impl IntoIterator<Item = (ByteRange, u32)>) -> String {
    let word = match reach {
        Reach::Written => "written",
        Reach::Durable => "durable",
    };
    records.into_iter().fold(String::new(), |mut text, (range, crc)| {
        text.push_str(&sealed(format!("{word} {} {} {crc:08x}", range.start, range.end)));
        text
    })
}

/// The records of a journal that belongs to these bytes: disjoint, within the size. Empty for anything else.
pub fn parse(bytes: &[u8], sha256: &Sha256, size: u64) -> Vec<Record> {
    let mut lines =
        bytes.split_inclusive(|b| *b == b'\n').map(|line| std::str::from_utf8(line).unwrap_or(""));
    if lines.next() != Some(header(sha256, size).as_str()) {
        return Vec::new();
    }
    let mut all: Vec<Record> =
        lines.filter_map(record).filter(|r| !r.range.is_empty() && r.range.end <= size).collect();
    // Durable bytes were recorded as `written` before, in smaller ranges.
    all.sort_by_key(|record| record.reach == Reach::Written);
    let mut held = crate::byte_range::RangeSet::new();
    all.retain(|record| {
        let is_new = !held.overlaps(record.range);
        if is_new {
            held.insert(record.range);
        }
        is_new
    });
    all
}

fn record(line: &str) -> Option<Record> {
    let (body, _) = line.strip_suffix('\n')?.rsplit_once(' ')?;
    if sealed(body.to_owned()) != line {
        return None;
    }
    let mut fields = body.split(' ');
    let reach = match fields.next()? {
        "written" => Reach::Written,
        "durable" => Reach::Durable,
        _ => return None,
    };
    let (start, end) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let crc = u32::from_str_radix(fields.next()?, 16).ok()?;
    (fields.next().is_none() && start <= end).then_some(Record {
        reach,
        range: ByteRange { start, end },
        crc,
    })
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
        let text = header(&sha, 31) + &records(Reach::Durable, ranges.clone());
        let parsed = parse(text.as_bytes(), &sha, 31);
        assert_eq!(parsed.iter().map(|r| (r.range, r.crc)).collect::<Vec<_>>(), ranges);
        assert!(parse(text.as_bytes(), &sha, 32).is_empty(), "another size");
        assert!(parse(text.as_bytes(), &Sha256::of(b"y"), 31).is_empty(), "another digest");
        assert!(parse(text.replace("journal 1", "journal 2").as_bytes(), &sha, 31).is_empty());
    }

    #[test]
    fn fault_76_a_cut_zeroed_or_greedy_journal_claims_nothing_false() {
        let (sha, ranges) = sample();
        let text = header(&sha, 31) + &records(Reach::Durable, ranges);
        for cut in 0..text.len() {
            assert!(parse(&text.as_bytes()[..cut], &sha, 31).len() <= 3);
        }
        assert!(parse(&vec![0; text.len()], &sha, 31).is_empty());
        let greedy = header(&sha, 31)
            + &records(Reach::Durable, [(ByteRange::new(0, 32), 1), (ByteRange::new(5, 5), 1)]);
        assert!(parse(greedy.as_bytes(), &sha, 31).is_empty(), "beyond the end, and empty");
        let twice = header(&sha, 31)
            + &records(Reach::Durable, [(ByteRange::new(0, 20), 1), (ByteRange::new(10, 30), 1)]);
        assert_eq!(parse(twice.as_bytes(), &sha, 31).len(), 1, "overlapping");
    }

    #[test]
    fn a_range_counts_once_and_a_torn_durable_leaves_the_written() {
        let sha = Sha256::of(b"x");
        let range = ByteRange::new;
        let written = records(Reach::Written, [(range(0, 10), 1), (range(10, 20), 2), (range(30, 40), 3)]);
        let durable = records(Reach::Durable, [(range(0, 20), 4)]);
        let text = header(&sha, 40) + &written + &durable;
        let ranges =
            |text: &str| parse(text.as_bytes(), &sha, 40).iter().map(|r| r.range).collect::<Vec<_>>();
        assert_eq!(ranges(&text), [range(0, 20), range(30, 40)]);
        assert_eq!(ranges(&text[..text.len() - 1]), [range(0, 10), range(10, 20), range(30, 40)]);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_costs_its_record_only(at in 0usize..200, bit in 0u8..8) {
            let (sha, ranges) = sample();
            let head = header(&sha, 31);
            let mut bytes = (head.clone() + &records(Reach::Durable, ranges.clone())).into_bytes();
            let at = head.len() + at % (bytes.len() - head.len());
            bytes[at] ^= 1 << bit;
            let parsed = parse(&bytes, &sha, 31);
            prop_assert!(parsed.iter().all(|r| ranges.contains(&(r.range, r.crc))));
            prop_assert!(!parsed.is_empty());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes, &Sha256::of(b"x"), 31);
        }
    }
}
