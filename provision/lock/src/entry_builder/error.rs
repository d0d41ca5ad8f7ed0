//! An entry that could not be built, and the kind of the failure.

use provision_core::lockfile::LockfileErrorKind;
use provision_engine::unpinned::UnpinnedError;
use provision_http::RequestError;

use crate::digest_reader::DigestError;
use crate::expiry::Expiry;
use crate::placement::PlacementError;
use crate::resolve::{Declared, Kind, ResolveError};
use crate::source::Source;

/// An entry that could not be built.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// The host failed, or refused the request.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The destination path is not known.
    #[error("{what}: {error}")]
    Placement {
        /// The source.
        what: Box<Source>,
        /// The reason.
        error: PlacementError,
    },
    /// The path cannot lie beside another one.
    #[error("{what}: {kind}; give another --path")]
    Collision {
        /// The source.
        what: String,
        /// The rule.
        kind: LockfileErrorKind,
    },
    /// A URL expires.
    #[error("{url}: {expiry}")]
    Expiring {
        /// The URL, without its query.
        url: String,
        /// The reason.
        expiry: Expiry,
    },
    /// The declared digest or size differs from the host's.
    #[error(
        "{what}: {who} declares {said}, but the host declares {found}; correct the wrong value, or give the source of the \
         same file"
    )]
    Differs {
        /// The source.
        what: String,
        /// The party that declared it.
        who: &'static str,
        /// The declared values.
        said: Declared,
        /// The host's values.
        found: Declared,
    },
    /// One path or digest for several files.
    #[error("{what} matches {files} files; {option}")]
    Several {
        /// The glob.
        what: String,
        /// The number of files.
        files: usize,
        /// The way out.
        option: &'static str,
    },
    /// The file could not be read.
    #[error("{what}: {error}")]
    Digest {
        /// The source.
        what: String,
        /// The reason.
        error: DigestError,
    },
}

impl EntryError {
    /// The failed request, if its host gave no answer.
    pub fn silence(&self) -> Option<&RequestError> {
        match self {
            Self::Resolve(error) => error.silence(),
            _ => None,
        }
    }

    /// The kind of a host's failure; `None` if the error is not about a host.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Resolve(error) => Some(error.kind()),
            Self::Differs { .. } => Some(Kind::Differs),
            Self::Digest { error, .. } => match error {
                DigestError::Host(error) => Some(Kind::of(error)),
                DigestError::Download(UnpinnedError::OtherSize { .. }) => Some(Kind::Differs),
                // The same kind as a web page in place of the file.
                DigestError::Empty { .. } => Some(Kind::Unreachable),
                DigestError::Download(_) => None,
            },
            Self::Placement { .. }
            | Self::Collision { .. }
            | Self::Expiring { .. }
            | Self::Several { .. } => None,
        }
    }
}
