//! The retry policy of one file: it turns a failure into the next step, which is to retry, start over, use the next
//! source or give up. It has no I/O and no clock.

use std::time::Duration;

use provision_core::backoff::RetryPolicy;
use provision_core::digest::Sha256;
use provision_core::model_path::ModelPath;
use provision_core::source_url::SourceUrl;
use provision_disk::StoreError;
use provision_http::{Remedy, RequestError, ResponseError, TransportError};

use provision_http::sniff::SniffedContent;

/// The failure of a file, with the failure of each source that was tried.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.reason())]
pub struct FileError {
    /// The sources, in the order in which they were tried.
    pub attempts: Vec<Attempt>,
    /// The disk's failure, which ends a file regardless of its sources.
    #[source]
    pub store: Option<StoreError>,
    /// The file would be a copy of this one, which failed.
    pub original: Option<ModelPath>,
}

/// A source that failed.
#[derive(Debug)]
pub struct Attempt {
    /// The source, as it was asked.
    pub source: SourceUrl,
    /// Its failure.
    pub error: SourceError,
}

/// The failure of a source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A request failed, or its answer is invalid.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Its bytes do not have the lock's digest.
    #[error(
        "the bytes have SHA-256 {found}, the lock says {expected}; they were deleted. {}",
        .sniffed.as_ref().map_or(
            "The file at the source has changed, or something on the way changes it".to_owned(),
            |sniffed| format!("By its first bytes, {sniffed}")
        )
    )]
    WrongDigest {
        /// The lock's digest.
        expected: Sha256,
        /// The digest of the received bytes.
        found: Sha256,
        /// The content that the first bytes look like.
        sniffed: Option<SniffedContent>,
    },
    /// It sends something else in the file's place.
    #[error("{url}: {sniffed}")]
    Sniffed {
        /// The URL that the source redirected to.
        url: SourceUrl,
        /// The content that was received.
        sniffed: SniffedContent,
        /// Some of it is in the part.
        written: bool,
    },
}

impl FileError {
    /// The failure of a file because of the disk.
    pub fn of_store(error: StoreError) -> Self {
        Self { attempts: Vec::new(), store: Some(error), original: None }
    }

    /// The failure of a copy whose original failed.
    pub fn of_original(path: &ModelPath) -> Self {
        Self { attempts: Vec::new(), store: None, original: Some(path.clone()) }
    }

    /// True if a source had wrong bytes.
    pub fn is_integrity(&self) -> bool {
        self.attempts.iter().any(|attempt| match &attempt.error {
            SourceError::WrongDigest { .. } => true,
            SourceError::Sniffed { sniffed, .. } => sniffed.is_integrity(),
            SourceError::Request(RequestError::Response { error, .. }) => {
                matches!(
                    error,
                    ResponseError::WrongSize { .. } | ResponseError::FileChanged(_) | ResponseError::Changed
                )
            }
            SourceError::Request(_) => false,
        })
    }

    /// True if the held bytes are known to be wrong: no other source has sent bytes since.
    pub(super) fn condemns_bytes(&self) -> bool {
        // A disk failure says nothing about the bytes: the next run resumes from them.
        self.store.is_none()
            && self.attempts.last().is_some_and(|last| {
                matches!(
                    last.error,
                    SourceError::WrongDigest { .. } | SourceError::Sniffed { written: true, .. }
                )
            })
    }

    /// True if a source requires a token or a permission.
    pub fn is_refusal(&self) -> bool {
        self.attempts
            .iter()
            .any(|attempt| matches!(&attempt.error, SourceError::Request(error) if error.is_refusal()))
    }

    /// True if this process ran out of file descriptors for connections.
    pub fn is_out_of_descriptors(&self) -> bool {
        let is_it = |error: &SourceError| matches!(error, SourceError::Request(error) if error.is_out_of_descriptors());
        self.attempts.iter().any(|attempt| is_it(&attempt.error))
    }

    /// The reason as text: the disk's failure, or the failure of each source.
    pub fn reason(&self) -> String {
        if let Some(store) = &self.store {
            return store.reason();
        }
        if let Some(original) = &self.original {
            return format!("it has the same bytes as {original}, which could not be installed");
        }
        let said: Vec<String> = self
            .attempts
            .iter()
            .map(|attempt| match &attempt.error {
                error @ (SourceError::Request(_) | SourceError::Sniffed { .. }) => error.to_string(),
                error @ SourceError::WrongDigest { .. } => format!("{}: {error}", attempt.source),
            })
            .collect();
        said.join("; then ")
    }
}

