//! `ModelScope`: models with branches, their listing, and their bytes.
//!
//! Emulated, as of 2026:
//! - `GET /api/v1/models/OWNER/NAME/repo/files?Revision=REV&Recursive=true`: `{"Code":200,"Data":{"Files":[…]}}` with
//!   `Path`, `Size`, `Sha256`, `Type` (`blob`) and `Revision`, the commit that last changed the file.
//! - `GET /models/OWNER/NAME/resolve/REV/PATH`: the bytes from the host itself, with ranges.
//! - A private model is a 404 in JSON without a login.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

use super::{is_admitted, query, serve};
use crate::answer::Answer;
use crate::content::{Content, hex};
use crate::control::{Control, Host};
use crate::counters::lock;
use crate::request::Recorded;

/// A handle to a mounted `ModelScope`.
#[derive(Clone, Debug)]
pub struct ModelScope(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    models: Mutex<BTreeMap<String, Model>>,
}

type Files = BTreeMap<String, Content>;

#[derive(Debug, Default)]
struct Model {
    branches: BTreeMap<String, Files>,
    token: Option<String>,
}

impl ModelScope {
    /// Mounts `ModelScope` on `site`.
    pub fn mount(site: &Control) -> Self {
        Self(site.mount(Shared::default()))
    }

    /// Puts a file into a model's branch.
    pub fn put(&self, model: &str, branch: &str, path: &str, content: Content) {
        let mut models = lock(&self.0.models);
        let model = models.entry(model.to_owned()).or_default();
        model.branches.entry(branch.to_owned()).or_default().insert(path.to_owned(), content);
    }

    /// Makes a model private: it is 404 without this token.
    pub fn hide(&self, model: &str, token: &str) {
        lock(&self.0.models).entry(model.to_owned()).or_default().token = Some(token.to_owned());
    }
}

impl Host for Shared {
    fn answer(&self, request: &Recorded) -> Option<Result<Answer, Answer>> {
        if let Some(rest) = request.path.strip_prefix("/api/v1/models/") {
            let name = rest.strip_suffix("/repo/files")?;
            let revision = query(request, "Revision").unwrap_or_else(|| "master".to_owned());
            return Some(self.files(request, name, &revision).map(|files| list(name, &files)));
        }
        let rest = request.path.strip_prefix("/models/")?;
        let (name, rest) = rest.split_once("/resolve/")?;
        let (revision, path) = rest.split_once('/')?;
        Some(self.files(request, name, revision).and_then(|files| {
            let content = files.get(path).ok_or_else(|| refusal(name))?;
            Ok(serve(request, content, content.etag()))
        }))
    }
}

impl Shared {
    /// The files of a branch, if the request may see them.
    fn files(&self, request: &Recorded, name: &str, revision: &str) -> Result<Files, Answer> {
        let models = lock(&self.models);
        let model = models.get(name).filter(|model| is_admitted(request, model.token.as_ref()));
        model.and_then(|model| model.branches.get(revision)).cloned().ok_or_else(|| refusal(name))
    }
}

fn list(name: &str, files: &Files) -> Answer {
    let listed: Vec<Value> = files
        .iter()
        .map(|(path, content)| {
            json!({
                "Type": "blob", "Path": path, "Name": path.rsplit('/').next(),
                "Size": content.size(), "Sha256": content.sha256_hex(), "IsLFS": true,
                "Revision": hex(&Sha1::digest(format!("{name}/{path} {}", content.sha256_hex()))),
            })
        })
        .collect();
    Answer::json(200, &json!({"Code": 200, "Message": "success", "Success": true, "Data": {"Files": listed}}))
}

fn refusal(name: &str) -> Answer {
    let message = format!("{name} does not exist, or you have no permission to see it");
    Answer::json(404, &json!({"Code": 10_010_205_001_u64, "Message": message, "Success": false}))
}
