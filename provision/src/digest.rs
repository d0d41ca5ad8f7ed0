//! SHA-256 digests: the name by which bytes are known.
//!
//! [`Sha256`] is 32 bytes; as text it is 64 lower-case hex digits, and nothing else parses (an upper-case or
//! shortened digest in a lock is a mistake worth seeing). [`Hasher`] is incremental, so that it can follow a
//! download. The `sha2` crate picks SHA-NI or the `ARMv8` instructions at run time.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::Digest as _;

/// A SHA-256 digest (FIPS 180-4): 32 bytes, written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256([u8; 32]);

/// What is wrong with a text that should be a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Not 64 characters.
    #[error("a SHA-256 has 64 hex digits, this has {found}")]
    Length {
        /// How many characters there are.
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

    /// The digest of `bytes`, which are all there is.
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
#[derive(Clone, Default)]
pub struct Hasher(sha2::Sha256);

impl Hasher {
    /// The state before the first byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of every byte taken.
    pub fn finish(self) -> Sha256 {
        Sha256(self.0.finalize().into())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_empty_digest_is_the_published_one() {
        assert_eq!(Sha256::of(b"").to_string(), EMPTY);
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
    }
}
