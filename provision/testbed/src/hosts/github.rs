//! GitHub's releases: what the API says of their assets, and the redirect to their bytes.
//!
//! Imitated, as of 2026:
//! - `GET /api/v3/repos/OWNER/REPO/releases/tags/TAG`, as an enterprise server has it (the public host has a name of its own
//!   for the API, where the same begins with `/repos`): the assets with `size`, `digest` (`sha256:…`, or null for one
//!   that was uploaded before June 2025) and `browser_download_url`.
//! - `GET /api/v3/repos/OWNER/REPO/releases/latest`: the same of the newest one, which here is the one whose tag sorts last.
//! - `GET /api/v3/repos/OWNER/REPO/releases/assets/ID`: the asset's description; its bytes (302 to a signed URL on the store) to
//!   whoever accepts `application/octet-stream` and nothing else. An asset that replaces another has an id and an `updated_at` of
//!   its own.
//! - 403 with `X-RateLimit-Remaining: 0` and `X-RateLimit-Reset`, the time in seconds since 1970; for what is asked too fast, 403
//!   or 429 with `Retry-After` while something remains.
//! - `/OWNER/REPO/releases/download/TAG/ASSET`: 302 to a signed URL on the store.
//! - A private repository is a 404 to whoever has no token, and its download addresses are one to everybody: a browser's session
//!   opens them, a token does not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{Host, has_token};
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
    /// How many assets there ever were.
    uploads: u64,
}

#[derive(Clone, Debug)]
struct Asset {
    id: u64,
    name: String,
    content: Content,
    has_digest: bool,
}

/// How the API refuses when it was asked too often.
#[derive(Clone, Debug)]
pub enum Limit {
    /// 403 with `X-RateLimit-Reset`: seconds since 1970.
    Primary(u64),
    /// 403 or 429 with `Retry-After`: seconds.
    Secondary {
        /// Which of the two.
        status: u16,
        /// How long to wait.
        seconds: u64,
    },
}

impl GitHub {
    /// Lets `site` answer as GitHub does, with the assets behind signed URLs on `store`.
    pub fn mount(site: &Control, store: &Control) -> Self {
        let shared = Shared { site: site.clone(), store: store.clone(), state: Mutex::default() };
        let host = Self(Arc::new(shared));
        lock(&site.shared().hosts).push(Arc::clone(&host.0) as Arc<dyn Host>);
        host
    }

    /// Uploads an asset to a release, in place of one of that name. `has_digest`: whether the API knows its SHA-256.
    pub fn upload(&self, repository: &str, tag: &str, name: &str, content: &Content, has_digest: bool) {
        self.0.store.store_signed(&stored(repository, tag, name), content.clone());
        let mut state = lock(&self.0.state);
        state.uploads += 1;
        let id = state.uploads;
        let assets = state.releases.entry((repository.to_owned(), tag.to_owned())).or_default();
        assets.retain(|asset| asset.name != name);
        assets.push(Asset { id, name: name.to_owned(), content: content.clone(), has_digest });
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

impl Host for Shared {
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
        if let Some((repository, id)) = rest.and_then(|rest| rest.split_once("/releases/assets/")) {
            return Some(self.asset(request, repository, id));
        }
        let (repository, rest) = path.split_once("/releases/download/")?;
        let (tag, name) = rest.rsplit_once('/')?;
        let state = lock(&self.state);
        let is_open = !state.private.contains_key(repository);
        let assets = state.releases.get(&(repository.to_owned(), tag.to_owned()));
        let found = is_open && assets.is_some_and(|assets| assets.iter().any(|asset| asset.name == name));
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
            Some(Limit::Secondary { status, seconds }) => {
                let message = "You have exceeded a secondary rate limit. Please wait before you try again.";
                return super::json(status, &json!({"message": message}))
                    .with("X-RateLimit-Remaining", "57")
                    .with("Retry-After", seconds.to_string());
            }
            None => {}
        }
        let Some(assets) = state.release(request, repository, tag) else { return missing() };
        let described: Vec<Value> =
            assets.iter().map(|asset| self.described(repository, tag, asset)).collect();
        let release = json!({
            "id": 1, "tag_name": tag, "target_commitish": "main", "draft": false, "prerelease": false,
            "assets": described,
        });
        super::json(200, &release).with("X-RateLimit-Limit", "60").with("X-RateLimit-Remaining", "59")
    }
}

impl Shared {
    fn described(&self, repository: &str, tag: &str, asset: &Asset) -> Value {
        let path = format!("/{repository}/releases/download/{tag}/{}", asset.name);
        let digest = asset.has_digest.then(|| format!("sha256:{}", asset.content.sha256_hex()));
        json!({
            "url": self.site.url(&format!("/api/v3/repos/{repository}/releases/assets/{}", asset.id)),
            "id": asset.id,
            "name": asset.name,
            "state": "uploaded",
            "content_type": "application/octet-stream",
            "size": asset.content.size(),
            "digest": digest,
            "updated_at": format!("2026-01-01T00:{:02}:{:02}Z", asset.id / 60, asset.id % 60),
            "browser_download_url": self.site.url(&path),
        })
    }

    /// One asset, by its number.
    fn asset(&self, request: &Recorded, repository: &str, id: &str) -> Answer {
        let state = lock(&self.state);
        if state.private.get(repository).is_some_and(|token| !has_token(request, token)) {
            return missing();
        }
        let of_repository = state.releases.iter().filter(|((name, _), _)| name == repository);
        let mut assets = of_repository.flat_map(|((_, tag), assets)| assets.iter().map(move |a| (tag, a)));
        let Some((tag, asset)) = assets.find(|(_, asset)| asset.id.to_string() == id) else {
            return missing();
        };
        if request.header("accept") != Some("application/octet-stream") {
            return super::json(200, &self.described(repository, tag, asset));
        }
        let target = self.store.url(&Control::signed_path(&stored(repository, tag, &asset.name)));
        Answer::empty(302).with("Location", self.store.sign(&target))
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
