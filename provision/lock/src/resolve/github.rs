//! Resolves assets of GitHub releases. The API allows sixty requests an hour without a token, so each release is
//! requested once.
//!
//! The assets of a private repository are served to a token, but only by the API: the public download URL needs a
//! browser session. A release does not say that it is private. So with a token, the client probes the public URL first.
//! If the asset is missing there or has another length (a login page, another file), the lock gets the asset's API URL.
//! If another server replaces the API, the public host has another repository of that name, or none.

use std::rc::Rc;

use provision_core::digest::Sha256;
use provision_core::source_url::SourceUrl;
use provision_http::RequestError;
use provision_http::metadata::MetadataError;
use serde::Deserialize;

use super::{Found, ResolveError, Resolver, api, digest, some_of};
use crate::source::{ReleaseAsset, Source};

const API: &str = "https://api.github.com";

/// A release.
#[derive(Debug, Deserialize)]
pub(super) struct Release {
    tag_name: String,
    #[serde(default)]
    assets: Vec<Asset>,
}

#[derive(Debug, Deserialize)]
struct Asset {
    id: Option<u64>,
    name: String,
    size: u64,
    /// `sha256:…`; null for assets uploaded before June 2025.
    digest: Option<String>,
    updated_at: Option<String>,
}

impl Asset {
    fn sha256(&self) -> Option<Sha256> {
        self.digest.as_deref()?.strip_prefix("sha256:").and_then(digest)
    }
}

impl Resolver {
    pub(super) async fn github(&self, asset: &ReleaseAsset) -> Result<Found, ResolveError> {
        let source = Source::GitHub(asset.clone());
        let release = self.release(asset).await;
        let release = release.map_err(|error| ResolveError::host(&source, error))?;
        let Some(found) = release.assets.iter().find(|known| known.name == asset.asset) else {
            let known = some_of(release.assets.iter().map(|known| known.name.as_str()));
            return Err(ResolveError::NoFile { what: source.to_string(), known });
        };
        // The newest release changes; this URL names the current one.
        let pinned = ReleaseAsset { tag: Some(release.tag_name.clone()), ..asset.clone() };
        let url = self.reachable(asset, Source::GitHub(pinned).address(), found).await;
        let url = url.map_err(|error| ResolveError::host(&source, error))?;
        Ok(Found {
            url,
            size: Some(found.size),
            sha256: found.sha256(),
            name: None,
            is_named_by_host: false,
            civitai_type: None,
            etag: found.updated_at.clone(),
            source,
        })
    }

    /// The asset's URL: the `public` one if it works, or else the API's, which the token can read.
    async fn reachable(
        &self,
        asset: &ReleaseAsset,
        public: SourceUrl,
        found: &Asset,
    ) -> Result<SourceUrl, MetadataError> {
        let Some(id) = found.id.map(|id| id.to_string()) else { return Ok(public) };
        let repository = ["repos"].into_iter().chain(asset.repo.split('/'));
        let at_api = api(API, repository.chain(["releases", "assets", &id]), &[]);
        if self.metadata.is_replaced(&at_api) && !self.metadata.is_replaced(&public) {
            return Ok(at_api);
        }
        if !self.metadata.has_login(&at_api) {
            return Ok(public);
        }
        match self.metadata.probe(&public).await {
            Ok(probe) if probe.size == Some(found.size) => Ok(public),
            Ok(_) | Err(MetadataError::Request(RequestError::Missing { .. })) => Ok(at_api),
            // The asset must be read for its digest, so an unreachable host is an error.
            Err(error) if found.sha256().is_none() => Err(error),
            // The API's URL works for private and public repositories.
            Err(_) => Ok(at_api),
        }
    }

    async fn release(&self, asset: &ReleaseAsset) -> Result<Rc<Release>, MetadataError> {
        let which: &[&str] = match &asset.tag {
            Some(tag) => &["tags", tag],
            None => &["latest"],
        };
        let repository = ["repos"].into_iter().chain(asset.repo.split('/'));
        let url = api(API, repository.chain(["releases"]).chain(which.iter().copied()), &[]);
        let key = (asset.repo.clone(), asset.tag.clone());
        self.releases.get(key, || async { Ok(Rc::new(self.metadata.json(&url).await?.parse()?)) }).await
    }
}