/// The fewest bytes gained since the last failure that count as progress. Any byte counted once: a source that gave one byte a
/// request kept a good mirror waiting for ever (fault 90).
pub(super) const LEAST_GAIN: u64 = 64 << 10;

/// The fewest after a stall, which takes half a minute.
const LEAST_GAIN_STALLED: u64 = 1 << 20;

/// The next step after a claim has ended.
#[derive(Debug)]
pub(super) enum Decision {
    /// Continue.
    GoOn,
    /// Forget the resolved source, and continue.
    Resolve,
    /// Wait before the file's next claim.
    Wait { wait: Duration, throttled: bool, reason: String, failures: u32 },
    /// Revoke every claim, wait for them, and then take this step.
    Drain(Step),
}

/// A step that needs all claims to have ended.
#[derive(Debug)]
pub(super) enum Step {
    /// Continue with the missing bytes, under the current policy.
    Restart,
    /// Drop every byte, then continue.
    StartOver { reason: String },
    /// The policy has moved on to the next source. `from` is the one that ended.
    NextSource { reason: String, from: SourceUrl, start_over: bool },
    /// Give the file up.
    Fail(Box<FileError>),
    /// Give the file up, because of the disk.
    FailStore(StoreError),
}

/// The facts around a failure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances {
    /// The current time.
    pub(super) now: Duration,
    /// The time of the request.
    pub(super) began: Duration,
    /// Bytes that the file has gained in total.
    pub(super) gained: u64,
    /// The connection had served a request before, and this one got nothing.
    pub(super) served: bool,
    /// The resolved source has sent bytes; the request for them may still be running.
    pub(super) answered: bool,
    /// Bytes that the host has sent in total, for any file.
    pub(super) from_host: u64,
    /// Uniform in `0.0..1.0`.
    pub(super) random: f64,
}

/// The failures of one file so far, and the rules that follow from them.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each used by one rule")]
#[derive(Debug)]
pub(super) struct FilePolicy {
    /// The sources as they are asked: below their host's endpoint, if the host is replaced.
    sources: Vec<SourceUrl>,
    at: usize,
    retry: RetryPolicy,
    attempts: Vec<Attempt>,
    /// Failures in a row, without [`LEAST_GAIN`].
    failures: u32,
    /// Refusals in a row that were not counted, because the host served other requests. They lengthen the wait.
    excused: u32,
    /// The start of the time in which connections lost their claims without a byte received.
    barren: Option<Duration>,
    last_failure: Option<Duration>,
    gained_at_failure: u64,
    /// Bytes that the host had sent at the last failure.
    from_host: u64,
    /// The source is read as one stream.
    plain: bool,
    /// A stream that does not start at the first byte may be requested as a range.
    ask_ranges: bool,
    /// A range that started elsewhere was forgiven once.
    forgiven_start: bool,
    /// The number of validator changes.
    changes: u32,
    /// Resolved again since the last byte.
    resolved_again: bool,
    /// The time of the last repeated resolve.
    resolved_at: Option<Duration>,
    /// All held bytes are from the current source and from this run.
    pure: bool,
    /// Wrong bytes were downloaded again once already.
    repeated: bool,
    /// Nothing may be downloaded, so wrong bytes are final.
    offline: bool,
}

impl FilePolicy {
    pub(super) fn new(sources: Vec<SourceUrl>, retry: RetryPolicy, resumed: bool, offline: bool) -> Self {
        Self {
            sources,
            at: 0,
            retry,
            attempts: Vec::new(),
            failures: 0,
            excused: 0,
            barren: None,
            last_failure: None,
            gained_at_failure: 0,
            from_host: 0,
            plain: false,
            ask_ranges: true,
            forgiven_start: false,
            changes: 0,
            resolved_again: false,
            resolved_at: None,
            pure: !resumed,
            repeated: false,
            offline,
        }
    }

    /// The current source, as it is asked.
    pub(super) fn source(&self) -> &SourceUrl {
        &self.sources[self.at]
    }

