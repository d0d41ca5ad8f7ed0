//! A reader of journals that shares no code with the program under test.

use camino::Utf8Path;

use super::models::covered;

/// A record says that bytes `start..end` are in the part file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    /// The bytes survive a power cut.
    pub(super) durable: bool,
    pub(super) start: u64,
    pub(super) end: u64,
    crc: u32,
}

impl Record {
    /// The part file has the bytes that the record claims.
    pub(super) fn holds(&self, part: &[u8]) -> bool {
        let range = usize::try_from(self.start).ok().zip(usize::try_from(self.end).ok());
        let claimed = range.and_then(|(start, end)| part.get(start..end));
        claimed.is_some_and(|claimed| crc32fast::hash(claimed) == self.crc)
    }
}

/// The digest of the journal's file, and the records whose lines are intact. `None` if the text is not a journal.
pub(super) fn parse(text: &[u8]) -> Option<(String, Vec<Record>)> {
    let mut lines = text.split_inclusive(|byte| *byte == b'\n').map(intact);
    let head = lines.next()??;
    let mut words = head.split(' ');
    if (words.next(), words.next()) != (Some("provision-journal"), Some("1")) {
        return None;
    }
    let digest = words.next()?.to_owned();
    Some((digest, lines.flatten().filter_map(record).collect()))
}

/// A line without its checksum, if the checksum is right.
fn intact(line: &[u8]) -> Option<&str> {
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

/// The number of bytes of `part` that the records hold, each byte once.
pub(super) fn held(records: &[Record], part: &[u8]) -> u64 {
    let holding = records.iter().filter(|record| record.holds(part));
    covered(holding.map(|record| (record.start, record.end)))
}

/// The part file of a journal.
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
    fn intact_lines_are_read_and_torn_ones_dropped() {
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
        assert_eq!(held(&records, b"abcdxxxx"), 4, "two records, counted once");
        assert_eq!(held(&records, b"xbcdxxxx"), 0);
    }

    #[test]
    fn other_texts_are_not_journals() {
        assert!(parse(b"").is_none());
        assert!(parse(&[0; 100]).is_none());
        assert!(parse(line("provision-journal 2 aa 10").as_bytes()).is_none());
    }
}
