//! Wrong pieces of a file with a piece list: the source that is blamed, and the range that is fetched again. Nothing
//! but the piece is dropped.
//!
//! | all bytes of the piece came from | step |
//! |---|---|
//! | one source, and there are others | the source is out for this file |
//! | the only source | the piece is fetched again once: one bit may flip in transit. Then the file ends |
//! | the only source that is left, and another one sent the same | the file ends: the list may be wrong |
//! | several sources, an earlier run or a copy | the piece is fetched again, by one claim; the second time, the lead reads alone |
//! | a source that is out already | the piece is fetched again |
//!
//! A piece that is wrong more than `2 + 2 * sources` times ends the file, from any source.

use std::time::Duration;

use super::{Decision, FilePolicy, Step};
use crate::transfer::file_error::SourceError;
use crate::transfer::provenance::Senders;
use provision_disk::WrongPiece;
use provision_http::sniff::SniffedContent;

/// The next step after a piece was wrong.
#[derive(Debug)]
pub(in crate::transfer) enum PieceStep {
    /// The piece is fetched again.
    Again,
    /// The companion is out, and the piece is fetched again.
    EndCompanion(usize),
    /// The file takes this step; the source that serves the file after it fetches the piece again.
    Decide(Decision),
}

impl FilePolicy {
    /// The same for a file with a piece list: verified pieces stay, whatever is wrong beside them.
    pub(in crate::transfer) fn with_pieces(&mut self) {
        self.has_pieces = true;
    }

    /// The bytes of a piece are wrong. Returns the blame on its sender, in words, and the next step.
    pub(in crate::transfer) fn wrong_piece(
        &mut self,
        piece: &WrongPiece,
        sniffed: Option<SniffedContent>,
        senders: &Senders,
        now: Duration,
    ) -> (String, PieceStep) {
        let WrongPiece { index, range, expected, found } = *piece;
        let sender = senders.only();
        let seen = self.wrong_pieces.entry(index).or_default();
        let same: Vec<_> =
            seen.iter().filter(|(_, what)| *what == found).filter_map(|(other, _)| *other).collect();
        let agreed = sender.is_some() && !same.is_empty();
        let is_others = sender.is_some() && same.iter().any(|other| Some(*other) != sender);
        seen.push((sender, found));
        let times = seen.iter().filter(|(other, _)| *other == sender).count();
        let is_last = self.offline || seen.len() > 2 + 2 * self.sources.len();
        let error = SourceError::WrongPiece { range, expected, found, sniffed, agreed };
        let reason = error.to_string();
        let mut others =
            self.sources.iter().enumerate().filter(|(at, other)| Some(*at) != sender && !other.ended);
        let step = match (sender, others.next().is_some()) {
            // Sources that take turns would mix wrong bytes each time.
            _ if is_last => PieceStep::Decide(self.fail_with(error)),
            // Its bytes arrived before it was out.
            (Some(source), _) if self.has_ended(source) => PieceStep::Again,
            (Some(source), true) if source != self.at => {
                self.end(source, error);
                PieceStep::EndCompanion(source)
            }
            (Some(_), false) if times == 1 && !is_others => PieceStep::Again,
            (Some(_), _) => PieceStep::Decide(self.end_source(error, false, now)),
            (None, _) if times == 1 || self.one_source => PieceStep::Again,
            (None, _) => {
                self.one_source = true;
                PieceStep::Decide(Decision::Drain(Step::Restart))
            }
        };
        (reason, step)
    }
}
