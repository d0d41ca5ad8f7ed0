//! File contents that take no memory.
//!
//! [`Content`] is random access to a deterministic file. Generated content is a function of `(seed, word index)`, so
//! any range of a 20 GB file is computed when it is sent or checked. Each 8-byte word is a bijection of its index. So
//! no two aligned words of a file are equal, and a block at the wrong offset always differs.
//!
//! Damage (a flipped bit, a piece of error text) is content over content, so answers know only one kind of body.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// The odd constant of splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The bytes of a file: generated, literal, or another content with damage. A clone is cheap.
#[derive(Clone)]
pub struct Content(Arc<Inner>);

struct Inner {
    kind: Kind,
    digest: OnceLock<[u8; 32]>,
}

enum Kind {
    Generated { seed: u64, size: u64 },
    Literal(Bytes),
    Replaced { base: Content, at: u64, with: Bytes },
}

impl Content {
    /// `size` bytes that depend on `seed` only. The shorter of two sizes is a prefix of the longer one.
    pub fn generated(seed: u64, size: u64) -> Self {
        Self::new(Kind::Generated { seed, size })
    }

    /// As [`Content::generated`], with the header of a safetensors file: one tensor of bytes fills the rest.
    ///
    /// # Panics
    /// If `size` is less than the header's 128 bytes.
    #[must_use]
    pub fn safetensors(seed: u64, size: u64) -> Self {
        const HEADER: u64 = 128;
        assert!(size >= HEADER, "{size} bytes have no room for a header");
        let rest = size - HEADER;
        let json = format!(r#"{{"x":{{"dtype":"U8","shape":[{rest}],"data_offsets":[0,{rest}]}}}}"#);
        let length = HEADER - 8;
        let mut header = length.to_le_bytes().to_vec();
        // The format pads with spaces.
        header.extend(format!("{json:<width$}", width = length as usize).into_bytes());
        Self::generated(seed, size).replaced(0, header)
    }

    /// These bytes.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::new(Kind::Literal(bytes.into()))
    }

    /// This content with `with` written over it at `at`. The size stays: bytes past the end are cut off.
    #[must_use]
    pub fn replaced(&self, at: u64, with: impl Into<Bytes>) -> Self {
        Self::new(Kind::Replaced { base: self.clone(), at, with: with.into() })
    }

    /// This content with bit `bit` (0–7, 0 the lowest) of the byte at `at` inverted; unchanged if `at` is past the end.
    #[must_use]
    pub fn flipped(&self, at: u64, bit: u8) -> Self {
        if at >= self.size() {
            return self.clone();
        }
        let byte = self.slice(at..at + 1)[0] ^ (1 << (bit & 7));
        self.replaced(at, vec![byte])
    }

    fn new(kind: Kind) -> Self {
        Self(Arc::new(Inner { kind, digest: OnceLock::new() }))
    }

    /// The number of bytes.
    pub fn size(&self) -> u64 {
        match &self.0.kind {
            Kind::Generated { size, .. } => *size,
            Kind::Literal(bytes) => bytes.len() as u64,
            Kind::Replaced { base, .. } => base.size(),
        }
    }

    /// Fills `out` with the bytes from `offset` on.
    ///
    /// # Panics
    /// If that reaches past the end.
    pub fn fill(&self, offset: u64, out: &mut [u8]) {
        let end = offset.checked_add(out.len() as u64).filter(|end| *end <= self.size());
        assert!(end.is_some(), "{} bytes at {offset} reach past the end of {} bytes", out.len(), self.size());
        match &self.0.kind {
            Kind::Generated { seed, .. } => generate(*seed, offset, out),
            Kind::Literal(bytes) => {
                let start = offset as usize;
                out.copy_from_slice(&bytes[start..start + out.len()]);
            }
            Kind::Replaced { base, at, with } => {
                base.fill(offset, out);
                let start = offset.max(*at);
                let end = at.saturating_add(with.len() as u64).min(offset + out.len() as u64);
                if start < end {
                    let within = |base: u64| (start - base) as usize..(end - base) as usize;
                    out[within(offset)].copy_from_slice(&with[within(*at)]);
                }
            }
        }
    }

    /// The bytes of a range, in memory.
    ///
    /// # Panics
    /// If the range reaches past the end.
    pub fn slice(&self, range: Range<u64>) -> Vec<u8> {
        let mut out = vec![0; range.end.saturating_sub(range.start) as usize];
        self.fill(range.start, &mut out);
        out
    }

    /// All bytes, in memory.
    pub fn to_vec(&self) -> Vec<u8> {
        self.slice(0..self.size())
    }

