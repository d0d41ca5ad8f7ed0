//! Reads the bytes of a file whose digest nobody says, once: into the part that a fetch will go on from.
//!
//! So they are paid for once: the next `fetch-models` finds the part whole, proves it, installs it and fetches nothing. One
//! connection, since the digest follows the bytes from the first on; a read that breaks off is gone on with, also by the next
//! command.
//!
//! Nothing else proves these bytes: what is read here becomes the digest. So bytes of two versions must never come together. What
//! was read goes on only where a validator says that it is the same file, and else from the first byte.

use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use provision::backoff::RetryPolicy;
use provision::digest::Sha256;
use provision::event::{Event, Observer, Outcome, Planned, PlannedFile};
use provision::lockfile::Model;
use provision::model_path::ModelPath;
use provision::origin::metadata::{Metadata, MetadataError, OnWait};
use provision::origin::{Asked, Connection, Origin, RequestError, Shape};
use provision::store::{Acquire, Destination, DestinationLock, Naming, PartFile, StoreError};

use crate::resolve::Found;
use crate::source::Source;

/// How long written bytes may go without a word in the journal.
const NOTE_EVERY: Duration = Duration::from_millis(250);
/// How long they may go without being durable.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);
/// A connection on which nothing came for this long has failed.
const STALL: Duration = Duration::from_secs(30);
/// How much is read at once, in bytes.
const BLOCK: usize = 1 << 20;

/// A file that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The host.
    #[error(transparent)]
    Host(#[from] MetadataError),
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
    origin: Arc<Origin>,
    retry: RetryPolicy,
    on_wait: OnWait,
    destination: Utf8PathBuf,
    observer: Arc<dyn Observer>,
    /// Opened, and ours, from the first file on.
    place: Option<(Destination, DestinationLock)>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("destination", &self.destination).finish_non_exhaustive()
    }
}

impl Reader {
    /// Reads into `destination`, which is made when there is something to read; `observer` is told how it goes.
    pub fn new(
        origin: Arc<Origin>,
        retry: RetryPolicy,
        on_wait: OnWait,
        destination: Utf8PathBuf,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self { origin, retry, on_wait, destination, observer, place: None }
    }

    /// Reads what was found, which is to become `path`; its digest.
    pub async fn read(&mut self, found: &Found, path: &ModelPath) -> Result<Sha256, StreamError> {
        if found.size == 0 {
            return Ok(Sha256::of(b""));
        }
        if self.place.is_none() {
            let destination = Destination::create(&self.destination)?;
            match DestinationLock::try_acquire(&destination)? {
                Acquire::Acquired(lock) => self.place = Some((destination, lock)),
                Acquire::Held(holder) => return Err(StreamError::Busy { holder }),
            }
        }
        let Some((destination, _)) = &self.place else { unreachable!("it was just opened") };
        let model = stand_in(found, path);
        let part = Arc::new(PartFile::open(destination, &model, &Naming::Shared, || true)?);
        if found.etag.is_none() && part.held() > 0 {
            part.reset()?;
        }
        let (held, free) = (part.held(), destination.free_space()?);
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
        let mut reading = Reading {
            part: part.clone(),
            connection: self.origin.connection(),
            observer: self.observer.clone(),
            // Of other hosts it is no header's value: there the address is pinned, or names a file that is never another.
            etag: found.etag.clone().filter(|_| matches!(found.source, Source::Url(_))),
            noted: began,
            checkpointed: began,
        };
        let mut patience = Metadata::new(&self.origin, self.retry.clone(), self.on_wait.clone());
        let mut failures = 0;
        while part.held() < found.size {
            let before = part.held();
            match reading.go_on(found).await {
                Ok(()) => {}
                Err(ReadError::Store(error)) => return Err(error.into()),
                Err(ReadError::Host(error)) => {
                    // Bytes that are thrown away below are no progress: a host that always cuts would be asked for ever.
                    if part.held() > before && found.etag.is_some() {
                        failures = 0;
                    }
                    if found.etag.is_some() {
                        part.checkpoint()?;
                    } else {
                        reading.begin_again(&error)?;
                    }
                    patience.wait_after(error.into(), &mut failures).await?;
                }
            }
        }
        let sha256 = part.name_by_own_digest(&model)?;
        let elapsed = began.elapsed();
        let outcome = Outcome::Fetched;
        self.observer.observe(&Event::Finished { file: 0, outcome, fetched: needed, elapsed });
        Ok(sha256)
    }
}

