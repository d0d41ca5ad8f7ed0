//! The retry policy of one file: it turns a failure into the next step, which is to retry, start over, use the next
//! source or give up. It has no I/O and no clock.

mod companions;
mod decision;
mod pieces;

use std::collections::BTreeMap;
use std::time::Duration;

use provision_core::backoff::RetryPolicy;
use provision_core::digest::Sha256;
use provision_core::source_url::SourceUrl;
use provision_disk::DiskError;
use provision_http::{Remedy, RequestError, TransportError};

use super::file_error::{Attempt, FileError, SourceError};
pub(super) use companions::CompanionStep;
use companions::is_empty_body;
pub(super) use decision::{Decision, Move, Step};
pub(super) use pieces::PieceStep;

use provision_http::sniff::SniffedContent;

/// The fewest bytes gained since the last failure that count as progress. Any byte counted once: a source that gave one
/// byte a request kept a good mirror waiting for ever (fault 90).
pub(super) const LEAST_GAIN: u64 = 64 << 10;

/// The fewest after a stall, which takes half a minute.
const LEAST_GAIN_STALLED: u64 = 1 << 20;

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
    /// The failures in a row of the host, over all files, if it gave no answer, and their beginning.
    pub(super) row: Option<(u32, Duration)>,
    /// Uniform in `0.0..1.0`.
    pub(super) random: f64,
}

/// A source and its failures.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each used by one rule")]
#[derive(Debug)]
struct Source {
    /// As it is asked: below its host's endpoint, if the host is replaced.
    url: SourceUrl,
    /// Failures in a row, without [`LEAST_GAIN`].
    failures: u32,
    /// The last of them.
    last: Option<SourceError>,
    /// It is asked again at this time at the earliest.
    not_before: Duration,
    /// It is not asked again.
    ended: bool,
    /// It answered that it cannot serve now: the time at which the file returns to it, also from a source that works.
    comeback: Option<Duration>,
    /// The number of times that the file has left it.
    left: u32,
    /// It is read as one stream.
    plain: bool,
    /// A stream that does not start at the first byte may be requested as a range.
    ask_ranges: bool,
    /// It is of no use beside others.
    alone: bool,
    /// As a companion, it was resolved again at this time, and has sent nothing since.
    resolved_again: Option<Duration>,
}

impl Source {
    /// The file leaves the source, which cannot serve now, and returns after `wait`, or later if it has left it before.
    fn returns_after(&mut self, now: Duration, wait: Duration) {
        let pause = COMEBACK.saturating_mul(1 << self.left.min(6));
        self.comeback = Some(now + wait.max(pause));
        self.left += 1;
    }
}

/// The first wait before the return to a source; it doubles with each return, up to 64 times as long.
const COMEBACK: Duration = Duration::from_secs(10);

/// A shorter wait that a host asks for is kept; for a longer one the file moves to a source that stands by.
const PATIENCE: Duration = Duration::from_secs(2);

/// The failures of one file so far, and the rules that follow from them.
///
/// A failure that may pass moves the file to another source at once, and back when that one fails. The file is given up
/// when no byte came for [`RetryPolicy::give_up_after`], and each source has ended or failed [`RetryPolicy::retries`]
/// times in a row (fault 96).
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each used by one rule")]
#[derive(Debug)]
pub(super) struct FilePolicy {
    sources: Vec<Source>,
    /// The first of the sources that are stores.
    stores: usize,
    /// The user allows no other source.
    store_only: bool,
    /// The lead has no companions.
    one_source: bool,
    at: usize,
    retry: RetryPolicy,
    /// The sources that have ended.
    attempts: Vec<Attempt>,
    /// The time since which no source has sent [`LEAST_GAIN`], if one has failed since.
    failing_since: Option<Duration>,
    /// The last time at which a source is known to have sent bytes.
    progressed: Duration,
    /// Refusals in a row that were not counted, because the host served other requests. They lengthen the wait.
    excused: u32,
    /// The start of the time in which connections lost their claims without a byte received.
    barren: Option<Duration>,
    last_failure: Option<Duration>,
    gained_at_failure: u64,
    /// Bytes that the host had sent at the last failure.
    from_host: u64,
    /// The failures in a row of the current source's host, over all files, and their beginning.
    row: Option<(u32, Duration)>,
    /// The current source has neither failed yet nor sent a range to its end: the last bytes may be another one's.
    arrived: bool,
    /// The file stays with its source, so that wrong bytes have one origin.
    pinned: bool,
    /// The number of times that the file was started over for its digest.
    started_over: usize,
    /// A range that started elsewhere was forgiven once.
    forgiven_start: bool,
    /// A range that ended later was forgiven once.
    exceeded: bool,
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
    /// The file has a piece list, which decides on each piece.
    has_pieces: bool,
    /// Each time that a piece was wrong: the source that sent all of it, if one did, and the digest of its bytes.
    wrong_pieces: BTreeMap<usize, Vec<(Option<usize>, Sha256)>>,
}

