//! The task of a claim: it makes one request, writes the body to the part, and returns the result.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::Shared;
use super::buffers::Buffer;
use super::claim_handle::{Handle, STALLED, WAITING};
use super::policy::LEAST_GAIN;
use super::target::{SourceState, Target};
use provision_core::byte_range::ByteRange;
use provision_core::event::Event;
use provision_core::redact::Redactor;
use provision_core::schedule::Claim;
use provision_core::source_url::SourceUrl;
use provision_disk::{DiskError, PartFile};
use provision_http::sniff::{self, SniffedContent};
use provision_http::{Answer, BodyEnd, BodyKind, Connection, ExpectedBody, RequestError, ResponseError};

/// The input of a claim's task.
pub(super) struct ClaimTask {
    pub(super) claim: Claim,
    pub(super) source: SourceUrl,
    /// The source is not the file's lead.
    pub(super) is_companion: bool,
    /// A stream that does not start at the first byte may be requested as a range.
    pub(super) ask_range: bool,
    /// The connection has served a request before.
    pub(super) served: bool,
    pub(super) began: Duration,
    /// The failed attempts to resolve the source when the claim was made. A task that starts late must not repeat a
    /// failure that the coordinator has not heard of.
    pub(super) unresolved: u64,
    pub(super) handle: Arc<Handle>,
}

/// The end of a claim. All its writes have ended, too.
pub(super) struct ClaimEnd {
    pub(super) task: ClaimTask,
    pub(super) connection: Connection,
    /// The connection can serve another request.
    pub(super) kept: bool,
    /// Bytes written.
    pub(super) gained: u64,
    /// Bytes received.
    pub(super) received: u64,
    /// The answer's range ends later than the requested one.
    pub(super) exceeded: bool,
    /// The request began at the source itself, not at the known end of its redirects.
    pub(super) asked_source: bool,
    pub(super) result: Result<(), ClaimError>,
}

/// A failure of a claim, before its last byte.
pub(super) enum ClaimError {
    /// The scheduler revoked it.
    Revoked,
    /// The request failed.
    Request(RequestError),
    /// The disk failed.
    Disk(DiskError),
    /// The origin answered a range with the whole body.
    NotRanges,
    /// The body is something else than the file. `written` is true if some of it may be in the part.
    Sniffed { url: SourceUrl, sniffed: SniffedContent, written: bool },
    /// Another connection tried to resolve the source at the same time, and failed.
    Unresolved,
    /// It leads to the host of another source of the file.
    SameHost,
}

/// Downloads a claim. Ends when its last byte is written, when it is revoked, or with a failure.
pub(super) async fn fetch(
    shared: Arc<Shared>,
    target: Arc<Target>,
    task: ClaimTask,
    mut connection: Connection,
) -> ClaimEnd {
    let mut sink = Sink::new(shared, target, &task);
    let (kept, result) = match sink.receive(&task, &mut connection).await {
        Ok(kept) => (kept, Ok(())),
        Err(error) => (false, Err(sink.explained(error))),
    };
    // A claim never ends while one of its writes is under way.
    let written = sink.finish_write().await;
    let result = match result {
        Err(ClaimError::Disk(_) | ClaimError::Unresolved | ClaimError::SameHost) => result,
        // A disk failure comes before a failure of the request.
        _ => written.and(result),
    };
    let received = task.handle.received.load(Ordering::Relaxed);
    let (gained, exceeded) = (sink.gained, sink.exceeded);
    let asked_source = sink.asked_source.into_inner();
    let kept = kept && result.is_ok();
    ClaimEnd { task, connection, kept, gained, received, exceeded, asked_source, result }
}

/// The writer of a claim's bytes.
struct Sink {
    shared: Arc<Shared>,
    target: Arc<Target>,
    claim: Claim,
    is_companion: bool,
    handle: Arc<Handle>,
    part: OnceLock<Arc<PartFile>>,
    /// Bytes for the next write; they end before `position`.
    buffer: Buffer,
    position: u64,
    gained: u64,
    /// The write under way. The next bytes are read meanwhile.
    writing: Option<JoinHandle<Result<u64, DiskError>>>,
    /// The answer claims to be the whole file. If its bytes are not the file's, it is something else.
    whole: bool,
    /// The content that its first bytes look like, if not a model.
    suspect: Option<SniffedContent>,
    /// The URL of the answer, if it includes the file's first bytes.
    place: Option<SourceUrl>,
    /// The answer's range ends later than the requested one.
    exceeded: bool,
    /// The request began at the source itself.
    asked_source: AtomicBool,
    /// Redacts secrets that the body may echo.
    redactor: Redactor,
}

