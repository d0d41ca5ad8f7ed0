//! The Hugging Host Hub: repositories with branches and commits, their listings, and the way to their files.
//!
//! Imitated, as of 2026:
//! - `GET /api/models/REPO/tree/REV[/DIR]?recursive=&limit=&cursor=`: a page of the listing; `Link: <…>; rel="next"`
//!   leads to the next one. `/api/datasets/…` and `/api/spaces/…` are the same.
//! - `GET /api/models/REPO[/revision/REV]?blobs=true`: the repository, with every file's size and digest.
//! - `/REPO/resolve/REV/PATH` (`/datasets/REPO/resolve/…`): a large file is a 302 to a signed URL on the store and the
//!   redirect alone carries `X-Repo-Commit`, `X-Linked-Etag` (quoted SHA-256), `X-Linked-Size` and `X-Xet-Hash`; a small
//!   one is a 307 with a relative `Location` whose query belongs to it.
//! - 401 and 403 with `X-Error-Code` and `X-Error-Message`; a private repository is "not found" to strangers.
//! - 429 with `RateLimit` and `RateLimit-Policy`, separately for the API and for `resolve`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

use super::{Host, has_token, query};
use crate::answer::{Answer, Asked, Resource, honest};
use crate::content::{Content, hex};
use crate::control::Control;
use crate::counters::lock;
use crate::request::{Recorded, percent_encode};

/// What kind of repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `OWNER/NAME`.
    Model,
    /// `datasets/OWNER/NAME`.
    Dataset,
    /// `spaces/OWNER/NAME`.
    Space,
}

impl Kind {
    fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
            Self::Space => "spaces",
        }
    }

    /// What stands before the name in a web address.
    fn prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Dataset => "datasets/",
            Self::Space => "spaces/",
        }
    }
}

/// A handle to a mounted Hub.
#[derive(Clone, Debug)]
pub struct Hub(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Where the Hub itself answers.
    hub: Control,
    store: Control,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    repositories: BTreeMap<(Kind, String), Repository>,
    page: usize,
    limits: BTreeMap<&'static str, Limit>,
}

/// How many requests of a kind are still answered, and what the refusal then says.
#[derive(Debug)]
struct Limit {
    left: u64,
    seconds: u64,
}

#[derive(Debug, Default)]
struct Repository {
    /// Branches and tags.
    references: BTreeMap<String, String>,
    commits: BTreeMap<String, BTreeMap<String, Stored>>,
    access: Access,
}

#[derive(Debug, Default)]
enum Access {
    #[default]
    Public,
    /// Its listing is public, its files want the token of somebody who accepted the licence.
    Gated(String),
    /// It does not exist for whoever has no such token.
    Private(String),
}

#[derive(Clone, Debug)]
struct Stored {
    content: Content,
    /// The git object's name: of the content, or of its pointer.
    oid: String,
    /// The store's URL without a signature, for a large file.
    target: Option<String>,
}

impl Hub {
    /// Lets `hub` answer as the Hub does, with the large files behind signed URLs on `store`.
    pub fn mount(hub: &Control, store: &Control) -> Self {
        let state = State { repositories: BTreeMap::new(), page: 1000, limits: BTreeMap::new() };
        let shared = Shared { hub: hub.clone(), store: store.clone(), state: Mutex::new(state) };
        let host = Self(Arc::new(shared));
        lock(&hub.shared().hosts).push(Arc::clone(&host.0) as Arc<dyn Host>);
        host
    }

    /// Puts files into a model repository's branch as a new commit, beside what the branch already has; returns the
    /// commit. Files with the endings of text are small ones.
    pub fn commit(&self, repository: &str, branch: &str, files: &[(&str, Content)]) -> String {
        self.commit_to(Kind::Model, repository, branch, files)
    }

