//! The failure of a file, with the failure of each source that was tried, and the questions about it.

use provision_core::byte_range::ByteRange;
use provision_core::digest::Sha256;
use provision_core::model_path::ModelPath;
use provision_core::source_url::SourceUrl;
use provision_disk::DiskError;
use provision_http::sniff::SniffedContent;
use provision_http::{RequestError, ResponseError};

/// The failure of a file, with the failure of each source that was tried.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.reason())]
pub struct FileError {
    /// The sources, in the order in which they were tried.
    pub attempts: Vec<Attempt>,
    /// The disk's failure, which ends a file regardless of its sources.
    #[source]
    pub disk: Option<DiskError>,
    /// The file would be a copy of this one, which failed.
    pub original: Option<ModelPath>,
    /// The lock's addresses were not asked, at the user's wish.
    pub store_only: bool,
}

const STORE_ONLY: &str = "--store-only forbids the lock's own addresses. Fill a store with `provision store push`, or \
                          leave the option out";

const AGREED: &str = "The same bytes came before, so the file at the source has changed, or the piece list is wrong: \
                      `provision lock check --pieces` compares it with the right file";

/// A source that failed.
#[derive(Debug)]
pub struct Attempt {
    /// The source, as it was asked.
    pub source: SourceUrl,
    /// Its failure.
    pub error: SourceError,
}

/// The failure of a source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A request failed, or its answer is invalid.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Its bytes do not have the lock's digest.
    #[error(
        "the bytes have SHA-256 {found}, the lock says {expected}; they were deleted. {}",
        because(.sniffed.as_ref())
    )]
    WrongDigest {
        /// The lock's digest.
        expected: Sha256,
        /// The digest of the received bytes.
        found: Sha256,
        /// The content that the first bytes look like.
        sniffed: Option<SniffedContent>,
    },
    /// A piece that it sent does not have the digest of the file's piece list.
    #[error(
        "bytes {} to {} have SHA-256 {found}, the piece list says {expected}. {}", .range.start, .range.end - 1,
        if *.agreed && .sniffed.is_none() { AGREED.to_owned() } else { because(.sniffed.as_ref()) }
    )]
    WrongPiece {
        /// The piece.
        range: ByteRange,
        /// The list's digest.
        expected: Sha256,
        /// The digest of the received bytes.
        found: Sha256,
        /// The content that the first bytes look like.
        sniffed: Option<SniffedContent>,
        /// They came before, from this source or from another one.
        agreed: bool,
    },
    /// It sends something else in the file's place.
    #[error("{url}: {sniffed}")]
    Sniffed {
        /// The URL that the source redirected to.
        url: SourceUrl,
        /// The content that was received.
        sniffed: SniffedContent,
        /// Some of it is in the part.
        written: bool,
    },
    /// A store that does not have the file.
    #[error("{url} answered {status}: the store does not have this file")]
    Miss {
        /// The URL that answered.
        url: SourceUrl,
        /// The status.
        status: u16,
    },
    /// A store that is not asked any more in this run.
    #[error("{store} is not used any more: {reason}")]
    StoreIsOut {
        /// Its name, or the host of several, in words.
        store: String,
        /// The failure, which may be another file's.
        reason: String,
    },
}

fn because(sniffed: Option<&SniffedContent>) -> String {
    sniffed.map_or(
        "The file at the source has changed, or something on the way changes it".to_owned(),
        |sniffed| format!("By its first bytes, {sniffed}"),
    )
}

impl SourceError {
    /// The same of a store by digest: its address is made of the digest, so an absent file is no mistake of the lock.
    pub(super) fn of_store(self) -> Self {
        match self {
            Self::Request(RequestError::Missing { url, status: status @ (404 | 410), .. }) => {
                Self::Miss { url, status }
            }
            error => error,
        }
    }
}

impl FileError {
    /// The failure of a file because of its sources.
    pub fn of_sources(attempts: Vec<Attempt>) -> Self {
        Self { attempts, disk: None, original: None, store_only: false }
    }

    /// The failure of a file because of the disk.
    pub fn of_disk(error: DiskError) -> Self {
        Self { disk: Some(error), ..Self::of_sources(Vec::new()) }
    }

    /// The failure of a copy whose original failed.
    pub fn of_original(path: &ModelPath) -> Self {
        Self { original: Some(path.clone()), ..Self::of_sources(Vec::new()) }
    }

    /// True if a source had wrong bytes.
    pub fn is_integrity(&self) -> bool {
        self.attempts.iter().any(|attempt| match &attempt.error {
            SourceError::WrongDigest { .. } | SourceError::WrongPiece { .. } => true,
            SourceError::Sniffed { sniffed, .. } => sniffed.is_integrity(),
            SourceError::Request(RequestError::Response { error, .. }) => {
                matches!(
                    error,
                    ResponseError::WrongSize { .. } | ResponseError::FileChanged(_) | ResponseError::Changed
                )
            }
            SourceError::Request(_) | SourceError::Miss { .. } | SourceError::StoreIsOut { .. } => false,
        })
    }

    /// True if the held bytes are known to be wrong: no other source has sent bytes since.
    pub(super) fn condemns_bytes(&self) -> bool {
        // A disk failure says nothing about the bytes: the next run resumes from them.
        self.disk.is_none()
            && self.attempts.last().is_some_and(|last| {
                matches!(
                    last.error,
                    SourceError::WrongDigest { .. } | SourceError::Sniffed { written: true, .. }
                )
            })
    }

    /// True if a source requires a token or a permission.
    pub fn is_refusal(&self) -> bool {
        self.attempts
            .iter()
            .any(|attempt| matches!(&attempt.error, SourceError::Request(error) if error.is_refusal()))
    }

    /// True if this process ran out of file descriptors for connections.
    pub fn is_out_of_descriptors(&self) -> bool {
        let is_it = |error: &SourceError| matches!(error, SourceError::Request(error) if error.is_out_of_descriptors());
        self.attempts.iter().any(|attempt| is_it(&attempt.error))
    }

    /// The reason as text: the disk's failure, or the failure of each source.
    pub fn reason(&self) -> String {
        if let Some(disk) = &self.disk {
            return disk.reason();
        }
        if let Some(original) = &self.original {
            return format!("it has the same bytes as {original}, which could not be installed");
        }
        let said = self.attempts.iter().map(|attempt| match &attempt.error {
            error @ (SourceError::WrongDigest { .. } | SourceError::WrongPiece { .. }) => {
                format!("{}: {error}", attempt.source)
            }
            error => error.to_string(),
        });
        let advice = match (self.store_only, self.attempts.is_empty()) {
            (false, _) => None,
            (true, false) => Some(STORE_ONLY.to_owned()),
            (true, true) => Some(format!("no store has it; {STORE_ONLY}")),
        };
        said.chain(advice).collect::<Vec<_>>().join("; then ")
    }
}
