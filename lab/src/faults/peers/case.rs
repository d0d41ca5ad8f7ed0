//! What goes wrong in each case, in as many ways as it can.
//!
//! curl and wget ask for a range only where something is there to go on from. So the cases about ranges are tried twice:
//! from nothing, and with the file's first bytes under the final name, as an interrupted run of those tools leaves them.
//! What passes goes wrong for the first one or two requests only: a tool that tries again has its chance.

mod redirects;
mod transport;

use std::sync::Mutex;

use provision_testbed::{Claim, Content, Fault, Injection, Recorded, Shape, When};

use super::sandbox::{PATH, Scene};

pub(super) const SIZE: u64 = 6_000_007;
/// How much of the file is there where a run goes on.
const HELD: u64 = 1_000_003;

/// Sets the origins, and says what the tool is told to fetch from, in order.
pub(super) type Prepare = Box<dyn Fn(&Scene) -> Vec<String> + Send + Sync>;

/// One way for a case to happen.
pub(super) struct Trial {
    pub(super) case: u8,
    pub(super) label: String,
    pub(super) content: Content,
    pub(super) start: Start,
    pub(super) prepare: Prepare,
    /// Looks afterwards where the tool went.
    pub(super) trespass: fn(&Scene) -> Vec<&'static str>,
    pub(super) with_token: bool,
    pub(super) needs_mirrors: bool,
}

/// What is under the final name before the run.
pub(super) enum Start {
    Nothing,
    Bytes(Content),
}

/// Every trial, in the catalogue's order.
pub(super) fn all(has_public_address: bool) -> Vec<Trial> {
    let mut trials = ranges();
    trials.extend(transport::all());
    trials.extend(redirects::all(has_public_address));
    trials
}

fn content() -> Content {
    Content::generated(1, SIZE)
}

/// The first bytes of a content of `SIZE`.
fn held(seed: u64) -> Start {
    Start::Bytes(Content::generated(seed, HELD))
}

impl Trial {
    /// The file's origin goes wrong like this, from nothing on.
    fn new(case: u8, label: &str, what: impl Into<Injection>) -> Self {
        let what = what.into();
        Self::prepared(case, label, move |scene| {
            scene.origin.inject(PATH, what.clone());
            vec![scene.origin.url(PATH)]
        })
    }

    fn prepared(
        case: u8,
        label: &str,
        prepare: impl Fn(&Scene) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            case,
            label: label.to_owned(),
            content: content(),
            start: Start::Nothing,
            prepare: Box::new(prepare),
            trespass: |_| Vec::new(),
            with_token: false,
            needs_mirrors: false,
        }
    }

    fn going_on(mut self, start: Start, words: &str) -> Self {
        self.start = start;
        self.label = format!("{}, {words}", self.label);
        self
    }
}

/// From nothing, and from a part.
fn both(case: u8, label: &str, what: impl Into<Injection>) -> [Trial; 2] {
    let what = what.into();
    let part = Trial::new(case, label, what.clone()).going_on(held(1), "going on from a part");
    [Trial::new(case, label, what), part]
}

