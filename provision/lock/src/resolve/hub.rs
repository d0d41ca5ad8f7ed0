//! Resolves files of the Hub.
//!
//! The redirect to a file carries `X-Linked-Etag`, `X-Linked-Size` and `X-Repo-Commit`, and describes the bytes that a
//! fetch will get; the tree lists the repository's own values. A lock is written only if the two agree. The tree is
//! requested by commit, so a branch that moves meanwhile cannot mix two commits.

use std::collections::BTreeMap;
use std::rc::Rc;

use provision_http::metadata::MetadataError;
use serde::Deserialize;

use super::{Declared, Found, ResolveError, Resolver, api, digest, some_of};
use crate::source::{HubFile, RepoFile, Source};

const HUB: &str = "https://huggingface.co";

/// The limit of pages; no repository of models has more.
const MAX_PAGES: usize = 1000;

/// The limit of entries (files and directories); the Hub advises against half as many.
const MAX_ENTRIES: usize = 200_000;

/// The limit of text; a listing is held in memory as a whole.
const MAX_MEGABYTES: usize = 256;

/// A commit and all of its files.
#[derive(Debug)]
pub(super) struct Tree {
    commit: String,
    files: BTreeMap<String, File>,
}

/// A file in the tree.
#[derive(Debug)]
struct File {
    /// The git object id.
    oid: String,
    said: Declared,
}

#[derive(Deserialize)]
struct Revision {
    sha: String,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    oid: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

impl Resolver {
    pub(super) async fn hub(&self, hub: &HubFile) -> Result<Vec<Found>, ResolveError> {
        let source = Source::Hub(hub.clone());
        let tree = self.tree(hub, &source).await?;
        let chosen = hub.file.select(tree.files.keys().map(String::as_str));
        if chosen.is_empty() {
            let known = some_of(tree.files.keys().map(String::as_str));
            return Err(ResolveError::NoFile { what: source.to_string(), known });
        }
        let mut found = Vec::with_capacity(chosen.len());
        for path in chosen {
            let file = RepoFile { path: path.to_owned(), ..hub.file.clone() };
            found.push(self.hub_file(&HubFile { kind: hub.kind, file }, &tree).await?);
        }
        Ok(found)
    }

    async fn hub_file(&self, hub: &HubFile, tree: &Tree) -> Result<Found, ResolveError> {
        let source = Source::Hub(hub.clone());
        let what = || source.to_string();
        let listed = &tree.files[&hub.file.path];
        let pinned = HubFile { kind: hub.kind, file: hub.file.at(&tree.commit, &hub.file.path) };
        let url = Source::Hub(pinned).address();
        let probe = self.metadata.probe(&url).await.map_err(|error| ResolveError::host(&source, error))?;
        if let Some(found) = probe.commit().filter(|commit| *commit != tree.commit) {
            return Err(ResolveError::OtherCommit {
                what: what(),
                asked: tree.commit.clone(),
                found: found.to_owned(),
            });
        }
        let linked = probe.linked();
        let redirect = match linked {
            Some((etag, size)) => Declared { sha256: digest(etag), size },
            None => Declared { sha256: None, size: None },
        };
        // A small file's validator is its git object id, which says nothing about its SHA-256.
        let is_other_object = listed.said.sha256.is_none()
            && linked.is_some_and(|(etag, _)| !listed.oid.is_empty() && etag != listed.oid);
        let is_other_size = match listed.said.sha256 {
            Some(_) => redirect.size != listed.said.size,
            None => redirect.size.is_some_and(|size| Some(size) != listed.said.size),
        };
        if is_other_object || is_other_size || redirect.sha256 != listed.said.sha256 {
            return Err(ResolveError::Disagreement {
                what: what(),
                first_place: "the repository's tree",
                first: listed.said,
                second_place: "the redirect to the file",
                second: redirect,
            });
        }
        if probe.size.is_some_and(|size| Some(size) != listed.said.size) {
            return Err(ResolveError::Disagreement {
                what: what(),
                first_place: "the repository's tree",
                first: listed.said,
                second_place: "the storage behind it",
                second: Declared { sha256: None, size: probe.size },
            });
        }
        Ok(Found {
            url,
            size: Some(listed.said.size.unwrap_or_default()),
            sha256: listed.said.sha256,
            name: None,
            is_named_by_host: false,
            civitai_type: None,
            etag: Some(listed.oid.clone()),
            source,
        })
    }

