//! Journals and checkpoints of the parts that are being written, at their intervals.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Coordinator, Phase, TaskResult};
use crate::transfer::policy::{Decision, Step};
use crate::transfer::{CHECKPOINT_INTERVAL, JOURNAL_INTERVAL};
use provision_core::schedule::{self, FileId};
use provision_disk::{DiskError, PartFile};

impl Coordinator {
    /// Starts a journal or a checkpoint if bytes were written and its time has come.
    pub(super) fn record_written(&mut self, now: Duration) {
        let dirty = self.shared.dirty.load(Ordering::Relaxed) > 0;
        if dirty && !self.journaling && now.saturating_sub(self.journaled) >= JOURNAL_INTERVAL {
            self.journaling = true;
            self.with_parts(TaskResult::Journaled, PartFile::journal_written);
        }
        if dirty && !self.checkpointing && now.saturating_sub(self.checkpointed) >= CHECKPOINT_INTERVAL {
            self.checkpoint();
        }
    }

    pub(super) fn disk_failed(&mut self, failed: Vec<(FileId, DiskError)>) {
        for (file, error) in failed {
            self.decide(file, Decision::Drain(Step::FailOnDisk(error)), 1);
        }
    }

    pub(super) fn checkpoint(&mut self) {
        self.checkpointing = true;
        self.shared.dirty.store(0, Ordering::Relaxed);
        self.with_parts(TaskResult::Checkpoint, |part| part.checkpoint().map(drop));
    }

    /// Calls `work` for every part that is being written, in a blocking job. One failure does not stop the others.
    /// Files of a single claim are skipped: a journal costs more than the bytes that a kill would lose.
    fn with_parts(
        &mut self,
        ended: impl FnOnce(Vec<(FileId, DiskError)>) -> TaskResult + Send + 'static,
        work: impl Fn(&PartFile) -> Result<(), DiskError> + Send + 'static,
    ) {
        let parts: Vec<_> = self
            .live
            .iter()
            .filter(|id| matches!(self.files[id.0].phase, Phase::Transferring | Phase::Draining(_)))
            .filter(|id| self.files[id.0].target.model.size > schedule::MIN_CLAIM)
            .filter_map(|id| Some((*id, self.files[id.0].target.part.get()?)))
            .collect();
        self.tasks.spawn_blocking(move || {
            ended(parts.iter().filter_map(|(id, part)| Some((*id, work(part).err()?))).collect())
        });
    }
}