fn ranges() -> Vec<Trial> {
    let ignore = |accept_ranges| Fault::IgnoreRange { accept_ranges };
    let mut trials = Vec::new();
    trials.extend(both(1, "200 to ranges", ignore(false)));
    trials.extend(both(2, "ranges promised, 200", ignore(true)));
    trials.extend(both(2, "ranges at 0 only", ignore(true).when(When::RangesNotFromZero)));
    trials.extend(both(3, "whole body", Fault::OkWithContentRange { whole: true }));
    trials.extend(both(3, "the range", Fault::OkWithContentRange { whole: false }));
    trials.extend(both(4, "no Content-Range", Fault::NoContentRange));
    trials.extend(both(5, "100 bytes later", Fault::OtherStart { shift: 100 }));
    trials.extend(both(5, "7 bytes earlier", Fault::OtherStart { shift: -7 }));
    trials.extend(both(6, "100 kB at most", Fault::ShorterRange { length: 100_000 }));
    // By its length it is case 11 as well: a head that contradicts itself is not read but asked for again, as 11 wants, and
    // where it always comes that ends in exit 4.
    for (label, claim) in
        [("openly", Claim::Honest), ("by its length", Claim::LengthOnly), ("secretly", Claim::Nothing)]
    {
        trials.extend(both(7, label, Fault::LongerRange { extra: 50_000, claim }));
    }
    trials.extend(both(8, "one byte more", Fault::WrongTotal(SIZE + 1)));
    trials.extend(both(8, "fewer", Fault::WrongTotal(5_000_000)));
    trials.extend(both(9, "total *", Fault::UnknownTotal));
    trials.extend(both(10, "multipart", Fault::Multipart));
    trials.extend(both(11, "10 too few", Fault::WrongLength { delta: -10 }));
    trials.extend(both(11, "10 too many", Fault::WrongLength { delta: 10 }));
    trials.extend(both(12, "twice", Fault::CutBody(300_000).when(When::First(2))));
    for (label, delta) in [("the same", 0), ("5 fewer", -5), ("5 more", 5)] {
        trials.extend(both(13, label, Fault::LengthAndChunked { delta }));
    }
    trials.extend(both(14, "twice", Fault::ChunkedCut(300_000).when(When::First(2))));
    trials.extend(changed());
    trials.push(mirrors());
    trials.extend(both(17, "If-Range never satisfied", Fault::IgnoreIfRange));
    trials.extend(both(18, "weak ETag", Fault::WeakEtag));
    trials.extend(encodings());
    trials.extend(both(20, "identity", Fault::ContentEncoding("identity".to_owned())));
    trials.extend(nothing_left());
    let not_satisfiable =
        |text: Option<&str>| Fault::RangeNotSatisfiable { content_range: text.map(str::to_owned) };
    trials.extend(both(22, "416 without a size", not_satisfiable(None).when(When::Ranges)));
    trials.extend(both(22, "416 */5", not_satisfiable(Some("bytes */5")).when(When::Ranges)));
    trials.extend(both(23, "at once", Fault::LoginPage));
    trials.extend(both(23, "after two answers", Fault::LoginPage.when(When::After(2))));
    let text = "upstream connect error or disconnect".to_owned();
    trials.extend(both(24, "midway", Fault::ErrorText { at: 3_000_000, text }));
    trials.push(flipped());
    trials.extend(both(26, "same size", Fault::OtherContent(Content::generated(2, SIZE))));
    trials.extend(both(26, "another size", Fault::OtherContent(Content::generated(2, SIZE + 1))));
    trials.push(Trial {
        content: Content::generated(1, 0),
        ..Trial::prepared(27, "honest", |scene| vec![scene.origin.url(PATH)])
    });
    trials.extend(endless());
    trials
}

/// 15: another version of the file comes first.
fn changed() -> Vec<Trial> {
    let old = || vec![Fault::OtherContent(Content::generated(9, SIZE)), Fault::Etag("\"old\"".to_owned())];
    let mut cut = old();
    cut.push(Fault::CutBody(300_000));
    vec![
        Trial::new(15, "after a cut", Fault::All(cut).when(When::First(1))),
        Trial::new(15, "after two answers", Fault::All(old()).when(When::First(2))),
        Trial::prepared(15, "between two runs", |scene| vec![scene.origin.url(PATH)])
            .going_on(held(9), "going on from a part of the old one"),
    ]
}

/// 16: the first address ends, the second has another `ETag`.
fn mirrors() -> Trial {
    let prepare = |scene: &Scene| {
        scene.origin.inject(PATH, Fault::status(404).when(When::After(3)));
        scene.host.set_etag(PATH, "\"another\"");
        vec![scene.origin.url(PATH), scene.host.url(PATH)]
    };
    Trial { needs_mirrors: true, ..Trial::prepared(16, "404 after three answers", prepare) }
}

