//! Reads the bytes of a file whose digest nobody says, once: into the part that a fetch will go on from.
//!
//! So they are paid for once: the next `fetch-models` finds the part whole, proves it, installs it and fetches nothing. One
//! connection, since the digest follows the bytes from the first on; a read that breaks off is gone on with, also by the next
//! command.
//!
//! Nothing else proves these bytes: what is read here becomes the digest. So bytes of two versions must never come together. What
//! was read goes on only where a validator says that it is the same file, and else from the first byte. The part is named by that
//! validator, always: where it changes midway the part goes, and the new version gets a part of its own. So whatever a later
//! command finds is of one version, also where a host has gone back to an older one meanwhile. What a host's listing says of a
//! file is not enough for that: the bytes come from elsewhere, and may be others while the listing is the same. So the validator
//! of the answer that has the bytes is in the name, too, and where there is none, a later command begins at the first byte.
//!
//! For the same reason the last block is written only when the body has ended with it: a host that said too short a length would
//! be given the digest of a beginning, and a part that is whole is not asked for again.
//!
//! Nothing here goes on for ever: a failure counts until bytes have been gained that stay, and to begin again is a failure that
//! counts for good.

use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use provision_core::backoff::RetryPolicy;
use provision_core::byte_range::ByteRange;
use provision_core::digest::Sha256;
use provision_core::event::{Event, Observer, Outcome, Planned, PlannedFile};
use provision_core::lockfile::Model;
use provision_core::model_path::ModelPath;
use provision_core::source_url::SourceUrl;
use provision_disk::{Acquire, Destination, DestinationLock, LockAttempt, PartFile, PartNames, StoreError};
use provision_http::metadata::{MetadataClient, MetadataError, OnWait};
use provision_http::{
    Answer, BodyKind, BodyPrefix, Connection, ExpectedBody, HttpClient, Remedy, RequestError, ResponseError,
};

use crate::resolve::Found;
use crate::source::Source;

/// How long written bytes may go without a word in the journal.
const NOTE_EVERY: Duration = Duration::from_millis(250);
/// How long they may go without being durable.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);
/// A connection on which nothing came for this long has failed.
const STALL: Duration = Duration::from_secs(30);
/// How much is read at once, in bytes. What is no longer is not worth being gone on with by a later command.
const BLOCK: usize = 1 << 20;
/// How much is looked at for a web page, in bytes.
const HEAD: usize = 1 << 10;

/// A file that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The host.
    #[error(transparent)]
    Host(#[from] MetadataError),
    /// The file is not as long as its host said.
    #[error(
        "{url}: {}; nothing is recorded. It may be being replaced just now: try again, or give another address of it",
        sent.map_or_else(
            || format!("the file is longer than the {said} bytes that the host said"),
            |sent| format!("the file has {sent} bytes now, and the host said {said} before")
        )
    )]
    OtherSize {
        /// Where the bytes come from.
        url: SourceUrl,
        /// What the host said when it was asked.
        said: u64,
        /// What it says now; `None` where it says nothing and sends more.
        sent: Option<u64>,
    },
    /// There is nothing to read.
    #[error(
        "{url}: the host says that the file has 0 bytes, which no model has; nothing is recorded. Give --sha256 {} where it is \
         meant to be empty",
        Sha256::of(b"")
    )]
    Empty {
        /// Where it is.
        url: SourceUrl,
    },
    /// The disk.
    #[error("{}", .0.reason())]
    Store(#[from] StoreError),
    /// Another run works in the destination.
    #[error("another run works in the destination: {holder}; wait for it, or give another --dest")]
    Busy {
        /// The lock's path and what is known of its holder.
        holder: String,
    },
}

/// Reads files into a destination's parts.
pub struct Reader {
    origin: Arc<HttpClient>,
    retry: RetryPolicy,
    on_wait: OnWait,
    destination: Utf8PathBuf,
    observer: Arc<dyn Observer>,
    /// Opened, and ours, from the first file on.
    place: Option<(Destination, DestinationLock)>,
    /// How many files were read to their end.
    files_read: usize,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("destination", &self.destination).finish_non_exhaustive()
    }
}

