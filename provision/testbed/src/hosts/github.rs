//! GitHub's releases: the descriptions of their assets, and the redirects to their bytes.
//!
//! Emulated, as of 2026, with the paths of an enterprise server (the public API has a host of its own and begins with
//! `/repos`):
//! - `GET /api/v3/repos/OWNER/REPO/releases/tags/TAG`: the assets with `size`, `digest` (`sha256:…`, or null if
//!   uploaded before June 2025) and `browser_download_url`.
//! - `GET /api/v3/repos/OWNER/REPO/releases/latest`: the newest release, here the one with the tag that sorts last.
//! - `GET /api/v3/repos/OWNER/REPO/releases/assets/ID`: the asset's description; to a request that accepts
//!   `application/octet-stream` only, 302 to a signed URL on the store. An asset that replaces another has an id and an
//!   `updated_at` of its own.
//! - 403 with `X-RateLimit-Remaining: 0` and `X-RateLimit-Reset` in seconds since 1970; the secondary limit is 403 or
//!   429 with `Retry-After` while requests remain.
//! - `/OWNER/REPO/releases/download/TAG/ASSET`: 302 to a signed URL on the store.
//! - A private repository is 404 without a token. Its download URLs are 404 even with one: they require a browser's
//!   session.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::is_admitted;
use crate::answer::Answer;
use crate::content::Content;
use crate::control::{Control, Host};
use crate::counters::lock;
use crate::request::Recorded;

/// A handle to a mounted GitHub.
#[derive(Clone, Debug)]
pub struct GitHub(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    site: Control,
    store: Control,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The assets of each release, by `OWNER/REPO` and tag.
    releases: BTreeMap<(String, String), Vec<Asset>>,
    /// The tokens of private repositories.
    private: BTreeMap<String, String>,
    limit: Option<Limit>,
    /// The number of assets ever uploaded, which is the id of the last one.
    uploads: u64,
}

#[derive(Clone, Debug)]
struct Asset {
    id: u64,
    name: String,
    content: Content,
    has_digest: bool,
}

/// A rate limit of the API, and its refusal.
#[derive(Clone, Debug)]
pub enum Limit {
    /// 403 with `X-RateLimit-Reset`: seconds since 1970.
    Primary(u64),
    /// 403 or 429 with `Retry-After`.
    Secondary {
        /// The status.
        status: u16,
        /// The wait.
        seconds: u64,
    },
}

impl GitHub {
    /// Mounts GitHub on `site`, with the assets behind signed URLs on `store`.
    pub fn mount(site: &Control, store: &Control) -> Self {
        let shared = Shared { site: site.clone(), store: store.clone(), state: Mutex::default() };
        Self(site.mount(shared))
    }

    /// Uploads an asset to a release, in place of one with that name. `has_digest`: the API knows its SHA-256.
    pub fn upload(&self, repository: &str, tag: &str, name: &str, content: &Content, has_digest: bool) {
        self.0.store.store_signed(&stored(repository, tag, name), content.clone());
        let mut state = lock(&self.0.state);
        state.uploads += 1;
        let id = state.uploads;
        let assets = state.releases.entry((repository.to_owned(), tag.to_owned())).or_default();
        assets.retain(|asset| asset.name != name);
        assets.push(Asset { id, name: name.to_owned(), content: content.clone(), has_digest });
    }

    /// Makes a repository private: it is 404 without this token.
    pub fn hide(&self, repository: &str, token: &str) {
        lock(&self.0.state).private.insert(repository.to_owned(), token.to_owned());
    }

    /// Lets the API refuse like this from now on; `None` lifts the limit.
    pub fn limit(&self, limit: Option<Limit>) {
        lock(&self.0.state).limit = limit;
    }
}

fn stored(repository: &str, tag: &str, name: &str) -> String {
    format!("/github/{repository}/{tag}/{name}")
}

impl Host for Shared {
    fn answer(&self, request: &Recorded) -> Option<Result<Answer, Answer>> {
        let path = request.path.strip_prefix('/')?;
        let (repository, rest) = path.split_once("/releases/")?;
        let Some(repository) = repository.strip_prefix("api/v3/repos/") else {
            return Some(self.download(repository, rest.strip_prefix("download/")?));
        };
        if let Some(id) = rest.strip_prefix("assets/") {
            return Some(self.asset(request, repository, id));
        }
        let tag = if rest == "latest" { None } else { Some(rest.strip_prefix("tags/")?) };
        Some(self.release(request, repository, tag))
    }
}