    /// The SHA-256 of all bytes. Only the first call hashes them, which takes most of a second per gigabyte.
    pub fn sha256(&self) -> [u8; 32] {
        *self.0.digest.get_or_init(|| {
            let mut hasher = Sha256::new();
            let mut buffer = vec![0; 64 << 10];
            let mut offset = 0;
            while offset < self.size() {
                let length = buffer.len().min((self.size() - offset) as usize);
                self.fill(offset, &mut buffer[..length]);
                hasher.update(&buffer[..length]);
                offset += length as u64;
            }
            hasher.finalize().into()
        })
    }

    /// [`Content::sha256`] as 64 lower-case hex digits.
    pub fn sha256_hex(&self) -> String {
        hex(&self.sha256())
    }

    /// A strong `ETag` with its quotes: equal for equal content, and made without a read of a generated file.
    pub fn etag(&self) -> String {
        format!("\"{}\"", self.tag())
    }

    fn tag(&self) -> String {
        match &self.0.kind {
            Kind::Generated { seed, size } => format!("gen-{seed:x}-{size:x}"),
            Kind::Literal(_) => self.sha256_hex()[..32].to_owned(),
            Kind::Replaced { base, at, with } => {
                format!("{}-r{at:x}-{}", base.tag(), hex(&Sha256::digest(with)[..8]))
            }
        }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({}, {} bytes)", self.tag(), self.size())
    }
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The output function of splitmix64; at state `seed + (index + 1) * GOLDEN` it gives the `index`-th output.
#[inline]
fn word(state: u64) -> u64 {
    let mut z = state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn generate(seed: u64, offset: u64, out: &mut [u8]) {
    let word = |index: u64| word(seed.wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN))).to_le_bytes();
    let skip = (offset % 8) as usize;
    let (head, rest) = out.split_at_mut(((8 - skip) % 8).min(out.len()));
    head.copy_from_slice(&word(offset / 8)[skip..skip + head.len()]);
    let (words, tail) = rest.as_chunks_mut::<8>();
    let mut index = offset.div_ceil(8);
    for chunk in words {
        *chunk = word(index);
        index += 1;
    }
    tail.copy_from_slice(&word(index)[..tail.len()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unaligned_range_equals_that_range_of_the_whole() {
        let content = Content::generated(7, 100);
        let whole = content.to_vec();
        for start in 0..100_usize {
            for end in start..=100 {
                assert_eq!(content.slice(start as u64..end as u64), whole[start..end], "{start}..{end}");
            }
        }
    }

    #[test]
    fn generated_bytes_are_those_of_splitmix64() {
        // First output of the reference implementation for seed 0.
        assert_eq!(Content::generated(0, 8).to_vec(), 0xE220_A839_7B1D_CDAF_u64.to_le_bytes());
        assert_ne!(Content::generated(1, 64).to_vec(), Content::generated(2, 64).to_vec());
    }

    #[test]
    fn a_file_larger_than_memory_can_be_read_at_its_end() {
        let content = Content::generated(3, 20 << 30);
        let a = content.slice((20 << 30) - 13..20 << 30);
        let b = content.slice((20 << 30) - 16..20 << 30);
        assert_eq!(a, b[3..]);
    }

    #[test]
    fn a_safetensors_file_has_a_header_and_fills_the_rest() {
        let content = Content::safetensors(7, 1000);
        let bytes = content.to_vec();
        assert_eq!(bytes[..8], 120_u64.to_le_bytes());
        let header = std::str::from_utf8(&bytes[8..128]).unwrap().trim_end();
        assert_eq!(header, r#"{"x":{"dtype":"U8","shape":[872],"data_offsets":[0,872]}}"#);
        assert_eq!(bytes[128..], Content::generated(7, 1000).to_vec()[128..]);
    }

    #[test]
    fn damage_changes_only_its_own_bytes() {
        let good = Content::generated(7, 64);
        let whole = good.to_vec();
        let flipped = good.flipped(10, 3).to_vec();
        assert_eq!(flipped[10], whole[10] ^ 8);
        assert_eq!(flipped[..10], whole[..10]);
        assert_eq!(flipped[11..], whole[11..]);
        let replaced = good.replaced(60, "error!");
        assert_eq!(replaced.size(), 64);
        assert_eq!(replaced.slice(58..64), [&whole[58..60], b"erro"].concat());
        assert_eq!(replaced.slice(62..63), b"r");
    }

    #[test]
    fn digests_of_nothing_and_of_abc() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Content::generated(1, 0).sha256_hex(), empty);
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Content::bytes("abc").sha256_hex(), abc);
    }

    #[test]
    #[should_panic(expected = "reach past the end")]
    fn a_read_past_the_end_panics() {
        Content::generated(1, 10).fill(5, &mut [0; 6]);
    }
}
