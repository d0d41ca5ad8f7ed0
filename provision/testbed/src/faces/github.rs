//! GitHub's releases: what the API says of their assets, and the redirect to their bytes.
//!
//! Imitated, as of 2026:
//! - `GET /api/v3/repos/OWNER/REPO/releases/tags/TAG`, as an enterprise server has it (the public host has a name of its own
//!   for the API, where the same begins with `/repos`): the assets with `size`, `digest` (`sha256:…`, or null for one
//!   that was uploaded before June 2025) and `browser_download_url`.
//! - `GET /api/v3/repos/OWNER/REPO/releases/latest`: the same of the newest one, which here is the one whose tag sorts last.
//! - 403 with `X-RateLimit-Remaining: 0` and `X-RateLimit-Reset`, the time in seconds since 1970, or 429 with `Retry-After`.
//! - `/OWNER/REPO/releases/download/TAG/ASSET`: 302 to a signed URL on the store.
//! - A private repository is a 404 to whoever has no token.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{Face, has_token};
use crate::answer::Answer;
use crate::content::Content;
use crate::control::Control;
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
    /// By `OWNER/REPO` and tag.
    releases: BTreeMap<(String, String), Vec<Asset>>,
    private: BTreeMap<String, String>,
    limit: Option<Limit>,
}

#[derive(Clone, Debug)]
struct Asset {
    name: String,
    content: Content,
    has_digest: bool,
}

/// How the API refuses when it was asked too often.
#[derive(Clone, Debug)]
pub enum Limit {
    /// 403 with `X-RateLimit-Reset`: seconds since 1970.
    Primary(u64),
    /// 429 with `Retry-After`: seconds.
    Secondary(u64),
}

impl GitHub {
    /// Lets `site` answer as GitHub does, with the assets behind signed URLs on `store`.
    pub fn mount(site: &Control, store: &Control) -> Self {
        let shared = Shared { site: site.clone(), store: store.clone(), state: Mutex::default() };
        let face = Self(Arc::new(shared));
        lock(&site.shared().faces).push(Arc::clone(&face.0) as Arc<dyn Face>);
        face
    }

    /// Uploads an asset to a release, in place of one of that name. `has_digest`: whether the API knows its SHA-256.
    pub fn upload(&self, repository: &str, tag: &str, name: &str, content: &Content, has_digest: bool) {
        self.0.store.store_signed(&stored(repository, tag, name), content.clone());
        let mut state = lock(&self.0.state);
        let assets = state.releases.entry((repository.to_owned(), tag.to_owned())).or_default();
        assets.retain(|asset| asset.name != name);
        assets.push(Asset { name: name.to_owned(), content: content.clone(), has_digest });
    }

    /// This repository does not exist for whoever comes without this token.
    pub fn hide(&self, repository: &str, token: &str) {
        lock(&self.0.state).private.insert(repository.to_owned(), token.to_owned());
    }

    /// From now on the API refuses like this; `None`: it answers again.
    pub fn limit(&self, limit: Option<Limit>) {
        lock(&self.0.state).limit = limit;
    }
}

fn stored(repository: &str, tag: &str, name: &str) -> String {
    format!("/github/{repository}/{tag}/{name}")
}

fn missing() -> Answer {
    super::json(404, &json!({"message": "Not Found", "status": "404"}))
}

impl Face for Shared {
    fn answer(&self, request: &Recorded) -> Option<Answer> {
        let path = request.path.strip_prefix('/')?;
        let rest = path.strip_prefix("api/v3/repos/");
        if let Some((repository, tag)) = rest.and_then(|rest| rest.split_once("/releases/tags/")) {
            return Some(self.describe(request, repository, tag));
        }
        if let Some(repository) = rest.and_then(|rest| rest.strip_suffix("/releases/latest")) {
            let tag = lock(&self.state).newest(repository);
            return Some(self.describe(request, repository, &tag));
        }
        let (repository, rest) = path.split_once("/releases/download/")?;
        let (tag, name) = rest.rsplit_once('/')?;
        let state = lock(&self.state);
        let found = state.release(request, repository, tag)?.iter().any(|asset| asset.name == name);
        if !found {
            return Some(Answer::text(404, "text/plain", "Not Found"));
        }
        let target = self.store.url(&Control::signed_path(&stored(repository, tag, name)));
        Some(Answer::empty(302).with("Location", self.store.sign(&target)))
    }
}

impl Shared {
    fn describe(&self, request: &Recorded, repository: &str, tag: &str) -> Answer {
        let state = lock(&self.state);
        let message = "API rate limit exceeded. (But here's the good news: Authenticated requests get a higher rate limit.)";
        match state.limit {
            Some(Limit::Primary(reset)) => {
                return super::json(403, &json!({"message": message}))
                    .with("X-RateLimit-Limit", "60")
                    .with("X-RateLimit-Remaining", "0")
                    .with("X-RateLimit-Reset", reset.to_string());
            }
            Some(Limit::Secondary(seconds)) => {
                return super::json(429, &json!({"message": message}))
                    .with("Retry-After", seconds.to_string());
            }
            None => {}
        }
        let Some(assets) = state.release(request, repository, tag) else { return missing() };
        let described: Vec<Value> = assets
            .iter()
            .enumerate()
            .map(|(number, asset)| {
                let path = format!("/{repository}/releases/download/{tag}/{}", asset.name);
                let digest = asset.has_digest.then(|| format!("sha256:{}", asset.content.sha256_hex()));
                json!({
                    "id": number + 1,
                    "name": asset.name,
                    "state": "uploaded",
                    "content_type": "application/octet-stream",
                    "size": asset.content.size(),
                    "digest": digest,
                    "browser_download_url": self.site.url(&path),
                })
            })
            .collect();
        let release = json!({
            "id": 1, "tag_name": tag, "target_commitish": "main", "draft": false, "prerelease": false,
            "assets": described,
        });
        super::json(200, &release).with("X-RateLimit-Limit", "60").with("X-RateLimit-Remaining", "59")
    }
}

impl State {
    /// The tag that sorts last.
    fn newest(&self, repository: &str) -> String {
        let tags = self.releases.keys().filter(|(name, _)| name == repository);
        tags.map(|(_, tag)| tag.clone()).max().unwrap_or_default()
    }

    fn release(&self, request: &Recorded, repository: &str, tag: &str) -> Option<&[Asset]> {
        if self.private.get(repository).is_some_and(|token| !has_token(request, token)) {
            return None;
        }
        self.releases.get(&(repository.to_owned(), tag.to_owned())).map(Vec::as_slice)
    }
}
