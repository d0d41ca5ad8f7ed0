//! One claim: one request, its body into the part, and how it ended.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::Shared;
use super::buffers::Buffer;
use super::handle::{Handle, STALLED, WAITING};
use super::target::Target;
use provision_core::byte_range::ByteRange;
use provision_core::event::Event;
use provision_core::redact::Redactor;
use provision_core::schedule::Claim;
use provision_core::source_url::SourceUrl;
use provision_disk::{PartFile, StoreError};
use provision_http::sniff::{self, SniffedContent};
use provision_http::{Answer, BodyEnd, BodyKind, Connection, ExpectedBody, RequestError, ResponseError};

/// What a claim's task is given.
pub(super) struct Order {
    pub(super) claim: Claim,
    pub(super) source: SourceUrl,
    /// A stream that starts midway may be asked for as a range.
    pub(super) ask_range: bool,
    /// The connection has served a request before.
    pub(super) served: bool,
    pub(super) began: Duration,
    pub(super) handle: Arc<Handle>,
}

/// How a claim ended. Every write of it has.
pub(super) struct ClaimEnd {
    pub(super) order: Order,
    pub(super) connection: Connection,
    /// The connection can serve another request.
    pub(super) kept: bool,
    /// Bytes written.
    pub(super) gained: u64,
    /// Bytes received.
    pub(super) received: u64,
    pub(super) result: Result<(), ClaimError>,
}

/// Why a claim ended before its end.
pub(super) enum ClaimError {
    /// It was taken away.
    Revoked,
    /// The origin.
    Request(RequestError),
    /// The disk.
    Store(StoreError),
    /// A whole body came for a range.
    NotRanges,
    /// Something else than the file came, from there; some of it may have been written.
    SniffedContent { url: SourceUrl, came: SniffedContent, written: bool },
    /// Another connection tried to find out where the source leads, and failed.
    Unresolved,
}

/// Fetches a claim. Ends when its last byte is written, when it is taken away, or with a failure.
pub(super) async fn fetch(
    shared: Arc<Shared>,
    target: Arc<Target>,
    order: Order,
    mut connection: Connection,
) -> ClaimEnd {
    let mut sink = Sink::new(shared, target, &order);
    let (kept, result) = match sink.receive(&order, &mut connection).await {
        Ok(kept) => (kept, Ok(())),
        Err(error) => (false, Err(sink.explained(error))),
    };
    // Whatever happened, nothing of this claim is on its way to the disk when it is over.
    let settled = sink.settle().await;
    let result = match result {
        Err(ClaimError::Store(_) | ClaimError::Unresolved) => result,
        // What the disk says of it comes before what the origin says.
        _ => settled.and(result),
    };
    let received = order.handle.received.load(Ordering::Relaxed);
    ClaimEnd { order, connection, kept: kept && result.is_ok(), gained: sink.gained, received, result }
}

/// Where a claim's bytes go.
struct Sink {
    shared: Arc<Shared>,
    target: Arc<Target>,
    claim: Claim,
    handle: Arc<Handle>,
    part: OnceLock<Arc<PartFile>>,
    /// Collected for the next write; ends before `position`.
    buffer: Buffer,
    position: u64,
    gained: u64,
    /// The write under way; the next chunks are read meanwhile.
    writing: Option<JoinHandle<Result<u64, StoreError>>>,
    /// The answer is the whole file, by its own account: where its bytes are not, it is something else.
    whole: bool,
    /// What its first bytes look like, if not like a model.
    suspect: Option<SniffedContent>,
    /// Where it comes from, where its first bytes are the file's.
    place: Option<SourceUrl>,
    /// What must not be shown of it.
    told: Redactor,
}

impl Sink {
    fn new(shared: Arc<Shared>, target: Arc<Target>, order: &Order) -> Self {
        let position = order.claim.range.start;
        Self {
            buffer: shared.buffers.take(),
            shared,
            target,
            claim: order.claim,
            handle: order.handle.clone(),
            part: OnceLock::new(),
            position,
            gained: 0,
            writing: None,
            whole: false,
            suspect: None,
            place: None,
            told: Redactor::default(),
        }
    }

    /// What came, where the body of an answer that cannot be used says it.
    fn explained(&self, error: ClaimError) -> ClaimError {
        let ClaimError::Request(RequestError::Response { url, prefix, .. }) = &error else {
            return error;
        };
        match sniff::sniff(&prefix.bytes, &self.target.model, &prefix.redactor) {
            Some(came) => ClaimError::SniffedContent { url: url.clone(), came, written: false },
            None => error,
        }
    }

