//! Torrents of models (version 1: BEP 3), as bytes: the same model and bytes give the same torrent on every machine.
//!
//! A torrent names no time, no version and no machine. Its `info` depends on the file's name, size and bytes alone, so
//! a new web seed or tracker does not change the info hash, and every client that has the file can serve it. Hybrids
//! with version 2 are left out: aria2 and transmission of today's distributions do not take them.

use std::collections::BTreeMap;
use std::fmt;

use sha1::{Digest as _, Sha1};
use url::Url;

use crate::bencode::{Value, value_of};
use crate::lockfile::Model;
use crate::model_path::ModelPath;

/// The lengths of pieces, in bytes. Clients of today take no longer ones.
const SHORTEST: u64 = 256 << 10;
const LONGEST: u64 = 16 << 20;
/// The number of pieces above which they are longer, as far as they may be.
const MOST: u64 = 2048;

/// The end of a torrent's file name.
const ENDING: &str = ".torrent";

/// The longest beginning of a model's name in the name of its torrent, in bytes.
const LONGEST_NAME: usize = 200;

/// The SHA-1 of one piece.
pub type Piece = [u8; 20];

/// The piece length for `size` bytes: the smallest power of two from 256 KiB that makes at most 2048 pieces. For more
/// than 32 GiB it is 16 MiB.
pub fn piece_length(size: u64) -> u64 {
    size.div_ceil(MOST).next_power_of_two().clamp(SHORTEST, LONGEST)
}

/// The SHA-1 of the pieces of bytes that arrive in order.
#[derive(Debug, Clone)]
pub struct PieceHasher {
    length: u64,
    /// The bytes before the first piece that are still to come.
    skipped: u64,
    hasher: Sha1,
    /// The bytes of the piece that is not complete.
    filled: u64,
    pieces: Vec<Piece>,
}

impl PieceHasher {
    /// For bytes that begin at `start` of the whole, in pieces of `length` bytes. Pieces that begin before `start` are
    /// left out.
    pub fn new(length: u64, start: u64) -> Self {
        let skipped = start.next_multiple_of(length) - start;
        Self { length, skipped, hasher: Sha1::new(), filled: 0, pieces: Vec::new() }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let before = self.skipped.min(bytes.len() as u64);
        self.skipped -= before;
        let mut rest = &bytes[before as usize..];
        while !rest.is_empty() {
            let room = (self.length - self.filled).min(rest.len() as u64);
            let (here, after) = rest.split_at(room as usize);
            self.hasher.update(here);
            self.filled += room;
            if self.filled == self.length {
                self.end_piece();
            }
            rest = after;
        }
    }

    /// The complete pieces.
    pub fn complete(self) -> Vec<Piece> {
        self.pieces
    }

    /// All pieces: the bytes have ended, and the last piece may be shorter.
    pub fn finish(mut self) -> Vec<Piece> {
        if self.filled > 0 {
            self.end_piece();
        }
        self.pieces
    }

    fn end_piece(&mut self) {
        self.pieces.push(self.hasher.finalize_reset().into());
        self.filled = 0;
    }
}

/// The info hash: a torrent's name on the network, 40 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InfoHash(Piece);

impl InfoHash {
    /// The info hash of a torrent's bytes. `None` if they are no torrent.
    pub fn of(torrent: &[u8]) -> Option<Self> {
        let info = value_of(torrent, "info")?;
        info.starts_with(b"d").then(|| Self(Sha1::digest(info).into()))
    }
}

impl fmt::Display for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The content of a torrent.
#[derive(Debug, Clone)]
pub struct Torrent {
    info: BTreeMap<&'static str, Value>,
}

impl Torrent {
    /// One model, under its file name.
    pub fn of_file(path: &ModelPath, size: u64, pieces: &[Piece]) -> Self {
        Self::new(path.file_name(), size, pieces, ("length", size.into()))
    }

    /// Models with their sizes, in this order, below a directory `name`.
    pub fn of_set<'a>(
        name: &str,
        files: impl Iterator<Item = (&'a ModelPath, u64)> + Clone,
        pieces: &[Piece],
    ) -> Self {
        let total = files.clone().map(|(_, size)| size).sum();
        let file = |(path, size): (&ModelPath, u64)| {
            let path = Value::List(path.components().map(Value::from).collect());
            Value::Dictionary(BTreeMap::from([("length", size.into()), ("path", path)]))
        };
        Self::new(name, total, pieces, ("files", Value::List(files.map(file).collect())))
    }

