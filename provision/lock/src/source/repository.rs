//! Files of git-like repositories: those of the Hub and of `ModelScope`, which share one notation.

use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use url::Url;

use super::{Form, FormProblem, SourceError, address, check_path, is_name};

/// Characters that a revision escapes: those that would end it, and `%` itself.
const IN_REVISION: &AsciiSet = &CONTROLS.add(b'/').add(b'%').add(b'@').add(b' ');

/// A file in a repository, or several: `OWNER/REPO[@REV]/PATH`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RepoFile {
    /// `OWNER/REPO`.
    pub repo: String,
    /// A branch, tag or commit; without one, the host's main branch.
    pub revision: Option<String>,
    /// The path below the repository's root; first taken literally and then as a glob.
    pub path: String,
}

/// The Hub's kinds of repositories; each has its own namespace.
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
    /// The prefix before the owner, in short forms and URLs; `None` for a model.
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
    /// The kind of the repository.
    pub kind: RepoKind,
    /// The repository and the path.
    pub file: RepoFile,
}

impl RepoFile {
    /// Parses the text behind the scheme.
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
            .map_err(|_| FormProblem::Revision.of(form))?;
        Self::new(form, owner, name, revision.map(Into::into), path)
    }

    /// Checks the decoded parts.
    pub(super) fn new(
        form: Form,
        owner: &str,
        name: &str,
        revision: Option<String>,
        path: &str,
    ) -> Result<Self, SourceError> {
        if !is_name(owner) {
            return Err(FormProblem::Owner.of(form));
        }
        if !is_name(name) {
            return Err(FormProblem::Repository.of(form));
        }
        if revision.as_deref().is_some_and(|revision| !is_revision(revision)) {
            return Err(FormProblem::Revision.of(form));
        }
        check_path(path).map_err(|wrong| wrong.of(form))?;
        Ok(Self { repo: format!("{owner}/{name}"), revision, path: path.to_owned() })
    }

    /// The same repository's `path` at `revision`: a file that a glob matched, at the branch's commit.
    #[must_use]
    pub fn at(&self, revision: &str, path: &str) -> Self {
        Self { repo: self.repo.clone(), revision: Some(revision.to_owned()), path: path.to_owned() }
    }

    /// Returns true if the revision is a full commit, which never names other bytes.
    pub fn is_pinned(&self) -> bool {
        self.revision.as_deref().is_some_and(is_commit)
    }

    /// Returns true if the path may match several files. A file with exactly this name takes precedence.
    pub fn may_be_glob(&self) -> bool {
        self.path.contains(['*', '?', '[', '{'])
    }

    /// Returns true if the path, as a glob, matches `path`.
    pub fn glob_matches(&self, path: &str) -> bool {
        // The matcher would read a leading `!` as a negation.
        let escaped = self.path.strip_prefix('!').map(|rest| format!("\\!{rest}"));
        fast_glob::glob_match(escaped.as_deref().unwrap_or(&self.path), path)
    }

    /// Selects from `paths`: the one with exactly this name, or else all that the glob matches.
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
        // `hf://` is the notation of the Hub's own file system interface.
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

/// Splits the text behind `refs/` into the Hub's revision and the path.
pub(super) fn split_ref(text: &str) -> Option<(String, &str)> {
    let (kind, rest) = text.split_once('/')?;
    let (name, path) = rest.split_once('/')?;
    matches!(kind, "pr" | "convert").then(|| (format!("refs/{kind}/{name}"), path))
}

/// Returns true for 40 hex digits. An abbreviated commit may become ambiguous, so it counts as a branch.
fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

/// Returns true for a name that git allows, as far as it matters here.
fn is_revision(revision: &str) -> bool {
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '?' | '#' | '\\' | '*' | '[');
    !revision.contains(odd) && revision.split('/').all(|part| !matches!(part, "" | "." | ".."))
}
