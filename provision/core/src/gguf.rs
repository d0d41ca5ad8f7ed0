//! The tensor table of a GGUF file, read while the file's bytes pass.
//!
//! The format (ggml, docs/gguf.md): `GGUF`, the version, the number of tensors, the number of pairs; each pair a key, a
//! type and a value; for each tensor its name, its dimensions, its type and the offset of its bytes; then the bytes,
//! from the next multiple of `general.alignment` on. All numbers are little-endian. A [`TableReader`] takes the bytes
//! in order and keeps only the extents of long tensors, however large the vocabulary among the pairs is.
//!
//! A tensor ends where the next one begins, and the last one with the file: so the table needs no knowledge of the
//! types' sizes, and padding belongs to the tensor before it. Versions 2 and 3 are read. Nested arrays, which no model
//! has, and offsets that do not ascend, which ggml refuses, are an [`Unreadable`] table.

/// The first bytes of a file.
pub const MAGIC: &[u8; 4] = b"GGUF";

const ALIGNMENT: &[u8; 17] = b"general.alignment";
const DEFAULT_ALIGNMENT: u64 = 32;
/// The most dimensions of a tensor; ggml has four.
const MOST_DIMENSIONS: u64 = 8;

/// The types of values that are no scalars.
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const U32: u32 = 4;

/// Bytes that are not a table of this format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tensor table is not one of GGUF version 2 or 3, or has too many tensors")]
pub struct Unreadable;

/// The extents of the long tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The first byte of the tensors, in bytes from the file's start.
    pub data: u64,
    /// First byte and end of each long tensor, relative to `data`, ascending.
    pub tensors: Vec<(u64, u64)>,
}

/// A part of the table, with the bytes that it has.
#[derive(Debug, Clone, Copy)]
enum Step {
    Head,
    KeyLength,
    Key,
    Type {
        is_alignment: bool,
    },
    Alignment,
    /// The length of a string, and how many follow it.
    String {
        more: u64,
    },
    ArrayHead,
    NameLength,
    Dimensions,
    /// The type and the offset of a tensor.
    Place,
}

impl Step {
    fn bytes(self) -> usize {
        match self {
            Self::Head => 24,
            Self::Key => ALIGNMENT.len(),
            Self::KeyLength | Self::String { .. } | Self::NameLength => 8,
            Self::Type { .. } | Self::Alignment | Self::Dimensions => 4,
            Self::ArrayHead | Self::Place => 12,
        }
    }
}

/// Reads the table of a file whose bytes arrive in order.
#[derive(Debug, Clone)]
pub struct TableReader {
    size: u64,
    /// Tensors of this length or longer are returned.
    least: u64,
    /// The most tensors that are returned.
    most: usize,
    /// Bytes taken.
    at: u64,
    /// Bytes to pass over before the next step.
    skip: u64,
    step: Step,
    /// The bytes of the step so far.
    token: Vec<u8>,
    /// Pairs and tensors that are still to come.
    pairs: u64,
    left: u64,
    alignment: u64,
    /// The offset of the tensor before.
    last: Option<u64>,
    tensors: Vec<(u64, u64)>,
}

impl TableReader {
    /// A reader for a file of `size` bytes. It returns tensors of `least` bytes or more, `most` of them at most.
    pub fn new(size: u64, least: u64, most: usize) -> Self {
        Self {
            size,
            least,
            most,
            at: 0,
            skip: 0,
            step: Step::Head,
            token: Vec::with_capacity(24),
            pairs: 0,
            left: 0,
            alignment: DEFAULT_ALIGNMENT,
            last: None,
            tensors: Vec::new(),
        }
    }

    /// Takes the next bytes of the file. Returns how many of them belong to the table, and the table once it is over:
    /// call it no more then. A table ends with a byte of it, so it may also end exactly with `bytes`.
    pub fn take(&mut self, bytes: &[u8]) -> (usize, Option<Result<Table, Unreadable>>) {
        let mut taken = 0;
        while taken < bytes.len() {
            let rest = &bytes[taken..];
            let here = if self.skip > 0 {
                let here = rest.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
                self.skip -= here as u64;
                here
            } else {
                let here = rest.len().min(self.step.bytes() - self.token.len());
                self.token.extend_from_slice(&rest[..here]);
                here
            };
            taken += here;
            self.at += here as u64;
            if self.token.len() == self.step.bytes() {
                let end = self.next();
                self.token.clear();
                if let Some(end) = end.transpose() {
                    return (taken, Some(end));
                }
            }
        }
        (taken, None)
    }