impl Reader {
    /// Reads into `destination`, which is made when there is something to read; `observer` is told how it goes.
    pub fn new(
        origin: Arc<HttpClient>,
        retry: RetryPolicy,
        on_wait: OnWait,
        destination: Utf8PathBuf,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self { origin, retry, on_wait, destination, observer, place: None, files_read: 0 }
    }

    /// How many files have been read to their end so far.
    pub fn files_read(&self) -> usize {
        self.files_read
    }

    /// Reads what was found, which is to become `path`; its digest. What turns out to be `known` is not kept.
    pub async fn read(
        &mut self,
        found: &Found,
        path: &ModelPath,
        known: Option<Sha256>,
    ) -> Result<Sha256, StreamError> {
        if found.size == 0 {
            if is_plain_address(found) {
                return Err(StreamError::Empty { url: found.url.clone() });
            }
            return Ok(Sha256::of(b""));
        }
        if self.place.is_none() {
            let destination = Destination::create(&self.destination)?;
            let lock = acquire(&destination).await?;
            self.place = Some((destination, lock));
        }
        let Some((destination, _)) = &self.place else { unreachable!("it was just opened") };
        let mut patience = MetadataClient::new(&self.origin, self.retry.clone(), self.on_wait.clone());
        let header = if is_plain_address(found) {
            found.etag.clone()
        } else if found.size > BLOCK as u64 {
            patience.probe(&found.url).await?.etag.filter(|etag| is_strong(etag))
        } else {
            None
        };
        let mut reading = Reading::open(destination, found, path, header, self.observer.clone())?;
        let (held, free) = (reading.part.held(), destination.free_space()?);
        let needed = found.size - held;
        let plan = if held > 0 { Planned::Resume } else { Planned::Fetch };
        let file = PlannedFile { path: path.clone(), size: found.size, held, plan };
        self.observer.observe(&Event::Planned { files: vec![file], to_fetch: needed, needed, free });
        if needed > free {
            let path = self.destination.clone();
            return Err(StoreError::NotEnoughSpace { path, needed, free, option: "--dest" }.into());
        }
        let began = Instant::now();
        self.observer.observe(&Event::Started { file: 0, source: found.url.to_string() });
        let read = reading.finish(self.origin.connection(), patience, &self.retry).await;
        if let Err(error) = read {
            // What cannot be gone on with is of no use to anybody, and neither is what is of no version.
            let is_useless = !reading.lasts() || reading.part.held() == 0;
            if is_useless || matches!(error, StreamError::OtherSize { .. }) {
                let _ = reading.part.remove();
            }
            return Err(error);
        }
        let sha256 = reading.part.name_by_own_digest(&reading.model)?;
        if known == Some(sha256) {
            // Nobody will ask for it: it is what the lock had all the time.
            forget(destination, &reading.model, sha256)?;
        }
        self.files_read += 1;
        let elapsed = began.elapsed();
        let outcome = Outcome::Fetched;
        self.observer.observe(&Event::Finished { file: 0, outcome, fetched: needed, elapsed });
        Ok(sha256)
    }
}

/// Gets the destination's lock. Nobody is waited for, but until it is known whether a holder on another machine lives.
async fn acquire(destination: &Destination) -> Result<DestinationLock, StreamError> {
    let mut application = LockAttempt::default();
    loop {
        match application.try_acquire(destination)? {
            Acquire::Acquired(lock) => return Ok(lock),
            Acquire::Held(_) if application.is_watching() => {
                tokio::time::sleep(LockAttempt::POLL_INTERVAL).await
            }
            Acquire::Held(holder) => return Err(StreamError::Busy { holder }),
        }
    }
}

