//! Files of git-like repositories: the Hub's, and `ModelScope`'s, which are named alike.

use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use url::Url;

use super::{Form, SourceError, Wrong, address, check_path, is_name};

/// What a revision does not show as it is: what would end it, and the sign itself.
const IN_REVISION: &AsciiSet = &CONTROLS.add(b'/').add(b'%').add(b'@').add(b' ');

/// A file in a repository, or several: `OWNER/REPO[@REV]/PATH`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RepoFile {
    /// `OWNER/REPO`.
    pub repo: String,
    /// A branch, a tag or a commit; the host's main branch where there is none.
    pub revision: Option<String>,
    /// The file below the repository's root; taken as it is first, and as a glob second.
    pub path: String,
}

/// What kind of repository the Hub has under a name: each has names of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RepoKind {
    /// A model.
    Model,
    /// A data set.
    Dataset,
    /// A Space.
    Space,
}

impl RepoKind {
    /// What stands before the owner, in short forms and in addresses; `None` for a model.
    pub fn prefix(self) -> Option<&'static str> {
        match self {
            Self::Model => None,
            Self::Dataset => Some("datasets"),
            Self::Space => Some("spaces"),
        }
    }

    /// The collection's name below `/api/`.
    pub fn collection(self) -> &'static str {
        self.prefix().unwrap_or("models")
    }

    pub(super) fn of_prefix(prefix: &str) -> Option<Self> {
        [Self::Dataset, Self::Space].into_iter().find(|kind| kind.prefix() == Some(prefix))
    }
}

/// A file of a repository on the Hub, or several.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HubFile {
    /// What the repository is.
    pub kind: RepoKind,
    /// The repository and the path.
    pub file: RepoFile,
}

impl RepoFile {
    /// Takes what stands behind the scheme.
    pub(super) fn parse(form: Form, text: &str) -> Result<Self, SourceError> {
        let (owner, rest) = text.split_once('/').unwrap_or((text, ""));
        let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (name, revision) = match name.split_once('@') {
            Some((name, revision)) => (name, Some(revision)),
            None => (name, None),
        };
        if revision == Some("refs")
            && let Some((revision, path)) = split_ref(path)
        {
            return Self::new(form, owner, name, Some(revision), path);
        }
        let revision = revision
            .map(|revision| percent_decode_str(revision).decode_utf8())
            .transpose()
            .map_err(|_| Wrong::Revision.of(form))?;
        Self::new(form, owner, name, revision.map(Into::into), path)
    }

    /// Takes the parts, decoded, and checks them.
    pub(super) fn new(
        form: Form,
        owner: &str,
        name: &str,
        revision: Option<String>,
        path: &str,
    ) -> Result<Self, SourceError> {
        if !is_name(owner) {
            return Err(Wrong::Owner.of(form));
        }
        if !is_name(name) {
            return Err(Wrong::Repository.of(form));
        }
        if revision.as_deref().is_some_and(|revision| !is_revision(revision)) {
            return Err(Wrong::Revision.of(form));
        }
        check_path(path).map_err(|wrong| wrong.of(form))?;
        Ok(Self { repo: format!("{owner}/{name}"), revision, path: path.to_owned() })
    }

    /// The same repository's `path` at `revision`: what a glob found, at the commit that a branch led to.
    #[must_use]
    pub fn at(&self, revision: &str, path: &str) -> Self {
        Self { repo: self.repo.clone(), revision: Some(revision.to_owned()), path: path.to_owned() }
    }

    /// Whether the revision is a whole commit, which never names other bytes.
    pub fn is_pinned(&self) -> bool {
        self.revision.as_deref().is_some_and(is_commit)
    }

    /// Whether the path can mean several files. A file with exactly this name still comes first.
    pub fn may_be_glob(&self) -> bool {
        self.path.contains(['*', '?', '[', '{'])
    }

    /// Whether the path, as a glob, means `path`.
    pub fn glob_matches(&self, path: &str) -> bool {
        // The matcher would take a `!` in front for "all but".
        let escaped = self.path.strip_prefix('!').map(|rest| format!("\\!{rest}"));
        fast_glob::glob_match(escaped.as_deref().unwrap_or(&self.path), path)
    }

    /// Which of `paths` are meant: the one of this name, else those that the glob matches.
    pub fn select<'a>(&self, paths: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
        let mut matching = Vec::new();
        for path in paths {
            if path == self.path {
                return vec![path];
            }
            if self.may_be_glob() && self.glob_matches(path) {
                matching.push(path);
            }
        }
        matching
    }

    pub(super) fn modelscope_address(&self) -> Url {
        let revision = self.revision.as_deref().unwrap_or("master");
        let repository = ["models"].into_iter().chain(self.repo.split('/'));
        address("https://modelscope.cn", repository.chain(["resolve", revision]).chain(self.path.split('/')))
    }
}

impl HubFile {
    pub(super) fn parse(text: &str) -> Result<Self, SourceError> {
        // `hf://` is how the Hub's own file system interface writes it.
        let text = text.strip_prefix("//").unwrap_or(text);
        let prefixed = text
            .split_once('/')
            .and_then(|(prefix, rest)| RepoKind::of_prefix(prefix).map(|kind| (kind, rest)));
        let (kind, rest) = prefixed.unwrap_or((RepoKind::Model, text));
        Ok(Self { kind, file: RepoFile::parse(Form::Hub, rest)? })
    }

    pub(super) fn address(&self) -> Url {
        let revision = self.file.revision.as_deref().unwrap_or("main");
        let repository = self.kind.prefix().into_iter().chain(self.file.repo.split('/'));
        let file = ["resolve", revision].into_iter().chain(self.file.path.split('/'));
        address("https://huggingface.co", repository.chain(file))
    }
}

impl fmt::Display for RepoFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repo)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{}", utf8_percent_encode(revision, IN_REVISION))?;
        }
        write!(f, "/{}", self.path)
    }
}

impl fmt::Display for HubFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind.prefix() {
            Some(prefix) => write!(f, "hf:{prefix}/{}", self.file),
            None => write!(f, "hf:{}", self.file),
        }
    }
}

/// Splits what stands behind `refs/` into a revision of the Hub's own kinds and the path.
pub(super) fn split_ref(text: &str) -> Option<(String, &str)> {
    let (kind, rest) = text.split_once('/')?;
    let (name, path) = rest.split_once('/')?;
    matches!(kind, "pr" | "convert").then(|| (format!("refs/{kind}/{name}"), path))
}

/// 40 hex digits: an abbreviated one may become ambiguous, so it is as good as a branch.
fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

/// What git allows in a name, as far as it matters here.
fn is_revision(revision: &str) -> bool {
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '?' | '#' | '\\' | '*' | '[');
    !revision.contains(odd) && revision.split('/').all(|part| !matches!(part, "" | "." | ".."))
}
