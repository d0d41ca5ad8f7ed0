//! The cuts of a file: behind its header, at both ends of each long tensor, and at most 4 MiB after the last cut.
//!
//! A tensor that only moved, because the header grew, keeps its pieces: they are counted from its own start. Short
//! tensors between two cuts lie together in pieces that are counted from the first of these cuts. A file whose tensors
//! are unknown is cut every 4 MiB, and so is one whose cuts would need a longer list than
//! [`MAX_LIST`](super::MAX_LIST).
//!
//! The tensors are those of a safetensors header of 16 MiB at most, or of a GGUF table. A `Reader` finds them in the
//! file's first bytes; the name does not matter. A header that does not parse has no tensors.

use super::{LEAST_TENSOR, MAX_PIECE, MAX_PIECES};
use crate::{gguf, safetensors};

/// The longest safetensors header that is kept and parsed, in bytes: some hundred thousand tensors.
const MAX_HEADER: u64 = 16 << 20;
/// The bytes that tell a format: a safetensors header's length, and its first one.
const SNIFFED: usize = 9;

/// The cuts of a file that follow from its tensors: ascending, each above zero, without those that follow from
/// [`MAX_PIECE`].
#[derive(Debug, Clone, Default)]
pub(super) struct Cuts {
    at: Vec<u64>,
    /// The first that is still ahead.
    next: usize,
}

impl Cuts {
    /// The cuts of a file of `size` bytes whose tensors (relative to `data`, ascending, inside the file) begin at
    /// `data`.
    fn of_tensors(size: u64, data: u64, tensors: &[(u64, u64)]) -> Self {
        let long = tensors.iter().filter(|(start, end)| end - start >= LEAST_TENSOR);
        let mut at = vec![data];
        at.extend(long.flat_map(|(start, end)| [data + start, data + end]));
        at.dedup();
        let mut start = 0;
        let mut pieces = 0;
        for &end in at.iter().chain([&size]) {
            pieces += (end - start).div_ceil(MAX_PIECE);
            start = end;
        }
        if pieces > MAX_PIECES { Self::default() } else { Self { at, next: 0 } }
    }

    /// The end of the piece that begins at `start`. Called with ascending starts; the file may end before.
    pub(super) fn end_of(&mut self, start: u64) -> u64 {
        while self.at.get(self.next).is_some_and(|cut| *cut <= start) {
            self.next += 1;
        }
        let longest = start.saturating_add(MAX_PIECE);
        self.at.get(self.next).map_or(longest, |cut| longest.min(*cut))
    }
}

/// Finds the tensors of a file in its first bytes.
#[derive(Debug, Clone)]
pub(super) enum Reader {
    /// The first bytes, not all of those that tell the format.
    Sniffing(Vec<u8>),
    /// The JSON so far, and the length that it will have.
    Safetensors(Vec<u8>, u64),
    Gguf(Box<gguf::TableReader>),
    /// The tensors are known, or there are none.
    Done,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self::Sniffing(Vec::new())
    }

    /// Takes bytes of the file of `size` bytes. Returns how many, and the file's cuts once they are known: none lies
    /// before the bytes taken.
    pub(super) fn take(&mut self, size: u64, bytes: &[u8]) -> (usize, Option<Cuts>) {
        match self {
            Self::Sniffing(first) => {
                let taken = bytes.len().min(SNIFFED - first.len());
                first.extend_from_slice(&bytes[..taken]);
                if let Ok(first) = first.as_slice().try_into() {
                    *self = Self::of(size, first);
                }
                (taken, None)
            }
            Self::Safetensors(header, length) => {
                let missing = *length as usize - header.len();
                let taken = bytes.len().min(missing);
                header.extend_from_slice(&bytes[..taken]);
                if taken < missing {
                    return (taken, None);
                }
                let data = 8 + *length;
                let tensors = safetensors::extents(&mut header.as_slice(), size - data);
                *self = Self::Done;
                (taken, tensors.ok().map(|tensors| Cuts::of_tensors(size, data, &tensors)))
            }
            Self::Gguf(reader) => {
                let (taken, table) = reader.take(bytes);
                let cuts = table.as_ref().map(|table| {
                    let table = table.as_ref().ok()?;
                    Some(Cuts::of_tensors(size, table.data, &table.tensors))
                });
                if cuts.is_some() {
                    *self = Self::Done;
                }
                (taken, cuts.flatten())
            }
            Self::Done => (bytes.len(), None),
        }
    }

    /// The reader of the format that begins so.
    fn of(size: u64, first: &[u8; SNIFFED]) -> Self {
        let length = u64::from_le_bytes(std::array::from_fn(|byte| first[byte]));
        if first.starts_with(gguf::MAGIC) {
            let mut reader = gguf::TableReader::new(size, LEAST_TENSOR, MAX_PIECES as usize);
            reader.take(first);
            Self::Gguf(Box::new(reader))
        } else if first[8] == b'{' && (2..=MAX_HEADER.min(size.saturating_sub(8))).contains(&length) {
            Self::Safetensors(vec![b'{'], length)
        } else {
            Self::Done
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_16_mib_is_read_and_a_longer_one_is_not() {
        let cuts = |length: u64| {
            let mut json = br#"{"a":{"dtype":"U8","shape":[70000],"data_offsets":[0,70000]}}"#.to_vec();
            json.resize(length as usize, b' ');
            let file = [&length.to_le_bytes()[..], &json].concat();
            let (mut reader, size) = (Reader::new(), file.len() as u64 + 70_000);
            let (sniffed, _) = reader.take(size, &file);
            let (taken, cuts) = reader.take(size, &file[sniffed..]);
            assert_eq!(sniffed + taken, file.len());
            cuts.map(|cuts| cuts.at)
        };
        assert_eq!(cuts(MAX_HEADER), Some(vec![8 + MAX_HEADER, 8 + MAX_HEADER + 70_000]));
        assert_eq!(cuts(MAX_HEADER + 1), None);
    }

    #[test]
    fn tensors_that_need_a_longer_list_than_is_read_are_not_cut_apart() {
        let tensors = |count: u64| -> Vec<_> {
            (0..count).map(|at| (at * LEAST_TENSOR, (at + 1) * LEAST_TENSOR)).collect()
        };
        let ends = |count: u64| {
            let mut cuts = Cuts::of_tensors(100 + count * LEAST_TENSOR, 100, &tensors(count));
            [cuts.end_of(0), cuts.end_of(100)]
        };
        assert_eq!(ends(MAX_PIECES - 1), [100, 100 + LEAST_TENSOR]);
        assert_eq!(ends(MAX_PIECES), [MAX_PIECE, 100 + MAX_PIECE]);
    }
}
