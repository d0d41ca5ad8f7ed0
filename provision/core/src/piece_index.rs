//! The places of wanted pieces in other files, found by the pieces' digests.
//!
//! The index holds the wanted pieces: 72 bytes for each piece that a file lacks, however many other files there are.
//! Their lists pass by one after the other. A piece has one place, the best that has passed: the file that had the name
//! before, then a file in which it lies at the same offset, then the first file in the caller's order. So the result
//! does not depend on the order in which the lists pass, and neighbours tend to come from one file. Pieces with equal
//! bytes share the place of the first one: lists with a million equal pieces, such as zeros, take no more time than
//! others.
//!
//! A place is unverified: the bytes there are verified when they are copied.

use std::borrow::Borrow;

use crate::digest::Sha256;
use crate::piece_list::{Piece, PieceList};

/// A wanted piece in another file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundPiece {
    /// The file that lacks it, by the caller's number.
    pub file: u32,
    /// Its position in that file's list.
    pub piece: u32,
    /// Its length in bytes.
    pub length: u32,
    /// The file that should have it, by the caller's number.
    pub source: u32,
    /// Its first byte there.
    pub at: u64,
}

/// Wanted pieces, and the best place of each so far.
#[derive(Debug, Default)]
pub struct PieceIndex {
    /// By digest. The first one of a digest has the place of all.
    wanted: Vec<WantedPiece>,
}

#[derive(Debug, Clone, Copy)]
struct WantedPiece {
    sha256: Sha256,
    at: u64,
    file: u32,
    piece: u32,
    length: u32,
    best: Option<PieceLocation>,
}

/// The smallest is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct PieceLocation {
    has_other_name: bool,
    is_moved: bool,
    source: u32,
    at: u64,
}

impl PieceIndex {
    /// An index of the pieces of each file's list that it lacks: the file's number, its list, and their positions in
    /// it.
    pub fn of<L: Borrow<PieceList>>(files: impl IntoIterator<Item = (u32, L, Vec<usize>)>) -> Self {
        let mut wanted = Vec::new();
        for (file, list, lacking) in files {
            let pieces = list.borrow().pieces();
            wanted.extend(lacking.into_iter().map(|at| WantedPiece {
                sha256: pieces[at].sha256,
                at: pieces[at].range.start,
                file,
                piece: at as u32,
                length: pieces[at].range.len() as u32,
                best: None,
            }));
        }
        wanted.sort_unstable_by_key(|it| (*it.sha256.as_bytes(), it.file, it.piece));
        Self { wanted }
    }

    /// True if nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// True if `list` has a wanted piece.
    pub fn wants_any_of(&self, list: &PieceList) -> bool {
        let is_wanted = |sha256: &Sha256| {
            self.wanted.binary_search_by(|it| it.sha256.as_bytes().cmp(sha256.as_bytes())).is_ok()
        };
        list.pieces().iter().any(|piece| is_wanted(&piece.sha256))
    }

