//! Assets of GitHub releases.

use std::fmt;

use url::Url;

use super::{Form, SourceError, Wrong, address, check_path, is_name};

/// A file that belongs to a release.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReleaseAsset {
    /// `OWNER/REPO`.
    pub repo: String,
    /// The release's tag; the newest release where there is none. A tag may be called `latest`, so that is not a word here.
    pub tag: Option<String>,
    /// The asset's name.
    pub asset: String,
}

impl ReleaseAsset {
    pub(super) fn parse(text: &str) -> Result<Self, SourceError> {
        let form = Form::GitHub;
        let (owner, rest) = text.split_once('/').unwrap_or((text, ""));
        let (name, tag, asset) = match rest.split_once('@') {
            // An asset may have an `@` in its name, a repository may not.
            Some((name, rest)) if !name.contains('/') => {
                let (tag, asset) = rest.rsplit_once('/').ok_or(Wrong::Asset.of(form))?;
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
            return Err(Wrong::Owner.of(form));
        }
        if !is_name(name) {
            return Err(Wrong::Repository.of(form));
        }
        if tag.is_some_and(|tag| tag.contains(char::is_whitespace) || check_path(tag).is_err()) {
            return Err(Wrong::Tag.of(form));
        }
        if asset.contains('/') || check_path(asset).is_err() {
            return Err(Wrong::Asset.of(form));
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
