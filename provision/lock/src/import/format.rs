//! The formats of lists.

use std::fmt;
use std::str::FromStr;

/// The supported formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A `ComfyUI` workflow, as its menu saves it.
    Workflow,
    /// A `ComfyUI` workflow as the server gets it, without addresses.
    Api,
    /// `ComfyUI`-Manager's model list.
    Manager,
    /// An aria2 input file.
    Aria2,
    /// A URL and a path on each line.
    Pget,
    /// A URL on each line.
    Urls,
    /// A shell script or Dockerfile that downloads.
    Script,
    /// `sha256sum`'s output.
    Sha256sum,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 8] = [
        Self::Workflow,
        Self::Api,
        Self::Manager,
        Self::Aria2,
        Self::Pget,
        Self::Urls,
        Self::Script,
        Self::Sha256sum,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Workflow => "workflow",
            Self::Api => "api",
            Self::Manager => "manager",
            Self::Aria2 => "aria2",
            Self::Pget => "pget",
            Self::Urls => "urls",
            Self::Script => "script",
            Self::Sha256sum => "sha256sum",
        }
    }
}

/// An unknown format name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown format; the formats are {}", Format::ALL.map(Format::name).join(", "))]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        Self::ALL.into_iter().find(|format| format.name() == text).ok_or(UnknownFormat)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Workflow => "ComfyUI workflow",
            Self::Api => "ComfyUI workflow in API format",
            Self::Manager => "model list of ComfyUI-Manager",
            Self::Aria2 => "aria2 input file",
            Self::Pget => "list of URLs and paths",
            Self::Urls => "list of URLs",
            Self::Script => "shell script",
            Self::Sha256sum => "output of sha256sum",
        })
    }
}
