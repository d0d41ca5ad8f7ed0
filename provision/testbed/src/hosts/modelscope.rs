//! `ModelScope`: models with branches, their listing, and their bytes.
//!
//! Imitated, as of 2026:
//! - `GET /api/v1/models/OWNER/NAME/repo/files?Revision=REV&Recursive=true`: `{"Code":200,"Data":{"Files":[…]}}` with `Path`,
//!   `Size`, `Sha256`, `Type` (`blob`, `tree`) and `Revision`, the commit that last changed the file.
//! - `GET /models/OWNER/NAME/resolve/REV/PATH`, with ranges; the answer of the host itself, or a redirect to a signed URL for
//!   a large file.
//! - A private model is a 404 in JSON to whoever has no login.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

use super::{Host, has_token, query};
use crate::answer::{Answer, Asked, Resource, honest};
use crate::content::{Content, hex};
use crate::control::Control;
use crate::counters::lock;
use crate::request::Recorded;

/// A handle to a mounted `ModelScope`.
#[derive(Clone, Debug)]
pub struct ModelScope(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    models: Mutex<BTreeMap<String, Model>>,
}

#[derive(Debug, Default)]
struct Model {
    /// Branches, and the files of each.
    branches: BTreeMap<String, BTreeMap<String, Content>>,
    token: Option<String>,
}

impl ModelScope {
    /// Lets `site` answer as `ModelScope` does.
    pub fn mount(site: &Control) -> Self {
        let host = Self(Arc::new(Shared { models: Mutex::default() }));
        lock(&site.shared().hosts).push(Arc::clone(&host.0) as Arc<dyn Host>);
        host
    }

    /// Puts a file into a model's branch.
    pub fn put(&self, model: &str, branch: &str, path: &str, content: Content) {
        let mut models = lock(&self.0.models);
        let model = models.entry(model.to_owned()).or_default();
        model.branches.entry(branch.to_owned()).or_default().insert(path.to_owned(), content);
    }

    /// This model does not exist for whoever comes without this token.
    pub fn hide(&self, model: &str, token: &str) {
        lock(&self.0.models).entry(model.to_owned()).or_default().token = Some(token.to_owned());
    }
}

impl Host for Shared {
    fn answer(&self, request: &Recorded) -> Option<Answer> {
        if let Some(rest) = request.path.strip_prefix("/api/v1/models/") {
            let name = rest.strip_suffix("/repo/files")?;
            return Some(self.list(request, name));
        }
        let rest = request.path.strip_prefix("/models/")?;
        let (name, rest) = rest.split_once("/resolve/")?;
        let (revision, path) = rest.split_once('/')?;
        Some(self.resolve(request, name, revision, path))
    }
}

impl Shared {
    fn list(&self, request: &Recorded, name: &str) -> Answer {
        let models = lock(&self.models);
        let revision = query(request, "Revision").unwrap_or_else(|| "master".to_owned());
        let Some(files) = models.get(name).and_then(|model| model.files(request, &revision)) else {
            return refused(name);
        };
        let listed: Vec<Value> = files
            .iter()
            .map(|(path, content)| {
                json!({
                    "Type": "blob",
                    "Path": path,
                    "Name": path.rsplit('/').next(),
                    "Size": content.size(),
                    "Sha256": content.sha256_hex(),
                    "IsLFS": true,
                    "Revision": hex(&Sha1::digest(format!("{name}/{path} {}", content.sha256_hex()))),
                })
            })
            .collect();
        super::json(
            200,
            &json!({"Code": 200, "Message": "success", "Success": true, "Data": {"Files": listed}}),
        )
    }

    fn resolve(&self, request: &Recorded, name: &str, revision: &str, path: &str) -> Answer {
        let models = lock(&self.models);
        let files = models.get(name).and_then(|model| model.files(request, revision));
        let Some(content) = files.and_then(|files| files.get(path)) else { return refused(name) };
        let asked = Asked {
            range: request.range.clone().filter(|_| !request.is_head()),
            if_range: request.header("if-range").map(str::to_owned),
        };
        honest(&asked, &Resource { content: content.clone(), etag: content.etag() })
    }
}

impl Model {
    fn files(&self, request: &Recorded, revision: &str) -> Option<&BTreeMap<String, Content>> {
        if self.token.as_ref().is_some_and(|token| !has_token(request, token)) {
            return None;
        }
        self.branches.get(revision)
    }
}

fn refused(name: &str) -> Answer {
    let message = format!("{name} does not exist, or you have no permission to see it");
    super::json(404, &json!({"Code": 10_010_205_001_u64, "Message": message, "Success": false}))
}
