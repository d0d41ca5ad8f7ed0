//! [`Source`]: what a person names when they want a file in a lock, in one line of text.
//!
//! ```text
//! https://example.com/x.safetensors            an address, fetched as it is
//! hf:OWNER/REPO[@REV]/PATH                     a file of the Hub; a glob over PATH means several
//! hf:datasets/OWNER/REPO[@REV]/PATH            the same for a data set, or with spaces/ for a Space
//! civitai:VERSION_ID                           a model version
//! modelscope:OWNER/REPO[@REV]/PATH             as on the Hub
//! github:OWNER/REPO[@TAG]/ASSET                a release's asset; without TAG the newest release's
//! oci:REGISTRY/NAME@sha256:HEX                 a blob of a registry
//! ```
//!
//! Decisions, and why:
//! - A slash in REV is written `%2F`, as the Hub's own addresses do; otherwise the line could be split in two ways.
//!   The Hub's `refs/pr/N` and `refs/convert/NAME` are understood as they are, since people copy them so.
//! - A slash in TAG needs nothing: an asset's name has none, so the last slash ends the tag.
//! - PATH is taken literally first and as a glob second (`[` and `{` are in file names, too), as `--only` does.
//! - A web page's address (`…/blob/main/…`, `civitai.com/models/…?modelVersionId=…`, a release's download) becomes the short
//!   form, so that one thing has one name, and whatever stood in its query, such as a token, is gone (invariant I6).
//!
//! `Display` gives the text that parses back, except that an address's query is left out as everywhere.

mod civitai;
mod error;
mod github;
mod oci;
mod repository;
mod secret;
mod web;

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use provision_core::source_url::SourceUrl;
use url::Url;

pub use civitai::CivitaiVersion;
pub use error::{Form, SourceError, Wrong};
pub use github::ReleaseAsset;
pub use oci::Blob;
pub use repository::{HubFile, RepoFile, RepoKind};

/// Where bytes come from, as a person names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// An address that no rule here knows more about.
    Url(SourceUrl),
    /// A file of a repository on the Hub, or several.
    Hub(HubFile),
    /// A model version of Civitai.
    Civitai(CivitaiVersion),
    /// A file of a repository on `ModelScope`, or several.
    ModelScope(RepoFile),
    /// An asset of a GitHub release.
    GitHub(ReleaseAsset),
    /// A blob of an OCI registry.
    Oci(Blob),
}

impl Source {
    /// What a lock's address is, in the shortest form. Nothing is refused here: it is in the lock already.
    pub fn of_url(url: &SourceUrl) -> Self {
        web::recognise(url.as_url()).ok().flatten().unwrap_or_else(|| Self::Url(url.clone()))
    }

    /// Whether it names the same bytes for ever: by a commit, a digest or a version that is never given out again. An
    /// address does not, and a release's tag can be moved.
    pub fn is_pinned(&self) -> bool {
        match self {
            Self::Hub(hub) => hub.file.is_pinned(),
            Self::ModelScope(file) => file.is_pinned(),
            Self::Civitai(_) | Self::Oci(_) => true,
            Self::GitHub(_) | Self::Url(_) => false,
        }
    }

    /// Whether both mean the same: where no branch is named, it is the host's main one.
    pub fn is_same(&self, other: &Self) -> bool {
        let whole = |source: &Self| {
            let mut source = source.clone();
            match &mut source {
                Self::Hub(hub) => drop(hub.file.revision.get_or_insert_with(|| "main".to_owned())),
                Self::ModelScope(file) => drop(file.revision.get_or_insert_with(|| "master".to_owned())),
                Self::Url(_) | Self::Civitai(_) | Self::GitHub(_) | Self::Oci(_) => {}
            }
            source
        };
        whole(self) == whole(other)
    }

    /// The file's name, where the source itself tells it, and it is one file's.
    pub fn file_name(&self) -> Option<String> {
        let path = self.path()?;
        let name = path.rsplit('/').next().unwrap_or(&path);
        (!name.is_empty() && !name.contains(['*', '?'])).then(|| name.to_owned())
    }

