//! SHA-256 digests, the names of bytes.
//!
//! [`Sha256`] is 32 bytes; as text it is 64 lower-case hex digits, and nothing else parses (an upper-case or shortened
//! digest in a lock is a mistake worth seeing). [`Hasher`] is incremental, so that it can follow a download, and two go
//! along side by side ([`Hasher::update_two`]) where a processor has room for that. The compression itself is the
//! `sha2` crate's, which picks SHA-NI or the `ARMv8` instructions at run time; `lanes` is for two at once.

mod lanes;

use std::fmt;
use std::str::FromStr;

use lanes::{Block, State};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A SHA-256 digest (FIPS 180-4): 32 bytes, written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256([u8; 32]);

/// A text that is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Not 64 characters.
    #[error("a SHA-256 has 64 hex digits, this has {found}")]
    Length {
        /// The number of characters.
        found: usize,
    },
    /// A character outside `0-9a-f`.
    #[error("a SHA-256 is written with 0-9 and a-f, this has {found:?}")]
    Character {
        /// The first such character.
        found: char,
    },
}

impl Sha256 {
    /// A digest from its 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest of `bytes` as a whole message.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The first eight hex digits: enough to tell two versions of one file apart in a file name.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl FromStr for Sha256 {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        if let Some(found) = text.chars().find(|c| !matches!(c, '0'..='9' | 'a'..='f')) {
            return Err(DigestError::Character { found });
        }
        if text.len() != 64 {
            return Err(DigestError::Length { found: text.len() });
        }
        let nibble = |digit: u8| if digit <= b'9' { digit - b'0' } else { digit - b'a' + 10 };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = nibble(pair[0]) << 4 | nibble(pair[1]);
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// SHA-256 of bytes that arrive piece by piece.
#[derive(Clone)]
pub struct Hasher {
    state: State,
    /// Bytes taken.
    len: u64,
    /// The beginning of a block: `len % 64` bytes.
    rest: Block,
}

/// The state before the first byte (FIPS 180-4, 5.3.3).
const INITIAL: State =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

impl Default for Hasher {
    fn default() -> Self {
        Self { state: INITIAL, len: 0, rest: [0; 64] }
    }
}

impl Hasher {
    /// The state before the first byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let bytes = self.fill(bytes);
        let (blocks, rest) = bytes.as_chunks();
        self.take(blocks);
        self.keep(rest);
    }

    /// Takes the next bytes of two messages. With SHA instructions that costs little more than one message.
    pub fn update_two(hashers: [&mut Self; 2], bytes: [&[u8]; 2]) {
        let ([a, b], [for_a, for_b]) = (hashers, bytes);
        let ((blocks_a, rest_a), (blocks_b, rest_b)) = (a.fill(for_a).as_chunks(), b.fill(for_b).as_chunks());
        let both = blocks_a.len().min(blocks_b.len());
        lanes::compress_two([&mut a.state, &mut b.state], &blocks_a[..both], &blocks_b[..both]);
        a.len += both as u64 * 64;
        b.len += both as u64 * 64;
        a.take(&blocks_a[both..]);
        b.take(&blocks_b[both..]);
        a.keep(rest_a);
        b.keep(rest_b);
    }

    /// The digest of every byte taken.
    pub fn finish(mut self) -> Sha256 {
        // FIPS 180-4, 5.1.1: a one, zeros, and the length in bits at the end of a block.
        let bits = self.len.wrapping_mul(8);
        let used = (self.len % 64) as usize;
        let zeros = if used < 56 { 55 - used } else { 119 - used };
        self.update(&[0x80]);
        self.update(&[0; 64][..zeros]);
        self.update(&bits.to_be_bytes());
        let mut digest = [0; 32];
        for (bytes, word) in digest.chunks_exact_mut(4).zip(self.state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        Sha256(digest)
    }

    /// Completes a partial block and returns the bytes that are left.
    fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let used = (self.len % 64) as usize;
        if used == 0 {
            return bytes;
        }
        let (here, left) = bytes.split_at(bytes.len().min(64 - used));
        self.rest[used..used + here.len()].copy_from_slice(here);
        self.len += here.len() as u64;
        if self.len.is_multiple_of(64) {
            sha2::block_api::compress256(&mut self.state, &[self.rest]);
        }
        left
    }

    fn take(&mut self, blocks: &[Block]) {
        sha2::block_api::compress256(&mut self.state, blocks);
        self.len += blocks.len() as u64 * 64;
    }

    /// Keeps the bytes of a partial block.
    fn keep(&mut self, rest: &[u8]) {
        if !rest.is_empty() {
            self.rest[..rest.len()].copy_from_slice(rest);
            self.len += rest.len() as u64;
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::Digest as _;

    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_empty_digest_is_the_published_one() {
        assert_eq!(Sha256::of(b"").to_string(), EMPTY);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_have_the_digest_that_sha2_gives(
            a in prop::collection::vec(any::<u8>(), 0..2000),
            b in prop::collection::vec(any::<u8>(), 0..2000),
            cuts in prop::collection::vec((0..300usize, 0..300usize, any::<bool>()), 0..20),
        ) {
            let (mut for_a, mut for_b) = (Hasher::new(), Hasher::new());
            let (mut rest_a, mut rest_b) = (a.as_slice(), b.as_slice());
            for (cut_a, cut_b, together) in cuts {
                let (now_a, now_b);
                (now_a, rest_a) = rest_a.split_at(cut_a.min(rest_a.len()));
                (now_b, rest_b) = rest_b.split_at(cut_b.min(rest_b.len()));
                if together {
                    Hasher::update_two([&mut for_a, &mut for_b], [now_a, now_b]);
                } else {
                    for_a.update(now_a);
                    for_b.update(now_b);
                }
            }
            Hasher::update_two([&mut for_a, &mut for_b], [rest_a, rest_b]);
            let expected = |bytes: &[u8]| Sha256::from_bytes(sha2::Sha256::digest(bytes).into());
            prop_assert_eq!(for_a.finish(), expected(&a));
            prop_assert_eq!(for_b.finish(), expected(&b));
        }
    }

    #[test]
    fn every_length_up_to_three_blocks_is_padded_right() {
        let bytes: Vec<u8> = (0..192).collect();
        for len in 0..=bytes.len() {
            let expected: [u8; 32] = sha2::Sha256::digest(&bytes[..len]).into();
            assert_eq!(Sha256::of(&bytes[..len]), Sha256::from_bytes(expected), "{len}");
        }
    }

    #[test]
    fn text_and_bytes_round_trip() {
        let digest = Sha256::of(b"abc");
        assert_eq!(digest.to_string().parse::<Sha256>().unwrap(), digest);
        assert_eq!(digest.short(), "ba7816bf");
    }

    #[test]
    fn fault_58_anything_but_64_lower_case_hex_digits_is_refused() {
        assert_eq!("".parse::<Sha256>(), Err(DigestError::Length { found: 0 }));
        assert_eq!(EMPTY[1..].parse::<Sha256>(), Err(DigestError::Length { found: 63 }));
        assert_eq!(format!("{EMPTY}0").parse::<Sha256>(), Err(DigestError::Length { found: 65 }));
        assert_eq!(EMPTY.to_uppercase().parse::<Sha256>(), Err(DigestError::Character { found: 'E' }));
        assert_eq!("é".repeat(32).parse::<Sha256>(), Err(DigestError::Character { found: 'é' }));
        assert_eq!(EMPTY.replace('e', "g").parse::<Sha256>(), Err(DigestError::Character { found: 'g' }));
    }
}
