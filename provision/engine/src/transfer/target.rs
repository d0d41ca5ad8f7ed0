//! The shared state of a file in transfer: its part, and of each source the resolved address and the validator of its
//! answers.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::provenance::{Provenance, Senders};
use super::{AfterInstall, Download};
use crate::piece_lists::PieceLists;
use provision_core::byte_range::ByteRange;
use provision_core::event::FileIndex;
use provision_core::lockfile::Model;
use provision_core::piece_list::PieceList;
use provision_core::redact::Redactor;
use provision_core::schedule::FileId;
use provision_core::source_url::SourceUrl;
use provision_disk::{Destination, DiskError, Installed, PartFile, PartNames, PartOptions, WrongPiece};
use provision_http::{HttpClient, Resolved};

/// The state of a file that its claims share.
pub(super) struct Target {
    pub(super) index: FileIndex,
    /// Its number in the schedule.
    pub(super) id: FileId,
    pub(super) model: Model,
    pieces: Option<Arc<PieceList>>,
    /// They keep the list that the part makes, if it is to make one.
    lists: Option<Arc<PieceLists>>,
    /// Every source, in the order of preference.
    pub(super) sources: Vec<SourceState>,
    place: Arc<Destination>,
    part_names: PartNames,
    pub(super) part: PartCell,
    then: Option<AfterInstall>,
    /// No byte of it is hashed any more.
    pub(super) has_failed: AtomicBool,
    /// Bytes written in this run and still held.
    pub(super) gained: ByteCount,
    /// Those that lead sources gave, and no companion.
    pub(super) led: ByteCount,
    /// The sources of the held bytes of this run, if the file has a piece list.
    provenance: Mutex<Provenance>,
}

/// A number of bytes. A piece may be dropped before its last bytes are counted, so the number may be negative for a
/// moment.
#[derive(Debug, Default)]
pub(super) struct ByteCount(AtomicI64);

impl ByteCount {
    pub(super) fn get(&self) -> u64 {
        u64::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(0)
    }

    pub(super) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes.cast_signed(), Ordering::Relaxed);
    }

    fn subtract(&self, bytes: u64) {
        self.0.fetch_sub(bytes.cast_signed(), Ordering::Relaxed);
    }

    fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// The state of one source of a file.
pub(super) struct SourceState {
    pub(super) url: SourceUrl,
    /// The number of the store by digest that it is at.
    pub(super) store: Option<usize>,
    /// The resolved source. It is set under `resolving`, so that one connection resolves a file and not each.
    pub(super) resolved: Mutex<Option<Resolved>>,
    pub(super) resolving: tokio::sync::Mutex<()>,
    /// The number of failed attempts to resolve. A connection that waited during one does not repeat it at once.
    pub(super) unresolved: AtomicU64,
    /// The resolved source has sent bytes.
    pub(super) answered: AtomicBool,
    etag: Mutex<Option<String>>,
    /// Answers had different validators. Replicas have their own for the same bytes, so only the digest decides (fault
    /// 95).
    pub(super) mixed: AtomicBool,
    /// Bytes that it gave in this run and that are still held.
    pub(super) given: ByteCount,
}

impl SourceState {
    fn new(url: SourceUrl, store: Option<usize>) -> Self {
        Self {
            url,
            store,
            resolved: Mutex::new(None),
            resolving: tokio::sync::Mutex::new(()),
            unresolved: AtomicU64::new(0),
            answered: AtomicBool::new(false),
            etag: Mutex::new(None),
            mixed: AtomicBool::new(false),
            given: ByteCount::default(),
        }
    }

    /// True if the resolved source has sent bytes.
    pub(super) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Forgets the resolved source; the next request resolves it again.
    pub(super) fn forget_place(&self) {
        self.answered.store(false, Ordering::Relaxed);
        *self.resolved.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn forget_answers(&self) {
        self.forget_place();
        *self.etag.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.mixed.store(false, Ordering::Relaxed);
    }

    /// Compares an answer's validator with the first one.
    pub(super) fn see_validator(&self, etag: Option<&String>) {
        let mut seen = self.etag.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*seen, etag) {
            (Some(seen), Some(etag)) if seen != etag => self.mixed.store(true, Ordering::Relaxed),
            (None, Some(etag)) => *seen = Some(etag.clone()),
            _ => {}
        }
    }
}

/// The part. The first claim opens it; it is closed when the file is done.
#[derive(Default)]
pub(super) struct PartCell(Mutex<Option<Arc<PartFile>>>);