    /// Ends a step and chooses the next one.
    fn next(&mut self) -> Result<Option<Table>, Unreadable> {
        self.step = match self.step {
            Step::Head => {
                let version = self.u32_at(4);
                (self.left, self.pairs) = (self.u64_at(8), self.u64_at(16));
                if &self.token[..4] != MAGIC || !matches!(version, 2 | 3) || self.left == 0 {
                    return Err(Unreadable);
                }
                self.pair_or_tensor()
            }
            Step::KeyLength => {
                let length = self.u64_at(0);
                if length == ALIGNMENT.len() as u64 {
                    Step::Key
                } else {
                    self.pass(length)?;
                    Step::Type { is_alignment: false }
                }
            }
            Step::Key => Step::Type { is_alignment: self.token == ALIGNMENT },
            Step::Type { is_alignment } => match (self.u32_at(0), is_alignment) {
                (U32, true) => Step::Alignment,
                (_, true) => return Err(Unreadable),
                (STRING, _) => Step::String { more: 0 },
                (ARRAY, _) => Step::ArrayHead,
                (scalar, _) => {
                    self.pass(length_of(scalar)?)?;
                    self.pair_or_tensor()
                }
            },
            Step::Alignment => {
                self.alignment = u64::from(self.u32_at(0));
                if !self.alignment.is_power_of_two() {
                    return Err(Unreadable);
                }
                self.pair_or_tensor()
            }
            Step::String { more } => {
                self.pass(self.u64_at(0))?;
                if more > 0 { Step::String { more: more - 1 } } else { self.pair_or_tensor() }
            }
            Step::ArrayHead => match (self.u32_at(0), self.u64_at(4)) {
                (STRING, count) if count > 0 => Step::String { more: count - 1 },
                (STRING, _) => self.pair_or_tensor(),
                (scalar, count) => {
                    self.pass(length_of(scalar)?.checked_mul(count).ok_or(Unreadable)?)?;
                    self.pair_or_tensor()
                }
            },
            Step::NameLength => {
                self.pass(self.u64_at(0))?;
                Step::Dimensions
            }
            Step::Dimensions => {
                let dimensions = u64::from(self.u32_at(0));
                if dimensions > MOST_DIMENSIONS {
                    return Err(Unreadable);
                }
                self.pass(8 * dimensions)?;
                Step::Place
            }
            Step::Place => {
                self.place(self.u64_at(4))?;
                self.left -= 1;
                if self.left == 0 {
                    return self.end().map(Some);
                }
                Step::NameLength
            }
        };
        Ok(None)
    }

    fn pair_or_tensor(&mut self) -> Step {
        match self.pairs.checked_sub(1) {
            Some(pairs) => {
                self.pairs = pairs;
                Step::KeyLength
            }
            None => Step::NameLength,
        }
    }

    /// Passes over `length` bytes, which the file has to have.
    fn pass(&mut self, length: u64) -> Result<(), Unreadable> {
        self.skip = length;
        if length > self.size.saturating_sub(self.at) { Err(Unreadable) } else { Ok(()) }
    }

    /// Takes the offset of a tensor, which is the end of the one before.
    fn place(&mut self, offset: u64) -> Result<(), Unreadable> {
        let ascends = self.last.map_or(offset == 0, |last| last <= offset);
        if !ascends || !offset.is_multiple_of(self.alignment) {
            return Err(Unreadable);
        }
        self.close(offset)?;
        self.last = Some(offset);
        Ok(())
    }

    /// Ends the tensor before.
    fn close(&mut self, end: u64) -> Result<(), Unreadable> {
        let start = self.last.unwrap_or(end);
        if end - start >= self.least && end > start {
            if self.tensors.len() == self.most {
                return Err(Unreadable);
            }
            self.tensors.push((start, end));
        }
        Ok(())
    }

    fn end(&mut self) -> Result<Table, Unreadable> {
        let data = self.at.checked_next_multiple_of(self.alignment).ok_or(Unreadable)?;
        let length = self.size.checked_sub(data).ok_or(Unreadable)?;
        if self.last > Some(length) {
            return Err(Unreadable);
        }
        self.close(length)?;
        Ok(Table { data, tensors: std::mem::take(&mut self.tensors) })
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|byte| self.token[at + byte]))
    }

    fn u64_at(&self, at: usize) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|byte| self.token[at + byte]))
    }
}

