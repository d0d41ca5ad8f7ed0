//! A safetensors file's header: a check of it, and the extents of the tensors.
//!
//! The lock has the last word: a file with the right digest is installed, whatever it contains. But a lock can be made
//! from wrong bytes, and the loader that fails on them later does not name the file. So the program checks the header
//! of each installed file and warns about one that does not parse.
//!
//! The format (huggingface/safetensors, README, "Format"): eight bytes, the header's length N, little-endian; N bytes
//! of JSON that begin with `{` and may end with spaces; then the tensors' bytes. The JSON names each tensor with
//! `dtype`, `shape` and `data_offsets`, the latter relative to the header's end, without holes or overlaps;
//! `__metadata__` is free text. The format limits N to 100 MB. Two numbers for each tensor are kept in memory.

use std::fmt;
use std::io::{BufReader, Read};

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::byte_size::ByteSize;

/// The longest header that the format allows, in bytes.
const LONGEST_HEADER: u64 = 100_000_000;
/// The key of free text, which is no tensor.
const METADATA: &str = "__metadata__";

/// A header that does not parse.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// The file is too short for the header's length.
    #[error("it has {}, and the length of its header alone takes 8 bytes", ByteSize(*size).exact())]
    NoLength {
        /// The file's length.
        size: u64,
    },
    /// The header would be longer than the file, or than the format allows.
    #[error(
        "its header would have {}, and the file has {}; a header has 100 MB at most",
        ByteSize(*length).exact(),
        ByteSize(*size).exact()
    )]
    Length {
        /// The length in the first eight bytes.
        length: u64,
        /// The file's length.
        size: u64,
    },
    /// Not the JSON of a header.
    #[error("its header is not what the format asks for, at line {line}, column {column}")]
    Json {
        /// The line within the header.
        line: usize,
        /// The column.
        column: usize,
    },
    /// The tensors do not fill the rest of the file, one after the other.
    #[error(
        "its tensors fill {} after the header, and {} are there",
        ByteSize(*expected).exact(),
        ByteSize(*found).exact()
    )]
    Extent {
        /// The end of the last tensor, or the position of the first gap or overlap.
        expected: u64,
        /// Bytes after the header.
        found: u64,
    },
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(std::io::Error),
}

/// Checks the header of the `size` bytes that `file` begins with. Reads no more than it has to.
pub fn check(mut file: impl Read, size: u64) -> Result<(), HeaderError> {
    let Some(rest) = size.checked_sub(8) else { return Err(HeaderError::NoLength { size }) };
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(HeaderError::Read)?;
    let length = u64::from_le_bytes(length);
    if length > rest || length > LONGEST_HEADER {
        return Err(HeaderError::Length { length, size });
    }
    extents(&mut file.take(length), rest - length).map(drop)
}

/// First byte and end of each tensor, relative to the header's end, ascending: they fill the `found` bytes behind it.
///
/// # Errors
/// `header` is not the JSON of a header, or its tensors leave a gap, overlap or end elsewhere.
pub fn extents(header: &mut dyn Read, found: u64) -> Result<Vec<(u64, u64)>, HeaderError> {
    let Header(mut extents) = serde_json::from_reader(BufReader::new(header)).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        if error.is_io() { HeaderError::Read(error.into()) } else { HeaderError::Json { line, column } }
    })?;
    extents.sort_unstable();
    let mut at = 0;
    for &(start, end) in &extents {
        if start != at || end < start {
            return Err(HeaderError::Extent { expected: at, found });
        }
        at = end;
    }
    if at == found { Ok(extents) } else { Err(HeaderError::Extent { expected: at, found }) }
}

/// First byte and end of each tensor, in the header's order.
struct Header(Vec<(u64, u64)>);

#[derive(serde::Deserialize)]
struct Tensor {
    #[serde(rename = "dtype")]
    _dtype: Kind,
    #[serde(rename = "shape")]
    _shape: Vec<Length>,
    data_offsets: (u64, u64),
}

/// A dimension's length, which is checked and takes no memory.
#[derive(serde::Deserialize)]
#[serde(from = "u64")]
struct Length;

