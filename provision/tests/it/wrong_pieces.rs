//! Wrong pieces of a file with a piece list: the piece alone is fetched again, and its sender is blamed.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use provision_core::byte_range::ByteRange;
use provision_core::lockfile::Model;
use provision_disk::PartOptions;
use provision_engine::transfer::{self, Download, DownloadResult, FileError, Transfer};
use provision_testbed::Recorded;

use crate::prelude::*;

const SIZE: u64 = 12 * MAX_PIECE;
/// Bytes a second of each connection: so each source has a share of the file.
const RATE: u64 = 6 << 20;
/// A file at several addresses, each with its own bytes, and the list of the right ones.
struct Listed {
    fixture: Fixture,
    mirrors: Vec<BlockingOrigin>,
    content: Content,
    model: Model,
    pieces: Arc<PieceList>,
    /// The first of the sources are stores.
    stores: usize,
}

/// Source `n` sends `lies[n]`, or the right bytes.
fn listed(lies: &[Option<Content>]) -> Listed {
    let mut fixture = Fixture::in_memory();
    fixture.config.transfer.limits = Limits { connections: 8, per_host: 4 };
    let content = Content::generated(1, SIZE);
    let pieces = Arc::new(list_of(&content));
    let mirrors: Vec<_> = (0..lies.len()).map(|n| start_origin(&format!("127.0.0.{}", 11 + n))).collect();
    for (mirror, lie) in mirrors.iter().zip(lies) {
        mirror.put("/x", lie.clone().unwrap_or(content.clone()));
        mirror.shape(Shape::rate(RATE));
    }
    let model = Model {
        path: "x".parse().unwrap(),
        sources: mirrors.iter().map(|mirror| mirror.url("/x").parse().unwrap()).collect(),
        size: SIZE,
        sha256: content.sha256_hex().parse().unwrap(),
        pieces: pieces.digest(),
        groups: vec![],
        source: None,
    };
    Listed { fixture, mirrors, content, model, pieces, stores: 0 }
}

/// The content with one bit of each of these pieces flipped.
fn with_wrong(pieces: impl IntoIterator<Item = u64>) -> Content {
    let content = Content::generated(1, SIZE);
    pieces.into_iter().fold(content, |content, piece| content.flipped(piece * MAX_PIECE + 12_345, 3))
}

/// The first request for the byte `at`.
fn first_over(at: u64) -> When {
    let seen = AtomicBool::new(false);
    When::custom(move |request: &Recorded, _: usize| {
        let asked = asked(request);
        asked.start <= at && at < asked.end && !seen.swap(true, Ordering::Relaxed)
    })
}

/// The bytes that a request asks for.
fn asked(request: &Recorded) -> ByteRange {
    let bytes = request.range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let (first, last) = bytes.expect("each request names its bytes");
    ByteRange::new(first.parse().unwrap(), last.parse::<u64>().unwrap() + 1)
}

impl Listed {
    fn fetch(&self) -> DownloadResult {
        self.fetch_until(&watch::channel(false).1)
    }

    fn place(&self) -> Arc<Destination> {
        Arc::new(Destination::create(&self.fixture.destination()).unwrap())
    }

    /// The part of an earlier run, or a new one.
    fn part(&self) -> PartFile {
        let pieces = Some(self.pieces.clone());
        let options = PartOptions { pieces, ..PartOptions::from(&PartNames::Shared) };
        PartFile::open(&self.place(), &self.model, options, || true).unwrap()
    }