impl Sink {
    fn new(shared: Arc<Shared>, target: Arc<Target>, task: &ClaimTask) -> Self {
        let position = task.claim.range.start;
        Self {
            buffer: shared.buffers.take(),
            shared,
            target,
            claim: task.claim,
            is_companion: task.is_companion,
            handle: task.handle.clone(),
            part: OnceLock::new(),
            position,
            gained: 0,
            writing: None,
            whole: false,
            suspect: None,
            place: None,
            exceeded: false,
            asked_source: AtomicBool::new(false),
            redactor: Redactor::default(),
        }
    }

    /// Replaces the error by the content of the answer's body, if its first bytes identify it.
    fn explained(&self, error: ClaimError) -> ClaimError {
        let ClaimError::Request(RequestError::Response { url, prefix, .. }) = &error else {
            return error;
        };
        match sniff::sniff(&prefix.bytes, &self.target.model, &prefix.redactor) {
            Some(sniffed) => ClaimError::Sniffed { url: url.clone(), sniffed, written: false },
            None => error,
        }
    }

    /// Checks the file's first bytes before they are written. Content that is never a model, such as an LFS pointer,
    /// fails here. Other suspicious content is remembered until the end of the body decides.
    fn inspect(&mut self) -> Result<(), ClaimError> {
        self.suspect = sniff::sniff(&self.buffer, &self.target.model, &self.redactor);
        match self.suspect.take_if(|sniffed| sniff::rules_out(sniffed, &self.target.model)) {
            Some(sniffed) => Err(self.unexpected(sniffed)),
            None => Ok(()),
        }
    }

    fn source(&self) -> &SourceState {
        &self.target.sources[self.claim.source.0]
    }

    /// The failure for a body that is something else. Its buffered bytes are not written.
    fn unexpected(&self, sniffed: SniffedContent) -> ClaimError {
        let url = self.place.clone().unwrap_or_else(|| self.source().url.clone());
        ClaimError::Sniffed { url, sniffed, written: self.gained > 0 || self.writing.is_some() }
    }

    /// The failure for a body that ended before the file's end.
    fn ended(&mut self, answer: &Answer<'_>, received: u64, of: u64) -> ClaimError {
        if self.whole && self.position == self.buffer.len() as u64 {
            // Its first bytes have not been checked yet.
            self.suspect = sniff::sniff(&self.buffer, &self.target.model, &self.redactor);
        }
        match self.suspect.take().filter(|_| self.whole) {
            Some(sniffed) => self.unexpected(sniffed),
            None => ClaimError::Request(RequestError::cut_short(answer.resolved.url(), received, of)),
        }
    }

