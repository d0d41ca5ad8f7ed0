//! Errors of parsing a source. They never repeat the text: it may contain a secret.

use std::fmt;

use provision_core::digest::DigestError;
use provision_core::source_url::SourceUrlError;

use provision_core::terminal_text::TerminalText;

/// The reason that a text is no [`Source`](super::Source).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Neither a URL nor a short form.
    #[error(
        "not a source; give an https URL, or one of {}, {}, {}, {}, {}",
        Form::Hub,
        Form::Civitai,
        Form::ModelScope,
        Form::GitHub,
        Form::Oci
    )]
    Unknown,
    /// A URL that cannot be downloaded from.
    #[error(transparent)]
    Url(#[from] SourceUrlError),
    /// An incomplete short form.
    #[error("{wrong}; the form is {form}")]
    Form {
        /// The form of the text.
        form: Form,
        /// The problem.
        wrong: FormProblem,
    },
    /// A web page instead of a file.
    #[error("this is the page of {what}, not a file; {}", TerminalText(instead))]
    Page {
        /// The page's subject.
        what: &'static str,
        /// The input to give instead.
        instead: String,
    },
    /// A credential in the query.
    #[error(
        "the URL has a credential in its query ({parameter}=…), which a lock must not contain; remove it, and pass the \
         token in the environment or a netrc file"
    )]
    Credential {
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

/// The problem of a short form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormProblem {
    /// The owner is missing or contains invalid characters.
    #[error("the owner is missing or not a valid name")]
    Owner,
    /// The repository is missing or contains invalid characters.
    #[error("the repository is missing or not a valid name")]
    Repository,
    /// The revision behind `@` is missing or contains invalid characters.
    #[error("the revision after the `@` is missing or invalid (write a slash in it as %2F)")]
    Revision,
    /// The path is missing or names a directory.
    #[error("the file's path is missing (a glob such as `*.safetensors` selects several files)")]
    NoPath,
    /// The path has an empty, `.` or `..` component.
    #[error("the path component {component:?} leaves or repeats a directory")]
    Traversal {
        /// The component.
        component: String,
    },
    /// The path contains an invalid character.
    #[error("the path contains the character {found:?}")]
    Character {
        /// The character.
        found: char,
    },
    /// The version is no number.
    #[error("a version is a number: the one after `modelVersionId=` in the page's URL")]
    Version,
    /// A parameter does not choose among a version's files.
    #[error(
        "only fileId, type, format, size, fp and quantType may follow the `?`; they select one of a version's files"
    )]
    Filter,
    /// The asset's name is missing.
    #[error("the asset's name is missing")]
    Asset,
    /// The tag behind `@` is missing.
    #[error("the tag after the `@` is missing")]
    Tag,
    /// The registry is missing or no host.
    #[error("the registry is missing or not a valid host")]
    Registry,
    /// `@sha256:` is missing.
    #[error("a blob is named by its digest, but `@sha256:` is missing; a tag names a manifest")]
    NoDigest,
    /// The digest is invalid.
    #[error(transparent)]
    Digest(DigestError),
}

impl FormProblem {
    /// The error with the form that was parsed.
    pub(super) fn of(self, form: Form) -> SourceError {
        SourceError::Form { form, wrong: self }
    }
}
