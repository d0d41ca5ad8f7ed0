//! Civitai: model versions by number, the digests of their files, and downloads for known clients.
//!
//! Emulated, as of 2026:
//! - `GET /api/v1/model-versions/ID`: the version, its model's type, and its files with `hashes.SHA256` in upper case
//!   and `sizeKB` as a fraction.
//! - `GET /api/download/models/ID?fileId=&type=&format=&size=&fp=`: 307 to a signed URL on the store. Without a
//!   required token: 307 to a login page that ends in 200 and HTML. To HEAD: 401, with any token. To a client without a
//!   name, or with a library's: 403. In early access: 401 to any token, and the description says so (`availability`,
//!   `earlyAccessEndsAt`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{is_admitted, query};
use crate::answer::Answer;
use crate::content::Content;
use crate::control::{Control, Host};
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
    /// The ends of early access.
    early: Mutex<BTreeMap<u64, String>>,
}

/// A version of a model.
#[derive(Clone, Debug)]
pub struct Version {
    /// The site's word for the model's type: `Checkpoint`, `LORA`, `VAE`, ….
    pub kind: String,
    /// The model's name.
    pub name: String,
    /// Its files; the first is the primary one.
    pub files: Vec<File>,
    /// The token that a download requires.
    pub token: Option<String>,
}

/// A file of a version.
#[derive(Clone, Debug)]
pub struct File {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub content: Content,
    /// `fp16`, `fp32`, …, if the files differ by it.
    pub precision: Option<String>,
    /// The site has computed its hashes.
    pub is_hashed: bool,
}

impl Civitai {
    /// Mounts Civitai on `site`, with the files behind signed URLs on `store`.
    pub fn mount(site: &Control, store: &Control) -> Self {
        let shared = Shared {
            site: site.clone(),
            store: store.clone(),
            versions: Mutex::default(),
            early: Mutex::default(),
        };
        Self(site.mount(shared))
    }

    /// Publishes a version.
    pub fn publish(&self, id: u64, version: Version) {
        for file in &version.files {
            self.0.store.store_signed(&stored(id, &file.name), file.content.clone());
        }
        lock(&self.0.versions).insert(id, version);
    }

    /// Sells a version's download until that time (`2026-12-24T00:00:00.000Z`): any token is refused.
    pub fn sell_until(&self, id: u64, until: &str) {
        lock(&self.0.early).insert(id, until.to_owned());
    }
}

fn stored(id: u64, name: &str) -> String {
    format!("/civitai/{id}/{name}")
}

impl Host for Shared {
    fn answer(&self, request: &Recorded) -> Option<Result<Answer, Answer>> {
        if request.path == "/login" {
            return Some(Ok(Answer::text(200, "text/html; charset=utf-8", LOGIN_PAGE)));
        }
        if let Some(id) = request.path.strip_prefix("/api/v1/model-versions/") {
            return Some(self.describe(id));
        }
        let id = request.path.strip_prefix("/api/download/models/")?;
        Some(self.download(request, id))
    }
}

impl Shared {
    fn version(&self, id: &str) -> Result<(u64, Version), Answer> {
        let found = id.parse().ok().and_then(|id| Some((id, lock(&self.versions).get(&id)?.clone())));
        found.ok_or_else(|| missing(&format!("No model version with id {id}")))
    }

    fn describe(&self, id: &str) -> Result<Answer, Answer> {
        let (id, version) = self.version(id)?;
        let url = self.site.url(&format!("/api/download/models/{id}"));
        let files: Vec<Value> = version
            .files
            .iter()
            .enumerate()
            .map(|(number, file)| {
                let query = match &file.precision {
                    Some(fp) if number > 0 => format!("?type=Model&format=SafeTensor&size=pruned&fp={fp}"),
                    _ => String::new(),
                };
                let mut described = json!({
                    "id": id * 100 + number as u64, "name": file.name, "type": "Model",
                    "sizeKB": file.content.size() as f64 / 1024.0,
                    "metadata": {"format": "SafeTensor", "size": "pruned", "fp": file.precision},
                    "hashes": {},
                    "downloadUrl": format!("{url}{query}"),
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
        let early = lock(&self.early).get(&id).cloned();
        let described = json!({
            "availability": if early.is_some() { "EarlyAccess" } else { "Public" }, "earlyAccessEndsAt": early,
            "id": id, "modelId": id / 10, "name": "v1.0", "status": "Published", "baseModel": "Qwen",
            "model": {"name": version.name, "type": version.kind, "nsfw": false},
            "files": files, "downloadUrl": url,
        });
        Ok(Answer::json(200, &described))
    }

    fn download(&self, request: &Recorded, id: &str) -> Result<Answer, Answer> {
        let agent = request.header("user-agent").unwrap_or_default();
        if agent.is_empty() || agent.starts_with("python-requests/") || agent.starts_with("reqwest/") {
            return Err(Answer::text(403, "text/html", "<html><title>Attention Required!</title></html>"));
        }
        if request.is_head() {
            return Err(Answer::json(401, &json!({"error": "Unauthorized"})));
        }
        let (id, version) = self.version(id)?;
        if !is_admitted(request, version.token.as_ref()) {
            return Err(Answer::empty(307).with("Location", "/login?returnUrl=/&reason=download-auth"));
        }
        if lock(&self.early).contains_key(&id) {
            return Err(Answer::json(
                401,
                &json!({"error": "Unauthorized", "message": "Purchase access to download"}),
            ));
        }
        let fp = query(request, "fp");
        let chosen = query(request, "fileId");
        let file = version.files.iter().enumerate().find(|(number, file)| {
            let file_id = (id * 100 + *number as u64).to_string();
            (fp.is_none() || file.precision == fp) && chosen.as_ref().is_none_or(|chosen| *chosen == file_id)
        });
        let file = file.map(|(_, file)| file);
        let file = file.ok_or_else(|| missing("File not found"))?;
        Ok(self.store.redirect_to_signed(307, &stored(id, &file.name)))
    }
}

fn missing(error: &str) -> Answer {
    Answer::json(404, &json!({"error": error}))
}
