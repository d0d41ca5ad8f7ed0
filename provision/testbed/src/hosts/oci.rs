//! A registry of the OCI distribution specification, as far as blobs go.
//!
//! - `GET /v2/NAME/blobs/sha256:HEX` and HEAD: the bytes with ranges, or a 307 to a signed URL on the store.
//! - 401 with `WWW-Authenticate: Bearer realm="…",service="…",scope="repository:NAME:pull"` where a repository wants it, and
//!   `GET /token?service=&scope=` that gives a token for it: to anybody, or to whoever knows the name and the password.
//! - 404 with `{"errors":[{"code":"BLOB_UNKNOWN"}]}`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::{Host, has_token, query};
use crate::answer::{Answer, Asked, Resource, honest};
use crate::content::{Content, hex};
use crate::control::Control;
use crate::counters::lock;
use crate::request::Recorded;

/// A handle to a mounted registry.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    site: Control,
    /// Where blobs are redirected to; served by the registry itself without one.
    store: Option<Control>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    blobs: BTreeMap<(String, String), Content>,
    /// Repositories that want a token, and the `Authorization` that the token service wants for it, if any.
    guarded: BTreeMap<String, Option<String>>,
}

impl Registry {
    /// Lets `site` answer as a registry does. With a store, blobs lie there behind signed URLs.
    pub fn mount(site: &Control, store: Option<&Control>) -> Self {
        let shared = Shared { site: site.clone(), store: store.cloned(), state: Mutex::default() };
        let host = Self(Arc::new(shared));
        lock(&site.shared().hosts).push(Arc::clone(&host.0) as Arc<dyn Host>);
        host
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

    /// Requests for this repository want a token, which the registry's own service gives to anybody.
    pub fn guard(&self, repository: &str) {
        lock(&self.0.state).guarded.insert(repository.to_owned(), None);
    }

    /// As [`Registry::guard`], but only to whoever sends this `Authorization`.
    pub fn guard_with(&self, repository: &str, authorization: &str) {
        lock(&self.0.state).guarded.insert(repository.to_owned(), Some(authorization.to_owned()));
    }
}

fn stored(digest: &str) -> String {
    format!("/blobs/{digest}")
}

impl Host for Shared {
    fn answer(&self, request: &Recorded) -> Option<Answer> {
        if request.path == "/token" {
            return Some(self.token(request));
        }
        let rest = request.path.strip_prefix("/v2/")?;
        let answer = if rest.is_empty() {
            super::json(200, &json!({}))
        } else {
            let (name, digest) = rest.split_once("/blobs/")?;
            self.blob(request, name, digest)
        };
        Some(answer.with("Docker-Distribution-Api-Version", "registry/2.0"))
    }
}

impl Shared {
    fn blob(&self, request: &Recorded, name: &str, digest: &str) -> Answer {
        let state = lock(&self.state);
        if state.guarded.contains_key(name) && !has_token(request, &token_for(&scope(name))) {
            let realm = self.site.url("/token");
            let challenge = format!("Bearer realm=\"{realm}\",service=\"testbed\",scope=\"{}\"", scope(name));
            return errors(401, "UNAUTHORIZED", "authentication required")
                .with("WWW-Authenticate", challenge);
        }
        let Some(content) = state.blobs.get(&(name.to_owned(), digest.to_owned())) else {
            return errors(404, "BLOB_UNKNOWN", "blob unknown to registry");
        };
        if let Some(store) = &self.store {
            let target = store.url(&Control::signed_path(&stored(digest)));
            return Answer::empty(307).with("Location", store.sign(&target));
        }
        let asked = Asked {
            range: request.range.clone().filter(|_| !request.is_head()),
            if_range: request.header("if-range").map(str::to_owned),
        };
        honest(&asked, &Resource { content: content.clone(), etag: format!("\"{digest}\"") })
            .with("Docker-Content-Digest", digest)
    }

    fn token(&self, request: &Recorded) -> Answer {
        let scope = query(request, "scope").unwrap_or_default();
        let state = lock(&self.state);
        let name = scope.split(':').nth(1).unwrap_or_default();
        let wanted = state.guarded.get(name).cloned().flatten();
        if wanted.is_some() && request.header("authorization") != wanted.as_deref() {
            return errors(401, "UNAUTHORIZED", "authentication required");
        }
        super::json(200, &json!({"token": token_for(&scope), "expires_in": 300}))
    }
}

fn scope(name: &str) -> String {
    format!("repository:{name}:pull")
}

fn token_for(scope: &str) -> String {
    format!("TOKEN-{}", hex(scope.as_bytes()))
}

fn errors(status: u16, code: &str, message: &str) -> Answer {
    super::json(status, &json!({"errors": [{"code": code, "message": message, "detail": null}]}))
}