    /// Fetches as a run does: the part of an earlier run is opened before.
    fn fetch_until(&self, interrupted: &watch::Receiver<bool>) -> DownloadResult {
        let (place, part) = (self.place(), self.part());
        let mut model = self.model.clone();
        let of_stores = model.sources.drain(..self.stores).enumerate();
        let stores = of_stores.collect();
        let download = Download {
            index: 0,
            model,
            pieces: Some(self.pieces.clone()),
            stores,
            place,
            part_names: PartNames::Shared,
            part: Some(part).filter(|part| part.held() > 0),
            then: None,
        };
        let transfer = Transfer {
            origin: HttpClient::new(self.fixture.http_with_token()).unwrap(),
            config: self.fixture.config.transfer.clone(),
            stores: (0..self.stores).map(|n| format!("store {n}")).collect(),
            observer: self.fixture.events.clone(),
            interrupted: interrupted.clone(),
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut results = runtime.block_on(transfer::run(transfer, vec![download]));
        if let Ok(bytes) = std::fs::read(self.fixture.path("x")) {
            assert_eq!(Sha256::of(&bytes), self.model.sha256, "a wrong byte has the final name");
        }
        results.remove(0)
    }

    /// Fetches, and stops when `reached` returns.
    fn fetch_and_stop(&self, reached: impl FnOnce()) -> DownloadResult {
        let (stop, stopped) = watch::channel(false);
        let ended = std::thread::scope(|scope| {
            let run = scope.spawn(|| self.fetch_until(&stopped));
            reached();
            stop.send(true).unwrap();
            run.join().unwrap()
        });
        assert!(matches!(ended.result, Ok(None)), "{ended:?}");
        ended
    }

    /// Fetches, and asserts that all is right.
    fn fetch_right(&self) -> DownloadResult {
        let result = self.fetch();
        let installed =
            result.result.as_ref().map(|installed| installed.as_ref().map(|file| file.verified_by));
        assert!(
            matches!(installed, Ok(Some(Some(VerifiedBy::Pieces)))),
            "{result:?}\n{}",
            self.fixture.events.text()
        );
        result
    }

    fn fail(&self) -> FileError {
        let result = self.fetch();
        result.result.expect_err("the file was installed")
    }

    /// The reasons and sizes of the dropped pieces.
    fn dropped(&self) -> Vec<(u64, String)> {
        self.fixture.events.filter_map(|event| match event {
            Event::Dropped { bytes, reason, .. } => Some((*bytes, reason.clone())),
            _ => None,
        })
    }

    fn sent(&self) -> u64 {
        self.mirrors.iter().map(|mirror| mirror.counters().body_bytes_sent).sum()
    }

    /// The most bytes that are fetched for nothing beside wrong pieces: of each connection, the claim that was cut.
    /// Such a connection closes, and others ask for the rest. Without the first `seen` requests of each source.
    fn in_flight(&self, seen: u64) -> u64 {
        let of = |(at, mirror): (usize, &BlockingOrigin)| {
            mirror.requests_since(seen).into_iter().map(move |one| ((at, one.connection), asked(&one)))
        };
        let claims: Vec<_> = self.mirrors.iter().enumerate().flat_map(of).collect();
        let last: BTreeMap<_, _> = claims.iter().copied().collect();
        let is_shared = |claim: &&ByteRange| {
            let overlaps = |(_, other): &&(_, ByteRange)| other.start < claim.end && claim.start < other.end;
            claims.iter().filter(overlaps).count() > 1
        };
        last.values().filter(is_shared).map(ByteRange::len).sum()
    }

    /// The addresses that the file left for good.
    fn ended(&self) -> Vec<String> {
        self.fixture.events.filter_map(|event| match event {
            Event::SourceEnded { for_now: false, source, .. } => Some(source.clone()),
            _ => None,
        })
    }
}

#[test]
fn fault_161_a_flipped_bit_costs_one_piece_and_its_mirror() {
    // In the lead, and in the mirror beside it; in the first piece, the last one, and one between them.
    for liar in 0..2 {
        for piece in [0, 7, 11] {
            let mut lies = [None, None];
            lies[liar] = Some(with_wrong([piece]));
            let listed = listed(&lies);
            let result = listed.fetch_right();
            let dropped = listed.dropped();
            assert!(dropped.iter().all(|(bytes, _)| *bytes == MAX_PIECE), "{dropped:?}");
            assert_eq!(result.dropped, dropped.len() as u64 * MAX_PIECE);
            assert_eq!(result.fetched, SIZE, "what is held of this run");
            let sent = listed.sent();
            assert!(
                sent <= SIZE + result.dropped + listed.in_flight(0),
                "{sent} bytes for {} dropped",
                result.dropped
            );
            // The other one may have sent the piece first.
            let ended = listed.ended();
            assert!(dropped.len() <= 3 && ended.len() <= 1, "{dropped:?} {ended:?}");
            // The lead asks for the first bytes before another one joins.
            assert!(liar == 1 || piece > 0 || !dropped.is_empty());
            assert!(ended.iter().all(|url| url.contains(&format!("127.0.0.{}", 11 + liar))), "{ended:?}");
            if let [(_, reason)] = &dropped[..]
                && ended.len() == 1
            {
                let range = format!("bytes {} to {}", piece * MAX_PIECE, (piece + 1) * MAX_PIECE - 1);
                assert!(reason.contains(&range) && reason.contains(&ended[0]), "{reason}");
            }
        }
    }
}

#[test]
fn fault_161_a_mirror_with_other_bytes_is_out_at_once() {
    let listed = listed(&[None, Some(Content::generated(2, SIZE))]);
    let result = listed.fetch_right();
    assert!(listed.ended().len() == 1 && listed.ended()[0].contains("127.0.0.12"), "{:?}", listed.ended());
    assert!(result.dropped > 0, "{result:?}");
    assert!(listed.sent() <= SIZE + result.dropped + listed.in_flight(0), "{}", listed.sent());
}

#[test]
fn fault_162_two_sources_that_lie_in_one_piece_are_named() {
    let other = with_wrong([2, 8]).flipped(5 * MAX_PIECE + 1, 1);
    for lie in [with_wrong([5]), other] {
        let listed = listed(&[Some(with_wrong([5])), Some(lie)]);
        let error = listed.fail();
        let text = error.to_string();
        assert!(error.is_integrity(), "exit code 5: {text}");
        for source in ["127.0.0.11", "127.0.0.12"] {
            assert_eq!(text.matches(source).count(), 1, "{text}");
        }
        assert!(text.contains("the piece list says"), "{text}");
        // The same bytes twice, from two sources or from the last one: the list may not be the file's.
        assert!(text.contains("`provision lock check --pieces`"), "{text}");
        assert!(!listed.fixture.path("x").exists());
        // The proven pieces stay: a run with another source needs the rest only.
        let sent = listed.sent();
        listed.mirrors[0].put("/x", listed.content.clone());
        let result = listed.fetch_right();
        assert!(result.resumed > 0 && listed.sent() - sent < SIZE, "{} resumed", result.resumed);
    }
}

#[test]
fn fault_162_the_only_source_is_asked_once_more() {
    let listed = listed(&[Some(with_wrong([5]))]);
    let error = listed.fail();
    assert!(error.is_integrity(), "{error}");
    assert_eq!(listed.dropped().len(), 2, "{:?}", listed.dropped());
    assert!(listed.sent() <= SIZE + 2 * MAX_PIECE + listed.in_flight(0), "{}", listed.sent());
}

#[test]
fn fault_163_a_store_that_lies_in_one_piece_is_out_for_the_run() {
    let mut listed = listed(&[Some(with_wrong([3])), None]);
    listed.stores = 1;
    let result = listed.fetch_right();
    assert_eq!(result.dropped, MAX_PIECE);
    let warnings = listed.fixture.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("store 0"), "{warnings:?}");
    // What the store sent before stays.
    let from_origin = listed.mirrors[1].counters().body_bytes_sent;
    assert!(from_origin <= SIZE - MAX_PIECE, "{from_origin} bytes of {SIZE} from the origin");
}