    /// Looks at the file's first bytes, which are about to be written. A pointer is not; what else may be no model is
    /// remembered until its end says what it is.
    fn inspect(&mut self) -> Result<(), ClaimError> {
        self.suspect = sniff::sniff(&self.buffer, &self.target.model, &self.told);
        match self.suspect.take_if(|came| sniff::rules_out(came, &self.target.model)) {
            Some(came) => Err(self.instead(came)),
            None => Ok(()),
        }
    }

    /// The failure of a body that is something else. What is buffered of it is not written any more.
    fn instead(&self, came: SniffedContent) -> ClaimError {
        let url = self.place.clone().unwrap_or_else(|| self.target.model.sources[0].clone());
        ClaimError::SniffedContent { url, came, written: self.gained > 0 || self.writing.is_some() }
    }

    /// The body has ended, before the file's end.
    fn ended(&mut self, answer: &Answer<'_>, came: u64, of: u64) -> ClaimError {
        if self.whole && self.position == self.buffer.len() as u64 {
            // Nothing of it has been looked at.
            self.suspect = sniff::sniff(&self.buffer, &self.target.model, &self.told);
        }
        match self.suspect.take().filter(|_| self.whole) {
            Some(came) => self.instead(came),
            None => ClaimError::Request(RequestError::cut_short(answer.resolved.url(), came, of)),
        }
    }