impl Shared {
    fn download(&self, repository: &str, rest: &str) -> Result<Answer, Answer> {
        let state = lock(&self.state);
        let found = rest.rsplit_once('/').filter(|(tag, name)| {
            let assets = state.releases.get(&(repository.to_owned(), (*tag).to_owned()));
            !state.private.contains_key(repository)
                && assets.is_some_and(|assets| assets.iter().any(|asset| asset.name == *name))
        });
        let (tag, name) = found.ok_or_else(|| Answer::text(404, "text/plain", "Not Found"))?;
        Ok(self.store.redirect_to_signed(302, &stored(repository, tag, name)))
    }

    /// The release with a tag, or the newest one.
    fn release(&self, request: &Recorded, repository: &str, tag: Option<&str>) -> Result<Answer, Answer> {
        let state = lock(&self.state);
        if let Some(limit) = &state.limit {
            return Err(limit.refusal());
        }
        let assets = state.assets(request, repository)?;
        let newest = || assets.iter().map(|(tag, _)| *tag).max();
        let tag = tag.or_else(newest).ok_or_else(missing)?;
        let mut of_tag = assets.iter().filter(|(of, _)| *of == tag).peekable();
        of_tag.peek().ok_or_else(missing)?;
        let described: Vec<Value> = of_tag.map(|(_, asset)| self.described(repository, tag, asset)).collect();
        let release = json!({
            "id": 1, "tag_name": tag, "target_commitish": "main", "draft": false, "prerelease": false,
            "assets": described,
        });
        Ok(Answer::json(200, &release).with("X-RateLimit-Limit", "60").with("X-RateLimit-Remaining", "59"))
    }

    fn asset(&self, request: &Recorded, repository: &str, id: &str) -> Result<Answer, Answer> {
        let state = lock(&self.state);
        let assets = state.assets(request, repository)?;
        let found = assets.into_iter().find(|(_, asset)| asset.id.to_string() == id);
        let (tag, asset) = found.ok_or_else(missing)?;
        if request.header("accept") != Some("application/octet-stream") {
            return Ok(Answer::json(200, &self.described(repository, tag, asset)));
        }
        Ok(self.store.redirect_to_signed(302, &stored(repository, tag, &asset.name)))
    }

    fn described(&self, repository: &str, tag: &str, asset: &Asset) -> Value {
        let path = format!("/{repository}/releases/download/{tag}/{}", asset.name);
        let digest = asset.has_digest.then(|| format!("sha256:{}", asset.content.sha256_hex()));
        json!({
            "url": self.site.url(&format!("/api/v3/repos/{repository}/releases/assets/{}", asset.id)),
            "id": asset.id, "name": asset.name, "size": asset.content.size(), "digest": digest,
            "state": "uploaded", "content_type": "application/octet-stream",
            "updated_at": format!("2026-01-01T00:{:02}:{:02}Z", asset.id / 60, asset.id % 60),
            "browser_download_url": self.site.url(&path),
        })
    }
}

impl State {
    /// The assets of a repository with their tags, if the request may see it.
    fn assets(&self, request: &Recorded, repository: &str) -> Result<Vec<(&str, &Asset)>, Answer> {
        if !is_admitted(request, self.private.get(repository)) {
            return Err(missing());
        }
        let releases = self.releases.iter().filter(|((name, _), _)| name == repository);
        Ok(releases.flat_map(|((_, tag), assets)| assets.iter().map(move |a| (tag.as_str(), a))).collect())
    }
}

impl Limit {
    fn refusal(&self) -> Answer {
        let refused = |status, message: &str| Answer::json(status, &json!({"message": message}));
        match self {
            Self::Primary(reset) => refused(
                403,
                "API rate limit exceeded. (But here's the good news: Authenticated requests get a higher rate limit.)",
            )
            .with("X-RateLimit-Limit", "60")
            .with("X-RateLimit-Remaining", "0")
            .with("X-RateLimit-Reset", reset.to_string()),
            Self::Secondary { status, seconds } => refused(
                *status,
                "You have exceeded a secondary rate limit. Please wait before you try again.",
            )
            .with("X-RateLimit-Remaining", "57")
            .with("Retry-After", seconds.to_string()),
        }
    }
}

fn missing() -> Answer {
    Answer::json(404, &json!({"message": "Not Found", "status": "404"}))
}
