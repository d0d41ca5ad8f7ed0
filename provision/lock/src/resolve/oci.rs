//! Resolves blobs of registries: the name contains the digest.

use super::{Found, ResolveError, Resolver};
use crate::source::{Blob, Source};

impl Resolver {
    pub(super) async fn oci(&self, blob: &Blob) -> Result<Found, ResolveError> {
        let source = Source::Oci(blob.clone());
        let url = source.address();
        let probe = self.metadata.probe(&url).await;
        let probe = probe.map_err(|error| ResolveError::host(&source, error))?;
        let size = probe.size.ok_or_else(|| ResolveError::NoSize { what: source.to_string() })?;
        Ok(Found {
            url,
            size: Some(size),
            sha256: Some(blob.sha256),
            name: None,
            is_named_by_host: false,
            civitai_type: None,
            etag: probe.etag,
            source,
        })
    }
}
