//! Reads a file whose host publishes no digest once, into the part that a later fetch resumes from.
//!
//! The download is thus paid for once: the next `fetch-models` finds the complete part, verifies and installs it. One
//! connection reads, because the digest follows the bytes from the first one on. An interrupted read is resumed, also by a
//! later command.
//!
//! These bytes define the digest, so nothing else could detect a mix of two versions. Bytes are resumed only if a validator
//! shows the same file; otherwise the read restarts at the first byte. The validator is part of the part's name. If it
//! changes, the part is removed and the new version gets its own part, so each part has the bytes of one version, even if a
//! host goes back to an older one. A host's listing is not enough: the bytes come from another server and may change while
//! the listing stays the same. So the name also contains the validator of the response that carries the bytes. Without one, a
//! later command restarts at the first byte.
//!
//! For the same reason, the last block is written only after the body has ended. If a host declared too short a length, a
//! prefix would get a digest, and a complete part is never requested again.
//!
//! Every read ends: a failure counts until lasting bytes arrive, and each restart counts for good.

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

/// The longest time for which written bytes may be missing from the journal.
const JOURNAL_INTERVAL: Duration = Duration::from_millis(250);
/// The longest time for which written bytes may not be durable.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(2);
/// A connection without data for this long has failed.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The size of a read in bytes. A later command does not resume files up to this size.
const BLOCK: usize = 1 << 20;
/// The prefix that is searched for a web page, in bytes.
const PAGE_PREFIX: usize = 1 << 10;

/// A file that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// A request failed.
    #[error(transparent)]
    Host(#[from] MetadataError),
    /// The file's length differs from the declared one.
    #[error(
        "{url}: {}; nothing is recorded. It may be being replaced just now: try again, or give another address of it",
        sent.map_or_else(
            || format!("the file is longer than the {said} bytes that the host said"),
            |sent| format!("the file has {sent} bytes now, and the host said {said} before")
        )
    )]
    OtherSize {
        /// The download URL.
        url: SourceUrl,
        /// The length that the host declared first.
        said: u64,
        /// The length that it declares now; `None` if it declares none and sends more.
        sent: Option<u64>,
    },
    /// The file is empty.
    #[error(
        "{url}: the host says that the file has 0 bytes, which no model has; nothing is recorded. Give --sha256 {} where it is \
         meant to be empty",
        Sha256::of(b"")
    )]
    Empty {
        /// The download URL.
        url: SourceUrl,
    },
    /// A disk operation failed.
    #[error("{}", .0.reason())]
    Store(#[from] StoreError),
    /// Another run holds the destination.
    #[error("another run works in the destination: {holder}; wait for it, or give another --dest")]
    Busy {
        /// The lock's path and its known holder.
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
    /// The destination and its lock, from the first file on.
    place: Option<(Destination, DestinationLock)>,
    /// The number of complete files.
    files_read: usize,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("destination", &self.destination).finish_non_exhaustive()
    }
}

impl Reader {
    /// Creates a reader for `destination`, which is created with the first file; `observer` receives its events.
    pub fn new(
        origin: Arc<HttpClient>,
        retry: RetryPolicy,
        on_wait: OnWait,
        destination: Utf8PathBuf,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self { origin, retry, on_wait, destination, observer, place: None, files_read: 0 }
    }

    /// The number of files that were read completely.
    pub fn files_read(&self) -> usize {
        self.files_read
    }

    /// Reads a found file, which will become `path`, and returns its digest. If that is `known`, the bytes are not kept.
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
        let mut metadata = MetadataClient::new(&self.origin, self.retry.clone(), self.on_wait.clone());
        let header = if is_plain_address(found) {
            found.etag.clone()
        } else if found.size > BLOCK as u64 {
            metadata.probe(&found.url).await?.etag.filter(|etag| is_strong(etag))
        } else {
            None
        };
        let mut download = Download::open(destination, found, path, header, self.observer.clone())?;
        let (held, free) = (download.part.held(), destination.free_space()?);
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
        let read = download.finish(self.origin.connection(), metadata, &self.retry).await;
        if let Err(error) = read {
            // A part that cannot be resumed, or that belongs to no version, has no use.
            let is_useless = !download.is_resumable() || download.part.held() == 0;
            if is_useless || matches!(error, StreamError::OtherSize { .. }) {
                let _ = download.part.remove();
            }
            return Err(error);
        }
        let sha256 = download.part.name_by_own_digest(&download.model)?;
        if known == Some(sha256) {
            // No fetch will use the part: the lock's file did not change.
            discard(destination, &download.model, sha256)?;
        }
        self.files_read += 1;
        let elapsed = began.elapsed();
        let outcome = Outcome::Fetched;
        self.observer.observe(&Event::Finished { file: 0, outcome, fetched: needed, elapsed });
        Ok(sha256)
    }
}