/// The bytes of a scalar of this type.
fn length_of(scalar: u32) -> Result<u64, Unreadable> {
    match scalar {
        0 | 1 | 7 => Ok(1),
        2 | 3 => Ok(2),
        4..=6 => Ok(4),
        10..=12 => Ok(8),
        _ => Err(Unreadable),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A file with tensors of these lengths, and a vocabulary of that many words.
    pub(crate) fn file(lengths: &[usize], words: usize, alignment: u32) -> Vec<u8> {
        let text = |file: &mut Vec<u8>, text: &str| {
            file.extend_from_slice(&(text.len() as u64).to_le_bytes());
            file.extend_from_slice(text.as_bytes());
        };
        let array = |file: &mut Vec<u8>, kind: u32| {
            file.extend_from_slice(&ARRAY.to_le_bytes());
            file.extend_from_slice(&kind.to_le_bytes());
            file.extend_from_slice(&(words as u64).to_le_bytes());
        };
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend_from_slice(&(lengths.len() as u64).to_le_bytes());
        file.extend_from_slice(&4_u64.to_le_bytes());
        text(&mut file, "general.architecture");
        file.extend_from_slice(&STRING.to_le_bytes());
        text(&mut file, "llama");
        text(&mut file, "general.alignment");
        file.extend_from_slice(&U32.to_le_bytes());
        file.extend_from_slice(&alignment.to_le_bytes());
        text(&mut file, "tokenizer.ggml.tokens");
        array(&mut file, STRING);
        (0..words).for_each(|word| text(&mut file, &"w".repeat(word % 9)));
        text(&mut file, "tokenizer.ggml.scores");
        array(&mut file, 6);
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
            let start = file.len();
            file.resize(start + length, 0);
            fastrand::Rng::with_seed(tensor as u64).fill(&mut file[start..]);
        }
        file
    }

    fn table(file: &[u8], size: u64) -> Option<Result<Table, Unreadable>> {
        let mut reader = TableReader::new(size, 100, 3);
        file.chunks(7).find_map(|bytes| reader.take(bytes).1)
    }

    /// The place of the `nth` of these bytes in `file`.
    fn find(file: &[u8], bytes: &[u8]) -> usize {
        file.windows(bytes.len()).position(|here| here == bytes).unwrap()
    }

    #[test]
    fn the_table_has_the_long_tensors_and_the_last_ends_with_the_file() {
        let bytes = file(&[100, 5, 99, 200], 30, 8);
        let data = (bytes.len() - (104 + 8 + 104 + 200)) as u64;
        let found = table(&bytes, bytes.len() as u64).unwrap().unwrap();
        assert_eq!(found, Table { data, tensors: vec![(0, 104), (112, 216), (216, 416)] });
        let longer = table(&bytes, bytes.len() as u64 + 1).unwrap().unwrap();
        assert_eq!(longer.tensors[2], (216, 417));
    }

    #[test]
    fn fault_152_a_table_that_the_file_cannot_hold_or_no_program_writes_is_unreadable() {
        let right = file(&[100, 100, 100], 30, 8);
        let size = right.len() as u64;
        assert!(matches!(table(&right, size), Some(Ok(_))));
        let (alignment, scores) = (find(&right, ALIGNMENT) + 17, find(&right, b"tokenizer.ggml.scores") + 21);
        let second = find(&right, b"blk.1.weight") + 12;
        for (name, at, bytes) in [
            ("version 1", 4, &[1][..]),
            ("no tensors", 8, &[0; 8]),
            ("a key longer than the file", 24, &[0xff; 8]),
            ("a value of an unknown type", scores, &[13]),
            ("an array of arrays", scores + 4, &[9]),
            ("an array beyond 64 bits", scores + 8, &[0xff; 8]),
            ("an alignment of another type", alignment, &[5]),
            ("an alignment of three", alignment + 4, &[3]),
            ("an alignment of nothing", alignment + 4, &[0]),
            ("nine dimensions", second, &[9]),
            ("an offset that is not aligned", second + 24, &[103]),
            ("an offset that descends", second + 24, &[0xf8, 0xff, 0, 0]),
            ("an offset beyond the file", find(&right, b"blk.2.weight") + 36, &[0xf8, 0xff, 0xff]),
        ] {
            let mut wrong = right.clone();
            wrong[at..at + bytes.len()].copy_from_slice(bytes);
            assert_eq!(table(&wrong, size), Some(Err(Unreadable)), "{name}");
        }
        assert_eq!(table(&right, size - 400), Some(Err(Unreadable)), "the table alone is longer");
        assert_eq!(table(&file(&[100; 4], 0, 8), size), Some(Err(Unreadable)), "too many long tensors");
        // Tensors that are claimed and not there take no memory.
        let mut claims = right.clone();
        claims[8..16].fill(0xff);
        assert_eq!(table(&claims[..find(&right, b"blk.2.weight")], size), None);
    }
}
