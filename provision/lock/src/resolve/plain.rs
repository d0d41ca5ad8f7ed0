//! Resolves URLs without host-specific rules.

use provision_core::source_url::SourceUrl;

use super::{Declared, Found, ResolveError, Resolver, digest};
use crate::source::Source;

impl Resolver {
    /// A redirect like the Hub's is accepted: it comes from the URL's own host, as the bytes do. Mirrors of the Hub and
    /// its endpoints on other ports answer this way.
    pub(super) async fn plain(&self, url: &SourceUrl) -> Result<Found, ResolveError> {
        let source = Source::Url(url.clone());
        let probe = self.metadata.probe(url).await.map_err(|error| ResolveError::host(&source, error))?;
        let linked = probe.linked().and_then(|(etag, size)| Some((digest(etag)?, size)));
        let (sha256, linked_size) = match linked {
            Some((sha256, size)) => (Some(sha256), size),
            None => (None, None),
        };
        if linked_size.is_some() && probe.size.is_some() && linked_size != probe.size {
            return Err(ResolveError::Disagreement {
                what: source.to_string(),
                first_place: "the redirect",
                first: Declared { sha256, size: linked_size },
                second_place: "the storage behind it",
                second: Declared { sha256: None, size: probe.size },
            });
        }
        let size = linked_size.or(probe.size);
        // A name of the host's counts only where the URL has none. `/download` and `/files/latest` are none.
        let name = probe.file_name.filter(|_| !source.has_model_name());
        let is_named_by_host = name.is_some();
        // A weak validator says nothing about the bytes (RFC 9110 section 8.8.1).
        let etag = probe.etag.filter(|etag| etag.starts_with('"'));
        Ok(Found { url: url.clone(), size, sha256, name, is_named_by_host, civitai_type: None, etag, source })
    }
}