/// The file under a digest that stands in for its own: of all that is known of its bytes.
fn stand_in(found: &Found, validator: Option<&String>, path: &ModelPath) -> Model {
    let known = format!("{}\n{}\n{validator:?}", found.url.as_url(), found.size);
    Model {
        path: path.clone(),
        sources: vec![found.url.clone()],
        size: found.size,
        sha256: Sha256::of(known.as_bytes()),
        groups: Vec::new(),
        source: None,
    }
}

/// One file on its way.
struct Reading<'a> {
    destination: &'a Destination,
    found: &'a Found,
    observer: Arc<dyn Observer>,
    /// The file as its part is named.
    model: Model,
    part: Arc<PartFile>,
    /// What the part's name was made of, a header's value among it: what a later command goes on under, if it is something.
    validator: Option<String>,
    /// The validator, as a header has it, of what was read so far in this run.
    etag: Option<String>,
    /// Ranges have been tried, and are not to be had.
    is_plain: bool,
    /// How often bytes were dropped.
    dropped: u32,
    noted: Instant,
    checkpointed: Instant,
}

enum ReadError {
    /// Something that may be better next time.
    Host(RequestError),
    /// An end.
    Stream(StreamError),
}

impl From<RequestError> for ReadError {
    fn from(error: RequestError) -> Self {
        Self::Host(error)
    }
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        Self::Stream(error.into())
    }
}

/// The part of `model`, with what may be gone on with.
fn open_part(destination: &Destination, model: &Model, lasts: bool) -> Result<Arc<PartFile>, StoreError> {
    let part = PartFile::open(destination, model, &PartNames::Shared, || true)?;
    if !lasts && part.held() > 0 {
        part.reset()?;
    }
    Ok(Arc::new(part))
}