    /// [`Hub::commit`] for any kind of repository.
    pub fn commit_to(&self, kind: Kind, name: &str, branch: &str, files: &[(&str, Content)]) -> String {
        let mut state = lock(&self.0.state);
        let repository = state.repositories.entry((kind, name.to_owned())).or_default();
        let parent = repository.references.get(branch).cloned().unwrap_or_default();
        let mut tree = repository.commits.get(&parent).cloned().unwrap_or_default();
        for (path, content) in files {
            tree.insert((*path).to_owned(), self.store(path, content));
        }
        let mut listing = String::new();
        for (path, file) in &tree {
            let _ = writeln!(listing, "{path} {}", file.oid);
        }
        let commit = hex(&Sha1::digest(format!("{}{name} {parent}\n{listing}", kind.prefix())));
        repository.references.insert(branch.to_owned(), commit.clone());
        repository.commits.insert(commit.clone(), tree);
        commit
    }

    /// Removes a file from a branch, as a new commit.
    pub fn remove(&self, name: &str, branch: &str, path: &str) {
        let mut state = lock(&self.0.state);
        let Some(repository) = state.repositories.get_mut(&(Kind::Model, name.to_owned())) else { return };
        let parent = repository.references.get(branch).cloned().unwrap_or_default();
        let mut tree = repository.commits.get(&parent).cloned().unwrap_or_default();
        tree.remove(path);
        let commit = hex(&Sha1::digest(format!("{name} {parent} without {path}")));
        repository.references.insert(branch.to_owned(), commit.clone());
        repository.commits.insert(commit, tree);
    }

    /// Names a commit of a model repository.
    pub fn tag(&self, name: &str, tag: &str, commit: &str) {
        if let Some(repository) = lock(&self.0.state).repositories.get_mut(&(Kind::Model, name.to_owned())) {
            repository.references.insert(tag.to_owned(), commit.to_owned());
        }
    }

    /// The files of this model repository want the token of somebody who has accepted its licence.
    pub fn gate(&self, name: &str, token: &str) {
        self.restrict(name, Access::Gated(token.to_owned()));
    }

    /// This model repository does not exist for whoever comes without this token.
    pub fn hide(&self, name: &str, token: &str) {
        self.restrict(name, Access::Private(token.to_owned()));
    }

    fn restrict(&self, name: &str, access: Access) {
        let mut state = lock(&self.0.state);
        state.repositories.entry((Kind::Model, name.to_owned())).or_default().access = access;
    }

    /// How many entries a page of a listing has at most; 1000 unless said.
    pub fn page(&self, entries: usize) {
        lock(&self.0.state).page = entries.max(1);
    }

    /// After so many more requests to the API, 429 with this wait in seconds, until [`Hub::unlimit`].
    pub fn limit_api(&self, left: u64, seconds: u64) {
        lock(&self.0.state).limits.insert("api", Limit { left, seconds });
    }

    /// After so many more requests for files, 429 with this wait in seconds, until [`Hub::unlimit`].
    pub fn limit_resolvers(&self, left: u64, seconds: u64) {
        lock(&self.0.state).limits.insert("resolvers", Limit { left, seconds });
    }

    /// No limits any more.
    pub fn unlimit(&self) {
        lock(&self.0.state).limits.clear();
    }

    /// The path on the store under which the bytes of a large file lie: where to set injections, read counters.
    pub fn stored_path(content: &Content) -> String {
        Control::signed_path(&xet_path(content))
    }

    fn store(&self, path: &str, content: &Content) -> Stored {
        if is_small(path) {
            let bytes = content.to_vec();
            return Stored { content: content.clone(), oid: blob_name(&bytes), target: None };
        }
        // The file's git object is a pointer, and that is what its name is computed of.
        let pointer = pointer(content);
        let target = self.0.store.store_signed(&xet_path(content), content.clone());
        Stored { content: content.clone(), oid: blob_name(pointer.as_bytes()), target: Some(target) }
    }
}

/// The text that git holds in place of a large file.
fn pointer(content: &Content) -> String {
    format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n",
        content.sha256_hex(),
        content.size()
    )
}

/// The name of a git object with these bytes.
fn blob_name(bytes: &[u8]) -> String {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", bytes.len()));
    hasher.update(bytes);
    hex(&hasher.finalize())
}

