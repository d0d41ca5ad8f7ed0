//! The Hugging Face Hub: model repositories with branches and commits, their listings, and the way to their files.
//!
//! Emulated, as of 2026:
//! - `GET /api/models/REPO/tree/REV[/DIR]?recursive=&limit=&cursor=`: a page of the listing; `Link: <…>; rel="next"`
//!   leads to the next one.
//! - `GET /api/models/REPO[/revision/REV]?blobs=true`: the repository, with every file's size and digest.
//! - `/REPO/resolve/REV/PATH`: a large file is a 302 to a signed URL on the store. Only this redirect carries
//!   `X-Repo-Commit`, `X-Linked-Etag` (quoted SHA-256), `X-Linked-Size` and `X-Xet-Hash`. A small file is a 307 with a
//!   relative `Location`, whose query is part of the address.
//! - 401 and 403 with `X-Error-Code` and `X-Error-Message`; a private repository is "not found" without a token.
//! - 429 with `RateLimit` and `RateLimit-Policy`, separately for the API and for `resolve`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

use super::{flag, is_admitted, query, serve};
use crate::answer::Answer;
use crate::content::{Content, hex};
use crate::control::{Control, Host};
use crate::counters::lock;
use crate::request::{Recorded, percent_encode};

/// A handle to a mounted Hub.
#[derive(Clone, Debug)]
pub struct Hub(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The origin of the Hub itself.
    hub: Control,
    store: Control,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    repositories: BTreeMap<String, Repository>,
    /// The most entries on a page of a listing.
    page: usize,
    limits: BTreeMap<&'static str, Limit>,
}

/// The requests of a kind that are still answered, and the wait that the refusal then declares.
#[derive(Debug)]
struct Limit {
    left: u64,
    seconds: u64,
}

#[derive(Debug, Default)]
struct Repository {
    /// The commits of branches.
    references: BTreeMap<String, String>,
    commits: BTreeMap<String, Files>,
    access: Access,
}

type Files = BTreeMap<String, Stored>;

#[derive(Debug, Default)]
enum Access {
    #[default]
    Public,
    /// The listing is public; the files require this token, of a user who accepted the licence.
    Gated(String),
    /// The repository does not exist without this token.
    Private(String),
}

#[derive(Clone, Debug)]
struct Stored {
    content: Content,
    /// The name of the git object: of the content, or of a large file's pointer.
    oid: String,
    is_large: bool,
}

impl Hub {
    /// Mounts the Hub on `hub`, with the large files behind signed URLs on `store`.
    pub fn mount(hub: &Control, store: &Control) -> Self {
        let state = State { page: 1000, ..State::default() };
        let shared = Shared { hub: hub.clone(), store: store.clone(), state: Mutex::new(state) };
        Self(hub.mount(shared))
    }

    /// Adds files to a repository's branch, as a new commit; returns the commit. Files with the extension of a text are
    /// small ones.
    pub fn commit(&self, name: &str, branch: &str, files: &[(&str, Content)]) -> String {
        self.change(name, branch, |tree| {
            for (path, content) in files {
                tree.insert((*path).to_owned(), self.store(path, content));
            }
        })
    }

    /// Removes a file from a branch, as a new commit.
    pub fn remove(&self, name: &str, branch: &str, path: &str) {
        self.change(name, branch, |tree| {
            tree.remove(path);
        });
    }

    fn change(&self, name: &str, branch: &str, change: impl FnOnce(&mut Files)) -> String {
        let mut state = lock(&self.0.state);
        let repository = state.repositories.entry(name.to_owned()).or_default();
        let parent = repository.references.get(branch).cloned().unwrap_or_default();
        let mut tree = repository.commits.get(&parent).cloned().unwrap_or_default();
        change(&mut tree);
        let listing: Vec<String> = tree.iter().map(|(path, file)| format!("{path} {}\n", file.oid)).collect();
        let commit = hex(&Sha1::digest(format!("{name} {parent}\n{}", listing.concat())));
        repository.references.insert(branch.to_owned(), commit.clone());
        repository.commits.insert(commit.clone(), tree);
        commit
    }