#[test]
fn fault_164_a_store_costs_no_more_than_its_wrong_pieces() {
    for odd in 0..2 {
        let mut listed = listed(&[Some(with_wrong((0..12).filter(|piece| piece % 2 == odd))), None]);
        listed.stores = 1;
        let result = listed.fetch_right();
        assert!(result.dropped > 0 && result.dropped <= SIZE / 2, "{} bytes dropped", result.dropped);
        assert!(listed.sent() <= SIZE + result.dropped + listed.in_flight(0), "{}", listed.sent());
    }
}

#[test]
fn fault_165_a_stop_during_a_repair_keeps_the_proven_pieces() {
    let listed = listed(&[Some(with_wrong([11]))]);
    let is_dropped = |event: &Event| matches!(event, Event::Dropped { .. });
    let first = listed.fetch_and_stop(|| listed.fixture.events.wait_for(is_dropped));
    assert_eq!(first.dropped, MAX_PIECE);
    listed.mirrors[0].put("/x", listed.content.clone());
    let (sent, seen) = (listed.sent(), listed.mirrors[0].counters().requests);
    // Of each connection, the pieces at both ends of its claim are lost, and no other.
    let lost = 2 * first.connections as u64 * MAX_PIECE;
    let second = listed.fetch_right();
    assert!(second.resumed + lost >= first.fetched, "{second:?} after {first:?}");
    assert_eq!(second.dropped, 0, "the bytes were dropped before");
    assert!(listed.sent() - sent <= SIZE - second.resumed + listed.in_flight(seen));
}