fn xet_path(content: &Content) -> String {
    format!("/xet/{}", xet_hash(content))
}

/// Like a digest to look at, and not the file's SHA-256: clients have taken one for the other.
fn xet_hash(content: &Content) -> String {
    content.sha256_hex().chars().rev().collect()
}

fn is_small(path: &str) -> bool {
    [".json", ".txt", ".md", ".py", ".yaml", ".gitattributes"].iter().any(|ending| path.ends_with(ending))
}

impl Host for Shared {
    fn answer(&self, request: &Recorded) -> Option<Answer> {
        let path = request.path.strip_prefix('/')?;
        if let Some(rest) = path.strip_prefix("api/resolve-cache/") {
            return Some(self.cached(request, rest));
        }
        if let Some(rest) = path.strip_prefix("api/") {
            return self.api(request, rest);
        }
        let (kind, rest) = [Kind::Dataset, Kind::Space]
            .into_iter()
            .find_map(|kind| Some((kind, path.strip_prefix(kind.prefix())?)))
            .unwrap_or((Kind::Model, path));
        let (name, rest) = rest.split_once("/resolve/")?;
        Some(self.resolve(request, kind, name, rest))
    }
}

impl Shared {
    fn api(&self, request: &Recorded, rest: &str) -> Option<Answer> {
        let kinds = [Kind::Model, Kind::Dataset, Kind::Space];
        let (kind, rest) = kinds
            .into_iter()
            .find_map(|kind| Some((kind, rest.strip_prefix(kind.plural())?.strip_prefix('/')?)))?;
        if let Some(refusal) = self.refusal("api") {
            return Some(refusal);
        }
        let mut words = rest.splitn(3, '/');
        let name = format!("{}/{}", words.next()?, words.next()?);
        let rest = words.next().unwrap_or("revision/main");
        let state = lock(&self.state);
        let repository = match state.find(request, kind, &name, false) {
            Ok(repository) => repository,
            Err(answer) => return Some(answer),
        };
        if let Some(rest) = rest.strip_prefix("tree/") {
            Some(match repository.locate(rest) {
                Ok((commit, directory)) => self.tree(request, state.page, repository, &commit, directory),
                Err(answer) => answer,
            })
        } else {
            let revision = rest.strip_prefix("revision/")?;
            Some(match repository.locate(revision) {
                Ok((commit, _)) => info(request, &name, repository, &commit),
                Err(answer) => answer,
            })
        }
    }

    /// A page of a listing. The cursor is opaque to clients; here it is the first entry's number.
    fn tree(
        &self,
        request: &Recorded,
        page: usize,
        repository: &Repository,
        commit: &str,
        directory: &str,
    ) -> Answer {
        let is_deep = query(request, "recursive").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let files = &repository.commits[commit];
        let mut entries: BTreeMap<String, Value> = BTreeMap::new();
        let below = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        for (path, file) in files.iter().filter(|(path, _)| path.starts_with(&below)) {
            let inner = &path[below.len()..];
            let mut folder = below.clone();
            let mut words: Vec<&str> = inner.split('/').collect();
            words.pop();
            for word in words.iter().take(if is_deep { words.len() } else { 1 }) {
                folder.push_str(word);
                let oid = hex(&Sha1::digest(&folder));
                let entry = json!({"type": "directory", "oid": oid, "size": 0, "path": folder});
                entries.insert(folder.clone(), entry);
                folder.push('/');
            }
            if is_deep || words.is_empty() {
                entries.insert(path.clone(), file.listed(path));
            }
        }
        if entries.is_empty() && !directory.is_empty() {
            return refused(404, "EntryNotFound", "Entry not found");
        }
        let from = query(request, "cursor").and_then(|cursor| cursor.parse::<usize>().ok()).unwrap_or(0);
        let limit = query(request, "limit").and_then(|limit| limit.parse().ok()).unwrap_or(page).min(page);
        let total = entries.len();
        let shown: Vec<Value> = entries.into_values().skip(from).take(limit).collect();
        let mut answer = super::json(200, &Value::Array(shown));
        if from + limit < total {
            let mut next = format!("{}?", self.hub.url(&request.path));
            for (name, value) in request
                .query
                .iter()
                .flat_map(|query| query.split('&'))
                .filter_map(|pair| pair.split_once('='))
            {
                if name != "cursor" {
                    let _ = write!(next, "{name}={value}&");
                }
            }
            let _ = write!(next, "cursor={}", from + limit);
            answer.set("Link", format!("<{next}>; rel=\"next\""));
        }
        answer
    }

