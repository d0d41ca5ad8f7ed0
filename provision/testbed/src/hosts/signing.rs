//! Signed files on any origin, and a small Hub that redirects to them.
//!
//! The small Hub needs no repository. Its redirect alone carries the linked digest and size, as the real one's does.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::answer::{Answer, Resource};
use crate::content::{Content, hex};
use crate::control::{Control, Host, Route};
use crate::request::Recorded;
use crate::signatures::Signatures;

/// A path that redirects to a freshly signed URL.
#[derive(Debug)]
struct Entry {
    headers: Vec<(String, String)>,
    /// The URL without its signature.
    target: String,
    signatures: Arc<Signatures>,
}

impl Host for Entry {
    fn answer(&self, _: &Recorded) -> Option<Result<Answer, Answer>> {
        let mut answer = Answer::empty(302).with("Location", self.signatures.sign(&self.target));
        answer.set_all(&self.headers);
        Some(Ok(answer))
    }
}

/// Paths that require a token.
#[derive(Debug)]
struct TokenRule {
    prefix: String,
    token: String,
    code: String,
}

impl Host for TokenRule {
    fn answer(&self, request: &Recorded) -> Option<Result<Answer, Answer>> {
        if !request.path.starts_with(&self.prefix) || super::is_admitted(request, Some(&self.token)) {
            return None;
        }
        let message = format!("Access to this repository is restricted ({}).", self.code);
        let refusal = Answer::text(401, "text/plain", message.clone())
            .with("X-Error-Code", &self.code)
            .with("X-Error-Message", message);
        Some(Err(refusal))
    }
}

impl Control {
    /// A Hub file with its bytes on this origin, too: [`Control::put_hub_on`] with itself.
    pub fn put_hub(&self, repo: &str, revision: &str, path: &str, content: Content) -> String {
        self.put_hub_on(self, repo, revision, path, content)
    }

    /// `/{repo}/resolve/{revision}/{path}` redirects to a signed URL on `cdn`, with `X-Repo-Commit`, `X-Linked-Etag`
    /// (the content's SHA-256, quoted; it is computed here) and `X-Linked-Size`. Returns the Hub's URL of the file.
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
        let path = format!("/{repo}/resolve/{revision}/{path}");
        cdn.store_signed(&path, content);
        let target = cdn.url(&Self::signed_path(&path));
        let entry = Entry { headers, target, signatures: Arc::clone(&cdn.shared().signatures) };
        self.route(&path, Route::Host(Arc::new(entry)));
        self.url(&path)
    }

    /// The path of a signed file itself: the key of its faults and counters.
    pub fn signed_path(path: &str) -> String {
        format!("/signed{path}")
    }

    /// Expires every signature that this origin issued: they answer 403 from now on, new ones do not (fault 35).
    pub fn expire_signatures(&self) {
        self.shared().signatures.expire();
    }

    /// Paths that start with `prefix` answer 401 with `X-Error-Code: code` (`GatedRepo`, `RepoNotFound`) to requests
    /// without `Authorization: Bearer token`.
    pub fn require_token(&self, prefix: &str, token: &str, code: &str) {
        let [prefix, token, code] = [prefix, token, code].map(str::to_owned);
        self.guard(Arc::new(TokenRule { prefix, token, code }));
    }

    /// Serves `content` at `/signed{path}` to requests with a good signature.
    pub(super) fn store_signed(&self, path: &str, content: Content) {
        self.route(&Self::signed_path(path), Route::File { resource: Resource::new(content), signed: true });
    }

    /// A redirect to a file of [`Control::store_signed`], freshly signed.
    pub(super) fn redirect_to_signed(&self, status: u16, path: &str) -> Answer {
        let url = self.url(&Self::signed_path(path));
        Answer::empty(status).with("Location", self.shared().signatures.sign(&url))
    }
}
