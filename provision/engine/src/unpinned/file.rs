//! A file whose digest is unknown, and the name of its part.

use provision_core::digest::Sha256;
use provision_core::lockfile::Model;
use provision_core::model_path::ModelPath;
use provision_core::source_url::SourceUrl;

/// A file whose digest is unknown.
#[derive(Debug, Clone)]
pub struct UnpinnedFile {
    /// Its path below the destination.
    pub path: ModelPath,
    /// The download URL.
    pub url: SourceUrl,
    /// The same as it is asked, for messages.
    pub asked: SourceUrl,
    /// The declared size in bytes. Without one, the body's end tells it.
    pub size: Option<u64>,
    /// The version in a host's listing, if the URL leads to another server.
    pub listed: Option<String>,
    /// The strong validator of the answer with the bytes. Without one, no later command resumes the download.
    pub validator: Option<String>,
    /// Its piece list is made while its bytes pass.
    pub makes_list: bool,
}

impl UnpinnedFile {
    /// A model under a placeholder digest, computed from all that is known about the file. It names the part.
    pub(super) fn placeholder(&self, size: u64) -> Model {
        let validator = match (&self.listed, &self.validator) {
            (Some(listed), Some(validator)) => Some(format!("{listed}\n{validator}")),
            (_, validator) => validator.clone(),
        };
        let known = format!("{}\n{}\n{validator:?}", self.url.as_url(), size);
        Model {
            path: self.path.clone(),
            sources: vec![self.url.clone()],
            size,
            sha256: Sha256::of(known.as_bytes()),
            pieces: None,
            groups: Vec::new(),
            source: None,
        }
    }
}