    fn resolve(&self, request: &Recorded, kind: Kind, name: &str, rest: &str) -> Answer {
        if let Some(refusal) = self.refusal("resolvers") {
            return refusal;
        }
        let state = lock(&self.state);
        let repository = match state.find(request, kind, name, true) {
            Ok(repository) => repository,
            Err(answer) => return answer,
        };
        let (commit, path) = match repository.locate(rest) {
            Ok(found) => found,
            Err(answer) => return answer,
        };
        let Some(file) = repository.commits[&commit].get(path) else {
            return refused(404, "EntryNotFound", "Entry not found").with("X-Repo-Commit", commit);
        };
        let answer = Answer::empty(if file.target.is_some() { 302 } else { 307 })
            .with("X-Repo-Commit", commit.clone())
            .with("Accept-Ranges", "bytes");
        let size = file.content.size().to_string();
        match &file.target {
            Some(target) => answer
                .with("X-Linked-Size", size)
                .with("X-Linked-Etag", format!("\"{}\"", file.content.sha256_hex()))
                .with("X-Xet-Hash", xet_hash(&file.content))
                .with("Location", self.store.sign(target)),
            None => answer
                .with("X-Linked-Size", size)
                .with("X-Linked-Etag", format!("\"{}\"", file.oid))
                .with("ETag", format!("\"{}\"", file.oid))
                .with(
                    "Location",
                    percent_encode(&format!("/api/resolve-cache/{}/{name}/{commit}/{path}", kind.plural()))
                        + "?"
                        + &format!("etag=%22{}%22", file.oid),
                ),
        }
    }

    /// A small file's bytes: `models/OWNER/NAME/COMMIT/PATH`, and the query is part of the address.
    fn cached(&self, request: &Recorded, rest: &str) -> Answer {
        let missing = || refused(404, "EntryNotFound", "Entry not found");
        let mut words = rest.splitn(5, '/');
        let found = (|| {
            let plural = words.next()?;
            let kind =
                [Kind::Model, Kind::Dataset, Kind::Space].into_iter().find(|kind| kind.plural() == plural)?;
            let name = format!("{}/{}", words.next()?, words.next()?);
            Some((kind, name, words.next()?, words.next()?))
        })();
        let Some((kind, name, commit, path)) = found else { return missing() };
        let state = lock(&self.state);
        let repository = match state.find(request, kind, &name, true) {
            Ok(repository) => repository,
            Err(answer) => return answer,
        };
        let file = repository.commits.get(commit).and_then(|files| files.get(path));
        let etag = query(request, "etag");
        let Some(file) = file.filter(|file| etag == Some(format!("\"{}\"", file.oid))) else {
            return missing();
        };
        let resource = Resource { content: file.content.clone(), etag: format!("\"{}\"", file.oid) };
        let asked = Asked {
            range: request.range.clone().filter(|_| !request.is_head()),
            if_range: request.header("if-range").map(str::to_owned),
        };
        honest(&asked, &resource).with("X-Repo-Commit", commit)
    }

    fn refusal(&self, what: &'static str) -> Option<Answer> {
        let mut state = lock(&self.state);
        let limit = state.limits.get_mut(what)?;
        if limit.left > 0 {
            limit.left -= 1;
            return None;
        }
        let message = "You have reached the rate limit. Log in or retry later.";
        Some(
            super::json(429, &json!({"error": message}))
                .with("RateLimit", format!("\"{what}\";r=0;t={}", limit.seconds))
                .with("RateLimit-Policy", format!("\"fixed window\";\"{what}\";q=3000;w=300")),
        )
    }
}