impl<'a> Reading<'a> {
    fn open(
        destination: &'a Destination,
        found: &'a Found,
        path: &ModelPath,
        header: Option<String>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, StoreError> {
        let validator = header.as_ref().map(|header| match &found.etag {
            Some(listed) if !is_plain_address(found) => format!("{listed}\n{header}"),
            _ => header.clone(),
        });
        let model = stand_in(found, validator.as_ref(), path);
        let part = open_part(destination, &model, validator.is_some())?;
        let now = Instant::now();
        Ok(Self {
            destination,
            found,
            observer,
            model,
            part,
            etag: header,
            validator,
            is_plain: false,
            dropped: 0,
            noted: now,
            checkpointed: now,
        })
    }

    /// Whether a later command can go on with what is held.
    fn lasts(&self) -> bool {
        self.validator.is_some() && !self.is_plain
    }

    async fn finish(
        &mut self,
        mut connection: Connection,
        mut patience: MetadataClient,
        retry: &RetryPolicy,
    ) -> Result<(), StreamError> {
        let mut failures = 0;
        while self.part.held() < self.found.size {
            let before = self.part.held();
            let error = match self.go_on(&mut connection).await {
                Ok(()) => continue,
                Err(ReadError::Stream(error)) => return Err(error),
                Err(ReadError::Host(error)) => error,
            };
            if let RequestError::Response {
                url, error: ResponseError::WrongSize { found, expected }, ..
            } = error
            {
                return Err(StreamError::OtherSize { url, said: expected, sent: found });
            }
            let had_bytes = self.part.held() > 0;
            if matches!(error.remedy(), Remedy::Plain | Remedy::RetryThenPlain) && had_bytes && !self.is_plain
            {
                self.is_plain = true;
                self.begin_again(&error)?;
                continue;
            }
            if self.is_plain || (self.validator.is_none() && self.etag.is_none()) {
                // Bytes that are thrown away are no progress: a host that always cuts would be asked for ever.
                self.begin_again(&error)?;
            } else {
                if self.part.held() > before {
                    failures = 0;
                }
                self.part.checkpoint()?;
            }
            if retry.is_spent(self.dropped) {
                return Err(MetadataError::from(error).into());
            }
            patience.wait_after(error.into(), &mut failures).await?;
        }
        Ok(())
    }

    /// Drops what was read, of a version that is still the one.
    fn begin_again(&mut self, why: &RequestError) -> Result<(), StoreError> {
        let bytes = self.part.held();
        self.part.reset()?;
        self.tell_dropped(bytes, why);
        Ok(())
    }

    /// Drops what was read: another version is there, which has this header for a validator.
    fn follow_version(&mut self, etag: Option<String>, why: &RequestError) -> Result<(), StoreError> {
        let bytes = self.part.held();
        self.part.remove()?;
        self.tell_dropped(bytes, why);
        self.etag = etag;
        // What other hosts' listings said was of the version before.
        self.validator = self.etag.clone().filter(|_| is_plain_address(self.found));
        self.model = stand_in(self.found, self.validator.as_ref(), &self.model.path);
        self.part = open_part(self.destination, &self.model, self.lasts())?;
        Ok(())
    }

    fn tell_dropped(&mut self, bytes: u64, why: &RequestError) {
        if bytes > 0 {
            self.dropped += 1;
            self.observer.observe(&Event::Dropped { file: 0, bytes, reason: why.to_string() });
        }
    }

    /// Asks for what is missing first, and takes what comes of it.
    async fn go_on(&mut self, connection: &mut Connection) -> Result<(), ReadError> {
        if self.etag.is_none() && self.part.held() > 0 {
            // Whatever comes, ranges or all of it: nothing could say that it is of the same version.
            self.part.reset()?;
        }
        let Some(mut gap) = self.part.missing().first().copied() else { return Ok(()) };
        let size = self.found.size;
        let whole = gap.start == 0 && gap.end == size;
        let asked = ExpectedBody { range: (!whole).then_some(gap), size, sha256: None };
        let mut answer = connection.get(&self.found.url, None, asked).await?;
        let (mut at, end) = match answer.kind {
            BodyKind::Part { range, .. } => (range.start, range.end),
            // Ranges are not to be had: what is held is read over.
            BodyKind::Whole => (0, size),
        };
        if self.etag.is_some() && answer.etag != self.etag {
            let changed = answer.changed();
            self.follow_version(answer.etag.clone(), &changed)?;
            // All of the new one, or what an earlier run has left of it is gone on with.
            if at > 0 || end < size || self.part.held() > 0 {
                return Err(changed.into());
            }
            gap = ByteRange::new(0, size);
        }
        self.etag = answer.etag.clone().or(self.etag.take());
        let mut block = vec![0; BLOCK];
        while at < end {
            let most = BLOCK.min((end - at) as usize);
            let mut read = read_some(&mut answer, &mut block[..most]).await?;
            // A page may come in pieces, each of which is none.
            while at == 0 && (1..most.min(HEAD)).contains(&read) {
                match read_some(&mut answer, &mut block[read..most]).await? {
                    0 => break,
                    more => read += more,
                }
            }
            if read == 0 {
                return Err(RequestError::cut_short(answer.resolved.url(), at, end).into());
            }
            let bytes = &block[..read];
            if at == 0 && is_page(bytes, &self.model.path) {
                let url = answer.resolved.url().clone();
                let page =
                    RequestError::Response { url, error: ResponseError::Html, prefix: BodyPrefix::default() };
                return Err(page.into());
            }
            let end_of_bytes = at + read as u64;
            if end_of_bytes == size && goes_on(&mut answer).await {
                let url = answer.resolved.url().clone();
                return Err(ReadError::Stream(StreamError::OtherSize { url, said: size, sent: None }));
            }
            let wanted = bytes.len().min(end_of_bytes.saturating_sub(gap.start) as usize);
            let fresh = &bytes[bytes.len() - wanted..];
            let start = end_of_bytes - wanted as u64;
            let room = gap.end.saturating_sub(start).min(wanted as u64) as usize;
            if room > 0 {
                self.take(start, &fresh[..room])?;
            }
            at = end_of_bytes;
            if at >= gap.end {
                break;
            }
        }
        Ok(())
    }

    fn take(&mut self, start: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.part.write(start, bytes)?;
        match self.part.take_hasher().filter(|lease| lease.at() == start) {
            Some(mut lease) => lease.update(bytes),
            None => self.part.hash_ready()?,
        }
        self.observer.observe(&Event::Received { file: 0, bytes: bytes.len() as u64 });
        if self.noted.elapsed() > NOTE_EVERY {
            self.part.journal_written()?;
            self.noted = Instant::now();
        }
        if self.checkpointed.elapsed() > CHECKPOINT_EVERY {
            self.part.checkpoint()?;
            self.checkpointed = Instant::now();
        }
        Ok(())
    }
}

/// What comes next of a body; nothing at its end.
async fn read_some(answer: &mut Answer<'_>, block: &mut [u8]) -> Result<usize, RequestError> {
    match tokio::time::timeout(STALL, answer.read(block)).await {
        Ok(read) => read,
        Err(_) => Err(RequestError::stalled(answer.resolved.url(), STALL)),
    }
}

/// Removes the part that has got its own digest for a name.
fn forget(destination: &Destination, model: &Model, sha256: Sha256) -> Result<(), StoreError> {
    let model = Model { sha256, ..model.clone() };
    PartFile::open(destination, &model, &PartNames::Shared, || true)?.remove()
}

/// A weak validator says nothing about bytes (RFC 9110 section 8.8.1).
fn is_strong(etag: &str) -> bool {
    etag.starts_with('"') && etag.len() > 2 && etag.len() < 512
}

/// Whether the validator that was found is a header's.
fn is_plain_address(found: &Found) -> bool {
    matches!(found.source, Source::Url(_))
}

/// Whether a body has more than it should have. One that does not end is no longer waited for than one in which nothing moves.
async fn goes_on(answer: &mut Answer<'_>) -> bool {
    matches!(tokio::time::timeout(STALL, answer.read(&mut [0])).await, Ok(Ok(1..)))
}

/// Whether these first bytes are a web page's, in place of a file that is none: a page to log in on may call itself anything.
fn is_page(bytes: &[u8], path: &ModelPath) -> bool {
    let is_named = |ending: &str| {
        path.file_name().rsplit_once('.').is_some_and(|(_, end)| end.eq_ignore_ascii_case(ending))
    };
    if is_named("html") || is_named("htm") {
        return false;
    }
    let bytes = &bytes[..bytes.len().min(HEAD)];
    let mut text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    // A prolog and comments may come before it (XHTML 1.0 section 3.1.1).
    while let Some(end) = [("<?xml", "?>"), ("<!--", "-->")]
        .into_iter()
        .find_map(|(begin, end)| text.starts_with(begin.as_bytes()).then_some(end))
    {
        let Some(at) = text.windows(end.len()).position(|here| here == end.as_bytes()) else { return false };
        text = text[at + end.len()..].trim_ascii_start();
    }
    let begins =
        |mark: &str| text.get(..mark.len()).is_some_and(|start| start.eq_ignore_ascii_case(mark.as_bytes()));
    begins("<!doctype html") || begins("<html")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_seen_behind_its_prolog_and_comments_and_nothing_else_is_one() {
        let page = |text: &str, path: &str| is_page(text.as_bytes(), &path.parse().unwrap());
        for text in [
            "<!DOCTYPE html>",
            "\u{feff} \n<HTML lang=en>",
            "<?xml version=\"1.0\"?>\n<!DOCTYPE html PUBLIC \"x\">",
            "<!-- a --><!-- <b> -->\n<html>",
            "<?xml version=\"1.0\"?><!-- a -->\n<html xmlns=\"x\">",
        ] {
            assert!(page(text, "vae/x.bin"), "{text}");
            assert!(!page(text, "vae/x.html"), "{text}");
        }
        let long = format!("<!-- {} --><html>", "a".repeat(HEAD));
        for text in ["", "<", "<!--", "<?xml version=\"1.0\"?><model/>", "<!-- a -->", "a<html>", &long] {
            assert!(!page(text, "vae/x.bin"), "{text}");
        }
    }
}
