//! Wrong pieces of a file with a piece list: who is blamed, and what is fetched again. Nothing but the piece is dropped.
//!
//! | all bytes of the piece came from | step |
//! |---|---|
//! | an earlier run or a copy, even in part | the piece is fetched again |
//! | one source, and there are others | the source is out for this file |
//! | the only source | the piece is fetched again once: one bit may flip in transit. Then the file ends |
//! | several sources | the piece is fetched again, by one claim; the second time, the lead reads alone |

use std::time::Duration;

use super::{Decision, FilePolicy, Step};
use crate::transfer::file_error::SourceError;
use crate::transfer::provenance::Senders;

/// The next step after a piece was wrong.
#[derive(Debug)]
pub(in crate::transfer) enum PieceStep {
    /// The piece is fetched again.
    Again,
    /// The companion is out, and the piece is fetched again.
    EndCompanion(usize),
    /// The file takes this step; the piece is fetched again by whoever serves the file after it.
    Decide(Decision),
}

impl FilePolicy {
    /// The same for a file with a piece list: what is proven stays, whatever is wrong beside it.
    pub(in crate::transfer) fn with_pieces(&mut self) {
        self.has_pieces = true;
    }

    /// The bytes of a piece are wrong. `error` is what its sender is blamed for.
    pub(in crate::transfer) fn wrong_piece(
        &mut self,
        piece: usize,
        error: SourceError,
        senders: &Senders,
        now: Duration,
    ) -> PieceStep {
        if self.offline {
            return PieceStep::Decide(self.fail_with(error));
        }
        if senders.unknown > 0 {
            return PieceStep::Again;
        }
        let others = |source: usize| {
            let others = self.sources.iter().enumerate().filter(|(at, _)| *at != source);
            others.filter(|(_, source)| !source.ended).count()
        };
        match senders.only() {
            // Its bytes arrived before it was out.
            Some(source) if self.has_ended(source) => PieceStep::Again,
            Some(source) if others(source) > 0 && source != self.at => {
                self.end(source, error);
                PieceStep::EndCompanion(source)
            }
            Some(source) if others(source) > 0 => PieceStep::Decide(self.end_source(error, false, now)),
            Some(_) if self.count(piece) == 1 => PieceStep::Again,
            Some(_) => PieceStep::Decide(self.end_source(error, false, now)),
            None => match self.count(piece) {
                1 => PieceStep::Again,
                // Sources that take turns would mix wrong bytes each time.
                times if times > 2 + 2 * self.sources.len() => PieceStep::Decide(self.fail_with(error)),
                _ if self.one_source => PieceStep::Again,
                _ => {
                    self.one_source = true;
                    PieceStep::Decide(Decision::Drain(Step::Restart))
                }
            },
        }
    }

    /// Counts a wrong piece that no source is blamed for yet.
    fn count(&mut self, piece: usize) -> usize {
        let times = self.wrong_pieces.entry(piece).or_default();
        *times += 1;
        *times
    }
}
