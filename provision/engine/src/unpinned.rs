//! The download of a file whose digest no host publishes. Its bytes are hashed and stay where the next fetch finds
//! them.
//!
//! The download is thus paid for once. In a cache the bytes become an object, which a fetch into any destination finds.
//! Below a destination they stay in the complete part, which a fetch into that destination verifies and installs. One
//! connection reads, because the digest follows the bytes from the first one on. An interrupted download is resumed,
//! also by a later command.
//!
//! These bytes define the digest, so nothing else could detect a mix of two versions. Bytes are resumed only if a
//! validator shows the same file; otherwise the download restarts at the first byte. The validator is part of the
//! part's name. If it changes, the part is removed and the new version gets its own part, so each part has the bytes of
//! one version, even if a host goes back to an older one. A host's listing is not enough: the bytes come from another
//! server and may change while the listing stays the same. So the name also contains the validator of the response that
//! carries the bytes. Without one, a later command restarts at the first byte.
//!
//! For the same reason, the last block is written only after the body has ended. If a host declared too short a length,
//! a prefix would get a digest, and a complete part is never requested again.
//!
//! Every download ends: a failure counts until lasting bytes arrive, and each restart counts for good.

mod body;
mod error;
mod file;
mod parts;

use std::sync::Arc;
use std::time::Instant;

use crate::transfer::{CHECKPOINT_INTERVAL, JOURNAL_INTERVAL};
use provision_core::backoff::{FailureRow, RetryPolicy};
use provision_core::byte_range::ByteRange;
use provision_core::byte_size::ByteSize;
use provision_core::digest::Sha256;
use provision_core::event::{Event, Outcome, Planned, PlannedFile};
use provision_core::lockfile::Model;
use provision_core::piece_list::PieceList;
use provision_core::source_url::SourceUrl;
use provision_disk::{Destination, DestinationLock, DiskError, PartFile, PartNames, PartOptions};
use provision_http::sniff;
use provision_http::{
    Answer, BodyKind, BodyPrefix, Connection, ExpectedBody, Remedy, RequestError, ResponseError,
};

use body::{has_more, is_page, read};
pub use error::UnpinnedError;
pub use file::UnpinnedFile;
use parts::StorageDirectory;
pub use parts::{CacheLimit, UnpinnedParts};

/// The size of a read in bytes. Files up to this size are not worth a request for a validator: their only write is the
/// last one.
pub const BLOCK: usize = 1 << 20;

impl UnpinnedParts {
    /// Starts the download of a file, or goes on with one. Removes no object yet: the host may never send the bytes
    /// that it declares.
    ///
    /// # Errors
    /// [`UnpinnedError::CacheFull`] and [`DiskError::NotEnoughSpace`] if there is no room for the file.
    pub async fn start(self: &Arc<Self>, file: UnpinnedFile) -> Result<UnpinnedDownload, UnpinnedError> {
        let (destination, linked) = self.destination_of(&file.path).await?;
        let size = match file.size {
            Some(size) => size,
            None => self.most_unsized(&destination, &file)?,
        };
        let model = self.place.model(file.placeholder(size));
        let makes_list = file.makes_list && file.size.is_some();
        let is_resumable = file.validator.is_some() && file.size.is_some();
        let part = open_part(&destination, &model, is_resumable, makes_list)?;
        let held = part.held();
        let is_unsized = file.size.is_none();
        let needed = if is_unsized { 0 } else { size - held };
        let now = Instant::now();
        let mut download = UnpinnedDownload {
            parts: self.clone(),
            destination,
            linked,
            model,
            part,
            etag: file.validator.clone(),
            file,
            length: if is_unsized { Length::AtMost(size) } else { Length::Known(size) },
            row: FailureRow::default(),
            needed,
            evicts_first: false,
            lacks_ranges: is_unsized,
            is_of_no_version: false,
            dropped: 0,
            started: now,
            journaled: now,
            checkpointed: now,
        };
        let destination = &download.destination;
        let (path, free) = destination.room_for(&download.model.path)?;
        // Other objects make room for a file of unknown length at its end.
        let excess = if is_unsized { Vec::new() } else { self.excess(&download.model)? };
        // A file with other names keeps its blocks.
        let freed: u64 = excess.iter().filter(|entry| entry.links == 0).map(|entry| entry.bytes).sum();
        if needed > free.saturating_add(freed) {
            let option = self.place.option();
            return Err(DiskError::NotEnoughSpace { path, needed, free, option }.into());
        }
        download.evicts_first = needed > free;
        let plan = if held > 0 { Planned::Resume } else { Planned::Fetch };
        let shown = if is_unsized { 0 } else { size };
        let files = vec![PlannedFile { path: download.file.path.clone(), size: shown, held, here: 0, plan }];
        download
            .observe(&Event::Opened { destination: download.destination.root().path().to_string(), free });
        download.observe(&Event::Planned { files, to_fetch: needed, needed, free });
        download.observe(&Event::Started { file: 0, source: download.file.asked.to_string() });
        Ok(download)
    }
}

