//! Why a source could not be resolved, and what kind of failure that is.

use std::fmt;

use provision_core::digest::Sha256;
use provision_http::RequestError;
use provision_http::metadata::MetadataError;

use crate::source::Source;

/// What a failure means to whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nobody said anything of it: the host cannot be reached, is busy, or answers with something else.
    Unreachable,
    /// The host says that it is not there.
    Gone,
    /// A token or a permission is wanted.
    Refused,
    /// Its bytes are not those that somebody else says.
    Differs,
}

impl Kind {
    /// Of a question that was not answered.
    pub fn of(error: &MetadataError) -> Self {
        match error {
            MetadataError::Request(error) if error.is_absence() => Self::Gone,
            MetadataError::Request(error) if error.is_refusal() => Self::Refused,
            _ => Self::Unreachable,
        }
    }
}

/// What somebody says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// Its digest, where it is said.
    pub sha256: Option<Sha256>,
    /// Its length, where it is said.
    pub size: Option<u64>,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.size, self.sha256) {
            (Some(size), Some(sha256)) => write!(f, "{size} bytes with the SHA-256 {sha256}"),
            (Some(size), None) => write!(f, "{size} bytes"),
            (None, Some(sha256)) => write!(f, "the SHA-256 {sha256}"),
            (None, None) => f.write_str("nothing"),
        }
    }
}

/// A source that could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// A question was not answered.
    #[error("{what}: {error}{hint}")]
    Host {
        /// The source.
        what: String,
        /// What the host said, or why nobody did.
        error: MetadataError,
        /// The way out, where the error does not say it.
        hint: &'static str,
    },
    /// A login is wanted by something else than a refusal.
    #[error("{what}: a login is wanted for it; {advice}")]
    Login {
        /// The source.
        what: String,
        /// The way out.
        advice: &'static str,
    },
    /// The host has no such file.
    #[error("{what}: there is no such file; there is {known}")]
    NoFile {
        /// The source.
        what: String,
        /// Some of what there is.
        known: String,
    },
    /// Two places where the host says what the file is, and they do not say the same.
    #[error(
        "{what}: {first_place} says {first}, and {second_place} says {second}; one of them is wrong, so nothing is \
         written. Try again later, or ask the repository's owner"
    )]
    Disagreement {
        /// The source.
        what: String,
        /// Where.
        first_place: &'static str,
        /// What.
        first: Said,
        /// Where else.
        second_place: &'static str,
        /// What else.
        second: Said,
    },
    /// The download is not the file that was described.
    #[error(
        "{what}: the site says that {name:?} has {kilobytes} KB, and the download has {found} bytes, so it is another file \
         and the digest is not its own. The version has {known}: choose one by ?type=, ?format=, ?size= or ?fp="
    )]
    OtherFile {
        /// The source.
        what: String,
        /// The file that is meant.
        name: String,
        /// Its length, as it is described.
        kilobytes: f64,
        /// What the download has, in bytes.
        found: u64,
        /// The version's files.
        known: String,
    },
    /// A listing that goes on and on.
    #[error(
        "{what}: the listing has more than {most} {of}, which no repository of models has, so it is not read to its end; \
         check that it is the repository that you mean"
    )]
    Endless {
        /// The source.
        what: String,
        /// How many are read.
        most: usize,
        /// Of what.
        of: &'static str,
    },
    /// A redirect that leads into another commit.
    #[error("{what}: the commit {asked} was asked for, and the host answered for {found}")]
    OtherCommit {
        /// The source.
        what: String,
        /// The commit that was asked for.
        asked: String,
        /// The commit that was answered for.
        found: String,
    },
    /// Nobody says how long the file is.
    #[error(
        "{what}: the host does not say how long the file is, and a lock needs that; give another address of it"
    )]
    NoSize {
        /// The source.
        what: String,
    },
}

impl ResolveError {
    /// A question about `source` that was not answered.
    pub(super) fn host(source: &Source, error: MetadataError) -> Self {
        Self::host_with(source, error, "")
    }

    /// The same, with a way out for what is not there.
    pub(super) fn host_with(source: &Source, error: MetadataError, missing: &'static str) -> Self {
        let is_missing = matches!(error, MetadataError::Request(RequestError::Missing { .. }));
        Self::Host { what: source.to_string(), error, hint: if is_missing { missing } else { "" } }
    }

    /// What it means.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Host { error, .. } => Kind::of(error),
            Self::Login { .. } => Kind::Refused,
            Self::Disagreement { .. } | Self::OtherFile { .. } => Kind::Differs,
            Self::NoFile { .. } => Kind::Gone,
            Self::OtherCommit { .. } | Self::NoSize { .. } | Self::Endless { .. } => Kind::Unreachable,
        }
    }
}