    /// Looks for the wanted pieces among `pieces` of the file with the number `source`. `name_of` is the wanted file
    /// whose name that file has.
    pub fn search<'p>(
        &mut self,
        source: u32,
        name_of: Option<u32>,
        pieces: impl IntoIterator<Item = &'p Piece>,
    ) {
        for piece in pieces {
            let digest = piece.sha256.as_bytes();
            let first = self.wanted.partition_point(|it| it.sha256.as_bytes() < digest);
            let Some(it) = self.wanted.get_mut(first).filter(|it| it.sha256 == piece.sha256) else {
                continue;
            };
            let at = piece.range.start;
            let place =
                PieceLocation { has_other_name: name_of != Some(it.file), is_moved: at != it.at, source, at };
            if it.best.is_none_or(|best| place < best) {
                it.best = Some(place);
            }
        }
    }

    /// The pieces that have a place, by file, source and position: a source is read in one direction.
    pub fn found(&self) -> Vec<FoundPiece> {
        let mut found = Vec::new();
        for equal in self.wanted.chunk_by(|a, b| a.sha256 == b.sha256) {
            if let Some(PieceLocation { source, at, .. }) = equal[0].best {
                found.extend(equal.iter().map(|it| FoundPiece {
                    file: it.file,
                    piece: it.piece,
                    length: it.length,
                    source,
                    at,
                }));
            }
        }
        found.sort_unstable_by_key(|it| (it.file, it.source, it.at, it.piece));
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::byte_range::ByteRange;

    /// The unit of the pieces' lengths. A list has no more pieces than its file has room for.
    const UNIT: u64 = crate::piece_list::LEAST_TENSOR;

    /// A list of pieces of 1 to 3 units, whose length follows from what they are.
    fn list(contents: &[u8]) -> PieceList {
        let mut at = 0;
        let pieces = contents.iter().map(|content| {
            let range = ByteRange::new(at, at + UNIT * (1 + u64::from(content % 3)));
            at = range.end;
            Piece { range, sha256: Sha256::of(&[*content]) }
        });
        let pieces = pieces.collect();
        PieceList::new(at, Sha256::of(contents), pieces).unwrap()
    }

    fn found(wanted: &[(Vec<u8>, Vec<usize>)], sources: &[(u32, Option<u32>, Vec<u8>)]) -> Vec<FoundPiece> {
        let lists: Vec<PieceList> = wanted.iter().map(|(contents, _)| list(contents)).collect();
        let files = lists.iter().zip(wanted).enumerate();
        let mut index =
            PieceIndex::of(files.map(|(file, (list, (_, lacking)))| (file as u32, list, lacking.clone())));
        for (source, name_of, contents) in sources {
            let before = index.found().len();
            index.search(*source, *name_of, list(contents).pieces());
            assert!(index.wants_any_of(&list(contents)) || index.found().len() == before);
        }
        index.found()
    }

    #[test]
    fn the_file_of_the_same_name_comes_first_then_the_same_offset_then_the_first_source() {
        let wanted = [(vec![9, 6], vec![0, 1])];
        let place = |sources: &[(u32, Option<u32>, Vec<u8>)]| {
            let found = found(&wanted, sources);
            found.iter().find(|it| it.piece == 1).map(|it| (it.source, it.at / UNIT))
        };
        let (same_offset, moved) = (vec![3, 6], vec![3, 3, 6]);
        assert_eq!(place(&[]), None);
        assert_eq!(place(&[(0, None, moved.clone())]), Some((0, 2)));
        assert_eq!(place(&[(0, None, moved.clone()), (1, None, same_offset.clone())]), Some((1, 1)));
        assert_eq!(place(&[(0, None, same_offset.clone()), (1, Some(0), moved.clone())]), Some((1, 2)));
        assert_eq!(place(&[(0, Some(7), same_offset.clone()), (1, None, same_offset)]), Some((0, 1)));
        assert_eq!(place(&[(0, None, vec![3, 6, 6, 6])]), Some((0, 1)), "its first place in a file");
    }

    #[test]
    fn a_wanted_piece_takes_72_bytes() {
        assert_eq!(size_of::<WantedPiece>(), 72);
    }

    proptest! {
        /// Each lacking piece that some list has is found, at a place that has it, and no other piece is. The order of
        /// the lists does not matter.
        #[test]
        fn every_piece_that_is_somewhere_is_found_where_it_is(
            wanted in prop::collection::vec(prop::collection::vec((0_u8..12, any::<bool>()), 1..8), 0..4),
            sources in prop::collection::vec((prop::option::of(0_u32..4), prop::collection::vec(0_u8..12, 1..8)), 0..5),
            turn in 0_usize..5,
        ) {
            let wanted: Vec<(Vec<u8>, Vec<usize>)> = wanted.iter().map(|pieces| {
                let lacking = (0..pieces.len()).filter(|at| pieces[*at].1).collect();
                (pieces.iter().map(|(content, _)| *content).collect(), lacking)
            }).collect();
            let mut sources: Vec<_> = sources.into_iter().enumerate()
                .map(|(number, (name_of, contents))| (number as u32, name_of, contents)).collect();
            let all = found(&wanted, &sources);
            for (file, (contents, lacking)) in wanted.iter().enumerate() {
                for (piece, content) in contents.iter().enumerate() {
                    let places: Vec<_> =
                        all.iter().filter(|it| (it.file, it.piece) == (file as u32, piece as u32)).collect();
                    let is_somewhere = sources.iter().any(|(_, _, other)| other.contains(content));
                    prop_assert_eq!(places.len(), usize::from(is_somewhere && lacking.contains(&piece)));
                    for place in places {
                        let (_, _, other) = &sources[place.source as usize];
                        let there = list(other);
                        let of_place = there.pieces().iter().find(|it| it.range.start == place.at).unwrap();
                        prop_assert_eq!(of_place.sha256, Sha256::of(&[*content]));
                    }
                }
            }
            if !sources.is_empty() {
                let turn = turn % sources.len();
                sources.rotate_left(turn);
            }
            prop_assert_eq!(found(&wanted, &sources), all);
        }
    }
}