    /// Makes the request and reads the head and the body. True if the connection can be reused.
    async fn receive(&mut self, task: &ClaimTask, connection: &mut Connection) -> Result<bool, ClaimError> {
        let (claim, size, sha256) = (task.claim, self.target.model.size, Some(self.target.model.sha256));
        let range = match claim {
            Claim { plain: false, range, .. } => Some(range),
            Claim { plain: true, range, .. } if range.start > 0 && task.ask_range => {
                Some(ByteRange::new(range.start, size))
            }
            Claim { .. } => None,
        };
        let mut answer = self.ask(task, connection, ExpectedBody { range, size, sha256 }).await?;
        self.source().see_validator(answer.etag.as_ref());
        let host = self.shared.host(answer.resolved.url());
        let now = self.shared.now();
        {
            let mut schedule = self.shared.schedule();
            schedule.heard(host, now);
            if !schedule.set_host(claim.file, claim.source, host) {
                return Err(ClaimError::SameHost);
            }
        }
        self.open().await?;
        self.whole = answer.kind == BodyKind::Whole;
        if self.whole || claim.range.start == 0 {
            self.place = Some(answer.resolved.url().clone());
            self.redactor = answer.redactor();
        }
        match answer.kind {
            BodyKind::Part { range, exact, exceeds } => {
                self.exceeded = exceeds;
                let whole = self.read(&mut answer, range.start, range.end).await?;
                if whole && range.end < claim.range.end {
                    // A shorter range than requested is legal (RFC 9110 section 15.3.7): the rest is requested again.
                    self.flush(true).await?;
                    if range.len() < LEAST_GAIN {
                        let url = answer.resolved.url();
                        let short = RequestError::cut_short(url, range.len(), claim.range.len());
                        return Err(ClaimError::Request(short));
                    }
                    return Ok(exact && answer.end().await == BodyEnd::Clean);
                }
                Ok(whole && exact && answer.end().await == BodyEnd::Clean)
            }
            BodyKind::Whole if claim.plain || claim.range == ByteRange::new(0, size) => {
                let whole = self.read(&mut answer, 0, size).await?;
                if !whole {
                    return Ok(false);
                }
                // A body without a length may be longer than the file: then it is something else.
                let too_long = answer.too_long();
                match answer.end().await {
                    BodyEnd::Clean => Ok(true),
                    BodyEnd::More => Err(ClaimError::Request(too_long)),
                    BodyEnd::Unknown => Ok(false),
                }
            }
            BodyKind::Whole => Err(ClaimError::NotRanges),
        }
    }

