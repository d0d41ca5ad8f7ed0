//! Wrong pieces of a file with a piece list: they leave the part, their sender is blamed, and they alone are fetched
//! again.
//!
//! A thread that hashes reports a wrong piece at once. A job takes it out of the part and its journal, while claims of
//! other ranges go on. Only then is its range scheduled again, so no byte is written twice. While the file waits for
//! its claims to end, or a job installs it, wrong pieces wait: [`Coordinator::judge_pieces`] is called again after
//! that.

use super::{Coordinator, Phase, TaskResult};
use crate::transfer::policy::{Decision, PieceStep, Step};
use crate::transfer::provenance::Senders;
use provision_core::event::Event;
use provision_core::schedule::{FileId, SourceId};
use provision_disk::{DiskError, WrongPiece};
use provision_http::sniff;

impl Coordinator {
    /// Starts the job that takes the wrong pieces out of the part. False if there are none, or the file cannot do it
    /// now.
    pub(in crate::transfer) fn drop_wrong_pieces(&mut self, id: FileId) -> bool {
        let file = &mut self.files[id.0];
        if self.stopping || file.is_dropping || !matches!(file.phase, Phase::Transferring) {
            return false;
        }
        let Some(part) = file.target.part.get().filter(|part| !part.wrong().is_empty()) else { return false };
        file.is_dropping = true;
        let target = file.target.clone();
        self.tasks.spawn_blocking(move || TaskResult::Dropped(id, target.drop_wrong(&part)));
        true
    }

    /// The wrong pieces are out of the part.
    pub(super) fn wrong_pieces_dropped(
        &mut self,
        id: FileId,
        result: Result<Vec<(WrongPiece, Senders)>, DiskError>,
    ) {
        let file = &mut self.files[id.0];
        file.is_dropping = false;
        match (result, &file.phase) {
            (Ok(wrong), _) => file.wrong_pieces.extend(wrong),
            (Err(error), Phase::Draining(_)) => file.phase = Phase::Draining(Step::FailOnDisk(error)),
            (Err(error), _) => return self.decide(id, Decision::Drain(Step::FailOnDisk(error)), 1),
        }
        self.drained(id);
        self.judge_pieces(id);
    }

    /// Blames the senders of the pieces that were dropped, and schedules the pieces again.
    pub(super) fn judge_pieces(&mut self, id: FileId) {
        while matches!(self.files[id.0].phase, Phase::Transferring)
            && let Some((piece, senders)) = self.files[id.0].wrong_pieces.pop()
        {
            self.judge(id, &piece, &senders);
        }
        // Others may have been found since.
        if !self.drop_wrong_pieces(id) {
            self.finish_if_complete(id);
        }
    }

    fn judge(&mut self, id: FileId, piece: &WrongPiece, senders: &Senders) {
        let (now, range) = (self.shared.now(), piece.range);
        let names = self.names(id, senders);
        let file = &mut self.files[id.0];
        file.resumed = file.resumed.saturating_sub(senders.unknown);
        file.dropped += range.len();
        let prefix = file.target.part.get().filter(|_| range.start == 0);
        let sniffed = prefix.and_then(|part| {
            let redactor = file.target.redactor(&self.origin);
            sniff::sniff(&part.read_prefix(sniff::SNIFF_LENGTH), &file.target.model, &redactor)
        });
        // A stream's claim may have the range ahead of it. The bytes that it leaves out are scheduled when it has
        // ended.
        if !file.policy.is_plain() {
            self.shared.schedule().give_back(id, range);
        }
        let lead = file.policy.position();
        let (reason, step) = file.policy.wrong_piece(piece, sniffed, senders, now);
        let (index, said) = (file.target.index, format!("{names}: {reason}"));
        self.shared.observer.observe(&Event::Dropped { file: index, bytes: range.len(), reason: said });
        match step {
            PieceStep::Again => {}
            PieceStep::EndCompanion(source) => {
                self.shared.observer.observe(&Event::SourceEnded {
                    file: file.target.index,
                    files: 1,
                    for_now: false,
                    is_miss: false,
                    source: file.policy.url_of(source).to_string(),
                    reason,
                    next: Some(file.policy.source().to_string()),
                });
                self.leave(id, SourceId(source));
                self.store_sent_wrong_bytes(id, source);
            }
            PieceStep::Decide(decision) => {
                self.decide(id, decision, 1);
                self.store_sent_wrong_bytes(id, lead);
            }
        }
    }

    /// The senders of a piece in words.
    fn names(&self, id: FileId, senders: &Senders) -> String {
        let policy = &self.files[id.0].policy;
        let sources = senders.sources.keys().map(|source| policy.url_of(*source).to_string());
        let earlier = (senders.unknown > 0).then(|| "bytes from before this run".to_owned());
        sources.chain(earlier).collect::<Vec<_>>().join(" and ")
    }

    /// Schedules the bytes that a stream has left out, because they were dropped behind or under the stream. True if
    /// there are some.
    pub(super) fn lacks_dropped_bytes(&mut self, id: FileId) -> bool {
        let part = self.files[id.0].target.part.get().filter(|part| part.has_list());
        let lacks = part.is_some_and(|part| !part.missing().is_empty());
        if lacks {
            self.refill(id);
        }
        lacks
    }
}
