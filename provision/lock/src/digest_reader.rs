//! The digest of a file whose host publishes none: the file is read once, into a cache or a destination where a fetch
//! finds it.
//!
//! The cache comes first. A file that it cannot take, because it is too large, full, read-only or in use, goes below
//! the destination.
//!
//! `provision_engine::unpinned` downloads. This module finds the validator of the bytes, and waits after failures as
//! the other requests to hosts do.

use std::sync::Arc;

use camino::Utf8PathBuf;
use provision_core::backoff::RetryPolicy;
use provision_core::digest::Sha256;
use provision_core::event::{Event, Observer};
use provision_core::model_path::ModelPath;
use provision_core::piece_list::PieceList;
use provision_core::source_url::SourceUrl;
use provision_engine::fetch::Folders;
use provision_engine::unpinned::{
    BLOCK, CacheLimit, UnpinnedDownload, UnpinnedError, UnpinnedFile, UnpinnedParts,
};
use provision_http::HttpClient;
use provision_http::metadata::{MetadataClient, MetadataError, OnWait};

use crate::resolve::Found;
use crate::source::Source;

/// A file that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DigestError {
    /// A request failed.
    #[error(transparent)]
    Host(#[from] MetadataError),
    /// The download failed for another reason.
    #[error(transparent)]
    Download(UnpinnedError),
    /// The file is empty.
    #[error(
        "{url}: the host declares a size of 0 bytes; nothing was recorded. If the file is meant to be empty, give --sha256 {}",
        Sha256::of(b"")
    )]
    Empty {
        /// The download URL.
        url: SourceUrl,
    },
}

impl From<UnpinnedError> for DigestError {
    fn from(error: UnpinnedError) -> Self {
        match error {
            UnpinnedError::Request(error) => Self::Host(error.into()),
            error => Self::Download(error),
        }
    }
}

/// A cache for files that are read.
#[derive(Debug, Clone)]
pub struct ReadCache {
    /// Its directory, which is created with the first file.
    pub directory: Utf8PathBuf,
    /// The limit for its content.
    pub limit: Option<CacheLimit>,
}

/// Reads files into a cache or into a destination's parts.
pub struct DigestReader {
    origin: Arc<HttpClient>,
    retry: RetryPolicy,
    on_wait: OnWait,
    destination: Utf8PathBuf,
    folders: Arc<Folders>,
    observer: Arc<dyn Observer>,
    cache: Option<ReadCache>,
    /// The locked cache and destination, each from its first file on.
    cached: Option<Arc<UnpinnedParts>>,
    parts: Option<Arc<UnpinnedParts>>,
    /// The number of complete files.
    files_read: usize,
    /// Piece lists are made of the bytes that pass.
    makes_lists: bool,
    lists: Vec<PieceList>,
}

impl std::fmt::Debug for DigestReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { destination, cache, .. } = self;
        let mut shown = f.debug_struct("DigestReader");
        shown.field("destination", destination).field("cache", cache).finish_non_exhaustive()
    }
}

impl DigestReader {
    /// Creates a reader for `destination`, which is created with the first file; `observer` receives its events.
    pub fn new(
        origin: Arc<HttpClient>,
        retry: RetryPolicy,
        on_wait: OnWait,
        destination: Utf8PathBuf,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let (cache, cached, parts) = (None, None, None);
        let (folders, files_read, makes_lists, lists) = (Arc::default(), 0, false, Vec::new());
        Self {
            origin,
            retry,
            on_wait,
            destination,
            folders,
            observer,
            cache,
            cached,
            parts,
            files_read,
            makes_lists,
            lists,
        }
    }

    /// Makes the piece lists of the files that are read from now on.
    pub fn make_lists(&mut self) {
        self.makes_lists = true;
    }

    /// The piece lists that were made, of files of more than one piece whose length was known before their end.
    pub fn take_lists(&mut self) -> Vec<PieceList> {
        std::mem::take(&mut self.lists)
    }

    /// With these folders of the destination.
    #[must_use]
    pub fn with_folders(self, folders: Arc<Folders>) -> Self {
        Self { folders, ..self }
    }

    /// The same with a cache.
    #[must_use]
    pub fn with_cache(self, cache: Option<ReadCache>) -> Self {
        Self { cache, ..self }
    }