/// Acquires the destination's lock. It waits only to find out if a holder on another machine is alive.
async fn acquire(destination: &Destination) -> Result<DestinationLock, StreamError> {
    let mut attempt = LockAttempt::default();
    loop {
        match attempt.try_acquire(destination)? {
            Acquire::Acquired(lock) => return Ok(lock),
            Acquire::Held(_) if attempt.is_watching() => tokio::time::sleep(LockAttempt::POLL_INTERVAL).await,
            Acquire::Held(holder) => return Err(StreamError::Busy { holder }),
        }
    }
}

/// A model under a placeholder digest, computed from all that is known about the file.
fn placeholder(found: &Found, validator: Option<&String>, path: &ModelPath) -> Model {
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

/// A download in progress.
struct Download<'a> {
    destination: &'a Destination,
    found: &'a Found,
    observer: Arc<dyn Observer>,
    /// The model that names the part.
    model: Model,
    part: Arc<PartFile>,
    /// The validator in the part's name; `None` if a later command cannot resume the part.
    validator: Option<String>,
    /// The response's validator for the bytes read in this run.
    etag: Option<String>,
    /// The host does not serve ranges.
    lacks_ranges: bool,
    /// The number of times that bytes were dropped.
    dropped: u32,
    journaled: Instant,
    checkpointed: Instant,
}

