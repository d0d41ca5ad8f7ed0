//! What a text that should be a source lacks. The text itself is not repeated: it may hold a secret.

use std::fmt;

use provision_core::digest::DigestError;
use provision_core::source_url::SourceUrlError;

use provision_core::terminal_text::TerminalText;

/// Why a text is no [`Source`](super::Source).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Neither an address nor one of the short forms.
    #[error(
        "not a source; give an https address, or one of {}, {}, {}, {}, {}",
        Form::Hub,
        Form::Civitai,
        Form::ModelScope,
        Form::GitHub,
        Form::Oci
    )]
    Unknown,
    /// An address that cannot be fetched from.
    #[error(transparent)]
    Url(#[from] SourceUrlError),
    /// A short form that is not complete.
    #[error("{wrong}; it is written {form}")]
    Form {
        /// The form that was begun.
        form: Form,
        /// What is wrong with it.
        wrong: Wrong,
    },
    /// A page for people, which has no one file behind it.
    #[error("this is the page of {what}, not a file; {}", TerminalText(instead))]
    Page {
        /// What it shows.
        what: &'static str,
        /// What to give.
        instead: String,
    },
    /// A credential in the query.
    #[error(
        "the address carries a credential in its query ({parameter}=…), and a lock is no place for one; leave it out, \
         and give the token by the environment or a netrc file"
    )]
    Secret {
        /// The parameter's name.
        parameter: String,
    },
}

/// The short forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A file of the Hub.
    Hub,
    /// A model version of Civitai.
    Civitai,
    /// A file of `ModelScope`.
    ModelScope,
    /// A release's asset.
    GitHub,
    /// A registry's blob.
    Oci,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hub => "hf:OWNER/REPO[@REV]/PATH",
            Self::Civitai => "civitai:VERSION_ID",
            Self::ModelScope => "modelscope:OWNER/REPO[@REV]/PATH",
            Self::GitHub => "github:OWNER/REPO[@TAG]/ASSET",
            Self::Oci => "oci:REGISTRY/NAME@sha256:HEX",
        })
    }
}

/// What is wrong with a short form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// No owner, or one with characters that none has.
    #[error("the owner is missing or no name")]
    Owner,
    /// No repository, or one with characters that none has.
    #[error("the repository is missing or no name")]
    Repository,
    /// `@` without a revision, or one with characters that none has.
    #[error("there is no revision behind the `@` (a slash in one is written %2F)")]
    Revision,
    /// Nothing behind the repository, or a directory.
    #[error("the path of a file is missing (a glob such as `*.safetensors` takes several)")]
    NoPath,
    /// An empty, `.` or `..` component.
    #[error("the component {component:?} of the path leaves or repeats a directory")]
    Traversal {
        /// The component.
        component: String,
    },
    /// A character that no path has.
    #[error("the path has the character {found:?} in it")]
    Character {
        /// The character.
        found: char,
    },
    /// A version that is no number.
    #[error("a version is a number, the one behind `modelVersionId=` in the page's address")]
    Version,
    /// A `?` with something that does not choose among a version's files.
    #[error("behind the `?` only type, format, size and fp choose among a version's files")]
    Filter,
    /// No asset's name.
    #[error("the asset's name is missing")]
    Asset,
    /// No tag behind the `@`.
    #[error("there is no tag behind the `@`")]
    Tag,
    /// No registry, or one that is no host.
    #[error("the registry is missing or no host")]
    Registry,
    /// No `@sha256:`.
    #[error("a blob is named by its digest, and `@sha256:` is missing; a tag names a manifest")]
    NoDigest,
    /// A digest that is none.
    #[error(transparent)]
    Digest(DigestError),
}

impl Wrong {
    /// The error that says which form was meant.
    pub(super) fn of(self, form: Form) -> SourceError {
        SourceError::Form { form, wrong: self }
    }
}
