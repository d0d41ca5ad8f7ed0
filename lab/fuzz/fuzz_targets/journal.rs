//! The journal: its records lie within the file, and none overlap.
#![no_main]

use libfuzzer_sys::fuzz_target;
use provision_core::byte_range::{ByteRange, RangeSet};
use provision_core::digest::Sha256;
use provision_core::journal::{self, Reach, Record};
use provision_fuzz::{bounded, text};

fuzz_target!(|data: &[u8]| bounded(data, check));

/// An input's first byte says how large the file is and how the rest is read: as a journal's text, or as lines that
/// still lack their checksums, which libFuzzer cannot guess.
fn check(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let size = if first & 0x40 == 0 { u64::from(first & 0x3f) } else { u64::MAX - u64::from(first & 0x3f) };
    let sha256 = Sha256::of(b"x");
    let bytes =
        if first & 0x80 == 0 { rest.to_vec() } else { sealed(&journal::header(&sha256, size), text(rest)) };
    let records = journal::parse(&bytes, &sha256, size);
    let mut held = RangeSet::new();
    for Record { range, .. } in &records {
        assert!(!range.is_empty() && range.end <= size, "{range:?} of {size}");
        assert!(!held.overlaps(*range), "{range:?} overlaps another record");
        held.insert(*range);
    }
    if !records.is_empty() {
        assert!(
            bytes.starts_with(journal::header(&sha256, size).as_bytes()),
            "a journal of another file is accepted"
        );
    }
    let line = |record: &Record| journal::records(record.reach, [(record.range, record.crc)]);
    let again = journal::header(&sha256, size) + &records.iter().map(line).collect::<String>();
    assert_eq!(journal::parse(again.as_bytes(), &sha256, size), records, "records differ after a rewrite");
    // A torn end loses records and adds none.
    let torn = journal::parse(&bytes[..bytes.len() - bytes.len().min(3)], &sha256, size);
    let others = |range: &ByteRange| !records.iter().any(|other| other.range == *range);
    let added = torn.iter().filter(|record| record.reach == Reach::Durable && others(&record.range)).count();
    assert_eq!(added, 0, "{torn:?} of {records:?}");
}

/// A journal of these lines with their checksums; a line that begins with `!` gets none.
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

/// CRC-32 (IEEE 802.3), bit by bit. It shares no code with the program's, so each checks the other.
fn checksum(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}