impl PartCell {
    /// The part, if it is open.
    pub(super) fn get(&self) -> Option<Arc<PartFile>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes it out; it closes when its last user drops it.
    pub(super) fn take(&self) -> Option<Arc<PartFile>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Target {
    pub(super) fn new(download: Download, id: FileId) -> Self {
        let Download { index, model, pieces, stores, place, part_names, part, then } = download;
        let of_stores = stores.into_iter().map(|(store, url)| SourceState::new(url, Some(store)));
        let of_lock = model.sources.iter().map(|url| SourceState::new(url.clone(), None));
        let sources = of_stores.chain(of_lock).collect();
        Self {
            index,
            id,
            model,
            pieces,
            lists: None,
            sources,
            place,
            part_names,
            part: PartCell(Mutex::new(part.map(Arc::new))),
            then,
            has_failed: AtomicBool::new(false),
            gained: ByteCount::default(),
            led: ByteCount::default(),
            provenance: Mutex::default(),
        }
    }

    /// With the lists that keep the one which the part makes.
    pub(super) fn with_lists(self, lists: Option<Arc<PieceLists>>) -> Self {
        Self { lists, ..self }
    }

    /// Keeps the list that the verified part has made. Blocks.
    pub(super) fn keep_list(&self, part: &PartFile) {
        if let Some(lists) = &self.lists
            && let Some(list) = part.take_list()
        {
            lists.keep_made(&list);
        }
    }

    /// Runs the step after the install. Blocks.
    pub(super) fn deliver(&self, installed: Installed) -> Result<Installed, DiskError> {
        // All bytes are verified here, so a later mismatch is not the source's and needs another error.
        let differs = |error| match error {
            DiskError::Mismatch { path, .. } => DiskError::CopyDiffers { path },
            error => error,
        };
        match &self.then {
            Some(AfterInstall(then)) => then(installed).map_err(differs),
            None => Ok(installed),
        }
    }

    /// The part; opens it if it is not open. Blocks.
    pub(super) fn open(&self) -> Result<Arc<PartFile>, DiskError> {
        let mut part = self.part.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = &*part {
            return Ok(part.clone());
        }
        let options = PartOptions {
            makes_list: self.lists.is_some() && self.pieces.is_none(),
            ..PartOptions::with_list(&self.part_names, self.pieces.clone())
        };
        let opened = Arc::new(PartFile::open(&self.place, &self.model, options, || true)?);
        if opened.held() > 0 {
            // The plan did not count these bytes, so connections will write them; they must not be there twice.
            opened.reset()?;
        }
        *part = Some(opened.clone());
        Ok(opened)
    }

    /// Forgets everything that answers said: the source changes or the file starts over.
    pub(super) fn forget_answers(&self) {
        self.sources.iter().for_each(SourceState::forget_answers);
    }

    /// Every byte of this run is dropped.
    pub(super) fn forget_bytes(&self) {
        let given = self.sources.iter().map(|source| &source.given);
        given.chain([&self.gained, &self.led]).for_each(ByteCount::reset);
        self.provenance().clear();
    }

    pub(super) fn provenance(&self) -> MutexGuard<'_, Provenance> {
        self.provenance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the wrong pieces out of the part, and returns them with their senders. Blocks.
    pub(super) fn drop_wrong(&self, part: &PartFile) -> Result<Vec<(WrongPiece, Senders)>, DiskError> {
        let wrong = part.wrong();
        // Before a stream can write other bytes into the pieces: those have senders of their own.
        let senders = wrong.iter().map(|piece| (*piece, self.take_senders(piece.range))).collect();
        part.drop_wrong(&wrong)?;
        Ok(senders)
    }

    fn take_senders(&self, range: ByteRange) -> Senders {
        let mut provenance = self.provenance();
        let senders = provenance.senders(range);
        provenance.forget(range);
        for (source, bytes) in &senders.sources {
            self.sources[*source].given.subtract(*bytes);
            self.gained.subtract(*bytes);
        }
        senders
    }

    /// True if another source than this one gave bytes that are held.
    pub(super) fn has_bytes_beside(&self, source: usize) -> bool {
        let others = self.sources.iter().enumerate().filter(|(at, _)| *at != source);
        others.map(|(_, source)| &source.given).any(|given| given.get() > 0)
    }

    /// The redactor for text from the downloaded bytes, which may echo secrets of the requests.
    pub(super) fn redactor(&self, origin: &HttpClient) -> Redactor {
        let resolved = self
            .sources
            .iter()
            .filter_map(|source| source.resolved.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let resolved: Vec<Resolved> = resolved.collect();
        let urls = self.sources.iter().map(|source| &source.url);
        let mut redactor = origin.redactor(urls.chain(resolved.iter().flat_map(Resolved::urls)));
        for chain in &resolved {
            chain.add_to(&mut redactor);
        }
        redactor
    }
}
