//! [`Source`]: the origin of a file, as a person names it in one line of text.
//!
//! ```text
//! https://example.com/x.safetensors            a URL, downloaded as it is
//! hf:OWNER/REPO[@REV]/PATH                     a file of the Hub; a glob as PATH means several
//! hf:datasets/OWNER/REPO[@REV]/PATH            the same for a data set, or with spaces/ for a Space
//! civitai:VERSION_ID                           a model version
//! modelscope:OWNER/REPO[@REV]/PATH             as on the Hub
//! github:OWNER/REPO[@TAG]/ASSET                an asset of a release; without TAG, of the newest one
//! oci:REGISTRY/NAME@sha256:HEX                 a blob of a registry
//! ```
//!
//! Decisions:
//! - A slash in REV is written `%2F`, as in the Hub's own URLs; otherwise the line could be split in two ways. The
//!   Hub's `refs/pr/N` and `refs/convert/NAME` are accepted as they are, since people copy them in that form.
//! - A slash in TAG needs no escape: an asset's name has none, so the last slash ends the tag.
//! - PATH is first taken literally and then as a glob, as a `MODEL` argument, because names contain `[` and `{`, too.
//! - A web page's URL (`…/blob/main/…`, `civitai.com/models/…?modelVersionId=…`, a release's download) becomes the
//!   short form. Each file then has one name, and the URL's query, which may contain a token, is dropped (invariant
//!   I6).
//!
//! `Display` writes text that parses back, except that a URL's query is left out, as everywhere.

mod browser_urls;
mod civitai;
mod error;
mod github;
mod oci;
mod repository;
mod url_credentials;

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use provision_core::source_url::SourceUrl;
use url::Url;

pub use civitai::CivitaiVersion;
pub use error::{Form, FormProblem, SourceError};
pub use github::ReleaseAsset;
pub use oci::Blob;
pub use repository::{HubFile, RepoFile, RepoKind};

/// The origin of a file, as a person names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// A URL without host-specific rules.
    Url(SourceUrl),
    /// A file of a Hub repository, or several.
    Hub(HubFile),
    /// A model version of Civitai.
    Civitai(CivitaiVersion),
    /// A file of a `ModelScope` repository, or several.
    ModelScope(RepoFile),
    /// An asset of a GitHub release.
    GitHub(ReleaseAsset),
    /// A blob of an OCI registry.
    Oci(Blob),
}

impl Source {
    /// The shortest form of a lock's URL. It never fails: the URL is in the lock already.
    pub fn of_url(url: &SourceUrl) -> Self {
        // A bucket may have the name of a host.
        if url.object().is_some() || url.file().is_some() {
            return Self::Url(url.clone());
        }
        browser_urls::recognise(url.as_url()).ok().flatten().unwrap_or_else(|| Self::Url(url.clone()))
    }

    /// Returns true if the source names the same bytes for good: by commit, digest, or a version number that is never
    /// reused. A URL does not, and a release's tag can be moved.
    pub fn is_pinned(&self) -> bool {
        match self {
            Self::Hub(hub) => hub.file.is_pinned(),
            Self::ModelScope(file) => file.is_pinned(),
            Self::Civitai(_) | Self::Oci(_) => true,
            Self::GitHub(_) | Self::Url(_) => false,
        }
    }

    /// Returns true if both name the same file; without a revision, the host's main branch counts.
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

    /// The file's name, if the source contains it and names one file.
    pub fn file_name(&self) -> Option<String> {
        let path = self.path()?;
        let name = path.rsplit('/').next().unwrap_or(&path);
        (!name.is_empty() && !name.contains(['*', '?'])).then(|| name.to_owned())
    }

    /// Returns true if the source contains a name with the suffix of a model's file.
    pub fn has_model_name(&self) -> bool {
        self.file_name().is_some_and(|name| crate::placement::has_suffix(&name))
    }

