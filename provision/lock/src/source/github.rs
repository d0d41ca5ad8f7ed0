//! Assets of GitHub releases.

use std::fmt;

use url::Url;

use super::{Form, FormProblem, SourceError, address, check_path, is_name};

/// An asset of a release.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReleaseAsset {
    /// `OWNER/REPO`.
    pub repo: String,
    /// The release's tag, or the newest release without one. A tag may be called `latest`, so the word has no meaning
    /// here.
    pub tag: Option<String>,
    /// The asset's name.
    pub asset: String,
}

impl ReleaseAsset {
    pub(super) fn parse(text: &str) -> Result<Self, SourceError> {
        let form = Form::GitHub;
        let (owner, rest) = text.split_once('/').unwrap_or((text, ""));
        let (name, tag, asset) = match rest.split_once('@') {
            // An asset's name may contain `@`; a repository's cannot.
            Some((name, rest)) if !name.contains('/') => {
                let (tag, asset) = rest.rsplit_once('/').ok_or(FormProblem::Asset.of(form))?;
                (name, Some(tag), asset)
            }
            _ => {
                let (name, asset) = rest.split_once('/').unwrap_or((rest, ""));
                (name, None, asset)
            }
        };
        Self::new(owner, name, tag, asset)
    }

    pub(super) fn new(owner: &str, name: &str, tag: Option<&str>, asset: &str) -> Result<Self, SourceError> {
        let form = Form::GitHub;
        if !is_name(owner) {
            return Err(FormProblem::Owner.of(form));
        }
        if !is_name(name) {
            return Err(FormProblem::Repository.of(form));
        }
        if tag.is_some_and(|tag| tag.contains(char::is_whitespace) || check_path(tag).is_err()) {
            return Err(FormProblem::Tag.of(form));
        }
        if asset.contains('/') || check_path(asset).is_err() {
            return Err(FormProblem::Asset.of(form));
        }
        let owned = |text: &str| text.to_owned();
        Ok(Self { repo: format!("{owner}/{name}"), tag: tag.map(owned), asset: owned(asset) })
    }

    pub(super) fn address(&self) -> Url {
        let release = match &self.tag {
            Some(tag) => ["download", tag],
            None => ["latest", "download"],
        };
        let file = [&["releases"], &release[..], &[&self.asset]].concat();
        address("https://github.com", self.repo.split('/').chain(file))
    }
}

impl fmt::Display for ReleaseAsset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tag {
            Some(tag) => write!(f, "github:{}@{tag}/{}", self.repo, self.asset),
            None => write!(f, "github:{}/{}", self.repo, self.asset),
        }
    }
}
