//! What follows from a failure of one file: again, start over, the next source, give up. No I/O, no clock.

use std::time::Duration;

use provision_core::backoff::RetryPolicy;
use provision_core::digest::Sha256;
use provision_core::model_path::ModelPath;
use provision_core::source_url::SourceUrl;
use provision_disk::StoreError;
use provision_http::{Remedy, RequestError, ResponseError, TransportError};

use provision_http::sniff::SniffedContent;

/// A file that was given up: what every source it was tried from had to say.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.reason())]
pub struct FileError {
    /// In the order in which they were tried.
    pub attempts: Vec<Attempt>,
    /// A disk that failed ends a file whatever its sources are like.
    #[source]
    pub store: Option<StoreError>,
    /// The file has the same bytes as this one, which failed.
    pub original: Option<ModelPath>,
}

/// How one source ended.
#[derive(Debug)]
pub struct Attempt {
    /// The source.
    pub source: SourceUrl,
    /// What it did.
    pub error: SourceError,
}

/// How a source ends.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Its answers cannot be used, or do not come.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Its bytes are not those that the lock names.
    #[error(
        "the bytes have SHA-256 {found}, the lock says {expected}; they were deleted. {}",
        .instead.as_ref().map_or(
            "The file at the source has changed, or something on the way changes it".to_owned(),
            |came| format!("By its first bytes, {came}")
        )
    )]
    WrongDigest {
        /// The lock's digest.
        expected: Sha256,
        /// The digest of what came.
        found: Sha256,
        /// What its first bytes look like.
        instead: Option<SniffedContent>,
    },
    /// It has something else in the file's place.
    #[error("{url}: {came}")]
    SniffedContent {
        /// Where the source led.
        url: SourceUrl,
        /// What it is.
        came: SniffedContent,
        /// Some of it has been written.
        written: bool,
    },
}

impl FileError {
    /// A file that the disk does not allow.
    pub fn of_store(error: StoreError) -> Self {
        Self { attempts: Vec::new(), store: Some(error), original: None }
    }

    /// A copy whose original could not be had.
    pub fn of_original(path: &ModelPath) -> Self {
        Self { attempts: Vec::new(), store: None, original: Some(path.clone()) }
    }

    /// Whether a source had wrong bytes.
    pub fn is_integrity(&self) -> bool {
        self.attempts.iter().any(|attempt| match &attempt.error {
            SourceError::WrongDigest { .. } => true,
            SourceError::SniffedContent { came, .. } => came.is_integrity(),
            SourceError::Request(RequestError::Response { error, .. }) => {
                matches!(
                    error,
                    ResponseError::WrongSize { .. } | ResponseError::FileChanged(_) | ResponseError::Changed
                )
            }
            SourceError::Request(_) => false,
        })
    }

    /// Whether the bytes that are held have been proven wrong: no source brought others since.
    pub(super) fn condemns_bytes(&self) -> bool {
        // A disk that failed says nothing about the bytes: they are what the next run goes on from.
        self.store.is_none()
            && self.attempts.last().is_some_and(|last| {
                matches!(
                    last.error,
                    SourceError::WrongDigest { .. } | SourceError::SniffedContent { written: true, .. }
                )
            })
    }

    /// Whether a source wants a token or a permission.
    pub fn is_refusal(&self) -> bool {
        self.attempts
            .iter()
            .any(|attempt| matches!(&attempt.error, SourceError::Request(error) if error.is_refusal()))
    }

    /// Whether it is this process that could have no more connections.
    pub fn is_out_of_descriptors(&self) -> bool {
        let is_it = |error: &SourceError| matches!(error, SourceError::Request(error) if error.is_out_of_descriptors());
        self.attempts.iter().any(|attempt| is_it(&attempt.error))
    }

