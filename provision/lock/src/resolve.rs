//! Resolves a [`Source`] to a lock's facts: pinned URL, size, digest. It asks hosts but downloads nothing.
//!
//! | host | asked | digest and size |
//! |---|---|---|
//! | the Hub | the revision's commit, the commit's whole tree (once for all of its files), each file's redirect | `lfs.oid`, and the redirect has to say the same |
//! | Civitai | the version, and a probe of the download | `hashes.SHA256`; the size is the probe's |
//! | GitHub | the release | the asset's `digest` and `size` |
//! | `ModelScope` | the listing of the revision | `Sha256` and `Size` |
//! | a registry | a probe of the blob | the blob's name; the size is the probe's |
//! | any other | a probe | the values of a redirect like the Hub's, or else only the size |
//!
//! If no digest is declared (a small file of the Hub, an old release, any web server), [`Found::sha256`] is `None`, and
//! [`digest_reader`](crate::digest_reader) reads the file.
//!
//! One [`Resolver`] serves a whole command, also concurrent questions. It asks about each repository, release and
//! version once.

mod answer_cache;
mod civitai;
mod error;
mod github;
mod hub;
mod modelscope;
mod oci;
mod plain;

use std::rc::Rc;
use std::sync::Arc;

use provision_core::backoff::RetryPolicy;
use provision_core::digest::Sha256;
use provision_core::source_url::SourceUrl;
use provision_http::HttpClient;
use provision_http::metadata::{MetadataClient, OnWait};
use url::Url;

use answer_cache::AnswerCache;
pub use error::{Declared, Kind, ResolveError};

use crate::source::{RepoKind, Source};

/// A host's description of one file.
#[derive(Debug, Clone)]
pub struct Found {
    /// The file as requested: with its branch or tag, if it was named that way, and never a glob.
    pub source: Source,
    /// The download URL, pinned to a commit if the host has such URLs.
    pub url: SourceUrl,
    /// The length in bytes, if the host declares one. Without it, the file is read once.
    pub size: Option<u64>,
    /// The SHA-256 of the file, if the host declares one.
    pub sha256: Option<Sha256>,
    /// The file's name, if the source does not contain it.
    pub name: Option<String>,
    /// The host chose the name of a plain URL's file (`Content-Disposition`).
    pub is_named_by_host: bool,
    /// Civitai's model type.
    pub civitai_type: Option<String>,
    /// A validator: bytes read under another validator belong to another file.
    pub etag: Option<String>,
}

impl Found {
    /// Returns true if the source may name other bytes later.
    pub fn is_moving(&self) -> bool {
        !self.source.is_pinned()
    }

    /// The source that `lock update` follows; `None` if the URL itself names it.
    pub fn followed(&self) -> Option<String> {
        let by_address = Source::of_url(&self.url);
        (self.is_moving() && by_address != self.source).then(|| self.source.to_string())
    }
}

/// Asks hosts and caches their answers.
#[derive(Debug)]
pub struct Resolver {
    metadata: MetadataClient,
    trees: AnswerCache<(RepoKind, String, String), Rc<hub::Tree>>,
    listings: AnswerCache<(String, String), Rc<Vec<modelscope::Listed>>>,
    releases: AnswerCache<(String, Option<String>), Rc<github::Release>>,
    versions: AnswerCache<u64, Rc<civitai::Version>>,
}

impl Resolver {
    /// Creates a resolver over the HTTP client; `on_wait` is called before each wait.
    pub fn new(origin: &Arc<HttpClient>, retry: RetryPolicy, on_wait: OnWait) -> Self {
        Self {
            metadata: MetadataClient::new(origin, retry, on_wait),
            trees: AnswerCache::default(),
            listings: AnswerCache::default(),
            releases: AnswerCache::default(),
            versions: AnswerCache::default(),
        }
    }

    /// Resolves `source` to one file, or to all files that its glob matches.
    pub async fn resolve(&self, source: &Source) -> Result<Vec<Found>, ResolveError> {
        match source {
            Source::Hub(hub) => self.hub(hub).await,
            Source::ModelScope(file) => self.modelscope(file).await,
            Source::Civitai(version) => self.civitai(version).await.map(|found| vec![found]),
            Source::GitHub(asset) => self.github(asset).await.map(|found| vec![found]),
            Source::Oci(blob) => self.oci(blob).await.map(|found| vec![found]),
            Source::Url(url) => self.plain(url).await.map(|found| vec![found]),
        }
    }
}

/// A URL below `base` with encoded segments.
fn api<'a>(base: &str, segments: impl IntoIterator<Item = &'a str>, query: &[(&str, &str)]) -> SourceUrl {
    let mut url: Url = crate::source::address(base, segments);
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    SourceUrl::from_url(url).expect("these addresses are https and have no user information")
}

/// Parses a digest in either case.
fn digest(text: &str) -> Option<Sha256> {
    text.trim().to_ascii_lowercase().parse().ok()
}

/// Lists at most eight of `names`.
fn some_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let mut some: Vec<String> = names.by_ref().take(8).map(|name| format!("{name:?}")).collect();
    if some.is_empty() {
        return "nothing".to_owned();
    }
    if names.next().is_some() {
        some.push("…".to_owned());
    }
    some.join(", ")
}
