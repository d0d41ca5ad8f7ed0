//! Assets of GitHub releases. Without a token, the API answers sixty times an hour: a release is asked for once.

use std::rc::Rc;

use provision::origin::metadata::MetadataError;
use serde::Deserialize;

use super::{Found, ResolveError, Resolver, api, digest, some_of};
use crate::source::{ReleaseAsset, Source};

const API: &str = "https://api.github.com";

/// A private repository is "not found" to strangers.
const MISSING: &str = "; the release does not exist, or its repository is private: then set GITHUB_TOKEN to a token that may read it";

/// A release.
#[derive(Debug, Deserialize)]
pub(super) struct Release {
    tag_name: String,
    #[serde(default)]
    assets: Vec<Asset>,
}

#[derive(Debug, Deserialize)]
struct Asset {
    name: String,
    size: u64,
    /// `sha256:…`; null for one that was uploaded before June 2025.
    digest: Option<String>,
    updated_at: Option<String>,
}

impl Resolver {
    pub(super) async fn github(&mut self, asset: &ReleaseAsset) -> Result<Found, ResolveError> {
        let source = Source::GitHub(asset.clone());
        let release = self.release(asset).await;
        let release = release.map_err(|error| ResolveError::host_with(&source, error, MISSING))?;
        let Some(found) = release.assets.iter().find(|known| known.name == asset.asset) else {
            let known = some_of(release.assets.iter().map(|known| known.name.as_str()));
            return Err(ResolveError::NoFile { what: source.to_string(), known });
        };
        // The newest release is another one tomorrow; the address names this one.
        let pinned = ReleaseAsset { tag: Some(release.tag_name.clone()), ..asset.clone() };
        let sha256 = found.digest.as_deref().and_then(|digest| digest.strip_prefix("sha256:"));
        Ok(Found {
            url: Source::GitHub(pinned).address(),
            size: found.size,
            sha256: sha256.and_then(digest),
            name: None,
            civitai_type: None,
            etag: found.updated_at.clone(),
            source,
        })
    }

    async fn release(&mut self, asset: &ReleaseAsset) -> Result<Rc<Release>, MetadataError> {
        let key = (asset.repo.clone(), asset.tag.clone());
        if let Some(release) = self.releases.get(&key) {
            return Ok(release.clone());
        }
        let which: &[&str] = match &asset.tag {
            Some(tag) => &["tags", tag],
            None => &["latest"],
        };
        let repository = ["repos"].into_iter().chain(asset.repo.split('/'));
        let url = api(API, repository.chain(["releases"]).chain(which.iter().copied()), &[]);
        let release: Release = self.metadata.ask(&url).await?.parse()?;
        let release = Rc::new(release);
        self.releases.insert(key, release.clone());
        Ok(release)
    }
}