/// 19: the header over bytes that are as they are, and bytes that are really compressed.
fn encodings() -> Vec<Trial> {
    let gzip = || Fault::ContentEncoding("gzip".to_owned());
    let compressed = Fault::All(vec![Fault::OtherContent(stored_gzip(&content())), gzip()]);
    let mut trials = Vec::from(both(19, "only said", gzip()));
    trials.push(Trial::new(19, "really", compressed));
    trials
}

/// A gzip of stored blocks (RFC 1951, 3.2.4; RFC 1952): what does not compress looks like this.
fn stored_gzip(content: &Content) -> Content {
    let bytes = content.to_vec();
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut blocks = bytes.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        out.push(u8::from(blocks.peek().is_none()));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(block);
    }
    out.extend(crc32(&bytes).to_le_bytes());
    out.extend((bytes.len() as u32).to_le_bytes());
    Content::bytes(out)
}

/// Bit by bit: it is needed once.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8)
            .fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (!(crc & 1)).wrapping_add(1)))
    })
}

/// 21: every byte is there already, and an honest origin says 416 to whoever asks for more.
fn nothing_left() -> Vec<Trial> {
    let honest = || Trial::prepared(21, "honest", |scene| vec![scene.origin.url(PATH)]);
    vec![
        honest().going_on(Start::Bytes(content()), "every byte is there"),
        honest().going_on(Start::Bytes(content().flipped(5_000_000, 3)), "one bit of what is there is wrong"),
    ]
}

/// 25: the first answer that has that byte has it wrong.
fn flipped() -> Trial {
    const AT: u64 = 1_234_567;
    Trial::prepared(25, "once", |scene| {
        let seen = Mutex::new(false);
        let first_over_it = move |request: &Recorded, _: usize| {
            let mut words =
                request.range.as_deref().unwrap_or("bytes=0-").trim_start_matches("bytes=").split('-');
            let start = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            let last = words.next().and_then(|word| word.parse().ok()).unwrap_or(SIZE);
            let covers = start <= AT && AT <= last;
            covers && seen.lock().is_ok_and(|mut seen| !std::mem::replace(&mut *seen, true))
        };
        scene.origin.inject(PATH, Fault::FlippedBit { at: AT, bit: 3 }.when(When::custom(first_over_it)));
        vec![scene.origin.url(PATH)]
    })
}

/// 28: slowly, since some write all that comes to the disk.
fn endless() -> Vec<Trial> {
    let new = |chunked: bool, ranges: bool, label: &str| {
        Trial::prepared(28, label, move |scene| {
            scene.origin.shape(Shape::rate(1 << 20));
            let mut faults = vec![Fault::Endless { chunked }];
            if !ranges {
                faults.insert(0, Fault::IgnoreRange { accept_ranges: false });
            }
            scene.origin.inject(PATH, Fault::All(faults));
            vec![scene.origin.url(PATH)]
        })
    };
    vec![
        new(true, true, "chunked, ranges"),
        new(false, true, "to the end of the connection, ranges"),
        new(true, false, "chunked, no ranges"),
        new(false, false, "to the end of the connection, no ranges"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_origin_case_has_a_trial_and_no_other_has() {
        let mut cases: Vec<_> = all(true).iter().map(|trial| trial.case).collect();
        cases.dedup();
        assert!(cases.is_sorted(), "{cases:?}");
        assert_eq!(cases, (1..=35).chain(43..=51).collect::<Vec<_>>());
        assert!(all(false).iter().all(|trial| trial.case != 47));
    }

    #[test]
    fn the_compressed_file_is_a_gzip() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let gzip = stored_gzip(&Content::bytes("abc")).to_vec();
        assert_eq!(gzip[10..], [1, 3, 0, 252, 255, b'a', b'b', b'c', 0xc2, 0x41, 0x24, 0x35, 3, 0, 0, 0]);
    }
}