/// The length of a download.
#[derive(Debug, Clone, Copy)]
enum Length {
    Known(u64),
    /// Unknown until the body ends; the most bytes that it may have.
    AtMost(u64),
}

impl Length {
    fn bytes(self) -> u64 {
        match self {
            Self::Known(bytes) | Self::AtMost(bytes) => bytes,
        }
    }

    fn is_unknown(self) -> bool {
        matches!(self, Self::AtMost(_))
    }
}

/// A download in progress. When it is dropped, a part without further use is removed.
pub struct UnpinnedDownload {
    parts: Arc<UnpinnedParts>,
    destination: Arc<Destination>,
    /// The locks of the directories that the links on the file's way lead to.
    linked: Vec<DestinationLock>,
    file: UnpinnedFile,
    length: Length,
    /// The model that names the part.
    model: Model,
    part: Arc<PartFile>,
    /// The response's validator for the bytes of this run.
    etag: Option<String>,
    /// Failures in a row without a lasting byte. The caller counts each one.
    pub row: FailureRow,
    /// The bytes that were missing at the start.
    needed: u64,
    /// The file system has no room before objects are removed.
    evicts_first: bool,
    /// The host does not serve ranges.
    lacks_ranges: bool,
    /// The bytes in the part may be of no version.
    is_of_no_version: bool,
    /// The number of times that bytes were dropped.
    dropped: u32,
    started: Instant,
    journaled: Instant,
    checkpointed: Instant,
}

impl UnpinnedDownload {
    /// Requests the missing bytes. Returns the failure after which the caller waits and calls again; `None` once
    /// nothing is missing.
    ///
    /// # Errors
    /// A failure that ends the download.
    pub async fn attempt(
        &mut self,
        connection: &mut Connection,
        retry: &RetryPolicy,
    ) -> Result<Option<RequestError>, UnpinnedError> {
        while self.length.is_unknown() || self.part.held() < self.length.bytes() {
            let before = self.part.held();
            let error = match self.request_missing(connection).await {
                Ok(()) => continue,
                Err(UnpinnedError::Request(error)) => error,
                Err(error) => return Err(error),
            };
            let is_plain = matches!(error.remedy(), Remedy::Plain | Remedy::RetryThenPlain);
            if is_plain && self.part.held() > 0 && !self.lacks_ranges {
                self.lacks_ranges = true;
                self.restart(&error)?;
                continue;
            }
            if self.lacks_ranges || (self.file.validator.is_none() && self.etag.is_none()) {
                // Dropped bytes are no progress; otherwise a host that always cuts would be asked forever.
                self.restart(&error)?;
            } else {
                if self.part.held() > before {
                    self.row = FailureRow::default();
                }
                self.part.checkpoint()?;
            }
            return if self.dropped >= retry.retries.max(1) { Err(error.into()) } else { Ok(Some(error)) };
        }
        Ok(None)
    }

