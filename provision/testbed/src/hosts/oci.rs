//! A registry of the OCI distribution specification: its blobs, and its tokens.
//!
//! - `GET` and `HEAD /v2/NAME/blobs/sha256:HEX`: the bytes with ranges, or 307 to a signed URL on the store.
//! - A guarded repository: 401 with `WWW-Authenticate: Bearer realm="…",service="…",scope="repository:NAME:pull"`. Its
//!   token comes from `GET /token?service=&scope=`, for every client or only with a name and a password.
//! - 404 with `{"errors":[{"code":"BLOB_UNKNOWN"}]}`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::{is_admitted, query, serve};
use crate::answer::Answer;
use crate::content::{Content, hex};
use crate::control::{Control, Host};
use crate::counters::lock;
use crate::request::Recorded;

/// A handle to a mounted registry.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    site: Control,
    /// The origin that blobs are redirected to; without one the registry serves them itself.
    store: Option<Control>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The blobs by repository and digest.
    blobs: BTreeMap<(String, String), Content>,
    /// The repositories that require a token, and the `Authorization` that the token service requires, if any.
    guarded: BTreeMap<String, Option<String>>,
}

impl Registry {
    /// Mounts a registry on `site`. With a store, blobs lie there behind signed URLs.
    pub fn mount(site: &Control, store: Option<&Control>) -> Self {
        let shared = Shared { site: site.clone(), store: store.cloned(), state: Mutex::default() };
        Self(site.mount(shared))
    }

    /// Puts a blob into a repository; returns its digest, `sha256:…`.
    pub fn push(&self, repository: &str, content: &Content) -> String {
        let digest = format!("sha256:{}", content.sha256_hex());
        if let Some(store) = &self.0.store {
            store.store_signed(&stored(&digest), content.clone());
        }
        lock(&self.0.state).blobs.insert((repository.to_owned(), digest.clone()), content.clone());
        digest
    }

    /// Requires a token for this repository. The registry's own service gives it to every client.
    pub fn guard(&self, repository: &str) {
        lock(&self.0.state).guarded.insert(repository.to_owned(), None);
    }

    /// As [`Registry::guard`], but the service requires this `Authorization`.
    pub fn guard_with(&self, repository: &str, authorization: &str) {
        lock(&self.0.state).guarded.insert(repository.to_owned(), Some(authorization.to_owned()));
    }
}

fn stored(digest: &str) -> String {
    format!("/blobs/{digest}")
}

impl Host for Shared {
    fn answer(&self, request: &Recorded) -> Option<Result<Answer, Answer>> {
        if request.path == "/token" {
            return Some(self.token(request));
        }
        let rest = request.path.strip_prefix("/v2/")?;
        let answer = if rest.is_empty() {
            Ok(Answer::json(200, &json!({})))
        } else {
            let (name, digest) = rest.split_once("/blobs/")?;
            self.blob(request, name, digest)
        };
        let versioned = |answer: Answer| answer.with("Docker-Distribution-Api-Version", "registry/2.0");
        Some(answer.map(versioned).map_err(versioned))
    }
}

impl Shared {
    fn blob(&self, request: &Recorded, name: &str, digest: &str) -> Result<Answer, Answer> {
        let state = lock(&self.state);
        let scope = format!("repository:{name}:pull");
        let token = state.guarded.contains_key(name).then(|| token_for(&scope));
        if !is_admitted(request, token.as_ref()) {
            let realm = self.site.url("/token");
            let challenge = format!("Bearer realm=\"{realm}\",service=\"testbed\",scope=\"{scope}\"");
            return Err(unauthorized().with("WWW-Authenticate", challenge));
        }
        let content = state.blobs.get(&(name.to_owned(), digest.to_owned()));
        let content = content.ok_or_else(|| errors(404, "BLOB_UNKNOWN", "blob unknown to registry"))?;
        Ok(match &self.store {
            Some(store) => store.redirect_to_signed(307, &stored(digest)),
            None => serve(request, content, format!("\"{digest}\"")).with("Docker-Content-Digest", digest),
        })
    }

    fn token(&self, request: &Recorded) -> Result<Answer, Answer> {
        let scope = query(request, "scope").unwrap_or_default();
        let state = lock(&self.state);
        let required = scope.split(':').nth(1).and_then(|name| state.guarded.get(name)?.as_deref());
        if required.is_some() && request.header("authorization") != required {
            return Err(unauthorized());
        }
        Ok(Answer::json(200, &json!({"token": token_for(&scope), "expires_in": 300})))
    }
}

fn token_for(scope: &str) -> String {
    format!("TOKEN-{}", hex(scope.as_bytes()))
}

fn unauthorized() -> Answer {
    errors(401, "UNAUTHORIZED", "authentication required")
}

fn errors(status: u16, code: &str, message: &str) -> Answer {
    Answer::json(status, &json!({"errors": [{"code": code, "message": message, "detail": null}]}))
}
