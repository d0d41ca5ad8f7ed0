//! The journal: whatever it claims lies within the file, and no byte is claimed twice.

use provision_core::byte_range::{ByteRange, RangeSet};
use provision_core::digest::Sha256;
use provision_core::journal::{self, Reach, Record};

use crate::text;

/// An input's first byte says how large the file is and how the rest is taken: as a journal's text, or as the inside of
/// lines to which the checksums are put, since no engine guesses those.
pub fn check(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let size = if first & 0x40 == 0 { u64::from(first & 0x3f) } else { u64::MAX - u64::from(first & 0x3f) };
    let sha256 = Sha256::of(b"x");
    let bytes =
        if first & 0x80 == 0 { rest.to_vec() } else { sealed(&journal::header(&sha256, size), text(rest)) };
    let records = journal::parse(&bytes, &sha256, size);
    let mut held = RangeSet::new();
    for Record { range, .. } in &records {
        assert!(!range.is_empty() && range.end <= size, "{range:?} of {size}");
        assert!(!held.overlaps(*range), "{range:?} is claimed twice");
        held.insert(*range);
    }
    if !records.is_empty() {
        assert!(
            bytes.starts_with(journal::header(&sha256, size).as_bytes()),
            "a journal of other bytes is believed"
        );
    }
    let line = |record: &Record| journal::records(record.reach, [(record.range, record.crc)]);
    let again = journal::header(&sha256, size) + &records.iter().map(line).collect::<String>();
    assert_eq!(journal::parse(again.as_bytes(), &sha256, size), records, "written again");
    // A torn end costs records, and makes none.
    let torn = journal::parse(&bytes[..bytes.len() - bytes.len().min(3)], &sha256, size);
    let others = |range: &ByteRange| !records.iter().any(|other| other.range == *range);
    let made = torn.iter().filter(|record| record.reach == Reach::Durable && others(&record.range)).count();
    assert_eq!(made, 0, "{torn:?} of {records:?}");
}

/// A journal with these lines, sealed as records are; a line that begins with `!` is left as it is.
fn sealed(header: &str, lines: &str) -> Vec<u8> {
    let mut journal = header.as_bytes().to_vec();
    for line in lines.split('\n') {
        if let Some(raw) = line.strip_prefix('!') {
            journal.extend_from_slice(raw.as_bytes());
        } else {
            journal.extend_from_slice(format!("{line} {:08x}\n", checksum(line.as_bytes())).as_bytes());
        }
    }
    journal
}

/// CRC-32 (IEEE 802.3), bit by bit: not the program's own, so that both are held against each other.
fn checksum(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}