    fn new(name: &str, size: u64, pieces: &[Piece], content: (&'static str, Value)) -> Self {
        let info = BTreeMap::from([
            content,
            ("name", name.into()),
            ("piece length", piece_length(size).into()),
            ("pieces", Value::Bytes(pieces.as_flattened().to_vec())),
        ]);
        Self { info }
    }

    /// The torrent's bytes, with web seeds (BEP 19) and a tracker.
    pub fn encode(&self, web_seeds: &[Url], tracker: Option<&Url>) -> Vec<u8> {
        let mut torrent = BTreeMap::from([
            ("created by", "provision".into()),
            ("info", Value::Dictionary(self.info.clone())),
        ]);
        if let Some(tracker) = tracker {
            torrent.insert("announce", tracker.as_str().into());
        }
        if !web_seeds.is_empty() {
            let list = web_seeds.iter().map(|seed| seed.as_str().into()).collect();
            torrent.insert("url-list", Value::List(list));
        }
        Value::Dictionary(torrent).encode()
    }
}

/// The name of the file for a model's torrent: the model's file name and the beginning of its digest. So two models or
/// versions with one name have two torrents.
pub fn file_name(model: &Model) -> String {
    let name = model.path.file_name();
    let name = &name[..name.floor_char_boundary(LONGEST_NAME)];
    format!("{name}.{}{ENDING}", model.sha256.short())
}

/// The name of the file for the torrent of a set.
pub fn set_file_name(name: &str) -> String {
    format!("{name}{ENDING}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    fn path(text: &str) -> ModelPath {
        text.parse().unwrap()
    }

    fn pieces(bytes: &[u8], length: u64) -> Vec<Piece> {
        let mut hasher = PieceHasher::new(length, 0);
        bytes.chunks(7).for_each(|chunk| hasher.update(chunk));
        hasher.finish()
    }

    /// The SHA-1 of "abc" (FIPS 180-4, example).
    const ABC: Piece = [
        0xa9, 0x99, 0x3e, 0x36, 0x47, 0x06, 0x81, 0x6a, 0xba, 0x3e, 0x25, 0x71, 0x78, 0x50, 0xc2, 0x6c, 0x9c,
        0xd0, 0xd8, 0x9d,
    ];

    #[test]
    fn a_file_gives_exactly_these_bytes() {
        let torrent = Torrent::of_file(&path("vae/x.bin"), 3, &pieces(b"abc", piece_length(3)));
        let info = [&b"d6:lengthi3e4:name5:x.bin12:piece lengthi262144e6:pieces20:"[..], &ABC, b"e"].concat();
        let plain = [b"d10:created by9:provision4:info", &info[..], b"e"].concat();
        assert_eq!(torrent.encode(&[], None), plain);
        let seeds = [url("https://a.example/x.bin"), url("http://b.example/y")];
        let encoded = torrent.encode(&seeds, Some(&url("http://t.example/announce")));
        let expected = [
            b"d8:announce25:http://t.example/announce10:created by9:provision4:info",
            &info[..],
            b"8:url-listl23:https://a.example/x.bin18:http://b.example/yee",
        ];
        assert_eq!(encoded, expected.concat());
        assert_eq!(InfoHash::of(&encoded), InfoHash::of(&plain));
        // From `sha1sum` of the bytes of `info`.
        assert_eq!(InfoHash::of(&plain).unwrap().to_string(), "1e354a17f0f856a3a54f867527c134859de80711");
    }

    #[test]
    fn a_set_gives_exactly_these_bytes() {
        let files = [(path("a"), 1), (path("b/c"), 2)];
        let set = Torrent::of_set(
            "models",
            files.iter().map(|(path, size)| (path, *size)),
            &pieces(b"abc", piece_length(3)),
        );
        let expected = [
            &b"d10:created by9:provision4:infod5:filesld6:lengthi1e4:pathl1:aeed6:lengthi2e4:pathl1:b1:ceee"
                [..],
            b"4:name6:models12:piece lengthi262144e6:pieces20:",
            &ABC,
            b"e8:url-listl18:https://h.example/ee",
        ];
        assert_eq!(set.encode(&[url("https://h.example/")], None), expected.concat());
    }

    #[test]
    fn pieces_grow_with_the_size_up_to_16_mib() {
        const MIB: u64 = 1 << 20;
        for (size, length) in [
            (0, MIB / 4),
            (1, MIB / 4),
            (512 * MIB, MIB / 4),
            (512 * MIB + 1, MIB / 2),
            (1024 * MIB, MIB / 2),
            (16 << 30, 8 * MIB),
            ((16 << 30) + 1, 16 * MIB),
            (1 << 40, 16 * MIB),
            (u64::MAX / 2, 16 * MIB),
        ] {
            assert_eq!(piece_length(size), length, "{size}");
        }
    }

    #[test]
    fn pieces_are_the_sha_1_of_their_bytes() {
        let bytes: Vec<u8> = (0..100).collect();
        let expected: Vec<Piece> = bytes.chunks(32).map(|piece| Sha1::digest(piece).into()).collect();
        assert_eq!(pieces(&bytes, 32), expected);
        assert_eq!(pieces(&bytes[..64], 32), expected[..2]);
        assert_eq!(pieces(b"", 32), Vec::<Piece>::new());
        assert_eq!(pieces(b"abc", 32), [ABC]);
    }

    #[test]
    fn a_later_part_gives_the_pieces_that_begin_in_it() {
        let bytes: Vec<u8> = (0..100).collect();
        let all = pieces(&bytes, 32);
        for (start, expected) in
            [(0, &all[..3]), (1, &all[1..3]), (32, &all[1..3]), (33, &all[2..3]), (65, &[])]
        {
            let mut hasher = PieceHasher::new(32, start);
            bytes[start as usize..].chunks(7).for_each(|chunk| hasher.update(chunk));
            assert_eq!(hasher.complete(), expected, "{start}");
        }
    }
}
