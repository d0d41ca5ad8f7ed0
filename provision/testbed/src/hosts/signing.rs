//! Faces of known hosts: signed URLs as object stores have them, and a model hub that redirects to them.
//!
//! What is imitated: a signed URL is good until it expires (403 then), is bound to GET, and answers 400 to a second
//! kind of authorization; the hub's redirect alone carries the linked digest and size.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sha2::{Digest, Sha256};

use crate::answer::{Answer, Resource};
use crate::content::{Content, hex};
use crate::control::{Control, Route};
use crate::counters::lock;
use crate::request::{Recorded, percent_encode};

/// What every signature starts with, so that a test can look for a leak of any of them.
pub const SIGNATURE_PREFIX: &str = "SECRETSIG";

/// Signs an origin's URLs and knows which signatures are still good.
#[derive(Debug, Default)]
pub(crate) struct Signer {
    epoch: AtomicU64,
    issued: AtomicU64,
}

impl Signer {
    fn sign(&self) -> String {
        let (epoch, number) = (self.epoch.load(Relaxed), self.issued.fetch_add(1, Relaxed));
        format!("{SIGNATURE_PREFIX}-{epoch}-{number}")
    }

    fn is_good(&self, signature: &str) -> bool {
        let mut words = signature.split('-');
        words.next() == Some(SIGNATURE_PREFIX)
            && words.next().and_then(|epoch| epoch.parse().ok()) == Some(self.epoch.load(Relaxed))
    }

    /// The refusal of a request to a signed URL, if it deserves one.
    pub(crate) fn refusal(&self, request: &Recorded) -> Option<Answer> {
        let xml = |status, code: &str, message: &str| {
            let body = format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
            );
            Some(Answer::text(status, "application/xml", body))
        };
        if request.header("authorization").is_some() {
            return xml(400, "InvalidArgument", "Only one auth mechanism allowed");
        }
        if request.is_head() || !request.query_value("sig").is_some_and(|sig| self.is_good(sig)) {
            return xml(403, "AccessDenied", "Request has expired");
        }
        None
    }
}

/// A path that redirects to a freshly signed URL.
#[derive(Debug)]
pub(crate) struct Entry {
    headers: Vec<(String, String)>,
    /// The URL without its signature.
    target: String,
    signer: Arc<Signer>,
}

impl Entry {
    pub(crate) fn answer(&self) -> Answer {
        let mut answer = Answer::empty(302);
        for (name, value) in &self.headers {
            answer.set(name, value.clone());
        }
        answer.with("Location", format!("{}?sig={}", self.target, self.signer.sign()))
    }
}

/// Paths that want a token.
#[derive(Debug)]
pub(crate) struct TokenRule {
    prefix: String,
    authorization: String,
    code: String,
}

impl TokenRule {
    pub(crate) fn refusal(&self, request: &Recorded) -> Option<Answer> {
        if !request.path.starts_with(&self.prefix)
            || request.header("authorization") == Some(&self.authorization)
        {
            return None;
        }
        let message = format!("Access to this repository is restricted ({}).", self.code);
        let answer = Answer::text(401, "text/plain", message.clone());
        Some(answer.with("X-Error-Code", self.code.clone()).with("X-Error-Message", message))
    }
}

impl Control {
    /// Serves `content` at `/signed{path}` to those with a good signature, and redirects (302) from `path` there.
    pub fn put_signed(&self, path: &str, content: Content) {
        self.put_entry(self, path, path, content, Vec::new());
    }

    /// A hub file on this origin alone: [`Self::put_hub_on`] with itself.
    pub fn put_hub(&self, repo: &str, revision: &str, path: &str, content: Content) -> String {
        self.put_hub_on(self, repo, revision, path, content)
    }

    /// `/{repo}/resolve/{revision}/{path}` redirects to a signed URL on `cdn`, with `X-Repo-Commit`, `X-Linked-Etag`
    /// (the content's SHA-256, quoted; it is computed here) and `X-Linked-Size`. Returns the URL to ask for.
    pub fn put_hub_on(&self, cdn: &Self, repo: &str, revision: &str, path: &str, content: Content) -> String {
        let is_commit = revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit());
        let commit = if is_commit {
            revision.to_owned()
        } else {
            hex(&Sha256::digest(format!("{repo}@{revision}").as_bytes())[..20])
        };
        let headers = vec![
            ("X-Repo-Commit".to_owned(), commit),
            ("X-Linked-Etag".to_owned(), format!("\"{}\"", content.sha256_hex())),
            ("X-Linked-Size".to_owned(), content.size().to_string()),
        ];
        let entry = format!("/{repo}/resolve/{revision}/{path}");
        self.put_entry(cdn, &entry, &entry, content, headers);
        self.url(&entry)
    }

    /// The path under which a signed file itself is served: where to set its injections and read its counters.
    pub fn signed_path(path: &str) -> String {
        format!("/signed{path}")
    }

    /// From now on every signature issued by this origin so far answers 403; new ones are good (fault 35).
    pub fn expire_signatures(&self) {
        self.shared().signer.epoch.fetch_add(1, Relaxed);
    }

    /// Paths that start with `prefix` answer 401 with `X-Error-Code: code` (`GatedRepo`, `RepoNotFound`) unless
    /// `Authorization: Bearer token` is sent.
    pub fn require_token(&self, prefix: &str, token: &str, code: &str) {
        let rule = TokenRule {
            prefix: prefix.to_owned(),
            authorization: format!("Bearer {token}"),
            code: code.to_owned(),
        };
        lock(&self.shared().tokens).push(rule);
    }

    fn put_entry(
        &self,
        store: &Self,
        entry: &str,
        path: &str,
        content: Content,
        headers: Vec<(String, String)>,
    ) {
        let target = store.store_signed(path, content);
        let entry_route = Entry { headers, target, signer: Arc::clone(&store.shared().signer) };
        lock(&self.shared().routes).insert(entry.to_owned(), Route::Entry(Arc::new(entry_route)));
    }

    /// Serves `content` at `/signed{path}` to those with a good signature; returns the URL without one.
    pub(crate) fn store_signed(&self, path: &str, content: Content) -> String {
        let signed = Self::signed_path(path);
        let target = format!("{}{}", self.url(""), percent_encode(&signed));
        let resource = Resource { etag: content.etag(), content };
        lock(&self.shared().routes).insert(signed, Route::File { resource, signed: true });
        target
    }

    /// A URL of [`Control::store_signed`] with a fresh signature.
    pub(crate) fn sign(&self, target: &str) -> String {
        format!("{target}?sig={}", self.shared().signer.sign())
    }
}
