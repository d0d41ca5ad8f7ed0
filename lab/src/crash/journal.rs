//! What a journal claims, read without the code on trial.

use camino::Utf8Path;

/// A claim: bytes `start..end` are in the part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    /// It claims that they survive a power cut.
    pub(super) durable: bool,
    pub(super) start: u64,
    pub(super) end: u64,
    crc: u32,
}

impl Record {
    /// Whether `bytes`, the whole part file, has what it claims.
    pub(super) fn holds(&self, bytes: &[u8]) -> bool {
        let range = usize::try_from(self.start).ok().zip(usize::try_from(self.end).ok());
        let claimed = range.and_then(|(start, end)| bytes.get(start..end));
        claimed.is_some_and(|claimed| crc32fast::hash(claimed) == self.crc)
    }
}

/// The digest that the journal is for, and its whole records; `None` where it does not begin as one.
pub(super) fn parse(text: &[u8]) -> Option<(String, Vec<Record>)> {
    let mut lines = text.split_inclusive(|byte| *byte == b'\n').map(whole);
    let head = lines.next()??;
    let mut words = head.split(' ');
    if (words.next(), words.next()) != (Some("provision-journal"), Some("1")) {
        return None;
    }
    let digest = words.next()?.to_owned();
    Some((digest, lines.flatten().filter_map(record).collect()))
}

/// A line without its checksum, if that is right.
fn whole(line: &[u8]) -> Option<&str> {
    let (body, crc) = std::str::from_utf8(line).ok()?.strip_suffix('\n')?.rsplit_once(' ')?;
    (u32::from_str_radix(crc, 16).ok()? == crc32fast::hash(body.as_bytes())).then_some(body)
}

fn record(body: &str) -> Option<Record> {
    let mut words = body.split(' ');
    let durable = match words.next()? {
        "durable" => true,
        "written" => false,
        _ => return None,
    };
    let (start, end) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Record { durable, start, end, crc: u32::from_str_radix(words.next()?, 16).ok()? })
}

/// How many bytes `records` hold together that are in `part` as claimed.
pub(super) fn held(records: &[Record], part: &[u8]) -> u64 {
    let mut ranges: Vec<_> =
        records.iter().filter(|record| record.holds(part)).map(|record| (record.start, record.end)).collect();
    ranges.sort_unstable();
    let (mut sum, mut reached) = (0, 0);
    for (start, end) in ranges {
        let start = start.max(reached);
        sum += end.saturating_sub(start);
        reached = reached.max(end);
    }
    sum
}

/// The part that a journal is about.
pub(super) fn part_of(journal: &Utf8Path) -> camino::Utf8PathBuf {
    journal.with_extension("part")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(body: &str) -> String {
        format!("{body} {:08x}\n", crc32fast::hash(body.as_bytes()))
    }

    #[test]
    fn whole_lines_are_read_and_torn_ones_dropped() {
        let crc = crc32fast::hash(b"abcd");
        let text = line("provision-journal 1 aa 10")
            + &line(&format!("written 0 4 {crc:08x}"))
            + &line(&format!("durable 0 4 {crc:08x}"))
            + "durable 4 8 0000";
        let (digest, records) = parse(text.as_bytes()).unwrap();
        assert_eq!((digest.as_str(), records.len()), ("aa", 2));
        assert!(!records[0].durable && records[1].durable);
        assert!(records[1].holds(b"abcdxxxx"));
        assert!(!records[1].holds(b"abc"), "shorter than it claims");
        assert!(!records[1].holds(b"abcexxxx"));
        assert_eq!(held(&records, b"abcdxxxx"), 4, "said twice, counted once");
        assert_eq!(held(&records, b"xbcdxxxx"), 0);
    }

    #[test]
    fn what_is_no_journal_claims_nothing() {
        assert!(parse(b"").is_none());
        assert!(parse(&[0; 100]).is_none());
        assert!(parse(line("provision-journal 2 aa 10").as_bytes()).is_none());
    }
}