    /// Receives the answer's head. One connection resolves the file's source; the others wait and use the result.
    async fn ask<'c>(
        &mut self,
        task: &ClaimTask,
        connection: &'c mut Connection,
        asked: ExpectedBody,
    ) -> Result<Answer<'c>, ClaimError> {
        let target = self.target.clone();
        let get = async {
            let target = &target.sources[task.claim.source.0];
            let known = || target.resolved.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(resolved) = known() {
                return connection
                    .get(&task.source, Some(&resolved), asked)
                    .await
                    .map_err(ClaimError::Request);
            }
            let resolving = target.resolving.lock().await;
            if let Some(resolved) = known() {
                drop(resolving);
                return connection
                    .get(&task.source, Some(&resolved), asked)
                    .await
                    .map_err(ClaimError::Request);
            }
            if target.unresolved.load(Ordering::Relaxed) != task.unresolved {
                return Err(ClaimError::Unresolved);
            }
            let mut other = connection.another();
            self.asked_source.store(true, Ordering::Relaxed);
            let mut answer = connection.get(&task.source, None, asked).await;
            if let Err(error) = &answer
                && is_blind(error, asked)
                && let Some(seen) = probe_first_bytes(&mut other, &task.source, asked).await
            {
                answer = Err(seen);
            }
            match &answer {
                Ok(answer) => {
                    // The hosts of the redirects; `receive` notes the last one.
                    let end = answer.resolved.url();
                    answer.resolved.urls().filter(|url| *url != end).for_each(|url| self.shared.heard(url));
                    let resolved = Some(answer.resolved.clone());
                    *target.resolved.lock().unwrap_or_else(PoisonError::into_inner) = resolved;
                }
                Err(_) => drop(target.unresolved.fetch_add(1, Ordering::Relaxed)),
            }
            answer.map_err(ClaimError::Request)
        };
        tokio::pin!(get);
        loop {
            tokio::select! {
                answer = &mut get => {
                    // The wait for the head has its own limit. From here the stall clock counts for the body.
                    self.handle.state.fetch_and(!STALLED, Ordering::Relaxed);
                    return answer;
                }
                () = self.handle.notify.notified() => {
                    if self.handle.is_stopped() || self.end().is_none_or(|end| end <= self.position) {
                        return Err(ClaimError::Revoked);
                    }
                }
            }
        }
    }

    async fn open(&mut self) -> Result<(), ClaimError> {
        let target = self.target.clone();
        let part = match self.target.part.get() {
            Some(part) => part,
            None => tokio::task::spawn_blocking(move || target.open())
                .await
                .unwrap_or_else(resume)
                .map_err(ClaimError::Disk)?,
        };
        let _ = self.part.set(part);
        Ok(())
    }

    /// The current end of the claim; `None` after it was revoked.
    fn end(&self) -> Option<u64> {
        self.shared.schedule().end_of(self.claim.id)
    }

    /// Reads the body from the file's byte `at` up to byte `until`. Skips the bytes before the claim. True if the body
    /// was read to `until`, false if the claim was shortened meanwhile.
    async fn read(&mut self, answer: &mut Answer<'_>, mut at: u64, until: u64) -> Result<bool, ClaimError> {
        let target = until.min(self.claim.range.end);
        let from = at;
        let mut turn = None;
        while at < until {
            let handle = self.handle.clone();
            turn = turn.or_else(|| self.shared.limiter.turn());
            let read = tokio::select! {
                biased;
                () = handle.notify.notified() => {
                    if handle.is_stopped() {
                        self.flush(true).await?;
                        return Err(ClaimError::Revoked);
                    }
                    if handle.is_stalled() {
                        self.flush(true).await?;
                        return Err(ClaimError::Request(answer.stalled(self.shared.stall)));
                    }
                    match self.end() {
                        None => return Err(ClaimError::Revoked),
                        Some(end) if self.position >= end => {
                            self.flush(true).await?;
                            return Ok(false);
                        }
                        Some(_) => continue,
                    }
                }
                read = async {
                    if let Some(turn) = turn {
                        handle.wait_until(turn.at).await;
                    }
                    answer.read(self.buffer.room()).await
                } => read,
            };
            if let Some(turn) = turn.take() {
                self.shared.limiter.account_for(turn, read.as_ref().copied().unwrap_or_default());
            }
            let read = match read {
                Ok(0) => {
                    let error = self.ended(answer, at - from, until - from);
                    if matches!(error, ClaimError::Request(_)) {
                        self.flush(true).await?;
                    }
                    return Err(error);
                }
                Ok(read) => read,
                Err(error) => {
                    self.flush(true).await?;
                    let cut = || RequestError::cut_short(answer.resolved.url(), at - from, until - from);
                    return Err(ClaimError::Request(if error.is_broken() { cut() } else { error }));
                }
            };
            if at == 0 && self.whole && self.position > 0 {
                // These bytes are skipped, so `flush` does not check them.
                self.suspect = sniff::sniff(&self.buffer.room()[..read], &self.target.model, &self.redactor);
            }
            self.handle.moved.fetch_add(read as u64, Ordering::Relaxed);
            let taken = self.take(at, read, target);
            at += read as u64;
            if taken > 0 && self.received(taken) {
                self.source().answered.store(true, Ordering::Relaxed);
                self.shared.schedule().observe(self.shared.now(), self.claim.id, taken);
            }
            let last = at >= target;
            if (last || self.buffer.is_full()) && !self.flush(last).await? {
                return Ok(false);
            }
            if last {
                break;
            }
        }
        Ok(at >= until)
    }

    /// Keeps the bytes of a read that lie between `position` and `target`. The `read` bytes are in the buffer's room
    /// and start at the file's byte `at`. Returns the number of bytes kept.
    fn take(&mut self, at: u64, read: usize, target: u64) -> u64 {
        let skipped = self.position.saturating_sub(at).min(read as u64) as usize;
        let end = read.min((target - at.min(target)) as usize);
        let taken = end.saturating_sub(skipped);
        if skipped > 0 {
            self.buffer.room().copy_within(skipped..skipped + taken, 0);
        }
        self.buffer.fill(taken);
        self.position += taken as u64;
        taken as u64
    }

    /// Counts bytes of the claim. True for the first bytes.
    fn received(&self, bytes: u64) -> bool {
        self.handle.received.fetch_add(bytes, Ordering::Relaxed) == 0
    }

    /// Reserves the buffered bytes and starts to write them, after the previous write has ended. With `last`, waits for
    /// this write, too. False if the claim no longer included all of them.
    async fn flush(&mut self, last: bool) -> Result<bool, ClaimError> {
        let mut all = true;
        if !self.buffer.is_empty() {
            let len = self.buffer.len();
            let at = self.position - len as u64;
            if at == 0 {
                self.inspect()?;
            }
            self.finish_write().await?;
            let granted = self.shared.schedule().reserve(self.claim.id, len as u64);
            all = granted == len as u64;
            let mut bytes = std::mem::replace(&mut self.buffer, self.shared.buffers.take());
            bytes.truncate(granted as usize);
            if granted > 0 {
                let (part, claim) = (self.part.get().cloned(), self.claim);
                let (shared, target) = (self.shared.clone(), self.target.clone());
                self.writing = Some(tokio::task::spawn_blocking(move || {
                    let Some(part) = part else { return Ok(0) };
                    write(&shared, &target, &part, at, bytes, &claim)
                }));
            }
        }
        if last {
            self.finish_write().await?;
        }
        Ok(all)
    }

    /// Waits for the write under way.
    async fn finish_write(&mut self) -> Result<(), ClaimError> {
        let Some(writing) = self.writing.take() else { return Ok(()) };
        // The task waits for the disk: the connection has not stalled.
        self.handle.state.fetch_or(WAITING, Ordering::Relaxed);
        let written = writing.await.unwrap_or_else(resume);
        self.handle.state.fetch_and(!WAITING, Ordering::Relaxed);
        let bytes = written.map_err(ClaimError::Disk)?;
        self.gained += bytes;
        self.target.gained.add(bytes);
        let source = self.source();
        source.given.add(bytes);
        if !self.is_companion {
            self.target.led.add(bytes);
        }
        if source.store.is_some() {
            self.shared.from_stores.fetch_add(bytes, Ordering::Relaxed);
        }
        self.shared.dirty.fetch_add(bytes, Ordering::Relaxed);
        self.shared.observer.observe(&Event::Received { file: self.target.index, bytes });
        Ok(())
    }
}

