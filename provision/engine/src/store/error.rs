//! The errors of a push, each with the way out. They carry no secret.

use camino::Utf8PathBuf;

use provision_core::digest::Sha256;
use provision_core::source_url::SourceUrl;
use provision_disk::DiskError;
use provision_http::RequestError;
use provision_http::metadata::MetadataError;

/// A failed push, or a question to a store without an answer.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// A request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The store asks for a longer wait than is waited for.
    #[error(transparent)]
    Limited(MetadataError),
    /// The key may not write at the bucket.
    #[error(
        "{0}; a push needs a key that may write there (s3:PutObject and, for its parts, s3:ListMultipartUploadParts)"
    )]
    MayNotWrite(RequestError),
    /// A file of this machine cannot be read.
    #[error("{}", .0.reason())]
    Disk(#[from] DiskError),
    /// The directory of the store cannot be read or written.
    #[error("{}", .0.reason().replace("--dest", "--to"))]
    Directory(DiskError),
    /// No place of this machine has the file.
    #[error(
        "it is neither installed nor in a cache, so there is nothing to push; run `provision fetch` first, with the same \
         --dest or --cache"
    )]
    Nowhere,
    /// A file has the lock's size and other bytes. The store was not told that it is complete.
    #[error(
        "{path} has SHA-256 {found}, the lock says {expected}; nothing of it stays at the store: run `provision verify`, \
         then `provision fetch`, and push again"
    )]
    Wrong {
        /// The file.
        path: Utf8PathBuf,
        /// The lock's digest.
        expected: Sha256,
        /// Its own.
        found: Sha256,
    },
    /// The web server takes no PUT.
    #[error(
        "{url} answered {status} to PUT; let the server take it there: for nginx `dav_methods PUT; create_full_put_path on; \
         client_max_body_size 0;` and a directory that it may write"
    )]
    NoPut {
        /// The address.
        url: SourceUrl,
        /// The status.
        status: u16,
    },
    /// The store took the file, and does not give it back.
    #[error("{url}: the store took the file, but does not send its last byte; see the store's own log")]
    NotKept {
        /// The address.
        url: SourceUrl,
    },
    /// The store refuses the request, for its own reason.
    #[error("{store} answered {status} to {what}{}; see the store's own log", in_brackets(.why))]
    Rejected {
        /// The store.
        store: String,
        /// The status.
        status: u16,
        /// The request, in words.
        what: &'static str,
        /// The store's reason.
        why: String,
    },
    /// The store has lost the upload twice.
    #[error(
        "{store} lost the upload again and again; push when the store stays up, or without a proxy in between"
    )]
    Lost {
        /// The store.
        store: String,
    },
    /// The store's address names no place for the file.
    #[error("the address of the store has no place for this file; check --to")]
    NoAddress,
    /// The store gave no answer for a file before this one.
    #[error("not tried, because the store gives no answer")]
    NotTried,
    /// The run was stopped.
    #[error("interrupted")]
    Interrupted,
}

fn in_brackets(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(" ({why})") }
}

impl PushError {
    /// True if the store wants a credential or a permission.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Request(error) => error.is_refusal(),
            Self::MayNotWrite(_) => true,
            Self::NoPut { status, .. } | Self::Rejected { status, .. } => matches!(status, 401 | 403),
            _ => false,
        }
    }

    /// The same after a request to write: a refusal that hides whether an object is there is one to write.
    pub(super) fn for_writing(self) -> Self {
        match self {
            Self::Request(error @ RequestError::Missing { status: 403, .. }) => Self::MayNotWrite(error),
            error => error,
        }
    }

    /// True if files have other bytes than the lock says.
    pub fn is_integrity(&self) -> bool {
        matches!(self, Self::Wrong { .. })
    }

    /// True if a disk of this machine failed.
    pub fn is_disk(&self) -> bool {
        matches!(self, Self::Disk(_) | Self::Directory(_))
    }

    /// True if the store answered that it cannot serve the request now.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Request(RequestError::Busy { .. }))
    }

    /// True if the store does not answer, which says something about all files.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::Limited(_) | Self::NotTried)
            || matches!(self, Self::Request(error) if error.is_transport())
    }
}

impl From<MetadataError> for PushError {
    fn from(error: MetadataError) -> Self {
        match error {
            MetadataError::Request(error) => Self::Request(error),
            error => Self::Limited(error),
        }
    }
}
