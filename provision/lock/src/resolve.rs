//! From a [`Source`] to what a lock says of it: a pinned address, the size, the digest. Hosts are asked; nothing is fetched.
//!
//! | host | asked | digest and size |
//! |---|---|---|
//! | the Hub | the revision's commit, the commit's whole tree (once for all of its files), each file's redirect | `lfs.oid`, and the redirect has to say the same |
//! | Civitai | the version, and a probe of the download | `hashes.SHA256`; the size is the probe's |
//! | GitHub | the release | the asset's `digest` and `size` |
//! | `ModelScope` | the listing of the revision | `Sha256` and `Size` |
//! | a registry | a probe of the blob | the blob's name; the size is the probe's |
//! | any other | a probe | what a redirect like the Hub's says, else the size alone |
//!
//! Where no digest is said (a small file of the Hub, an old release, any web server) [`Found::sha256`] is `None`, and the bytes
//! have to be read: [`stream`](crate::stream).
//!
//! One [`Resolver`] serves a whole command: what was learned of a repository, a release or a version is not asked again.

mod civitai;
mod error;
mod github;
mod hub;
mod modelscope;
mod oci;
mod plain;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use provision_core::backoff::RetryPolicy;
use provision_core::digest::Sha256;
use provision_core::source_url::SourceUrl;
use provision_http::HttpClient;
use provision_http::metadata::{MetadataClient, OnWait};
use url::Url;

pub use error::{Kind, ResolveError, Said};

use crate::source::{RepoKind, Source};

/// What a host says of one file.
#[derive(Debug, Clone)]
pub struct Found {
    /// The file as it was asked for: with its branch or tag, if that is how it was named, and never a glob.
    pub source: Source,
    /// Where its bytes are had: pinned to a commit where the host has such addresses.
    pub url: SourceUrl,
    /// Its length in bytes.
    pub size: u64,
    /// The digest of its bytes, where the host says it.
    pub sha256: Option<Sha256>,
    /// Its name, where the source itself does not tell it.
    pub name: Option<String>,
    /// Civitai's type of the model.
    pub civitai_type: Option<String>,
    /// A validator: bytes that were read under another one are of another file.
    pub etag: Option<String>,
}

impl Found {
    /// Whether what was named may come to mean other bytes.
    pub fn is_moving(&self) -> bool {
        !self.source.is_pinned()
    }

    /// What `lock update` is to follow: nothing where the address itself says it.
    pub fn followed(&self) -> Option<String> {
        let by_address = Source::of_url(&self.url);
        (self.is_moving() && by_address != self.source).then(|| self.source.to_string())
    }
}

/// Asks hosts, and remembers what they said.
#[derive(Debug)]
pub struct Resolver {
    metadata: MetadataClient,
    trees: HashMap<(RepoKind, String, String), Rc<hub::Tree>>,
    listings: HashMap<(String, String), Rc<Vec<modelscope::Listed>>>,
    releases: HashMap<(String, Option<String>), Rc<github::Release>>,
    versions: HashMap<u64, Rc<civitai::Version>>,
}

impl Resolver {
    /// Asks through `origin`; `on_wait` is told before each wait.
    pub fn new(origin: &Arc<HttpClient>, retry: RetryPolicy, on_wait: OnWait) -> Self {
        Self {
            metadata: MetadataClient::new(origin, retry, on_wait),
            trees: HashMap::new(),
            listings: HashMap::new(),
            releases: HashMap::new(),
            versions: HashMap::new(),
        }
    }

    /// What `source` is: one file, or as many as its glob means.
    pub async fn resolve(&mut self, source: &Source) -> Result<Vec<Found>, ResolveError> {
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

/// An address below `base`, its segments encoded.
fn api<'a>(base: &str, segments: impl IntoIterator<Item = &'a str>, query: &[(&str, &str)]) -> SourceUrl {
    let mut url: Url = crate::source::address(base, segments);
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    SourceUrl::from_url(url).expect("these addresses are https and have no user information")
}

/// A digest in either case.
fn digest(text: &str) -> Option<Sha256> {
    text.trim().to_ascii_lowercase().parse().ok()
}

/// At most eight of `names`, as a list.
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