    /// What happened, in words: the disk's failure, or each source's.
    pub fn reason(&self) -> String {
        if let Some(store) = &self.store {
            return store.reason();
        }
        if let Some(original) = &self.original {
            return format!("it has the same bytes as {original}, which could not be had");
        }
        let said: Vec<String> = self
            .attempts
            .iter()
            .map(|attempt| match &attempt.error {
                error @ (SourceError::Request(_) | SourceError::SniffedContent { .. }) => error.to_string(),
                error @ SourceError::WrongDigest { .. } => format!("{}: {error}", attempt.source),
            })
            .collect();
        said.join("; then ")
    }
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Decision {
    /// Nothing special.
    GoOn,
    /// Forget where the source led, and go on.
    Resolve,
    /// Wait before the file's next claim.
    Wait { wait: Duration, throttled: bool, reason: String, failures: u32 },
    /// Take every claim away, and then do this.
    Then(Step),
}

/// What is done once no claim is in flight.
#[derive(Debug)]
pub(super) enum Step {
    /// Go on with what is missing, under the policy as it is now.
    Restart,
    /// Forget every byte, then the same.
    StartOver { reason: String },
    /// The policy has moved on to the next source. `from` is the one that ended.
    NextSource { reason: String, from: SourceUrl, start_over: bool },
    /// Give the file up.
    Fail(Box<FileError>),
    /// Give the file up, because of the disk.
    FailStore(StoreError),
}

/// What a failure is judged by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances {
    /// When it is judged.
    pub(super) now: Duration,
    /// When the request was made.
    pub(super) began: Duration,
    /// How many bytes the file has gained in all.
    pub(super) gained: u64,
    /// The connection had served a request before, and this one got nothing.
    pub(super) served: bool,
    /// Bytes have come from where the source led last, whether or not the request that brought them is over.
    pub(super) answered: bool,
    /// How many bytes the host has sent in all, for any file.
    pub(super) from_host: u64,
    /// Uniform in `0.0..1.0`.
    pub(super) random: f64,
}

/// One file's history and what it allows.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each used by one rule")]
#[derive(Debug)]
pub(super) struct FilePolicy {
    sources: Vec<SourceUrl>,
    at: usize,
    retry: RetryPolicy,
    attempts: Vec<Attempt>,
    /// Failures in a row, without a byte gained.
    failures: u32,
    /// Refusals in a row that were not counted, because the host was busy with others. They lengthen the wait.
    excused: u32,
    /// Since when claims have been taken from connections that brought nothing, while no byte was gained.
    barren: Option<Duration>,
    last_failure: Option<Duration>,
    gained_at_failure: u64,
    /// What the host had sent at the last failure.
    from_host: u64,
    /// The source is read as one stream.
    plain: bool,
    /// A stream that has to start midway may be asked for as a range.
    ask_ranges: bool,
    /// A range that started elsewhere was forgiven once.
    forgiven_start: bool,
    /// How often the validator changed.
    changes: u32,
    /// Resolved again since the last byte.
    resolved_again: bool,
    /// When it was resolved again.
    resolved_at: Option<Duration>,
    /// Every byte held came from the current source, in this run.
    pure: bool,
    /// Wrong bytes were fetched again once already.
    repeated: bool,
    /// Nothing may be fetched: wrong bytes are the end.
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

    /// The source to ask now.
    pub(super) fn source(&self) -> &SourceUrl {
        &self.sources[self.at]
    }

    pub(super) fn is_plain(&self) -> bool {
        self.plain
    }

    /// Whether a stream that does not start at the first byte may be asked for as a range.
    pub(super) fn may_ask_ranges(&self) -> bool {
        self.ask_ranges
    }

    /// A claim was fetched to its end.
    pub(super) fn progress(&mut self) {
        (self.failures, self.excused, self.barren) = (0, 0, None);
        self.resolved_again = false;
    }

    /// A whole body came for a range: the origin cannot do ranges (faults 1 and 2).
    pub(super) fn whole_body_came(&mut self) -> Decision {
        self.plain = true;
        Decision::Then(Step::Restart)
    }

