//! Piece lists of generated files, whole and cut off, and lists that lie.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::digest::Hasher;

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

/// A GGUF file with tensors of these lengths, and a vocabulary of that many words.
fn gguf(lengths: &[usize], words: usize, alignment: u32) -> Vec<u8> {
    let text = |file: &mut Vec<u8>, text: &str| {
        file.extend_from_slice(&(text.len() as u64).to_le_bytes());
        file.extend_from_slice(text.as_bytes());
    };
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend_from_slice(&(lengths.len() as u64).to_le_bytes());
    file.extend_from_slice(&4_u64.to_le_bytes());
    text(&mut file, "general.architecture");
    file.extend_from_slice(&8_u32.to_le_bytes());
    text(&mut file, "llama");
    text(&mut file, "general.alignment");
    file.extend_from_slice(&4_u32.to_le_bytes());
    file.extend_from_slice(&alignment.to_le_bytes());
    text(&mut file, "tokenizer.ggml.tokens");
    file.extend_from_slice(&9_u32.to_le_bytes());
    file.extend_from_slice(&8_u32.to_le_bytes());
    file.extend_from_slice(&(words as u64).to_le_bytes());
    (0..words).for_each(|word| text(&mut file, &"w".repeat(word % 9)));
    text(&mut file, "tokenizer.ggml.scores");
    file.extend_from_slice(&9_u32.to_le_bytes());
    file.extend_from_slice(&6_u32.to_le_bytes());
    file.extend_from_slice(&(words as u64).to_le_bytes());
    file.resize(file.len() + 4 * words, 1);
    let mut offset = 0;
    for (tensor, length) in lengths.iter().enumerate() {
        text(&mut file, &format!("blk.{tensor}.weight"));
        file.extend_from_slice(&2_u32.to_le_bytes());
        file.extend_from_slice(&[7; 16]);
        file.extend_from_slice(&0_u32.to_le_bytes());
        file.extend_from_slice(&(offset as u64).to_le_bytes());
        offset += length.next_multiple_of(alignment as usize);
    }
    for (tensor, length) in lengths.iter().enumerate() {
        file.resize(file.len().next_multiple_of(alignment as usize), 0);
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