    /// Gates a repository: its files require this token, of a user who accepted the licence.
    pub fn gate(&self, name: &str, token: &str) {
        self.restrict(name, Access::Gated(token.to_owned()));
    }

    /// Makes a repository private: it does not exist without this token.
    pub fn hide(&self, name: &str, token: &str) {
        self.restrict(name, Access::Private(token.to_owned()));
    }

    fn restrict(&self, name: &str, access: Access) {
        lock(&self.0.state).repositories.entry(name.to_owned()).or_default().access = access;
    }

    /// Sets the most entries on a page of a listing; 1000 by default.
    pub fn page(&self, entries: usize) {
        lock(&self.0.state).page = entries.max(1);
    }

    /// After `left` more requests to the API, answers 429 with this wait in seconds, until [`Hub::unlimit`].
    pub fn limit_api(&self, left: u64, seconds: u64) {
        lock(&self.0.state).limits.insert("api", Limit { left, seconds });
    }

    /// After `left` more requests for files, answers 429 with this wait in seconds, until [`Hub::unlimit`].
    pub fn limit_resolvers(&self, left: u64, seconds: u64) {
        lock(&self.0.state).limits.insert("resolvers", Limit { left, seconds });
    }

    /// Lifts the limits.
    pub fn unlimit(&self) {
        lock(&self.0.state).limits.clear();
    }

    /// The path of a large file's bytes on the store: the key of their faults and counters.
    pub fn stored_path(content: &Content) -> String {
        Control::signed_path(&xet_path(content))
    }

    fn store(&self, path: &str, content: &Content) -> Stored {
        let small = [".json", ".txt", ".md", ".py", ".yaml", ".gitattributes"];
        let is_large = !small.iter().any(|extension| path.ends_with(extension));
        // The git object of a large file is its pointer.
        let object = if is_large { pointer(content).into_bytes() } else { content.to_vec() };
        if is_large {
            self.0.store.store_signed(&xet_path(content), content.clone());
        }
        let blob = [format!("blob {}\0", object.len()).into_bytes(), object].concat();
        Stored { content: content.clone(), oid: hex(&Sha1::digest(blob)), is_large }
    }
}

/// The text that git holds in place of a large file.
fn pointer(content: &Content) -> String {
    let (sha256, size) = (content.sha256_hex(), content.size());
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n")
}

fn xet_path(content: &Content) -> String {
    format!("/xet/{}", xet_hash(content))
}

/// Looks like the file's SHA-256 and is not: a client has to tell them apart.
fn xet_hash(content: &Content) -> String {
    content.sha256_hex().chars().rev().collect()
}

impl Host for Shared {
    fn answer(&self, request: &Recorded) -> Option<Result<Answer, Answer>> {
        let path = request.path.strip_prefix('/')?;
        if let Some(rest) = path.strip_prefix("api/resolve-cache/models/") {
            return Some(self.cached(request, rest));
        }
        if let Some(rest) = path.strip_prefix("api/models/") {
            let mut words = rest.splitn(3, '/');
            let name = format!("{}/{}", words.next()?, words.next()?);
            return Some(self.api(request, &name, words.next().unwrap_or("revision/main")));
        }
        let (name, rest) = path.split_once("/resolve/")?;
        Some(self.resolve(request, name, rest))
    }
}

impl Shared {
    fn api(&self, request: &Recorded, name: &str, rest: &str) -> Result<Answer, Answer> {
        let mut state = lock(&self.state);
        state.count("api")?;
        let repository = state.find(request, name)?;
        if let Some(rest) = rest.strip_prefix("tree/") {
            let (commit, directory) = repository.locate(rest)?;
            self.tree(request, state.page, &repository.commits[&commit], directory)
        } else if let Some(revision) = rest.strip_prefix("revision/") {
            let (commit, _) = repository.locate(revision)?;
            Ok(info(request, name, repository, &commit))
        } else {
            Err(refusal(404, "EntryNotFound", "Entry not found"))
        }
    }