    /// The number of files that were read completely.
    pub fn files_read(&self) -> usize {
        self.files_read
    }

    /// The digest that is known without reading the file: the declared one, or that of an empty file. `None` if it has
    /// to be read.
    ///
    /// # Errors
    /// [`DigestError::Empty`] if the size is 0, unless the host lists its files.
    pub fn declared(&self, found: &Found) -> Result<Option<Sha256>, DigestError> {
        match (found.sha256, found.size, &found.source) {
            (None, Some(0), Source::Url(_)) => {
                Err(DigestError::Empty { url: self.origin.effective(&found.url) })
            }
            (None, Some(0), _) => Ok(Some(Sha256::of(b""))),
            (sha256, ..) => Ok(sha256),
        }
    }

    /// Reads a found file, which will become `path`, and returns its digest and length. If the digest is `known`, the
    /// bytes are not kept.
    pub async fn read(
        &mut self,
        found: &Found,
        path: &ModelPath,
        known: Option<Sha256>,
    ) -> Result<(Sha256, u64), DigestError> {
        let is_listed = !matches!(found.source, Source::Url(_));
        let metadata = MetadataClient::new(&self.origin, self.retry.clone(), self.on_wait.clone());
        let validator = if !is_listed {
            found.etag.clone()
        } else if found.size.is_some_and(|size| size > BLOCK as u64) {
            metadata.probe(&found.url).await?.etag.filter(|etag| is_strong(etag))
        } else {
            None
        };
        let file = UnpinnedFile {
            path: path.clone(),
            url: found.url.clone(),
            asked: self.origin.effective(&found.url),
            size: found.size,
            listed: found.etag.clone().filter(|_| is_listed),
            validator,
            makes_list: self.makes_lists,
        };
        let observer = &self.observer;
        let in_cache = match start_in_cache(self.cache.as_ref(), &mut self.cached, observer, &file).await {
            Err(error) if error.is_about_place() => {
                let message =
                    format!("{path} is read into {} instead of the cache: {error}", self.destination);
                observer.observe(&Event::Warning { message });
                if !error.is_about_room() {
                    // Other runs may wait for its lock.
                    (self.cache, self.cached) = (None, None);
                }
                None
            }
            started => started?,
        };
        let mut download = if let Some(started) = in_cache {
            started
        } else {
            let parts = match &mut self.parts {
                Some(parts) => parts,
                none => {
                    let parts =
                        UnpinnedParts::open(&self.destination, self.folders.clone(), observer.clone())
                            .await?;
                    none.insert(Arc::new(parts))
                }
            };
            parts.start(file).await?
        };
        let mut connection = self.origin.connection();
        while let Some(error) = download.attempt(&mut connection, &self.retry).await? {
            // The time counts from the failure: the request may have brought bytes for long.
            let now = metadata.now();
            metadata.wait_after(error.into(), &mut download.row, now).await?;
        }
        let (sha256, size, list) = download.finish(known)?;
        self.files_read += 1;
        self.lists.extend(list);
        if size == 0 {
            return Err(DigestError::Empty { url: self.origin.effective(&found.url) });
        }
        Ok((sha256, size))
    }
}

/// Starts a file in the cache, if there is one that may keep it.
async fn start_in_cache(
    cache: Option<&ReadCache>,
    cached: &mut Option<Arc<UnpinnedParts>>,
    observer: &Arc<dyn Observer>,
    file: &UnpinnedFile,
) -> Result<Option<UnpinnedDownload>, UnpinnedError> {
    // A file of unknown length could only be refused at its end.
    let fits = |cache: &&ReadCache| {
        cache.limit.is_none_or(|limit| file.size.map_or(limit.evicts, |size| size <= limit.bytes))
    };
    let Some(ReadCache { directory, limit }) = cache.filter(fits) else { return Ok(None) };
    let parts = match cached {
        Some(parts) => parts,
        none => {
            let parts = UnpinnedParts::open_cache(directory, *limit, observer.clone()).await?;
            none.insert(Arc::new(parts))
        }
    };
    parts.start(file.clone()).await.map(Some)
}

/// A weak validator says nothing about the bytes (RFC 9110 section 8.8.1).
fn is_strong(etag: &str) -> bool {
    etag.starts_with('"') && etag.len() > 2 && etag.len() < 512
}
