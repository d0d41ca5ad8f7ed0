//! The errors of resolving a source, and their kinds.

use std::fmt;

use provision_core::byte_size::ByteSize;
use provision_core::digest::Sha256;
use provision_http::RequestError;
use provision_http::metadata::MetadataError;

use crate::source::Source;

/// The kind of a failure, for exit codes and retries of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The file's URL comes from a list, and its host was not asked.
    Untrusted,
    /// No usable answer: the host is unreachable, busy, or answers with something else.
    Unreachable,
    /// The host reports that the file does not exist.
    Gone,
    /// A token or a permission is needed.
    Refused,
    /// The file's bytes differ from the declared ones.
    Differs,
}

impl Kind {
    /// The kind of a failed request.
    pub fn of(error: &MetadataError) -> Self {
        match error {
            MetadataError::Request(RequestError::Untrusted { .. }) => Self::Untrusted,
            MetadataError::Request(error) if error.is_absence() => Self::Gone,
            MetadataError::Request(error) if error.is_refusal() => Self::Refused,
            _ => Self::Unreachable,
        }
    }
}

/// The values that a host, a list or a user declares for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Declared {
    /// The digest, if declared.
    pub sha256: Option<Sha256>,
    /// The length, if declared.
    pub size: Option<u64>,
}

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.size.map(|size| ByteSize(size).exact()), self.sha256) {
            (Some(size), Some(sha256)) => write!(f, "{size} with the SHA-256 {sha256}"),
            (Some(size), None) => write!(f, "{size}"),
            (None, Some(sha256)) => write!(f, "the SHA-256 {sha256}"),
            (None, None) => f.write_str("nothing"),
        }
    }
}

/// A source that could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// A request failed.
    #[error("{what}: {error}{hint}")]
    Host {
        /// The source.
        what: String,
        /// The request's error.
        error: MetadataError,
        /// The way out, if the error does not contain it.
        hint: &'static str,
    },
    /// The host has no such file.
    #[error("{what}: no such file; check the path: the host has {known}")]
    NoFile {
        /// The source.
        what: String,
        /// Some of the files that exist.
        known: String,
    },
    /// Two statements of the host about the file contradict each other.
    #[error(
        "{what}: {first_place} declares {first}, but {second_place} declares {second}; nothing was written. Try again \
         later, or ask the repository's owner"
    )]
    Disagreement {
        /// The source.
        what: String,
        /// The place of the first statement.
        first_place: &'static str,
        /// The first statement.
        first: Declared,
        /// The place of the second statement.
        second_place: &'static str,
        /// The second statement.
        second: Declared,
    },
    /// The download is another file than the described one.
    #[error(
        "{what}: the site lists {name:?} with {}, but the download has {}, so the listed digest is another file's. The \
         version has {known}: select one with ?fileId=, ?type=, ?format=, ?size= or ?fp=",
        ByteSize(*listed),
        ByteSize(*found).exact()
    )]
    OtherFile {
        /// The source.
        what: String,
        /// The described file.
        name: String,
        /// The described length in bytes, which the site rounds.
        listed: u64,
        /// The length of the download in bytes.
        found: u64,
        /// The version's files.
        known: String,
    },
    /// A version whose download is sold for now.
    #[error(
        "{what}: the version is in early access{}, and the site refuses the download to this login: buy access at {page} and set \
         CIVITAI_TOKEN to an API key of that account, or wait for the end",
        until.as_ref().map_or_else(String::new, |until| format!(" until {until}"))
    )]
    EarlyAccess {
        /// The source.
        what: String,
        /// The day of its end, if the site says it.
        until: Option<String>,
        /// The version's page.
        page: String,
    },
    /// The listing is too long.
    #[error(
        "{what}: the listing has more than {most} {of}, the limit for a repository of models; check the repository's \
         name"
    )]
    Endless {
        /// The source.
        what: String,
        /// The limit.
        most: usize,
        /// The unit of the limit.
        of: &'static str,
    },
    /// The redirect leads to another commit.
    #[error(
        "{what}: commit {asked} was requested, but the host answered for commit {found}; try again later"
    )]
    OtherCommit {
        /// The source.
        what: String,
        /// The requested commit.
        asked: String,
        /// The commit of the answer.
        found: String,
    },
    /// The host declares no length.
    #[error(
        "{what}: the host does not declare the file's size, which a lock requires; give another URL of the file"
    )]
    NoSize {
        /// The source.
        what: String,
    },
}

impl ResolveError {
    /// A request about `source` failed.
    pub(super) fn host(source: &Source, error: MetadataError) -> Self {
        Self::host_with(source, error, "")
    }

    /// The same, with a hint for a missing file.
    pub(super) fn host_with(source: &Source, error: MetadataError, missing: &'static str) -> Self {
        let is_missing = matches!(error, MetadataError::Request(RequestError::Missing { .. }));
        Self::Host { what: source.to_string(), error, hint: if is_missing { missing } else { "" } }
    }

    /// The failed request, if its host gave no answer: the same for all files there.
    pub fn silence(&self) -> Option<&RequestError> {
        match self {
            Self::Host { error: MetadataError::Request(error), .. } => Some(error),
            _ => None,
        }
        .filter(|error| error.silent_host().is_some())
    }

    /// The kind of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Host { error, .. } => Kind::of(error),
            Self::Disagreement { .. } | Self::OtherFile { .. } => Kind::Differs,
            Self::NoFile { .. } => Kind::Gone,
            Self::EarlyAccess { .. } => Kind::Refused,
            Self::OtherCommit { .. } | Self::NoSize { .. } | Self::Endless { .. } => Kind::Unreachable,
        }
    }
}