#[test]
fn fault_158_zeroed_pages_cost_their_pieces_only() {
    let listed = listed(&[None]);
    listed.fetch_and_stop(|| {
        listed.mirrors[0].wait_for(PATIENCE, |now| now.body_bytes_sent >= SIZE / 2).unwrap();
    });
    let part = listed.part();
    let held = part.held();
    let proven =
        (0..part.pieces().pieces().len()).find(|piece| !part.lacking_pieces().contains(piece)).unwrap();
    drop(part);
    let names = std::fs::read_dir(listed.fixture.destination()).unwrap().map(|entry| entry.unwrap().path());
    for path in names {
        match path.extension().and_then(std::ffi::OsStr::to_str) {
            Some("part") => {
                let file = std::fs::File::options().write(true).open(&path).unwrap();
                file.write_all_at(&[0; 4096], proven as u64 * MAX_PIECE + 4096).unwrap();
            }
            Some("journal") => std::fs::remove_file(&path).unwrap(),
            _ => {}
        }
    }
    let second = listed.fetch_right();
    assert_eq!(second.resumed, held - MAX_PIECE);
    assert_eq!(second.dropped, 0, "the wrong piece did not count as held");
}

#[test]
fn fault_159_a_dropped_piece_is_in_no_journal() {
    let mut listed = listed(&[Some(with_wrong([6]))]);
    let is_dropped = |event: &Event| matches!(event, Event::Dropped { .. });
    listed.fetch_and_stop(|| listed.fixture.events.wait_for(is_dropped));
    listed.mirrors[0].put("/x", listed.content.clone());
    listed.model.pieces = None;
    let dropped = listed.fixture.events.count(is_dropped);
    let second = listed.fetch();
    let installed = second.result.as_ref().map(|installed| installed.as_ref().map(|file| file.verified_by));
    assert!(matches!(installed, Ok(Some(Some(VerifiedBy::Digest)))), "{second:?}");
    assert_eq!(listed.fixture.events.count(is_dropped), dropped, "no byte of the wrong piece was resumed");
}

#[test]
fn fault_160_right_bytes_of_a_dropped_piece_are_hashed() {
    let listed = listed(&[None]);
    for at in [1, 4, 7, 10].map(|piece| piece * MAX_PIECE + 99) {
        listed.mirrors[0].inject("/x", Fault::FlippedBit { at, bit: 1 }.when(first_over(at)));
    }
    let result = listed.fetch_right();
    assert_eq!(result.fetched, SIZE);
    assert!(result.dropped >= MAX_PIECE && result.dropped <= 4 * MAX_PIECE, "{result:?}");
    assert_eq!(listed.dropped().len() as u64, result.dropped / MAX_PIECE, "no piece is dropped twice");
}

#[test]
fn a_bit_that_flips_in_transit_costs_one_piece() {
    let at = 5 * MAX_PIECE + 77;
    let listed = listed(&[None]);
    listed.mirrors[0].inject("/x", Fault::FlippedBit { at, bit: 3 }.when(first_over(at)));
    let result = listed.fetch_right();
    assert_eq!((result.dropped, result.fetched), (MAX_PIECE, SIZE));
    // No claim was revoked: only a claim that is taken over at the end has bytes in flight.
    assert!(listed.sent() <= SIZE + MAX_PIECE + listed.in_flight(0), "{}", listed.sent() - SIZE);
    let revoked = listed.fixture.events.count(|event| matches!(event, Event::SourceEnded { .. }));
    assert_eq!(revoked, 0);
}