    /// Ends a complete download and returns its digest and its length. Returns its piece list, too, if one is wanted
    /// and the length was known before its end. If the digest is `known`, a destination does not keep the bytes.
    pub fn finish(
        mut self,
        known: Option<Sha256>,
    ) -> Result<(Sha256, u64, Option<PieceList>), UnpinnedError> {
        let (parts, destination, needed, started) =
            (self.parts.clone(), self.destination.clone(), self.needed, self.started);
        let (_linked, place) = (std::mem::take(&mut self.linked), &parts.place);
        let unnamed = self.file.placeholder(self.length.bytes());
        let of_digest = |sha256| place.model(Model { sha256, ..unnamed });
        let model = self.part.clone().name_by_own_digest(&destination, of_digest)?;
        let list = self.part.take_list();
        // It holds the part's lock.
        drop(self);
        match place {
            StorageDirectory::Destination(_) => {
                if known == Some(model.sha256) {
                    // No fetch will use the part: the lock's file did not change.
                    PartFile::discard(&destination, &model)?;
                }
            }
            StorageDirectory::Cache(cache, _) => {
                let part = PartFile::open(&destination, &model, &PartNames::Shared, || true)?;
                Arc::new(part).verify()?.install()?;
                // The time of last use only matters to pruning.
                let _ = cache.touch(&model.sha256);
                parts.note_stored(&model);
            }
        }
        let (outcome, elapsed) = (Outcome::Fetched, started.elapsed());
        parts.observer.observe(&Event::Finished {
            file: 0,
            outcome,
            fetched: needed,
            elapsed,
            sources: Vec::new(),
        });
        Ok((model.sha256, model.size, list))
    }

    fn observe(&self, event: &Event) {
        self.parts.observer.observe(event);
    }

    /// True if a later command can resume the part.
    fn is_resumable(&self) -> bool {
        self.file.validator.is_some() && !self.lacks_ranges
    }

    /// Drops the bytes, but stays with the version.
    fn restart(&mut self, reason: &RequestError) -> Result<(), UnpinnedError> {
        let bytes = self.part.held();
        self.part.reset()?;
        self.report_dropped(bytes, reason);
        Ok(())
    }

    /// Drops the bytes and switches to another version with this validator.
    fn switch_version(&mut self, etag: Option<String>, reason: &RequestError) -> Result<(), DiskError> {
        let bytes = self.part.held();
        self.part.remove()?;
        self.report_dropped(bytes, reason);
        // The listing on another host described the previous version.
        self.file.validator = etag.clone().filter(|_| self.file.listed.is_none());
        self.etag = etag;
        self.model = self.parts.place.model(self.file.placeholder(self.length.bytes()));
        let makes_list = self.file.makes_list && !self.length.is_unknown();
        self.part = open_part(&self.destination, &self.model, self.is_resumable(), makes_list)?;
        Ok(())
    }

    fn report_dropped(&mut self, bytes: u64, reason: &RequestError) {
        if bytes > 0 {
            self.dropped += 1;
            self.observe(&Event::Dropped { file: 0, bytes, reason: reason.to_string() });
        }
    }

    /// Requests the first missing range and writes the response.
    async fn request_missing(&mut self, connection: &mut Connection) -> Result<(), UnpinnedError> {
        if self.etag.is_none() && self.part.held() > 0 {
            // Without a validator, no response can be matched to the held bytes.
            self.part.reset()?;
        }
        let whole = ByteRange::new(0, self.length.bytes());
        let Some(gap) = self.part.missing().first().copied() else { return Ok(()) };
        let asked =
            ExpectedBody { range: (gap != whole).then_some(gap), size: self.length.bytes(), sha256: None };
        let mut answer = match connection.get(&self.file.url, None, asked).await {
            Err(RequestError::Response {
                url, error: ResponseError::WrongSize { found, expected }, ..
            }) => {
                if let (true, Some(size)) =
                    (self.length.is_unknown(), found.filter(|found| *found <= self.length.bytes()))
                {
                    // It declares the length to this request.
                    return Ok(self.learn_size(size)?);
                }
                return Err(self.other_size(url, expected, found));
            }
            answer => answer?,
        };
        let body = match answer.kind {
            BodyKind::Part { range, .. } => range,
            // The host serves no ranges; the held bytes are skipped.
            BodyKind::Whole => whole,
        };
        if self.etag.is_some() && answer.etag != self.etag {
            let changed = answer.changed();
            self.switch_version(answer.etag.clone(), &changed)?;
            // Only a full body of the new version can be used here; otherwise its part is resumed.
            if body != whole || self.part.held() > 0 {
                return Err(changed.into());
            }
        }
        self.etag = answer.etag.clone().or(self.etag.take());
        self.receive(&mut answer, body).await
    }

