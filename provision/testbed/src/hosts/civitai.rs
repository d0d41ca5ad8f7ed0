//! Civitai: model versions by number, their files with hashes, and downloads that want a known client.
//!
//! Imitated, as of 2026:
//! - `GET /api/v1/model-versions/ID`: the version, its model's type, its files with `hashes.SHA256` in upper case and
//!   `sizeKB` as a fraction.
//! - `GET /api/download/models/ID?type=&format=&size=&fp=`: 307 to a signed URL on the store; without the token that a
//!   version wants, 307 to a login page that ends in 200 and HTML; 401 to HEAD whatever the token; 403 to a client
//!   without a name or with a library's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{Host, has_token, query};
use crate::answer::Answer;
use crate::content::Content;
use crate::control::Control;
use crate::counters::lock;
use crate::fault::LOGIN_PAGE;
use crate::request::Recorded;

/// A handle to a mounted Civitai.
#[derive(Clone, Debug)]
pub struct Civitai(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    site: Control,
    store: Control,
    versions: Mutex<BTreeMap<u64, Version>>,
}

/// A version of a model.
#[derive(Clone, Debug)]
pub struct Version {
    /// As the site names it: `Checkpoint`, `LORA`, `VAE`, ….
    pub kind: String,
    /// The model's name.
    pub name: String,
    /// Its files; the first is the primary one.
    pub files: Vec<File>,
    /// What a download wants.
    pub token: Option<String>,
}

/// A file of a version.
#[derive(Clone, Debug)]
pub struct File {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub content: Content,
    /// `fp16`, `fp32`, … where files differ by it.
    pub precision: Option<String>,
    /// Whether the site has hashed it yet.
    pub is_hashed: bool,
}

impl Civitai {
    /// Lets `site` answer as Civitai does, with the files behind signed URLs on `store`.
    pub fn mount(site: &Control, store: &Control) -> Self {
        let shared =
            Shared { site: site.clone(), store: store.clone(), versions: Mutex::new(BTreeMap::new()) };
        let host = Self(Arc::new(shared));
        lock(&site.shared().hosts).push(Arc::clone(&host.0) as Arc<dyn Host>);
        host
    }

    /// Publishes a version.
    pub fn publish(&self, id: u64, version: Version) {
        for file in &version.files {
            self.0.store.store_signed(&stored(id, &file.name), file.content.clone());
        }
        lock(&self.0.versions).insert(id, version);
    }

    /// Takes a version away.
    pub fn withdraw(&self, id: u64) {
        lock(&self.0.versions).remove(&id);
    }
}

fn stored(id: u64, name: &str) -> String {
    format!("/civitai/{id}/{name}")
}

impl Host for Shared {
    fn answer(&self, request: &Recorded) -> Option<Answer> {
        if request.path == "/login" {
            return Some(Answer::text(200, "text/html; charset=utf-8", LOGIN_PAGE));
        }
        if let Some(id) = request.path.strip_prefix("/api/v1/model-versions/") {
            return Some(self.describe(id));
        }
        let id = request.path.strip_prefix("/api/download/models/")?;
        Some(self.download(request, id))
    }
}

impl Shared {
    fn describe(&self, id: &str) -> Answer {
        let versions = lock(&self.versions);
        let missing = || super::json(404, &json!({"error": format!("No model version with id {id}")}));
        let Some((id, version)) = id.parse().ok().and_then(|id: u64| Some((id, versions.get(&id)?))) else {
            return missing();
        };
        let link = |query: &str| self.site.url(&format!("/api/download/models/{id}")) + query;
        let files: Vec<Value> = version
            .files
            .iter()
            .enumerate()
            .map(|(number, file)| {
                let mut described = json!({
                    "id": id * 100 + number as u64,
                    "name": file.name,
                    "sizeKB": file.content.size() as f64 / 1024.0,
                    "type": "Model",
                    "metadata": {"format": "SafeTensor", "size": "pruned", "fp": file.precision},
                    "hashes": {},
                    "downloadUrl": link(&file.query(number == 0)),
                });
                if file.is_hashed {
                    let sha256 = file.content.sha256_hex().to_ascii_uppercase();
                    described["hashes"] = json!({"AutoV2": sha256[..10], "SHA256": sha256});
                }
                if number == 0 {
                    described["primary"] = true.into();
                }
                described
            })
            .collect();
        super::json(
            200,
            &json!({
                "id": id,
                "modelId": id / 10,
                "name": "v1.0",
                "status": "Published",
                "baseModel": "Qwen",
                "model": {"name": version.name, "type": version.kind, "nsfw": false},
                "files": files,
                "downloadUrl": link(""),
            }),
        )
    }

    fn download(&self, request: &Recorded, id: &str) -> Answer {
        let agent = request.header("user-agent").unwrap_or_default();
        if agent.is_empty() || agent.starts_with("python-requests/") || agent.starts_with("reqwest/") {
            return Answer::text(403, "text/html", "<html><title>Attention Required!</title></html>");
        }
        if request.is_head() {
            return super::json(401, &json!({"error": "Unauthorized"}));
        }
        let versions = lock(&self.versions);
        let found = id.parse().ok().and_then(|id: u64| Some((id, versions.get(&id)?)));
        let Some((id, version)) = found else {
            return super::json(404, &json!({"error": "Model not found"}));
        };
        if version.token.as_ref().is_some_and(|token| !has_token(request, token)) {
            return Answer::empty(307).with("Location", "/login?returnUrl=/&reason=download-auth");
        }
        let fp = query(request, "fp");
        let file = version.files.iter().find(|file| fp.is_none() || file.precision == fp);
        let Some(file) = file else { return super::json(404, &json!({"error": "File not found"})) };
        let target = self.store.url(&Control::signed_path(&stored(id, &file.name)));
        Answer::empty(307).with("Location", self.store.sign(&target))
    }
}

impl File {
    fn query(&self, is_primary: bool) -> String {
        match &self.precision {
            Some(fp) if !is_primary => format!("?type=Model&format=SafeTensor&size=pruned&fp={fp}"),
            _ => String::new(),
        }
    }
}
