//! Restarts of a file: the bytes that are missing, or all of them, are scheduled again.

use super::{Coordinator, Phase, TaskResult};
use provision_core::byte_range::ByteRange;
use provision_core::event::Event;
use provision_core::schedule::{FileId, SourceId};

impl Coordinator {
    /// Drops every byte of the file, then schedules them again.
    pub(super) fn start_over(&mut self, id: FileId, reason: String) {
        let file = &mut self.files[id.0];
        let bytes = file.target.part.get().map_or(0, |part| part.held());
        self.shared.observer.observe(&Event::Dropped { file: file.target.index, bytes, reason });
        file.target.forget_bytes();
        file.resumed = 0;
        self.reset(id);
    }

    /// Schedules the file's missing bytes again, from the policy's current source.
    pub(super) fn restart(&mut self, id: FileId) {
        let file = &mut self.files[id.0];
        file.phase = Phase::Transferring;
        file.target.forget_answers();
        if self.leaves_lead_that_is_out(id) {
            return;
        }
        let file = &self.files[id.0];
        let host = self.shared.host(file.policy.source());
        let mut schedule = self.shared.schedule();
        schedule.set_plain(id, file.policy.is_plain());
        schedule.lead(id, SourceId(file.policy.position()), host);
        drop(schedule);
        self.refill(id);
        let not_before = self.files[id.0].not_before;
        self.shared.schedule().pause_file(id, not_before);
        self.judge_pieces(id);
    }

    /// Schedules the bytes that the part does not hold. No claim of the file may be in flight.
    pub(super) fn refill(&mut self, id: FileId) {
        let file = &self.files[id.0];
        let whole = || vec![ByteRange::new(0, file.target.model.size)];
        let missing = file.target.part.get().map_or_else(whole, |part| part.missing());
        self.shared.schedule().restart(id, missing);
    }

    fn reset(&mut self, id: FileId) {
        let file = &mut self.files[id.0];
        let Some(part) = file.target.part.get() else { return self.restart(id) };
        file.phase = Phase::Busy;
        let shared = self.shared.clone();
        self.tasks.spawn_blocking(move || TaskResult::Reset(id, shared.hashing.reset(&part)));
    }
}