impl From<u64> for Length {
    fn from(_: u64) -> Self {
        Self
    }
}

/// A data type's name. The format gains new ones, so any name is accepted.
struct Kind;

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Kind;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a data type")
            }

            fn visit_str<E>(self, _: &str) -> Result<Kind, E> {
                Ok(Kind)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tensors;
        impl<'de> Visitor<'de> for Tensors {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut extents = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA {
                        let _: IgnoredAny = map.next_value()?;
                        continue;
                    }
                    let tensor: Tensor = map.next_value()?;
                    if tensor.data_offsets.1 < tensor.data_offsets.0 {
                        return Err(A::Error::custom("a tensor ends before it begins"));
                    }
                    extents.push(tensor.data_offsets);
                }
                Ok(Header(extents))
            }
        }
        deserializer.deserialize_map(Tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 7);
        bytes
    }

    fn of(bytes: &[u8]) -> Result<(), HeaderError> {
        check(bytes, bytes.len() as u64)
    }

    const TWO: &str = r#"{"__metadata__":{"format":"pt"},
        "b":{"dtype":"F8_E4M3","shape":[2,3],"data_offsets":[4,10]},
        "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}   "#;

    #[test]
    fn a_right_header_is_right_and_empty_tensors_are_too() {
        of(&file(TWO, 10)).unwrap();
        of(&file("{}", 0)).unwrap();
        of(&file(r#"{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#, 0)).unwrap();
    }

    #[test]
    fn what_does_not_fit_is_told_apart() {
        assert!(matches!(of(b"short"), Err(HeaderError::NoLength { size: 5 })));
        assert!(matches!(of(&[0xff; 100]), Err(HeaderError::Length { .. })));
        assert!(matches!(of(&file(TWO, 9)), Err(HeaderError::Extent { expected: 10, found: 9 })));
        assert!(matches!(of(&file(TWO, 11)), Err(HeaderError::Extent { .. })));
        let gap = TWO.replace("[4,10]", "[5,10]");
        assert!(matches!(of(&file(&gap, 10)), Err(HeaderError::Extent { expected: 4, .. })));
        let overlap = TWO.replace("[4,10]", "[3,10]");
        assert!(matches!(of(&file(&overlap, 10)), Err(HeaderError::Extent { .. })));
        for header in
            ["", "{", "[]", "{\"a\":1}", &TWO.replace("[4,10]", "[10,4]"), &TWO.replace("shape", "shap")]
        {
            assert!(matches!(of(&file(header, 10)), Err(HeaderError::Json { .. })), "{header}");
        }
    }

    #[test]
    fn sizes_are_shown_with_their_units() {
        let said = |bytes: &[u8]| of(bytes).unwrap_err().to_string();
        assert!(said(b"x").starts_with("it has 1 byte, "));
        let long = said(&[&70_000_u64.to_le_bytes()[..], b"{}"].concat());
        assert!(long.contains("70 kB (70000 bytes), and the file has 10 bytes"), "{long}");
        let more = said(&file("{}", 4_257_000));
        assert!(
            more.ends_with("fill 0 bytes after the header, and 4.26 MB (4257000 bytes) are there"),
            "{more}"
        );
    }

    #[test]
    fn no_more_is_read_than_the_header_and_no_header_over_the_limit() {
        struct Counting(u64);
        impl Read for Counting {
            fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
                into.fill(b' ');
                if self.0 == 0 {
                    into[..8].copy_from_slice(&(LONGEST_HEADER + 1).to_le_bytes());
                }
                self.0 += into.len() as u64;
                Ok(into.len())
            }
        }
        let mut endless = Counting(0);
        let result = check(&mut endless, u64::MAX);
        assert!(matches!(result, Err(HeaderError::Length { .. })));
        assert_eq!(endless.0, 8);
    }

    #[test]
    fn a_deep_header_ends_soon() {
        let deep = format!("{{\"__metadata__\":{}", "[".repeat(1_000_000));
        assert!(matches!(of(&file(&deep, 0)), Err(HeaderError::Json { .. })));
    }
}