    /// Request, head, body. True where the connection can be used again.
    async fn receive(&mut self, order: &Order, connection: &mut Connection) -> Result<bool, ClaimError> {
        let (claim, size, sha256) = (order.claim, self.target.model.size, Some(self.target.model.sha256));
        let range = match claim {
            Claim { plain: false, range, .. } => Some(range),
            Claim { plain: true, range, .. } if range.start > 0 && order.ask_range => {
                Some(ByteRange::new(range.start, size))
            }
            Claim { .. } => None,
        };
        let mut answer = self.ask(order, connection, ExpectedBody { range, size, sha256 }).await?;
        if !claim.plain && !self.target.is_same_version(answer.etag.as_ref()) {
            return Err(ClaimError::Request(answer.changed()));
        }
        let host = self.shared.host(answer.resolved.url());
        self.shared.schedule().set_host(claim.file, host);
        self.open().await?;
        self.whole = answer.kind == BodyKind::Whole;
        if self.whole || claim.range.start == 0 {
            self.place = Some(answer.resolved.url().clone());
            self.told = answer.redactor();
        }
        match answer.kind {
            BodyKind::Part { range, exact } => {
                let whole = self.read(&mut answer, range.start, range.end).await?;
                if whole && range.end < claim.range.end {
                    // Shorter than asked, which is legal: the rest is asked for again.
                    self.flush(true).await?;
                    return Ok(exact && answer.end().await == BodyEnd::Clean);
                }
                Ok(whole && exact && answer.end().await == BodyEnd::Clean)
            }
            BodyKind::Whole if claim.plain || claim.range == ByteRange::new(0, size) => {
                let whole = self.read(&mut answer, 0, size).await?;
                if !whole {
                    return Ok(false);
                }
                // A body without a length may go on: then it is not this file.
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

    /// The answer's head. A file is resolved by one connection; the others wait for it and go where it led.
    async fn ask<'c>(
        &mut self,
        order: &Order,
        connection: &'c mut Connection,
        asked: ExpectedBody,
    ) -> Result<Answer<'c>, ClaimError> {
        let target = self.target.clone();
        let get = async {
            let known = || target.resolved.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(resolved) = known() {
                return connection
                    .get(&order.source, Some(&resolved), asked)
                    .await
                    .map_err(ClaimError::Request);
            }
            let before = target.unresolved.load(Ordering::Relaxed);
            let resolving = target.resolving.lock().await;
            if let Some(resolved) = known() {
                drop(resolving);
                return connection
                    .get(&order.source, Some(&resolved), asked)
                    .await
                    .map_err(ClaimError::Request);
            }
            if target.unresolved.load(Ordering::Relaxed) != before {
                return Err(ClaimError::Unresolved);
            }
            let mut other = connection.another();
            let mut answer = connection.get(&order.source, None, asked).await;
            if let Err(error) = &answer
                && is_blind(error, asked)
                && let Some(seen) = look(&mut other, &order.source, asked).await
            {
                answer = Err(seen);
            }
            match &answer {
                Ok(answer) => {
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
                    // The wait for it has its own limit; what counts from now on is the body.
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
                .map_err(ClaimError::Store)?,
        };
        let _ = self.part.set(part);
        Ok(())
    }

    /// Where the claim ends now; `None` once it was taken away.
    fn end(&self) -> Option<u64> {
        self.shared.schedule().end_of(self.claim.id)
    }

    /// Reads the body, whose first byte is the file's byte `at`, until byte `until` of the file. What lies before
    /// the claim is passed over. True where the body was read to there, false where the claim got shorter meanwhile.
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
                self.shared.limiter.settle(turn, read.as_ref().copied().unwrap_or_default());
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
                // They are passed over.
                self.suspect = sniff::sniff(&self.buffer.room()[..read], &self.target.model, &self.told);
            }
            self.handle.moved.fetch_add(read as u64, Ordering::Relaxed);
            let taken = self.take(at, read, target);
            at += read as u64;
            if taken > 0 && self.received(taken) {
                self.target.answered.store(true, Ordering::Relaxed);
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

    /// Keeps what is wanted of the `read` bytes in the buffer's room, which are the file's from byte `at` on: nothing
    /// before `position`, nothing from `target` on. Returns how many bytes that is.
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

    /// Counts bytes of the claim. True for its first ones.
    fn received(&self, bytes: u64) -> bool {
        self.handle.received.fetch_add(bytes, Ordering::Relaxed) == 0
    }

    /// Reserves what is buffered and starts writing it, after the write before it has ended; with `last`, waits for
    /// this one too. False where not all of it was the claim's any more.
    async fn flush(&mut self, last: bool) -> Result<bool, ClaimError> {
        let mut all = true;
        if !self.buffer.is_empty() {
            let len = self.buffer.len();
            let at = self.position - len as u64;
            if at == 0 {
                self.inspect()?;
            }
            self.settle().await?;
            let granted = self.shared.schedule().reserve(self.claim.id, len as u64);
            all = granted == len as u64;
            let mut bytes = std::mem::replace(&mut self.buffer, self.shared.buffers.take());
            bytes.truncate(granted as usize);
            if granted > 0 {
                let (part, plain, shared) = (self.part.get().cloned(), self.claim.plain, self.shared.clone());
                self.writing = Some(tokio::task::spawn_blocking(move || {
                    let Some(part) = part else { return Ok(0) };
                    write(&shared, &part, at, bytes, plain)
                }));
            }
        }
        if last {
            self.settle().await?;
        }
        Ok(all)
    }

    /// Waits for the write under way.
    async fn settle(&mut self) -> Result<(), ClaimError> {
        let Some(writing) = self.writing.take() else { return Ok(()) };
        // It is the disk that is waited for: the connection has not stalled.
        self.handle.state.fetch_or(WAITING, Ordering::Relaxed);
        let written = writing.await.unwrap_or_else(resume);
        self.handle.state.fetch_and(!WAITING, Ordering::Relaxed);
        let bytes = written.map_err(ClaimError::Store)?;
        self.gained += bytes;
        self.target.gained.fetch_add(bytes, Ordering::Relaxed);
        self.shared.dirty.fetch_add(bytes, Ordering::Relaxed);
        self.shared.observer.observe(&Event::Received { file: self.target.index, bytes });
        Ok(())
    }
}

/// Whether it is only known that the file there has another length: what was asked for lies behind its end, or within it.
fn is_blind(error: &RequestError, asked: ExpectedBody) -> bool {
    let RequestError::Response { error: ResponseError::WrongSize { .. }, prefix, .. } = error else {
        return false;
    };
    prefix.bytes.is_empty() && asked.range.is_some_and(|range| range.start > 0)
}

/// The failure that its first bytes give: it may be no model at all, and which claim comes first must not decide what is
/// said of it.
async fn look(connection: &mut Connection, source: &SourceUrl, asked: ExpectedBody) -> Option<RequestError> {
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

/// Writes `bytes`, notes them where it is time, and leaves them to be hashed. A stream passes over bytes that other
/// connections brought before it. Returns how many were written.
fn write(
    shared: &Arc<Shared>,
    part: &Arc<PartFile>,
    at: u64,
    bytes: Buffer,
    plain: bool,
) -> Result<u64, StoreError> {
    let here = ByteRange::new(at, at + bytes.len() as u64);
    let wanted = if plain { part.missing_of(here) } else { vec![here] };
    let mut hash = None;
    for range in &wanted {
        hash = Some(part.write(range.start, &bytes[(range.start - at) as usize..(range.end - at) as usize])?);
    }
    if part.unjournaled() >= shared.note {
        part.journal_written()?;
    }
    let kept = (wanted == [here]).then_some(bytes);
    if hash.is_some_and(|hash| shared.hashing.offer(part, at, kept, hash)) {
        // Not in this job, which its connection waits for.
        let shared = shared.clone();
        tokio::task::spawn_blocking(move || shared.hashing.work());
    }
    Ok(wanted.iter().map(ByteRange::len).sum())
}