    /// A page of a listing. The cursor, opaque to clients, is the number of the first entry.
    fn tree(
        &self,
        request: &Recorded,
        page: usize,
        files: &Files,
        directory: &str,
    ) -> Result<Answer, Answer> {
        let is_deep = flag(request, "recursive");
        let below = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let mut entries: BTreeMap<&str, Value> = BTreeMap::new();
        for (path, file) in files.iter().filter(|(path, _)| path.starts_with(&below)) {
            let slashes = path.match_indices('/').map(|(at, _)| at).filter(|at| *at >= below.len());
            for folder in slashes.map(|at| &path[..at]).take(if is_deep { usize::MAX } else { 1 }) {
                let oid = hex(&Sha1::digest(folder));
                entries.insert(folder, json!({"type": "directory", "oid": oid, "size": 0, "path": folder}));
            }
            if is_deep || !path[below.len()..].contains('/') {
                entries.insert(path, file.listed(path));
            }
        }
        if entries.is_empty() && !directory.is_empty() {
            return Err(refusal(404, "EntryNotFound", "Entry not found"));
        }
        let number = |name| query(request, name).and_then(|value| value.parse::<usize>().ok());
        let (from, limit) = (number("cursor").unwrap_or(0), number("limit").unwrap_or(page).min(page));
        let total = entries.len();
        let shown: Vec<Value> = entries.into_values().skip(from).take(limit).collect();
        let mut answer = Answer::json(200, &Value::Array(shown));
        if from + limit < total {
            let pairs = request.query.iter().flat_map(|query| query.split('&'));
            let kept: Vec<&str> = pairs.filter(|pair| !pair.starts_with("cursor=")).collect();
            let cursor = format!("cursor={}", from + limit);
            let query = [kept.as_slice(), &[cursor.as_str()]].concat().join("&");
            answer.set("Link", format!("<{}?{query}>; rel=\"next\"", self.hub.url(&request.path)));
        }
        Ok(answer)
    }

    fn resolve(&self, request: &Recorded, name: &str, rest: &str) -> Result<Answer, Answer> {
        let mut state = lock(&self.state);
        state.count("resolvers")?;
        let repository = state.find_files(request, name)?;
        let (commit, path) = repository.locate(rest)?;
        let file = repository.commits[&commit]
            .get(path)
            .ok_or_else(|| refusal(404, "EntryNotFound", "Entry not found").with("X-Repo-Commit", &commit))?;
        let size = file.content.size().to_string();
        let answer = if file.is_large {
            let linked = format!("\"{}\"", file.content.sha256_hex());
            self.store
                .redirect_to_signed(302, &xet_path(&file.content))
                .with("X-Linked-Etag", linked)
                .with("X-Xet-Hash", xet_hash(&file.content))
        } else {
            let path = percent_encode(&format!("/api/resolve-cache/models/{name}/{commit}/{path}"));
            Answer::empty(307)
                .with("X-Linked-Etag", file.etag())
                .with("ETag", file.etag())
                .with("Location", format!("{path}?etag=%22{}%22", file.oid))
        };
        Ok(answer.with("X-Repo-Commit", commit).with("X-Linked-Size", size).with("Accept-Ranges", "bytes"))
    }

    /// The bytes of a small file: `OWNER/NAME/COMMIT/PATH`, and the query is part of the address.
    fn cached(&self, request: &Recorded, rest: &str) -> Result<Answer, Answer> {
        let missing = || refusal(404, "EntryNotFound", "Entry not found");
        let words: Vec<&str> = rest.splitn(4, '/').collect();
        let [owner, name, commit, path] = words[..] else { return Err(missing()) };
        let state = lock(&self.state);
        let repository = state.find_files(request, &format!("{owner}/{name}"))?;
        let file = repository.commits.get(commit).and_then(|files| files.get(path));
        let etag = query(request, "etag");
        let file = file.filter(|file| etag == Some(file.etag())).ok_or_else(missing)?;
        Ok(serve(request, &file.content, file.etag()).with("X-Repo-Commit", commit))
    }
}

impl State {
    /// Counts a request against a limit.
    fn count(&mut self, kind: &'static str) -> Result<(), Answer> {
        let Some(limit) = self.limits.get_mut(kind) else { return Ok(()) };
        if limit.left > 0 {
            limit.left -= 1;
            return Ok(());
        }
        let message = "You have reached the rate limit. Log in or retry later.";
        Err(Answer::json(429, &json!({"error": message}))
            .with("RateLimit", format!("\"{kind}\";r=0;t={}", limit.seconds))
            .with("RateLimit-Policy", format!("\"fixed window\";\"{kind}\";q=3000;w=300")))
    }