impl State {
    /// The repository, for whoever may see it; its files, too, if that is asked for.
    fn find(
        &self,
        request: &Recorded,
        kind: Kind,
        name: &str,
        wants_files: bool,
    ) -> Result<&Repository, Answer> {
        let hidden =
            || refused(401, "RepoNotFound", "Repository not found, or it is private: log in to see it.");
        let repository = self.repositories.get(&(kind, name.to_owned())).ok_or_else(hidden)?;
        match &repository.access {
            Access::Private(token) if !has_token(request, token) => Err(hidden()),
            Access::Gated(token) if wants_files && !has_token(request, token) => {
                let is_stranger = request.header("authorization").is_none();
                let message = if is_stranger {
                    format!("Access to model {name} is restricted. You must be authenticated to access it.")
                } else {
                    format!("Access to model {name} is restricted and you are not in the authorized list.")
                };
                Err(refused(if is_stranger { 401 } else { 403 }, "GatedRepo", &message))
            }
            _ => Ok(repository),
        }
    }
}

impl Repository {
    /// The commit that a revision stands for, and what follows the revision. A branch's name may have slashes, as they are
    /// or encoded: the longest one that fits is meant.
    fn locate<'a>(&self, rest: &'a str) -> Result<(String, &'a str), Answer> {
        let split = |name: &str| {
            let after = rest.strip_prefix(name)?;
            if after.is_empty() { Some("") } else { after.strip_prefix('/') }
        };
        let by_reference =
            self.references.iter().filter_map(|(name, commit)| Some((name, commit, split(name)?)));
        if let Some((_, commit, path)) = by_reference.max_by_key(|(name, ..)| name.len()) {
            return Ok((commit.clone(), path));
        }
        self.commits
            .keys()
            .find_map(|commit| Some((commit.clone(), split(commit)?)))
            .ok_or_else(|| refused(404, "RevisionNotFound", "Invalid rev id"))
    }
}

impl Stored {
    /// The entry of a listing.
    fn listed(&self, path: &str) -> Value {
        let mut entry = json!({"type": "file", "oid": self.oid, "size": self.content.size(), "path": path});
        if self.target.is_some() {
            entry["lfs"] = json!({
                "oid": self.content.sha256_hex(),
                "size": self.content.size(),
                "pointerSize": pointer(&self.content).len(),
            });
            entry["xetHash"] = xet_hash(&self.content).into();
        }
        entry
    }
}

fn info(request: &Recorded, name: &str, repository: &Repository, commit: &str) -> Answer {
    let has_blobs = query(request, "blobs").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let siblings: Vec<Value> = repository.commits[commit]
        .iter()
        .map(|(path, file)| {
            let mut sibling = json!({"rfilename": path});
            if has_blobs {
                sibling["size"] = file.content.size().into();
                sibling["blobId"] = file.oid.clone().into();
                if file.target.is_some() {
                    sibling["lfs"] = json!({
                        "sha256": file.content.sha256_hex(),
                        "size": file.content.size(),
                        "pointerSize": pointer(&file.content).len(),
                    });
                }
            }
            sibling
        })
        .collect();
    let gated: Value =
        if matches!(repository.access, Access::Gated(_)) { "auto".into() } else { false.into() };
    super::json(
        200,
        &json!({
            "_id": &commit[..24],
            "id": name,
            "modelId": name,
            "author": name.split('/').next(),
            "sha": commit,
            "private": matches!(repository.access, Access::Private(_)),
            "gated": gated,
            "disabled": false,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": siblings,
        }),
    )
    .with("X-Repo-Commit", commit)
}

fn refused(status: u16, code: &str, message: &str) -> Answer {
    super::json(status, &json!({"error": message}))
        .with("X-Error-Code", code)
        .with("X-Error-Message", message)
}