    /// A request failed.
    pub(super) fn request_failed(&mut self, error: RequestError, at: &Circumstances) -> Decision {
        match error.remedy() {
            // A signature expires for all of a file's connections at once: those that asked before it was resolved
            // again say nothing about the new one.
            Remedy::Resolve if self.resolved_at.is_some_and(|resolved| at.began <= resolved) => {
                Decision::GoOn
            }
            Remedy::Resolve if !self.resolved_again || at.answered => {
                (self.resolved_again, self.resolved_at) = (true, Some(at.now));
                Decision::Resolve
            }
            Remedy::Stop => {
                self.give_up(error.into());
                Decision::Then(Step::Fail(Box::new(self.error())))
            }
            Remedy::RetryThenPlain if !self.forgiven_start && !self.plain => {
                self.forgiven_start = true;
                Decision::GoOn
            }
            Remedy::Plain | Remedy::RetryThenPlain if !self.plain => {
                (self.plain, self.ask_ranges) = (true, false);
                Decision::Then(Step::Restart)
            }
            // `Plain` and `RetryThenPlain` where it is a stream already: not even that works. `Resolve` where that was
            // just done: the refusal is meant.
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
            // The origin closed a kept connection while the request was on its way: nobody's failure.
            return Decision::GoOn;
        }
        let stalled = matches!(&error, RequestError::Transport { kind: TransportError::Stalled(_), .. });
        let news = at.gained.saturating_sub(self.gained_at_failure);
        if news > if stalled { 1 << 20 } else { 0 } {
            (self.failures, self.excused) = (0, 0);
            self.resolved_again = false;
        }
        self.gained_at_failure = at.gained;
        // Connections that fail together fail once: those that were under way at the last failure do not count.
        let same_round = self.failures > 0 && self.last_failure.is_some_and(|last| at.began <= last);
        // A connection that is not taken while others receive is one more than the host allows: that is not the
        // source's end, and asking ever less often is all that follows. Any other failure says something of this file.
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
        // One round of refusals halves the connections once, and one file that is refused again and again does not
        // hold up the host's others unless the host asks for that.
        let throttled = throttled && !same_round && (self.excused == 0 || asked.is_some());
        Decision::Wait { wait, throttled, reason: error.to_string(), failures: self.failures }
    }

    /// A claim was taken away from a connection that had not received a byte of it: another was to be faster. That is a
    /// slow answer once; when no byte comes for `patience` although one connection after the other tries, it is a
    /// failure like any stall, which the stall rule would never see.
    pub(super) fn fruitless(
        &mut self,
        error: RequestError,
        at: &Circumstances,
        patience: Duration,
    ) -> Decision {
        if at.gained > self.gained_at_failure {
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

    /// The validator changed between two ranges (fault 15): what the old one vouched for is dropped; the second
    /// time, one stream is taken, which has one validator.
    fn changed(&mut self) -> Decision {
        self.changes += 1;
        self.pure = true;
        self.gained_at_failure = 0;
        if self.changes > 1 {
            self.plain = true;
            self.ask_ranges = false;
        }
        Decision::Then(Step::StartOver { reason: ResponseError::Changed.to_string() })
    }

    /// Something else came from `url`. Asking again brings the same; what has been `written` of it may be anywhere
    /// among the bytes that are held, so all of them go.
    pub(super) fn something_else_came(
        &mut self,
        url: SourceUrl,
        came: SniffedContent,
        written: bool,
    ) -> Decision {
        self.next_source(SourceError::SniffedContent { url, came, written }, written)
    }

    /// Every byte is there, and they are not those that the lock names.
    pub(super) fn wrong_digest(
        &mut self,
        expected: Sha256,
        found: Sha256,
        instead: Option<SniffedContent>,
    ) -> Decision {
        let error = SourceError::WrongDigest { expected, found, instead };
        let reason = error.to_string();
        if self.offline {
            self.give_up(error);
            return Decision::Then(Step::Fail(Box::new(self.error())));
        }
        if !self.pure {
            // Not all of them came from this source in this run, so it is not to blame yet.
            self.begin_pure();
            return Decision::Then(Step::StartOver { reason });
        }
        if self.at + 1 < self.sources.len() {
            return self.next_source(error, true);
        }
        if !self.repeated {
            // One flipped bit on the way is possible; twice is the file.
            self.repeated = true;
            self.begin_pure();
            return Decision::Then(Step::StartOver { reason });
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
            return Decision::Then(Step::Fail(Box::new(self.error())));
        }
        self.at += 1;
        self.begin_pure();
        // Bytes of the last source are kept where they may be right; the digest decides.
        self.pure = start_over;
        self.plain = false;
        self.ask_ranges = true;
        Decision::Then(Step::NextSource { reason, from, start_over })
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