impl FilePolicy {
    pub(super) fn new(sources: Vec<SourceUrl>, retry: RetryPolicy, resumed: bool, offline: bool) -> Self {
        let source = |url| Source {
            url,
            failures: 0,
            last: None,
            not_before: Duration::ZERO,
            ended: false,
            comeback: None,
            left: 0,
            plain: false,
            ask_ranges: true,
            alone: false,
            resolved_again: None,
        };
        Self {
            sources: sources.into_iter().map(source).collect(),
            stores: 0,
            store_only: false,
            one_source: false,
            at: 0,
            retry,
            attempts: Vec::new(),
            failing_since: None,
            progressed: Duration::ZERO,
            excused: 0,
            barren: None,
            last_failure: None,
            gained_at_failure: 0,
            from_host: 0,
            row: None,
            arrived: false,
            pinned: false,
            started_over: 0,
            forgiven_start: false,
            exceeded: false,
            resolved_again: false,
            resolved_at: None,
            pure: !resumed,
            repeated: false,
            offline,
            has_pieces: false,
            wrong_pieces: BTreeMap::new(),
        }
    }

    /// The current source, as it is asked.
    pub(super) fn source(&self) -> &SourceUrl {
        &self.sources[self.at].url
    }

    /// The current source's position among the model's sources.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn is_plain(&self) -> bool {
        self.sources[self.at].plain
    }

    /// True if a stream that does not start at the first byte may be requested as a range.
    pub(super) fn may_ask_ranges(&self) -> bool {
        self.sources[self.at].ask_ranges
    }

    /// A claim was downloaded to its end.
    pub(super) fn progress(&mut self, now: Duration) {
        self.progressed = now;
        let source = &mut self.sources[self.at];
        (source.failures, source.last) = (0, None);
        self.arrived = false;
        (self.row, self.failing_since, self.excused, self.barren) = (None, None, 0, None);
        self.resolved_again = false;
    }

    /// The origin answered a range with a whole body: it does not support ranges (faults 1 and 2).
    pub(super) fn ranges_unsupported(&mut self) -> Decision {
        self.sources[self.at].plain = true;
        Decision::Drain(Step::Restart)
    }

    /// The origin sent more than the requested range. Once may be a mistake of its cache. If it always does, each claim
    /// costs a connection and bytes that are thrown away, and one stream costs neither (fault 94).
    pub(super) fn range_exceeded(&mut self) -> Decision {
        if self.is_plain() || !std::mem::replace(&mut self.exceeded, true) {
            return Decision::GoOn;
        }
        self.sources[self.at].plain = true;
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
            // A store must not end a file that another source has.
            Remedy::Stop if self.is_store(self.at) => self.end_source(error.into(), false, at.now),
            Remedy::Stop => self.fail_with(error.into()),
            Remedy::Retry { .. } if self.is_store(self.at) && is_empty_body(&error) => {
                self.end_source(error.into(), false, at.now)
            }
            Remedy::RetryThenPlain if !self.forgiven_start && !self.is_plain() => {
                self.forgiven_start = true;
                Decision::GoOn
            }
            Remedy::Plain | Remedy::RetryThenPlain if !self.is_plain() => {
                self.read_whole();
                Decision::Drain(Step::Restart)
            }
            // The origin sends another range for a stream that starts where the held bytes end.
            Remedy::Plain | Remedy::RetryThenPlain if self.may_ask_ranges() => {
                self.read_whole();
                Decision::Drain(Step::Restart)
            }
            // `Plain` and `RetryThenPlain`: the source is a stream already, and fails. `Resolve`: the source was just
            // resolved again, so the refusal is final.
            Remedy::Plain | Remedy::RetryThenPlain | Remedy::Resolve | Remedy::NextSource => {
                self.end_source(error.into(), false, at.now)
            }
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
        let arrived = std::mem::take(&mut self.arrived);
        let news = if arrived { 0 } else { at.gained.saturating_sub(self.gained_at_failure) };
        let gained = news >= if stalled { LEAST_GAIN_STALLED } else { LEAST_GAIN };
        if gained {
            self.progress(at.now);
        }
        self.gained_at_failure = at.gained;
        // Connections that fail together count once: requests that were under way at the last failure do not count.
        self.row = at.row;
        let fails_again = self.sources[self.at].failures > 0;
        let same_round = fails_again && self.last_failure.is_some_and(|last| at.began <= last);
        // A refusal while the host serves other requests means that the host allows fewer connections. The source is
        // not given up; only the wait grows. Any other failure is about this file.
        let refused = throttled || error.is_connection_refused();
        let host_works = at.from_host >= self.from_host.saturating_add(LEAST_GAIN);
        self.from_host = at.from_host;
        let excused = refused && host_works && fails_again;
        if !same_round {
            *(if excused { &mut self.excused } else { &mut self.sources[self.at].failures }) += 1;
            self.last_failure = Some(at.now);
        }
        // One round of refusals halves the connections once. A file that is refused repeatedly does not slow the host's
        // other files, unless the host asks for a wait.
        let throttled = throttled && !same_round && (self.excused == 0 || asked.is_some());
        self.failing_since.get_or_insert(if gained { at.now } else { at.began });
        let leave = !same_round && !gained || asked.is_some_and(|wait| wait > PATIENCE);
        let (is_final, is_news) = (!same_round && !excused, !same_round);
        self.wait(error, at, &Failure { asked, throttled, is_final, leave, is_news })
    }

    /// A claim was moved from a connection that had not received a byte of it to a faster one. Once, that is a slow
    /// answer. If the file gains no byte for `patience` while connections take turns, it is a stall. The stall rule
    /// cannot see it, because no single connection lasts that long.
    pub(super) fn fruitless(
        &mut self,
        error: RequestError,
        at: &Circumstances,
        patience: Duration,
    ) -> Decision {
        if at.gained >= self.gained_at_failure + LEAST_GAIN {
            self.progress(at.now);
            self.gained_at_failure = at.gained;
        }
        let since = *self.barren.get_or_insert(at.began);
        if at.now.saturating_sub(since) < patience {
            return Decision::GoOn;
        }
        self.barren = Some(at.now);
        self.sources[self.at].failures += 1;
        self.last_failure = Some(at.now);
        self.failing_since.get_or_insert(since);
        self.wait(error, at, &Failure::NEW)
    }

    /// The host of the current source gave no answer to another file, which asked on behalf of this one.
    pub(super) fn host_failed(&mut self, error: RequestError, at: &Circumstances) -> Decision {
        self.row = at.row;
        self.wait(error, at, &Failure::NEW)
    }

    /// Picks the source that is asked next, after a failure that may pass.
    fn wait(&mut self, error: RequestError, at: &Circumstances, failure: &Failure) -> Decision {
        let (now, current) = (at.now, self.at);
        let of_host = self.row.map_or(0, |(failures, _)| failures);
        let since = self.failing_since.into_iter().chain(self.row.map(|(_, since)| since)).min();
        // A host that failed long ago does not shorten the time since the last byte.
        let row = now.saturating_sub(since.unwrap_or(now).max(self.progressed));
        let (reason, is_answer) = (error.to_string(), error.url().is_some());
        let source = &mut self.sources[current];
        let failures = source.failures.max(of_host);
        let wait = self.retry.delay(failures + self.excused, row, at.random, failure.asked);
        (source.not_before, source.last) = (now + wait, Some(error.into()));
        let is_spent = |failures| self.retry.is_spent(failures, row);
        let others = self.sources.iter().enumerate().filter(|(other, _)| *other != current);
        let are_others_spent =
            others.map(|(_, source)| source).all(|source| source.ended || is_spent(source.failures));
        if failure.is_final && is_spent(failures) && are_others_spent {
            return self.fail();
        }
        let is_kept = self.pinned && !is_spent(failures);
        if failure.leave
            && !is_kept
            && let Some(next) = self.stand_by(failures)
        {
            let source = &mut self.sources[current];
            source.failures = failures;
            if is_answer {
                source.returns_after(now, wait);
            }
            let throttled = failure.throttled.then_some(wait);
            return Move { throttled, ..self.leave_for(next, reason, false, now) }.into();
        }
        let left = self.retry.left(row);
        let Failure { throttled, is_news, .. } = *failure;
        Decision::Wait { wait, throttled, reason, failures, left, is_news }
    }

    /// A range was received to its end, and not more. If an earlier source's time has come, the file returns to it
    /// (fault 97).
    pub(super) fn range_was_exact(&mut self, now: Duration) -> Decision {
        self.exceeded = false;
        let is_back = |source: &Source| !source.ended && source.comeback.is_some_and(|time| time <= now);
        match self.sources[..self.at].iter().position(is_back).filter(|_| !self.pinned) {
            Some(first) => {
                let reason = format!("the wait for {} is over", self.sources[first].url.host());
                self.leave_for(first, reason, false, now).into()
            }
            None => Decision::GoOn,
        }
    }

    /// The host of the current source asks all requests to wait until `until`. A file that only waits moves to a source
    /// that stands by (fault 97).
    pub(super) fn host_pauses(&mut self, reason: &str, now: Duration, until: Duration) -> Option<Decision> {
        let is_kept = self.pinned || until <= now + PATIENCE;
        let source = &mut self.sources[self.at];
        source.not_before = until;
        let failures = source.failures;
        let next = self.stand_by(failures).filter(|_| !is_kept)?;
        self.sources[self.at].returns_after(now, until.saturating_sub(now));
        Some(self.leave_for(next, reason.to_owned(), false, now).into())
    }

    /// Moves to another source, for now. `reason` is the failure of the current one.
    fn leave_for(&mut self, next: usize, reason: String, start_over: bool, now: Duration) -> Move {
        let from = self.source().clone();
        let wait = self.sources[next].not_before.saturating_sub(now);
        self.move_to(next, start_over);
        Move { reason, from, for_now: true, is_miss: false, throttled: None, start_over, wait, files: 1 }
    }

    /// Another source that has not failed more often than `failures`, if it can be asked before the current one; of
    /// several, the first.
    fn stand_by(&self, failures: u32) -> Option<usize> {
        let count = self.sources.len();
        let others = (1..count).map(|step| (self.at + step) % count);
        let is_better = |at: &usize| !self.sources[*at].ended && self.sources[*at].failures <= failures;
        let next = others.filter(is_better).min_by_key(|at| self.sources[*at].not_before)?;
        (self.sources[next].not_before <= self.sources[self.at].not_before).then_some(next)
    }

    /// The source that can be asked first; of several, the current one's successor.
    fn soonest(&self) -> Option<usize> {
        let count = self.sources.len();
        let order = (1..=count).map(|step| (self.at + step) % count);
        order.filter(|at| !self.sources[*at].ended).min_by_key(|at| self.sources[*at].not_before)
    }

    /// The source sent something else from `url`. A retry would return the same. If some of it was `written`, it may be
    /// anywhere in the part, so all bytes are dropped.
    pub(super) fn unexpected_content(
        &mut self,
        url: SourceUrl,
        sniffed: SniffedContent,
        written: bool,
        now: Duration,
    ) -> Decision {
        self.end_source(SourceError::Sniffed { url, sniffed, written }, written, now)
    }

    /// All bytes are written, and they do not have the lock's digest. If they came under several validators (`mixed`),
    /// the source is read again as one stream, which has one validator (fault 95). `beside` is true if companions gave
    /// some: then the lead reads the file again alone.
    pub(super) fn wrong_digest(
        &mut self,
        (expected, found, sniffed): (Sha256, Sha256, Option<SniffedContent>),
        (mixed, beside): (bool, bool),
        now: Duration,
    ) -> Decision {
        let error = SourceError::WrongDigest { expected, found, sniffed };
        let reason = error.to_string();
        self.started_over += 1;
        // Sources that take turns would mix wrong bytes each time.
        if self.offline || self.started_over > 2 + 2 * self.sources.len() {
            return self.fail_with(error);
        }
        if mixed && !self.is_plain() {
            self.read_whole();
            self.repeated = true;
            return self.start_over(reason);
        }
        self.one_source |= beside;
        if !self.pure || beside {
            // Some bytes are from another source or run, so this source is not to blame yet.
            return self.start_over(reason);
        }
        if self.sources.iter().filter(|source| !source.ended).count() > 1 {
            return self.end_source(error, true, now);
        }
        if !self.repeated {
            // One bit may flip in transit. If it happens twice, the file at the source is wrong.
            self.repeated = true;
            return self.start_over(reason);
        }
        self.end_source(error, true, now)
    }

    /// The disk failed.
    pub(super) fn store_failed(&mut self, error: DiskError) -> FileError {
        FileError { attempts: std::mem::take(&mut self.attempts), ..FileError::of_disk(error) }
    }

    /// Ends the current source; the file goes on with another one, if there is one.
    fn end_source(&mut self, error: SourceError, start_over: bool, now: Duration) -> Decision {
        let error = if self.is_store(self.at) { error.of_store() } else { error };
        let (reason, is_miss) = (error.to_string(), matches!(error, SourceError::Miss { .. }));
        let start_over = start_over && !self.has_pieces;
        self.give_up(self.at, error);
        match self.soonest() {
            Some(next) => {
                Move { for_now: false, is_miss, ..self.leave_for(next, reason, start_over, now) }.into()
            }
            None => self.fail(),
        }
    }

    fn move_to(&mut self, source: usize, start_over: bool) {
        self.at = source;
        self.sources[source].comeback = None;
        // Bytes of the last source are kept if they may be right; the digest decides.
        self.pure = start_over;
        (self.row, self.pinned, self.arrived) = (None, false, true);
        // The bytes of the last host say nothing about this one.
        self.from_host = u64::MAX;
        if start_over {
            self.gained_at_failure = 0;
        }
        self.forget_answers();
    }

    /// Reads the current source as one stream, without ranges.
    fn read_whole(&mut self) {
        let source = &mut self.sources[self.at];
        (source.plain, source.ask_ranges) = (true, false);
    }

    /// Drops every byte, and stays with the current source.
    fn start_over(&mut self, reason: String) -> Decision {
        (self.pure, self.pinned) = (true, true);
        self.sources[self.at].failures = 0;
        self.failing_since = None;
        self.gained_at_failure = 0;
        self.forget_answers();
        Decision::Drain(Step::StartOver { reason })
    }

    fn forget_answers(&mut self) {
        (self.excused, self.barren, self.last_failure) = (0, None, None);
        (self.forgiven_start, self.exceeded) = (false, false);
        (self.resolved_again, self.resolved_at) = (false, None);
    }

    fn give_up(&mut self, at: usize, error: SourceError) {
        let source = &mut self.sources[at];
        source.ended = true;
        self.attempts.push(Attempt { source: source.url.clone(), error });
    }

    /// Ends the file with this failure of the current source.
    fn fail_with(&mut self, error: SourceError) -> Decision {
        self.give_up(self.at, error);
        self.fail()
    }

    /// Ends the file. Its error has the sources that have ended, then the others, the current one last.
    fn fail(&mut self) -> Decision {
        let mut attempts = std::mem::take(&mut self.attempts);
        let count = self.sources.len();
        for at in (1..=count).map(|step| (self.at + step) % count) {
            let source = &mut self.sources[at];
            let last = source.last.take().filter(|_| !source.ended);
            attempts.extend(last.map(|error| Attempt { source: source.url.clone(), error }));
        }
        Decision::Drain(Step::Fail(Box::new(FileError {
            store_only: self.store_only,
            ..FileError::of_sources(attempts)
        })))
    }
}

/// A failure that may pass, for the choice of the next source.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each used by one rule")]
struct Failure {
    /// The wait that the host asks for.
    asked: Option<Duration>,
    /// The host asks all requests to wait.
    throttled: bool,
    /// It may be the last one.
    is_final: bool,
    /// Another source is asked at once, if there is one.
    leave: bool,
    /// It does not belong to a failure that was reported.
    is_news: bool,
}

impl Failure {
    /// One that does not belong to another, without a wish of the host.
    const NEW: Self = Self { asked: None, throttled: false, is_final: true, leave: true, is_news: true };
}

#[cfg(test)]
mod tests;