    /// The current source's position among the model's sources.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn is_plain(&self) -> bool {
        self.plain
    }

    /// True if a stream that does not start at the first byte may be requested as a range.
    pub(super) fn may_ask_ranges(&self) -> bool {
        self.ask_ranges
    }

    /// A claim was downloaded to its end.
    pub(super) fn progress(&mut self) {
        (self.failures, self.excused, self.barren) = (0, 0, None);
        self.resolved_again = false;
    }

    /// The origin answered a range with a whole body: it does not support ranges (faults 1 and 2).
    pub(super) fn ranges_unsupported(&mut self) -> Decision {
        self.plain = true;
        Decision::Drain(Step::Restart)
    }

    /// A request failed.
    pub(super) fn request_failed(&mut self, error: RequestError, at: &Circumstances) -> Decision {
        match error.remedy() {
            // A signature expires for all connections of a file at once. A request from before the new resolve says
            // nothing about the new signature.
            Remedy::Resolve if self.resolved_at.is_some_and(|resolved| at.began <= resolved) => {
                Decision::GoOn
            }
            Remedy::Resolve if !self.resolved_again || at.answered => {
                (self.resolved_again, self.resolved_at) = (true, Some(at.now));
                Decision::Resolve
            }
            Remedy::Stop => {
                self.give_up(error.into());
                Decision::Drain(Step::Fail(Box::new(self.error())))
            }
            Remedy::RetryThenPlain if !self.forgiven_start && !self.plain => {
                self.forgiven_start = true;
                Decision::GoOn
            }
            Remedy::Plain | Remedy::RetryThenPlain if !self.plain => {
                (self.plain, self.ask_ranges) = (true, false);
                Decision::Drain(Step::Restart)
            }
            // `Plain` and `RetryThenPlain`: the source is a stream already, and fails. `Resolve`: the source was just
            // resolved again, so the refusal is final.
            Remedy::Plain | Remedy::RetryThenPlain | Remedy::Resolve | Remedy::NextSource => {
                self.next_source(error.into(), false)
            }
            Remedy::Retry { .. } if is_change(&error) => self.changed(),
            Remedy::Retry { wait, throttled } => self.again(error, wait, throttled, at),
        }
    }

    fn again(
        &mut self,
        error: RequestError,
        asked: Option<Duration>,
        throttled: bool,
        at: &Circumstances,
    ) -> Decision {
        let broken = matches!(&error, RequestError::Transport { kind: TransportError::Broken, .. });
        if broken && at.served {
            // The origin closed a kept connection while the request was under way, which is legal and no failure.
            return Decision::GoOn;
        }
        let stalled = matches!(&error, RequestError::Transport { kind: TransportError::Stalled(_), .. });
        let news = at.gained.saturating_sub(self.gained_at_failure);
        if news >= if stalled { LEAST_GAIN_STALLED } else { LEAST_GAIN } {
            (self.failures, self.excused) = (0, 0);
            self.resolved_again = false;
        }
        self.gained_at_failure = at.gained;
        // Connections that fail together count once: requests that were under way at the last failure do not count.
        let same_round = self.failures > 0 && self.last_failure.is_some_and(|last| at.began <= last);
        // A refusal while the host serves other requests means that the host allows fewer connections. The source is
        // not given up; only the wait grows. Any other failure is about this file.
        let refused = throttled || error.is_connection_refused();
        let host_works = at.from_host > std::mem::replace(&mut self.from_host, at.from_host);
        let patient = self.excused < self.retry.retries.saturating_mul(4);
        let excused = refused && host_works && self.failures > 0 && patient;
        if !same_round {
            *(if excused { &mut self.excused } else { &mut self.failures }) += 1;
            self.last_failure = Some(at.now);
        }
        if self.retry.is_spent(self.failures) && !same_round && !excused {
            return self.next_source(error.into(), false);
        }
        let wait = self.retry.delay(self.failures + self.excused, at.random, asked);
        // One round of refusals halves the connections once. A file that is refused repeatedly does not slow the host's
        // other files, unless the host asks for a wait.
        let throttled = throttled && !same_round && (self.excused == 0 || asked.is_some());
        Decision::Wait { wait, throttled, reason: error.to_string(), failures: self.failures }
    }

    /// A claim was moved from a connection that had not received a byte of it to a faster one. Once, that is a slow
    /// answer. If the file gains no byte for `patience` while connections take turns, it is a stall, which the stall
    /// rule cannot see because no single connection lasts that long.
    pub(super) fn fruitless(
        &mut self,
        error: RequestError,
        at: &Circumstances,
        patience: Duration,
    ) -> Decision {
        if at.gained >= self.gained_at_failure + LEAST_GAIN {
            (self.failures, self.gained_at_failure, self.barren) = (0, at.gained, None);
        }
        let since = *self.barren.get_or_insert(at.began);
        if at.now.saturating_sub(since) < patience {
            return Decision::GoOn;
        }
        self.barren = Some(at.now);
        self.failures += 1;
        self.last_failure = Some(at.now);
        if self.retry.is_spent(self.failures) {
            return self.next_source(error.into(), false);
        }
        let wait = self.retry.delay(self.failures, at.random, None);
        Decision::Wait { wait, throttled: false, reason: error.to_string(), failures: self.failures }
    }

    /// The validator changed between two ranges (fault 15): the bytes of the old version are dropped. After the second
    /// change the file is read as one stream, which has one validator.
    fn changed(&mut self) -> Decision {
        self.changes += 1;
        self.pure = true;
        self.gained_at_failure = 0;
        if self.changes > 1 {
            self.plain = true;
            self.ask_ranges = false;
        }
        Decision::Drain(Step::StartOver { reason: ResponseError::Changed.to_string() })
    }

    /// The source sent something else from `url`. A retry would return the same. If some of it was `written`, it may be
    /// anywhere in the part, so all bytes are dropped.
    pub(super) fn unexpected_content(
        &mut self,
        url: SourceUrl,
        sniffed: SniffedContent,
        written: bool,
    ) -> Decision {
        self.next_source(SourceError::Sniffed { url, sniffed, written }, written)
    }

    /// All bytes are written, and they do not have the lock's digest.
    pub(super) fn wrong_digest(
        &mut self,
        expected: Sha256,
        found: Sha256,
        sniffed: Option<SniffedContent>,
    ) -> Decision {
        let error = SourceError::WrongDigest { expected, found, sniffed };
        let reason = error.to_string();
        if self.offline {
            self.give_up(error);
            return Decision::Drain(Step::Fail(Box::new(self.error())));
        }
        if !self.pure {
            // Some bytes are from another source or run, so this source is not to blame yet.
            self.begin_pure();
            return Decision::Drain(Step::StartOver { reason });
        }
        if self.at + 1 < self.sources.len() {
            return self.next_source(error, true);
        }
        if !self.repeated {
            // One bit may flip in transit. If it happens twice, the file at the source is wrong.
            self.repeated = true;
            self.begin_pure();
            return Decision::Drain(Step::StartOver { reason });
        }
        self.next_source(error, true)
    }

    /// The disk failed.
    pub(super) fn store_failed(&mut self, error: StoreError) -> FileError {
        FileError { attempts: std::mem::take(&mut self.attempts), store: Some(error), original: None }
    }

    fn next_source(&mut self, error: SourceError, start_over: bool) -> Decision {
        let from = self.source().clone();
        let reason = error.to_string();
        self.give_up(error);
        if self.at + 1 == self.sources.len() {
            return Decision::Drain(Step::Fail(Box::new(self.error())));
        }
        self.at += 1;
        self.begin_pure();
        // Bytes of the last source are kept if they may be right; the digest decides.
        self.pure = start_over;
        self.plain = false;
        self.ask_ranges = true;
        Decision::Drain(Step::NextSource { reason, from, start_over })
    }

    fn begin_pure(&mut self) {
        self.pure = true;
        (self.failures, self.excused, self.barren) = (0, 0, None);
        self.last_failure = None;
        self.gained_at_failure = 0;
        self.forgiven_start = false;
        self.changes = 0;
        (self.resolved_again, self.resolved_at) = (false, None);
    }

    fn give_up(&mut self, error: SourceError) {
        self.attempts.push(Attempt { source: self.source().clone(), error });
    }

    fn error(&mut self) -> FileError {
        FileError { attempts: std::mem::take(&mut self.attempts), store: None, original: None }
    }
}

fn is_change(error: &RequestError) -> bool {
    matches!(error, RequestError::Response { error: ResponseError::Changed, .. })
}

#[cfg(test)]
mod tests;
