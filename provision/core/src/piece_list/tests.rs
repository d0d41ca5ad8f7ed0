//! Piece lists of generated files, whole and cut off, and lists that lie.

use std::fmt::Write as _;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::digest::Hasher;
use crate::gguf::tests::file as gguf;

/// The list of `file`, whose bytes arrive in buffers of these lengths, over and over.
fn list(file: &[u8], buffers: &[usize]) -> PieceList {
    let mut lister = Lister::new(file.len() as u64);
    let mut rest = file;
    for length in buffers.iter().cycle() {
        let (now, left) = rest.split_at((*length).min(rest.len()));
        lister.update(now);
        rest = left;
        if rest.is_empty() {
            break;
        }
    }
    lister.finish(Sha256::of(file))
}

/// Bytes that repeat nowhere soon, other ones for each seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

/// A safetensors file with tensors of these lengths, and that many bytes of free text.
fn safetensors(lengths: &[usize], text: usize) -> Vec<u8> {
    let mut header = format!(r#"{{"__metadata__":{{"text":"{}"}}"#, "x".repeat(text));
    let mut at = 0;
    for (tensor, length) in lengths.iter().enumerate() {
        let end = at + length;
        write!(header, r#","t{tensor}":{{"dtype":"U8","shape":[{length}],"data_offsets":[{at},{end}]}}"#)
            .unwrap();
        at = end;
    }
    header.push('}');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    for (tensor, length) in lengths.iter().enumerate() {
        file.extend_from_slice(&noise(tensor as u64, *length));
    }
    file
}

fn starts(list: &PieceList) -> Vec<u64> {
    list.pieces().iter().map(|piece| piece.range.start).collect()
}

/// The share of the bytes of `new` that lies in pieces of `old`.
fn kept(old: &PieceList, new: &PieceList) -> f64 {
    let held = |piece: &&Piece| old.pieces().iter().any(|other| other.sha256 == piece.sha256);
    let bytes: u64 = new.pieces().iter().filter(held).map(|piece| piece.range.len()).sum();
    bytes as f64 / new.size() as f64
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

#[test]
fn a_safetensors_file_is_cut_behind_its_header_and_around_each_long_tensor() {
    // A long one of two pieces, two short ones together, a long one, and a short one.
    let file = safetensors(&[5 * MIB, 64 * KIB - 1, 10, 64 * KIB, 7], 0);
    let data = 8 + u64::from_le_bytes(file[..8].try_into().unwrap());
    let behind = [0, 4 * MIB, 5 * MIB, 5 * MIB + 64 * KIB + 9, 5 * MIB + 128 * KIB + 9];
    let expected: Vec<u64> = [0].into_iter().chain(behind.iter().map(|at| data + *at as u64)).collect();
    let list = list(&file, &[MIB]);
    assert_eq!(starts(&list), expected);
    for piece in list.pieces() {
        let bytes = &file[piece.range.start as usize..piece.range.end as usize];
        assert_eq!(piece.sha256, Sha256::of(bytes));
    }
}

#[test]
fn a_gguf_file_is_cut_at_its_tensors_and_padding_belongs_to_the_one_before() {
    let file = gguf(&[64 * KIB, 100, 64 * KIB + 1, 4 * MIB], 20_000, 64);
    let data = (file.len() - (128 * KIB + 128 + 64 + 4 * MIB)) as u64;
    let behind = [0, 64 * KIB, 64 * KIB + 128, 128 * KIB + 128 + 64];
    let expected: Vec<u64> = [0].into_iter().chain(behind.iter().map(|at| data + *at as u64)).collect();
    assert_eq!(starts(&list(&file, &[MIB])), expected);
}

#[test]
fn a_header_that_grew_by_a_kilobyte_keeps_every_tensor_where_fixed_pieces_keep_none() {
    let lengths = [9 * MIB, 3 * KIB, 300 * KIB, 64 * KIB, 5 * MIB];
    let tensors: usize = lengths.iter().sum();
    for (old, new) in [
        (safetensors(&lengths, 0), safetensors(&lengths, 1024)),
        (gguf(&lengths, 10, 32), gguf(&lengths, 100, 32)),
    ] {
        let least = tensors as f64 / new.len() as f64;
        assert!(kept(&list(&old, &[MIB]), &list(&new, &[MIB])) >= least, "{}", old.len());
        // The same bytes behind a byte that tells no format: this is what cuts at equal offsets would keep.
        let (old, new) = ([b"?", &old[..]].concat(), [b"?", &new[..]].concat());
        assert!(kept(&list(&old, &[MIB]), &list(&new, &[MIB])) < f64::EPSILON);
    }
}

/// A right list of three pieces, for lies.
fn honest() -> Vec<u8> {
    static LIST: LazyLock<Vec<u8>> = LazyLock::new(|| list(&noise(3, 9 * MIB), &[MIB]).write().unwrap());
    LIST.clone()
}

#[test]
fn fault_151_a_list_that_lies_is_told_from_a_right_one_by_what_is_wrong() {
    type Lie = (&'static str, fn(&mut Vec<u8>), PieceListError);
    let size = 9 * MIB as u64;
    let piece = |at, start, length, expected| PieceListError::Piece { at, start, length, expected };
    let count = |count, found, size| PieceListError::Count { count, found, size };
    let lies: [Lie; 16] = [
        ("nothing", Vec::clear, PieceListError::Magic),
        ("another file", |list| list[0] = b'P', PieceListError::Magic),
        ("cut off in its head", |list| list.truncate(63), PieceListError::Short { found: 63 }),
        ("of a later version", |list| list[16] = 2, PieceListError::Version { found: 2 }),
        ("cut off", |list| list.truncate(64 + 131), count(3, 64 + 131, size)),
        ("with bytes behind it", |list| list.push(0), count(3, 64 + 133, size)),
        ("claims", |list| list[20..24].fill(0xff), count(u32::MAX.into(), 64 + 132, size)),
        (
            "of no piece",
            |list| {
                list.truncate(64);
                list[20..32].fill(0);
            },
            count(0, 64, 0),
        ),
        (
            "of more pieces than bytes allow",
            |list| {
                for start in 0..3_u8 {
                    list[64 + 44 * start as usize] = start;
                    list[64 + 44 * start as usize + 8..][..4].copy_from_slice(&[1, 0, 0, 0]);
                }
                list[24..32].copy_from_slice(&[3, 0, 0, 0, 0, 0, 0, 0]);
            },
            count(3, 64 + 132, 3),
        ),
        ("of an empty piece", |list| list[72..76].fill(0), piece(0, 0, 0, 0)),
        ("of a long piece", |list| list[72] = 1, piece(0, 0, MAX_PIECE + 1, 0)),
        ("with a gap", |list| list[64 + 44] = 1, piece(1, MAX_PIECE + 1, MAX_PIECE, MAX_PIECE)),
        ("overlapping", |list| list[64 + 88] = 0xff, piece(2, 2 * MAX_PIECE + 0xff, 1 << 20, 2 * MAX_PIECE)),
        ("descending", |list| list[64 + 88..][..8].fill(0), piece(2, 0, 1 << 20, 2 * MAX_PIECE)),
        ("beyond 64 bits", |list| list[64 + 88..][..8].fill(0xff), piece(2, u64::MAX, 0, 2 * MAX_PIECE)),
        ("of a longer file", |list| list[24] = 1, PieceListError::End { end: size, size: size + 1 }),
    ];
    assert!(PieceList::parse(&honest()).is_ok());
    for (name, lie, expected) in lies {
        let mut list = honest();
        lie(&mut list);
        assert_eq!(PieceList::parse(&list), Err(expected), "{name}");
    }
}

fn any_file() -> impl Strategy<Value = Vec<u8>> {
    let length =
        prop_oneof![Just(0), 1..200_usize, 65_500..65_560_usize, 4_194_300..4_194_310_usize, 0..5 * MIB];
    let lengths = prop::collection::vec(length, 0..7);
    prop_oneof![
        (0..9 * MIB).prop_map(|length| noise(1, length)),
        (lengths.clone(), prop_oneof![0..2000_usize, Just(4 * MIB)])
            .prop_map(|(lengths, text)| safetensors(&lengths, text)),
        (lengths, 0..2000_usize, 0..7_u32).prop_map(|(lengths, words, power)| gguf(
            &lengths,
            words,
            1 << power
        )),
    ]
}

#[test]
fn fault_152_a_header_that_lies_about_its_tensors_gives_fixed_pieces() {
    let fixed = |file: &[u8]| {
        let list = list(file, &[MIB]);
        assert_eq!(starts(&list), [0, 4 * MIB as u64], "{}", String::from_utf8_lossy(&file[8..70]));
    };
    let (right, offsets) = (safetensors(&[MIB, 4 * MIB], 0), b"\"data_offsets\":[1048576,5242880]");
    let at = right.windows(offsets.len()).position(|here| here == offsets).unwrap();
    assert_eq!(list(&right, &[MIB]).pieces().len(), 3);
    for lie in ["[1048575,", "[1048577,", "[5242881,", "[184467,1", "[-10485,1", "[1048576 "] {
        let mut file = right.clone();
        file[at + 15..][..lie.len()].copy_from_slice(lie.as_bytes());
        fixed(&file);
    }
    fixed(&right[..right.len() - 1]);
    fixed(&[&right[..], b"x"].concat());
    let gguf = gguf(&[MIB, 4 * MIB], 9, 32);
    assert_eq!(list(&gguf, &[MIB]).pieces().len(), 3);
    fixed(&[b"GGUF\x01", &gguf[5..]].concat());
}

#[test]
fn a_file_of_one_piece_has_no_list_and_an_empty_one_has_an_empty_piece() {
    for length in [0, 1, 4 * MIB] {
        let file = noise(5, length);
        let list = list(&file, &[MIB]);
        assert_eq!(list, PieceList::of_whole(length as u64, Sha256::of(&file)));
        assert_eq!((list.pieces().len(), list.write(), list.digest()), (1, None, None));
    }
}

#[test]
fn a_file_that_was_announced_longer_or_shorter_has_a_list_of_its_bytes() {
    let file = safetensors(&[MIB, MIB], 0);
    for size in [0, 20, MIB, 3 * MIB, usize::MAX >> 1] {
        let mut lister = Lister::new(size as u64);
        lister.update(&file);
        let list = lister.finish(Sha256::of(&file));
        assert_eq!(list.size(), file.len() as u64);
        // The tensors do not fill a file of that size, so they say nothing about it.
        assert_eq!(list.pieces().len(), 1, "{size}");
    }
}

proptest! {
    #[test]
    fn what_is_read_of_a_list_with_other_bytes_is_written_with_the_same(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = honest();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(list) = PieceList::parse(&bytes) {
            prop_assert_eq!(list.write(), Some(bytes));
        }
    }

    #[test]
    fn the_pieces_of_a_range_are_those_that_share_a_byte_with_it(
        lengths in prop::collection::vec(1..=MAX_PIECE, 1..9),
        start in 0..MAX_PIECE * 9,
        length in 0..MAX_PIECE * 3,
    ) {
        let mut end = 0;
        let pieces = lengths.iter().map(|length| {
            let range = ByteRange::new(end, end + length);
            end = range.end;
            Piece { range, sha256: Sha256::of(b"") }
        });
        let pieces: Vec<_> = pieces.collect();
        let list = PieceList { size: end, file: Sha256::of(b""), pieces };
        let range = ByteRange::new(start, start + length);
        let touched = list.touching(range);
        for (at, piece) in list.pieces().iter().enumerate() {
            let shares = piece.range.start.max(range.start) < piece.range.end.min(range.end);
            prop_assert_eq!(touched.contains(&at), shares, "{} {:?} {:?}", at, piece.range, range);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_list_depends_on_the_bytes_alone_and_is_within_its_limits(
        mut file in any_file(),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        buffers in prop::collection::vec(1..300_000_usize, 1..9),
    ) {
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len() + 1));
        }
        let expected = list(&file, &[file.len() + 1]);
        prop_assert_eq!(&list(&file, &buffers), &expected);
        let (mut lister, mut whole) = (Lister::new(file.len() as u64), Hasher::new());
        for buffer in file.chunks(buffers[0]) {
            lister.update_beside(&mut whole, buffer);
        }
        let digest = whole.finish();
        prop_assert_eq!(digest, Sha256::of(&file));
        prop_assert_eq!(&lister.finish(digest), &expected);
        let bytes = expected.write();
        prop_assert_eq!(bytes.is_none(), expected.pieces().len() == 1);
        if let Some(bytes) = bytes {
            prop_assert!(bytes.len() as u64 <= PieceList::max_bytes(file.len() as u64));
            prop_assert_eq!(PieceList::parse(&bytes), Ok(expected));
        }
    }
}
