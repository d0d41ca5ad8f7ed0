//! Resolves files of `ModelScope`. The listing names the commit that last changed each file, which is no revision of
//! the repository, so a URL keeps the branch that it was named with.

use std::rc::Rc;

use provision_http::metadata::MetadataError;
use serde::Deserialize;

use super::{Found, ResolveError, Resolver, api, digest, some_of};
use crate::source::{RepoFile, Source};

const MODELSCOPE: &str = "https://modelscope.cn";

/// A file in the listing.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    #[serde(default)]
    r#type: String,
    path: String,
    #[serde(default)]
    size: u64,
    sha256: Option<String>,
    revision: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listing {
    data: Option<Files>,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Files {
    #[serde(default)]
    files: Vec<Listed>,
}

impl Resolver {
    pub(super) async fn modelscope(&self, file: &RepoFile) -> Result<Vec<Found>, ResolveError> {
        let source = Source::ModelScope(file.clone());
        let listing = self.listing(file).await;
        let listing = listing.map_err(|error| ResolveError::host(&source, error))?;
        let files = || listing.iter().filter(|listed| listed.r#type != "tree");
        let chosen = file.select(files().map(|listed| listed.path.as_str()));
        if chosen.is_empty() {
            let known = some_of(files().map(|listed| listed.path.as_str()));
            return Err(ResolveError::NoFile { what: source.to_string(), known });
        }
        let found = |path: &str| {
            let listed = files().find(|listed| listed.path == path)?;
            let source = Source::ModelScope(RepoFile { path: path.to_owned(), ..file.clone() });
            Some(Found {
                url: source.address(),
                size: Some(listed.size),
                sha256: listed.sha256.as_deref().and_then(digest),
                name: None,
                is_named_by_host: false,
                civitai_type: None,
                etag: listed.revision.clone(),
                source,
            })
        };
        Ok(chosen.into_iter().filter_map(found).collect())
    }

    async fn listing(&self, file: &RepoFile) -> Result<Rc<Vec<Listed>>, MetadataError> {
        let revision = file.revision.as_deref().unwrap_or("master");
        self.listings.get((file.repo.clone(), revision.to_owned()), || self.new_listing(file, revision)).await
    }

    async fn new_listing(&self, file: &RepoFile, revision: &str) -> Result<Rc<Vec<Listed>>, MetadataError> {
        let segments =
            ["api", "v1", "models"].into_iter().chain(file.repo.split('/')).chain(["repo", "files"]);
        let url = api(MODELSCOPE, segments, &[("Revision", revision), ("Recursive", "true")]);
        let document = self.metadata.json(&url).await?;
        let listing: Listing = document.parse()?;
        let Some(Files { files }) = listing.data else {
            let problem =
                format!("it lists no files: {:?}", document.redacted(&listing.message.unwrap_or_default()));
            return Err(MetadataError::Malformed { url: document.at, problem });
        };
        let is_named = |listed: &Listed| crate::source::check_path(&listed.path).is_ok();
        Ok(Rc::new(files.into_iter().filter(is_named).collect()))
    }
}