    /// Whether it may mean several files. Where there is one of exactly this name, that is meant.
    pub fn may_be_glob(&self) -> bool {
        match self {
            Self::Hub(HubFile { file, .. }) | Self::ModelScope(file) => file.may_be_glob(),
            Self::Url(_) | Self::Civitai(_) | Self::GitHub(_) | Self::Oci(_) => false,
        }
    }

    /// The path at the source that a layout can be read from: below the repository, or an address's own.
    pub fn path(&self) -> Option<String> {
        match self {
            Self::Hub(hub) => Some(hub.file.path.clone()),
            Self::ModelScope(file) => Some(file.path.clone()),
            Self::GitHub(asset) => Some(asset.asset.clone()),
            Self::Url(url) => {
                let path = percent_decode_str(url.as_url().path()).decode_utf8().ok()?;
                let path = path.trim_start_matches('/');
                (!path.is_empty() && !path.ends_with('/')).then(|| path.to_owned())
            }
            Self::Civitai(_) | Self::Oci(_) => None,
        }
    }

    /// The address that the bytes are fetched from, on the host's public name. PATH counts as a file's name here, not as
    /// a glob, and a branch or a tag stays what it is: pinning them is the host's answer to give.
    pub fn address(&self) -> SourceUrl {
        let url = match self {
            Self::Url(url) => return url.clone(),
            Self::Hub(hub) => hub.address(),
            Self::Civitai(version) => version.address(),
            Self::ModelScope(file) => file.modelscope_address(),
            Self::GitHub(asset) => asset.address(),
            Self::Oci(blob) => blob.address(),
        };
        SourceUrl::from_url(url).expect("these addresses are https and have no user information")
    }
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let text = text.trim();
        let Some((scheme, rest)) = text.split_once(':') else { return Err(SourceError::Unknown) };
        match scheme.to_ascii_lowercase().as_str() {
            "hf" => HubFile::parse(rest).map(Self::Hub),
            "civitai" => CivitaiVersion::parse(rest).map(Self::Civitai),
            "modelscope" => RepoFile::parse(Form::ModelScope, rest).map(Self::ModelScope),
            "github" => ReleaseAsset::parse(rest).map(Self::GitHub),
            "oci" => Blob::parse(rest).map(Self::Oci),
            "urn" => CivitaiVersion::parse_urn(rest).map(Self::Civitai),
            "http" | "https" => {
                let url: SourceUrl = text.parse()?;
                if let Some(known) = web::recognise(url.as_url())? {
                    return Ok(known);
                }
                if let Some(parameter) = secret::parameter(&url) {
                    return Err(SourceError::Secret { parameter });
                }
                Ok(Self::Url(url))
            }
            _ => Err(SourceError::Unknown),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => url.fmt(f),
            Self::Hub(hub) => hub.fmt(f),
            Self::Civitai(version) => version.fmt(f),
            Self::ModelScope(file) => write!(f, "modelscope:{file}"),
            Self::GitHub(asset) => asset.fmt(f),
            Self::Oci(blob) => blob.fmt(f),
        }
    }
}

/// An owner's, repository's or registry name's part, in the characters that every host here allows.
fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty() && text.chars().all(allowed) && text != "." && text != ".."
}

/// What keeps `path` from being one below a repository.
pub(crate) fn check_path(path: &str) -> Result<(), Wrong> {
    if let Some(found) = path.chars().find(|c| c.is_control()) {
        return Err(Wrong::Character { found });
    }
    if path.is_empty() || path.ends_with('/') {
        return Err(Wrong::NoPath);
    }
    match path.split('/').find(|component| matches!(*component, "" | "." | "..")) {
        Some(component) => Err(Wrong::Traversal { component: component.to_owned() }),
        None => Ok(()),
    }
}

/// An address below `base`, its segments encoded.
pub(crate) fn address<'a>(base: &str, segments: impl IntoIterator<Item = &'a str>) -> Url {
    let mut url = Url::parse(base).expect("a base is a whole address");
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url
}

#[cfg(test)]
mod tests;
