//! The sources that serve a file beside its lead. A failure of a companion never ends the file: at most, it ends the
//! companion.

use std::time::Duration;

use super::{Circumstances, Decision, FilePolicy};
use crate::transfer::file_error::SourceError;
use provision_core::source_url::SourceUrl;
use provision_http::{Remedy, RequestError, TransportError};

/// The next step of a companion after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transfer) enum CompanionStep {
    /// It goes on.
    Stay,
    /// It goes on, and is resolved again.
    Resolve,
    /// It leaves, for now or for good.
    Leave,
}

impl FilePolicy {
    /// The same for a file whose first `stores` sources are stores. `only` forbids all others.
    pub(in crate::transfer) fn with_stores(self, stores: usize, only: bool) -> Self {
        Self { stores, store_only: only, ..self }
    }

    /// The same, without companions if `one_source` is true.
    pub(in crate::transfer) fn one_at_a_time(self, one_source: bool) -> Self {
        Self { one_source, ..self }
    }

    pub(in crate::transfer) fn is_store(&self, source: usize) -> bool {
        source < self.stores
    }

    /// The URL of a source, as it is asked.
    pub(in crate::transfer) fn url_of(&self, source: usize) -> &SourceUrl {
        &self.sources[source].url
    }

    /// True if the source is not asked any more.
    pub(in crate::transfer) fn has_ended(&self, source: usize) -> bool {
        self.sources[source].ended
    }

    /// The sources that may serve the file beside its lead now. Beside a store only stores do, unless `all` join.
    pub(in crate::transfer) fn companions(&self, now: Duration, all: bool) -> Vec<usize> {
        if self.one_source || self.pinned || self.is_plain() {
            return Vec::new();
        }
        let may_join = |at: &usize| {
            let source = &self.sources[*at];
            let is_free = !source.ended && !source.plain && !source.alone && source.comeback.is_none();
            *at != self.at
                && is_free
                && source.not_before <= now
                && (all || self.is_store(*at) || !self.is_store(self.at))
        };
        (0..self.sources.len()).filter(may_join).collect()
    }

    /// A companion has sent a claim to its end.
    pub(in crate::transfer) fn companion_progress(&mut self, source: usize, now: Duration) {
        self.progressed = now;
        let source = &mut self.sources[source];
        (source.failures, source.last, source.resolved_again) = (0, None, None);
    }

    /// The source is of no use beside others: it does not support ranges, or it leads to the host of another one.
    pub(in crate::transfer) fn leaves_for_good(&mut self, source: usize) {
        self.sources[source].alone = true;
    }

    /// A request to a companion failed.
    pub(in crate::transfer) fn companion_failed(
        &mut self,
        at: usize,
        error: RequestError,
        seen: &Circumstances,
    ) -> CompanionStep {
        let is_miss = self.is_store(at) && is_empty_body(&error);
        let source = &mut self.sources[at];
        match error.remedy() {
            Remedy::Resolve if source.resolved_again.is_some_and(|time| seen.began <= time) => {
                CompanionStep::Stay
            }
            Remedy::Resolve if source.resolved_again.is_none() || seen.answered => {
                source.resolved_again = Some(seen.now);
                CompanionStep::Resolve
            }
            Remedy::Retry { wait, .. } if !is_miss => {
                if error.is_broken() && seen.served {
                    return CompanionStep::Stay;
                }
                source.failures += 1;
                let wait = self.retry.delay(source.failures, Duration::ZERO, seen.random, wait);
                (source.not_before, source.last) = (seen.now + wait.max(REST), Some(error.into()));
                CompanionStep::Leave
            }
            Remedy::Plain | Remedy::RetryThenPlain => {
                source.alone = true;
                CompanionStep::Leave
            }
            _ => {
                self.end(at, error.into());
                CompanionStep::Leave
            }
        }
    }

    /// Ends a source that is not the lead.
    pub(in crate::transfer) fn end(&mut self, source: usize, error: SourceError) {
        if !self.has_ended(source) {
            self.give_up(source, if self.is_store(source) { error.of_store() } else { error });
        }
    }

    /// Ends the lead, a store that is out for the run.
    pub(in crate::transfer) fn lead_is_out(&mut self, error: SourceError, now: Duration) -> Decision {
        self.end_source(error, false, now)
    }

    /// Companions sent bytes that cannot be told from the lead's, and some are wrong: the lead reads the file again
    /// alone. With a piece list they can be told, piece by piece: then `None`.
    pub(in crate::transfer) fn read_alone(&mut self, reason: String) -> Option<Decision> {
        if self.has_pieces {
            return None;
        }
        self.one_source = true;
        Some(self.start_over(reason))
    }
}

/// The least time before a companion that failed is asked again: the file has others.
const REST: Duration = Duration::from_secs(1);

/// A body without a byte: a registry answers so for a blob that it has collected.
pub(super) fn is_empty_body(error: &RequestError) -> bool {
    matches!(error, RequestError::Transport { kind: TransportError::CutShort { received: 0, .. }, .. })
}