/// True if the error says only that the file at the source has another length, because the requested range did not
/// include the first bytes.
fn is_blind(error: &RequestError, asked: ExpectedBody) -> bool {
    let RequestError::Response { error: ResponseError::WrongSize { .. }, prefix, .. } = error else {
        return false;
    };
    prefix.bytes.is_empty() && asked.range.is_some_and(|range| range.start > 0)
}

/// Requests the first bytes and returns their failure. The file may be no model at all, and the error must not depend
/// on the order of the claims.
async fn probe_first_bytes(
    connection: &mut Connection,
    source: &SourceUrl,
    asked: ExpectedBody,
) -> Option<RequestError> {
    let beginning = ByteRange::new(0, asked.size.min(sniff::SNIFF_LENGTH as u64));
    let error = connection.get(source, None, ExpectedBody { range: Some(beginning), ..asked }).await.err()?;
    matches!(error, RequestError::Response { .. }).then_some(error)
}

/// Passes on the panic of a blocking job.
fn resume<T>(error: tokio::task::JoinError) -> T {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => unreachable!("no job is aborted"),
    }
}

/// Writes `bytes`, records them in the journal if enough are unrecorded, and offers them for hashing. A stream skips
/// bytes that other connections wrote before. Returns the number of bytes written.
fn write(
    shared: &Arc<Shared>,
    target: &Arc<Target>,
    part: &Arc<PartFile>,
    at: u64,
    bytes: Buffer,
    claim: &Claim,
) -> Result<u64, DiskError> {
    let len = bytes.len();
    let here = ByteRange::new(at, at + len as u64);
    let ranges = if claim.plain { part.missing_of(here) } else { vec![here] };
    let mut hash = None;
    for range in &ranges {
        if part.has_list() {
            // Before another thread can hash the bytes and find them wrong.
            target.provenance().record(*range, claim.source.0);
        }
        // Of several, the last one can be hashed where an earlier one can: all bytes between them are held.
        hash = Some(part.write(range.start, &bytes[(range.start - at) as usize..(range.end - at) as usize])?);
    }
    if part.unjournaled() >= shared.journal_bytes {
        part.journal_written()?;
    }
    let kept = (ranges == [here]).then_some(bytes);
    if hash.is_some_and(|hash| shared.hashing.offer(target, part, at, (len, kept), &hash)) {
        // Hashing runs in its own job, because the connection waits for this one.
        let shared = shared.clone();
        tokio::task::spawn_blocking(move || shared.hashing.work());
    }
    Ok(ranges.iter().map(ByteRange::len).sum())
}
