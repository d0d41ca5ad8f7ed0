//! The journal's text, for the fuzz targets: see [`crate::fuzzing`].

use super::journal::{self, Reach};
use crate::byte_range::ByteRange;
use crate::digest::Sha256;

/// A record: whether it is `durable`, its bytes, and their checksum.
pub type Record = (bool, ByteRange, u32);

/// A journal's first line.
pub fn journal_header(sha256: &Sha256, size: u64) -> String {
    journal::header(sha256, size)
}

/// A record's line.
pub fn journal_records(records: &[Record]) -> String {
    let line = |(is_durable, range, crc): &Record| {
        journal::records(if *is_durable { Reach::Durable } else { Reach::Written }, [(*range, *crc)])
    };
    records.iter().map(line).collect()
}

/// What a journal claims.
pub fn journal_parse(bytes: &[u8], sha256: &Sha256, size: u64) -> Vec<Record> {
    let records = journal::parse(bytes, sha256, size);
    records.iter().map(|record| (record.reach == Reach::Durable, record.range, record.crc)).collect()
}
