//! Piece lists: one that is read covers its file, and one that is made depends on the file's bytes alone.
#![no_main]

use libfuzzer_sys::fuzz_target;
use provision_core::byte_range::ByteRange;
use provision_core::digest::{Hasher, Sha256};
use provision_core::piece_list::{Lister, MAX_PIECE, PieceList};
use provision_fuzz::bounded;

/// The head of a list before the number of its pieces.
const HEAD: &[u8; 20] = b"provision-pieces\x01\0\0\0";

fuzz_target!(|data: &[u8]| bounded(data, check));

/// An input's first byte says how the rest is read: as a list, as a list without the beginning that all have, or as the
/// first bytes of a file.
fn check(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    match first & 3 {
        0 => parsed(rest),
        1 => parsed(&[HEAD, rest].concat()),
        _ => listed(first >> 2, rest),
    }
}

/// A list that is read has ascending pieces that touch and cover the file, and is written with the same bytes.
fn parsed(bytes: &[u8]) {
    let Ok(list) = PieceList::parse(bytes) else { return };
    assert!(bytes.len() as u64 <= PieceList::max_bytes(list.size()), "longer than the file allows");
    covers(&list, MAX_PIECE);
    match list.write() {
        Some(written) => assert_eq!(written, bytes, "the list differs after a rewrite"),
        None => assert!(list.is_whole()),
    }
    for (at, piece) in list.pieces().iter().enumerate() {
        assert_eq!(list.touching(piece.range), at..at + 1);
    }
    assert_eq!(list.touching(ByteRange::new(0, list.size())), 0..list.pieces().len());
}

fn covers(list: &PieceList, longest: u64) {
    let mut end = 0;
    for piece in list.pieces() {
        assert_eq!(piece.range.start, end, "a gap or an overlap");
        assert!(!piece.range.is_empty() && piece.range.len() <= longest, "{:?}", piece.range);
        end = piece.range.end;
    }
    assert_eq!(end, list.size());
}

/// A file that begins with `first` and goes on with zeros: 8 KiB of them for each of `units`, so that tensors can be
/// long. Its list is the same however its bytes arrive, and each piece has the digest of its bytes.
fn listed(units: u8, first: &[u8]) {
    const UNIT: usize = 8 << 10;
    let bytes = [first, &vec![0; usize::from(units % 64) * UNIT]].concat();
    let (first, zeros) = bytes.split_at(first.len());
    let size = bytes.len() as u64;
    let mut whole = Hasher::new();
    let mut lister = Lister::new(size);
    let mut in_bits = lister.clone();
    for bytes in [first, zeros] {
        lister.update_beside(&mut whole, bytes);
    }
    for bytes in
        first.chunks(1 + usize::from(first.first().copied().unwrap_or(0) & 15)).chain(zeros.chunks(40_000))
    {
        in_bits.update(bytes);
    }
    let file = whole.finish();
    let list = lister.finish(file);
    assert_eq!(list, in_bits.finish(file), "the list depends on the buffers");
    assert_eq!((list.size(), list.file()), (size, file));
    assert_eq!(file, Sha256::of(&bytes));
    if list.is_whole() {
        return;
    }
    covers(&list, MAX_PIECE);
    for piece in list.pieces() {
        assert_eq!(piece.sha256, Sha256::of(&bytes[piece.range.start as usize..piece.range.end as usize]));
    }
    let written = list.write().expect("a list of several pieces is written");
    assert_eq!(PieceList::parse(&written), Ok(list));
}