    /// The commit of a revision and its files: two requests, and one more for each further page.
    async fn tree(&self, hub: &HubFile, source: &Source) -> Result<Rc<Tree>, ResolveError> {
        let revision = hub.file.revision.clone().unwrap_or_else(|| "main".to_owned());
        let key = |revision| (hub.kind, hub.file.repo.clone(), revision);
        let tree = self.trees.get(key(revision.clone()), || self.new_tree(hub, &revision, source)).await?;
        // Naming the commit itself yields the same tree.
        self.trees.put(key(tree.commit.clone()), tree.clone());
        Ok(tree)
    }

    async fn new_tree(
        &self,
        hub: &HubFile,
        revision: &str,
        source: &Source,
    ) -> Result<Rc<Tree>, ResolveError> {
        let host = |error| ResolveError::host(source, error);
        let below = |segments: &[&str], query: &[(&str, &str)]| {
            let repository = ["api", hub.kind.collection()].into_iter().chain(hub.file.repo.split('/'));
            api(HUB, repository.chain(segments.iter().copied()), query)
        };
        let described = self.metadata.json(&below(&["revision", revision], &[])).await.map_err(host)?;
        let Revision { sha: commit } = described.parse().map_err(host)?;
        if commit.len() != 40 || !commit.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')) {
            let problem = "the revision's sha is not a commit".to_owned();
            return Err(host(MetadataError::Malformed { url: described.at, problem }));
        }
        let mut files = BTreeMap::new();
        let mut next = Some(below(&["tree", &commit], &[("recursive", "true")]));
        let (mut pages, mut entries, mut bytes) = (0, 0, 0);
        while let Some(url) = next.take() {
            let endless = |most, of| Err(ResolveError::Endless { what: source.to_string(), most, of });
            if pages == MAX_PAGES {
                return endless(MAX_PAGES, "pages");
            }
            let page = self.metadata.json(&url).await.map_err(host)?;
            if page.next.as_ref() == Some(&url) {
                let problem = "its next page is this one".to_owned();
                return Err(host(MetadataError::Malformed { url, problem }));
            }
            let listed: Vec<Listed> = page.parse().map_err(host)?;
            (pages, entries, bytes) = (pages + 1, entries + listed.len(), bytes + page.body.len());
            if entries > MAX_ENTRIES {
                return endless(MAX_ENTRIES, "entries");
            }
            if bytes > MAX_MEGABYTES << 20 {
                return endless(MAX_MEGABYTES, "MiB");
            }
            for listed in listed {
                // A name that cannot be written to a lock or shown is skipped.
                if listed.kind != "file" || crate::source::check_path(&listed.path).is_err() {
                    continue;
                }
                let said = match listed.lfs.as_ref().map(|lfs| (digest(&lfs.oid), lfs.size)) {
                    Some((Some(sha256), size)) => Declared { sha256: Some(sha256), size: Some(size) },
                    Some((None, _)) => {
                        let problem = format!("the lfs.oid of {:?} is not a SHA-256", listed.path);
                        return Err(host(MetadataError::Malformed { url: page.at, problem }));
                    }
                    None => Declared { sha256: None, size: Some(listed.size) },
                };
                files.insert(listed.path, File { oid: listed.oid, said });
            }
            next = page.next;
        }
        Ok(Rc::new(Tree { commit, files }))
    }
}