    /// The repository, if the request may see it.
    fn find(&self, request: &Recorded, name: &str) -> Result<&Repository, Answer> {
        let found = self.repositories.get(name).filter(|repository| match &repository.access {
            Access::Private(token) => is_admitted(request, Some(token)),
            Access::Public | Access::Gated(_) => true,
        });
        let message = "Repository not found, or it is private: log in to see it.";
        found.ok_or_else(|| refusal(401, "RepoNotFound", message))
    }

    /// The repository, if the request may have its files.
    fn find_files(&self, request: &Recorded, name: &str) -> Result<&Repository, Answer> {
        let repository = self.find(request, name)?;
        let Access::Gated(token) = &repository.access else { return Ok(repository) };
        if is_admitted(request, Some(token)) {
            return Ok(repository);
        }
        let (status, reason) = match request.header("authorization") {
            None => (401, "You must be authenticated to access it."),
            Some(_) => (403, "You are not in the authorized list."),
        };
        let message = format!("Access to model {name} is restricted. {reason}");
        Err(refusal(status, "GatedRepo", &message))
    }
}

impl Repository {
    /// The commit of the revision that `rest` begins with, and the path after it. A branch's name may contain slashes,
    /// so the longest one that fits is taken.
    fn locate<'a>(&self, rest: &'a str) -> Result<(String, &'a str), Answer> {
        let after = |name: &str| {
            let after = rest.strip_prefix(name)?;
            if after.is_empty() { Some("") } else { after.strip_prefix('/') }
        };
        let references = self.references.iter();
        let revisions = references.chain(self.commits.keys().map(|commit| (commit, commit)));
        revisions
            .filter_map(|(name, commit)| Some((name.len(), commit.clone(), after(name)?)))
            .max_by_key(|(length, ..)| *length)
            .map(|(_, commit, path)| (commit, path))
            .ok_or_else(|| refusal(404, "RevisionNotFound", "Invalid rev id"))
    }
}

impl Stored {
    fn etag(&self) -> String {
        format!("\"{}\"", self.oid)
    }

    /// The entry in a listing.
    fn listed(&self, path: &str) -> Value {
        let mut entry = json!({"type": "file", "oid": self.oid, "size": self.content.size(), "path": path});
        if self.is_large {
            entry["lfs"] = self.lfs("oid");
            entry["xetHash"] = xet_hash(&self.content).into();
        }
        entry
    }

    /// The description of a large file, with its digest under this key.
    fn lfs(&self, digest: &str) -> Value {
        let (sha256, size) = (self.content.sha256_hex(), self.content.size());
        json!({digest: sha256, "size": size, "pointerSize": pointer(&self.content).len()})
    }
}

fn info(request: &Recorded, name: &str, repository: &Repository, commit: &str) -> Answer {
    let has_blobs = flag(request, "blobs");
    let siblings: Vec<Value> = repository.commits[commit]
        .iter()
        .map(|(path, file)| {
            let mut sibling = json!({"rfilename": path});
            if has_blobs {
                sibling["size"] = file.content.size().into();
                sibling["blobId"] = file.oid.clone().into();
                if file.is_large {
                    sibling["lfs"] = file.lfs("sha256");
                }
            }
            sibling
        })
        .collect();
    let is_gated = matches!(repository.access, Access::Gated(_));
    let described = json!({
        "_id": &commit[..24], "id": name, "modelId": name, "author": name.split('/').next(), "sha": commit,
        "private": matches!(repository.access, Access::Private(_)),
        "gated": if is_gated { Value::from("auto") } else { false.into() },
        "disabled": false, "tags": [], "downloads": 0, "likes": 0,
        "siblings": siblings,
    });
    Answer::json(200, &described).with("X-Repo-Commit", commit)
}

fn refusal(status: u16, code: &str, message: &str) -> Answer {
    Answer::json(status, &json!({"error": message}))
        .with("X-Error-Code", code)
        .with("X-Error-Message", message)
}