/// The file under a digest that stands in for its own: of all that is known of its bytes.
fn stand_in(found: &Found, path: &ModelPath) -> Model {
    let known = format!("{}\n{}\n{:?}", found.url.as_url(), found.size, found.etag);
    Model {
        path: path.clone(),
        sources: vec![found.url.clone()],
        size: found.size,
        sha256: Sha256::of(known.as_bytes()),
        groups: Vec::new(),
        source: None,
    }
}

struct Reading {
    part: Arc<PartFile>,
    connection: Connection,
    observer: Arc<dyn Observer>,
    /// The validator of what was read so far in this run.
    etag: Option<String>,
    noted: Instant,
    checkpointed: Instant,
}

enum ReadError {
    Host(RequestError),
    Store(StoreError),
}

impl From<RequestError> for ReadError {
    fn from(error: RequestError) -> Self {
        Self::Host(error)
    }
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Reading {
    /// Drops what was read.
    fn begin_again(&mut self, why: &RequestError) -> Result<(), StoreError> {
        let bytes = self.part.held();
        self.part.reset()?;
        self.etag = None;
        if bytes > 0 {
            self.observer.observe(&Event::Dropped { file: 0, bytes, reason: why.to_string() });
        }
        Ok(())
    }

    /// Asks for what is missing first, and takes what comes of it.
    async fn go_on(&mut self, found: &Found) -> Result<(), ReadError> {
        let Some(gap) = self.part.missing().first().copied() else { return Ok(()) };
        let whole = gap.start == 0 && gap.end == found.size;
        let asked = Asked { range: (!whole).then_some(gap), size: found.size, sha256: None };
        let mut answer = self.connection.get(&found.url, None, asked).await?;
        if self.etag.is_some() && answer.etag != self.etag {
            let changed = answer.changed();
            self.begin_again(&changed)?;
            return Err(changed.into());
        }
        self.etag = answer.etag.clone().or(self.etag.take());
        let (mut at, end) = match answer.shape {
            Shape::Part { range, .. } => (range.start, range.end),
            // Ranges are not to be had: what is held is read over.
            Shape::Whole => (0, found.size),
        };
        let mut block = vec![0; BLOCK];
        while at < end {
            let most = BLOCK.min((end - at) as usize);
            let read = tokio::time::timeout(STALL, answer.read(&mut block[..most])).await;
            let read = read.map_err(|_| RequestError::stalled(answer.resolved.url(), STALL))??;
            if read == 0 {
                return Err(RequestError::cut_short(answer.resolved.url(), at, end).into());
            }
            let (bytes, end_of_bytes) = (&block[..read], at + read as u64);
            let wanted = bytes.len().min(end_of_bytes.saturating_sub(gap.start) as usize);
            let fresh = &bytes[bytes.len() - wanted..];
            let start = end_of_bytes - wanted as u64;
            let room = gap.end.saturating_sub(start).min(wanted as u64) as usize;
            if room > 0 {
                let fresh = &fresh[..room];
                self.part.write(start, fresh)?;
                match self.part.lease().filter(|lease| lease.at() == start) {
                    Some(mut lease) => lease.take(fresh),
                    None => self.part.follow()?,
                }
                self.observer.observe(&Event::Received { file: 0, bytes: room as u64 });
            }
            at = end_of_bytes;
            if self.noted.elapsed() > NOTE_EVERY {
                self.part.note()?;
                self.noted = Instant::now();
            }
            if self.checkpointed.elapsed() > CHECKPOINT_EVERY {
                self.part.checkpoint()?;
                self.checkpointed = Instant::now();
            }
            if at >= gap.end {
                break;
            }
        }
        Ok(())
    }
}