enum ReadError {
    /// A failure that may be retried.
    Host(RequestError),
    /// A final failure.
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

/// Opens `model`'s part; bytes that cannot be resumed are dropped.
fn open_part(
    destination: &Destination,
    model: &Model,
    is_resumable: bool,
) -> Result<Arc<PartFile>, StoreError> {
    let part = PartFile::open(destination, model, &PartNames::Shared, || true)?;
    if !is_resumable && part.held() > 0 {
        part.reset()?;
    }
    Ok(Arc::new(part))
}

impl<'a> Download<'a> {
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
        let model = placeholder(found, validator.as_ref(), path);
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
            lacks_ranges: false,
            dropped: 0,
            journaled: now,
            checkpointed: now,
        })
    }

    /// Returns true if a later command can resume the part.
    fn is_resumable(&self) -> bool {
        self.validator.is_some() && !self.lacks_ranges
    }

    async fn finish(
        &mut self,
        mut connection: Connection,
        mut metadata: MetadataClient,
        retry: &RetryPolicy,
    ) -> Result<(), StreamError> {
        let mut failures = 0;
        while self.part.held() < self.found.size {
            let before = self.part.held();
            let error = match self.request_missing(&mut connection).await {
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
            if matches!(error.remedy(), Remedy::Plain | Remedy::RetryThenPlain)
                && had_bytes
                && !self.lacks_ranges
            {
                self.lacks_ranges = true;
                self.restart(&error)?;
                continue;
            }
            if self.lacks_ranges || (self.validator.is_none() && self.etag.is_none()) {
                // Dropped bytes are no progress; otherwise a host that always cuts would be asked forever.
                self.restart(&error)?;
            } else {
                if self.part.held() > before {
                    failures = 0;
                }
                self.part.checkpoint()?;
            }
            if retry.is_spent(self.dropped) {
                return Err(MetadataError::from(error).into());
            }
            metadata.wait_after(error.into(), &mut failures).await?;
        }
        Ok(())
    }

    /// Drops the bytes, but stays with the version.
    fn restart(&mut self, why: &RequestError) -> Result<(), StoreError> {
        let bytes = self.part.held();
        self.part.reset()?;
        self.report_dropped(bytes, why);
        Ok(())
    }

    /// Drops the bytes and switches to another version with this validator.
    fn switch_version(&mut self, etag: Option<String>, why: &RequestError) -> Result<(), StoreError> {
        let bytes = self.part.held();
        self.part.remove()?;
        self.report_dropped(bytes, why);
        self.etag = etag;
        // The listing on another host described the previous version.
        self.validator = self.etag.clone().filter(|_| is_plain_address(self.found));
        self.model = placeholder(self.found, self.validator.as_ref(), &self.model.path);
        self.part = open_part(self.destination, &self.model, self.is_resumable())?;
        Ok(())
    }

    fn report_dropped(&mut self, bytes: u64, why: &RequestError) {
        if bytes > 0 {
            self.dropped += 1;
            self.observer.observe(&Event::Dropped { file: 0, bytes, reason: why.to_string() });
        }
    }

    /// Requests the first missing range and writes the response.
    async fn request_missing(&mut self, connection: &mut Connection) -> Result<(), ReadError> {
        if self.etag.is_none() && self.part.held() > 0 {
            // Without a validator, no response can be matched to the held bytes.
            self.part.reset()?;
        }
        let Some(mut gap) = self.part.missing().first().copied() else { return Ok(()) };
        let size = self.found.size;
        let whole = gap.start == 0 && gap.end == size;
        let asked = ExpectedBody { range: (!whole).then_some(gap), size, sha256: None };
        let mut answer = connection.get(&self.found.url, None, asked).await?;
        let (mut at, end) = match answer.kind {
            BodyKind::Part { range, .. } => (range.start, range.end),
            // The host serves no ranges; the held bytes are skipped.
            BodyKind::Whole => (0, size),
        };
        if self.etag.is_some() && answer.etag != self.etag {
            let changed = answer.changed();
            self.switch_version(answer.etag.clone(), &changed)?;
            // Only a full body of the new version can be used here; otherwise its part is resumed.
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
            // A page may arrive in pieces that do not look like one.
            while at == 0 && (1..most.min(PAGE_PREFIX)).contains(&read) {
                match read_some(&mut answer, &mut block[read..most]).await? {
                    0 => break,
                    more => read += more,
                }
            }
            if read == 0 {
                return Err(RequestError::cut_short(answer.resolved.url(), at, end).into());
            }
            let bytes = &block[..read];
            if at == 0 && is_html(bytes, &self.model.path) {
                let url = answer.resolved.url().clone();
                let page =
                    RequestError::Response { url, error: ResponseError::Html, prefix: BodyPrefix::default() };
                return Err(page.into());
            }
            let end_of_bytes = at + read as u64;
            if end_of_bytes == size && has_more(&mut answer).await {
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
        if self.journaled.elapsed() > JOURNAL_INTERVAL {
            self.part.journal_written()?;
            self.journaled = Instant::now();
        }
        if self.checkpointed.elapsed() > CHECKPOINT_INTERVAL {
            self.part.checkpoint()?;
            self.checkpointed = Instant::now();
        }
        Ok(())
    }
}

/// Reads from the body; 0 at its end.
async fn read_some(answer: &mut Answer<'_>, block: &mut [u8]) -> Result<usize, RequestError> {
    match tokio::time::timeout(STALL_TIMEOUT, answer.read(block)).await {
        Ok(read) => read,
        Err(_) => Err(RequestError::stalled(answer.resolved.url(), STALL_TIMEOUT)),
    }
}

/// Removes the part that is named by its own digest.
fn discard(destination: &Destination, model: &Model, sha256: Sha256) -> Result<(), StoreError> {
    let model = Model { sha256, ..model.clone() };
    PartFile::open(destination, &model, &PartNames::Shared, || true)?.remove()
}

/// A weak validator says nothing about the bytes (RFC 9110 section 8.8.1).
fn is_strong(etag: &str) -> bool {
    etag.starts_with('"') && etag.len() > 2 && etag.len() < 512
}

/// Returns true if the source is a URL, so that its validator is a header's.
fn is_plain_address(found: &Found) -> bool {
    matches!(found.source, Source::Url(_))
}

/// Returns true if the body has more bytes than declared. A body that does not end is dropped after the stall timeout.
async fn has_more(answer: &mut Answer<'_>) -> bool {
    matches!(tokio::time::timeout(STALL_TIMEOUT, answer.read(&mut [0])).await, Ok(Ok(1..)))
}

/// Returns true if these first bytes are a web page, such as a login page with any content type.
fn is_html(bytes: &[u8], path: &ModelPath) -> bool {
    let is_named = |ending: &str| {
        path.file_name().rsplit_once('.').is_some_and(|(_, end)| end.eq_ignore_ascii_case(ending))
    };
    if is_named("html") || is_named("htm") {
        return false;
    }
    let bytes = &bytes[..bytes.len().min(PAGE_PREFIX)];
    let mut text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    // A prolog and comments may precede the root element (XHTML 1.0 section 3.1.1).
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
    fn a_web_page_is_recognised_behind_prolog_and_comments() {
        let page = |text: &str, path: &str| is_html(text.as_bytes(), &path.parse().unwrap());
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
        let long = format!("<!-- {} --><html>", "a".repeat(PAGE_PREFIX));
        for text in ["", "<", "<!--", "<?xml version=\"1.0\"?><model/>", "<!-- a -->", "a<html>", &long] {
            assert!(!page(text, "vae/x.bin"), "{text}");
        }
    }
}