    /// Writes the response's `body`, except for bytes that the part has.
    async fn receive(&mut self, answer: &mut Answer<'_>, body: ByteRange) -> Result<(), UnpinnedError> {
        let mut block = vec![0; BLOCK];
        let mut at = body.start;
        while at < body.end {
            let most = BLOCK.min((body.end - at) as usize);
            // A page may arrive in pieces that do not look like one.
            let least = if at == 0 { most.min(sniff::SNIFF_LENGTH) } else { 1 };
            let bytes = read(answer, &mut block[..most], least).await?;
            let url = answer.resolved.url();
            if bytes.is_empty() && self.length.is_unknown() && at > 0 {
                self.end_at(at, answer.has_marked_end);
                return Ok(());
            }
            if bytes.is_empty() {
                return Err(RequestError::cut_short(url, at, body.end).into());
            }
            if at == 0 && is_page(bytes, &self.model, answer) {
                let (url, prefix) = (url.clone(), BodyPrefix::default());
                return Err(RequestError::Response { url, error: ResponseError::Html, prefix }.into());
            }
            let start = at;
            at += bytes.len() as u64;
            if at == self.length.bytes() && has_more(answer).await {
                return Err(self.other_size(answer.resolved.url().clone(), self.length.bytes(), None));
            }
            if std::mem::take(&mut self.evicts_first) {
                self.parts.make_room(&self.model)?;
            }
            self.write(start, bytes)?;
        }
        if self.length.is_unknown() {
            self.end_at(at, answer.has_marked_end);
        }
        Ok(())
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
        for missing in self.part.missing_of(ByteRange::new(at, at + bytes.len() as u64)) {
            let bytes = &bytes[(missing.start - at) as usize..(missing.end - at) as usize];
            self.part.write(missing.start, bytes)?;
            self.part.hash(missing.start, bytes)?;
            self.observe(&Event::Received { file: 0, bytes: missing.len() });
        }
        if self.length.is_unknown() {
            // No later command resumes it.
            return Ok(());
        }
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

    /// Goes on with the length that the host declares now.
    fn learn_size(&mut self, size: u64) -> Result<(), DiskError> {
        self.part.remove()?;
        self.length = Length::Known(size);
        self.model = self.parts.place.model(self.file.placeholder(size));
        self.part = open_part(&self.destination, &self.model, false, self.file.makes_list)?;
        Ok(())
    }

    /// Ends a file of unknown length.
    fn end_at(&mut self, size: u64, has_marked_end: bool) {
        self.part.end_at(size);
        (self.length, self.needed) = (Length::Known(size), size);
        if !has_marked_end {
            let message = format!(
                "{}: the host declares no length and closes the connection at the end, so a file that was cut short looks \
                 whole: compare its size ({}), or give --sha256",
                self.file.asked,
                ByteSize(size).exact()
            );
            self.observe(&Event::Warning { message });
        }
    }

    /// The failure of a body with another length than the declared one.
    fn other_size(&mut self, url: SourceUrl, declared: u64, found: Option<u64>) -> UnpinnedError {
        self.is_of_no_version = true;
        if self.length.is_unknown() {
            return UnpinnedError::Endless { url, most: declared };
        }
        UnpinnedError::OtherSize { url, declared, found }
    }
}

impl Drop for UnpinnedDownload {
    fn drop(&mut self) {
        // A complete part has another name by now, or its digest failed and the next command computes it.
        let is_complete = !self.length.is_unknown() && self.part.held() == self.length.bytes();
        // A part that cannot be resumed, or that belongs to no version, has no use.
        if self.is_of_no_version || self.part.held() == 0 || !(is_complete || self.is_resumable()) {
            let _ = self.part.remove();
        }
    }
}

/// Opens `model`'s part; bytes that cannot be resumed are dropped.
fn open_part(
    destination: &Destination,
    model: &Model,
    is_resumable: bool,
    makes_list: bool,
) -> Result<Arc<PartFile>, DiskError> {
    let options = PartOptions { makes_list, ..(&PartNames::Shared).into() };
    let part = PartFile::open(destination, model, options, || true)?;
    if !is_resumable && part.held() > 0 {
        part.reset()?;
    }
    Ok(Arc::new(part))
}