    /// Returns true if the source may name several files. A file with exactly this name takes precedence.
    pub fn may_be_glob(&self) -> bool {
        match self {
            Self::Hub(HubFile { file, .. }) | Self::ModelScope(file) => file.may_be_glob(),
            Self::Url(_) | Self::Civitai(_) | Self::GitHub(_) | Self::Oci(_) => false,
        }
    }

    /// The source's address without a signature or a credential, which change while the file stays. Every other part
    /// may choose the file.
    pub fn lasting_address(url: &SourceUrl) -> Url {
        url_credentials::without_signature(url)
    }

    /// Returns true for the name of a query's parameter that carries a login.
    pub(crate) fn is_login(name: &str) -> bool {
        url_credentials::is_credential(name, "unknown")
    }

    /// The path at the source, as a hint for the placement: below the repository, or of the URL. A file that the query
    /// names (`download?file=vae/x.safetensors`) has that name.
    pub fn path(&self) -> Option<String> {
        match self {
            Self::Hub(hub) => Some(hub.file.path.clone()),
            Self::ModelScope(file) => Some(file.path.clone()),
            Self::GitHub(asset) => Some(asset.asset.clone()),
            Self::Url(url) => {
                if let Some(path) = path_in_query(url.as_url()) {
                    return Some(path);
                }
                let path = percent_decode_str(url.as_url().path()).decode_utf8().ok()?;
                let path = path.trim_start_matches('/');
                (!path.is_empty() && !path.ends_with('/')).then(|| path.to_owned())
            }
            Self::Civitai(_) | Self::Oci(_) => None,
        }
    }

    /// The download URL on the host's public name. PATH counts as a file's name here, not as a glob. A branch or tag
    /// stays as it is, because only the host's answer can pin it.
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
                if let Some(known) = browser_urls::recognise(url.as_url())? {
                    return Ok(known);
                }
                if let Some(parameter) = url_credentials::find(&url) {
                    return Err(SourceError::Credential { parameter });
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

/// The path in a parameter of the query, if it is a model's file and the URL's own path is not.
fn path_in_query(url: &Url) -> Option<String> {
    const NAMES: [&str; 7] = ["file", "file_name", "file_path", "filename", "filepath", "name", "path"];
    const MODELS: [&str; 9] = ["bin", "ckpt", "gguf", "onnx", "pkl", "pt", "pth", "safetensors", "sft"];
    let is_model = |path: &str| {
        let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
        MODELS.iter().any(|known| extension.eq_ignore_ascii_case(known))
    };
    let is_named = |name: &str| NAMES.iter().any(|known| name.eq_ignore_ascii_case(known));
    let mut named = url.query_pairs().filter(|(name, value)| is_named(name) && is_model(value));
    let path = named.next().filter(|_| !is_model(url.path()))?.1.trim_start_matches('/').to_owned();
    check_path(&path).ok().map(|()| path)
}

/// Returns true for an owner's, repository's or registry's name part, in characters that all supported hosts allow.
fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty() && text.chars().all(allowed) && text != "." && text != ".."
}

/// Checks that `path` stays below a repository.
pub(crate) fn check_path(path: &str) -> Result<(), FormProblem> {
    if let Some(found) = path.chars().find(|c| c.is_control()) {
        return Err(FormProblem::Character { found });
    }
    if path.is_empty() || path.ends_with('/') {
        return Err(FormProblem::NoPath);
    }
    match path.split('/').find(|component| matches!(*component, "" | "." | "..")) {
        Some(component) => Err(FormProblem::Traversal { component: component.to_owned() }),
        None => Ok(()),
    }
}

/// A URL below `base` with encoded segments.
pub(crate) fn address<'a>(base: &str, segments: impl IntoIterator<Item = &'a str>) -> Url {
    let mut url = Url::parse(base).expect("a base is a whole address");
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url
}

#[cfg(test)]
mod tests;
