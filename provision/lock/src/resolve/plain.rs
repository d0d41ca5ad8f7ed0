//! Addresses that no rule knows more about.

use provision_core::source_url::SourceUrl;

use super::{Found, ResolveError, Resolver, Said, digest};
use crate::source::Source;

impl Resolver {
    /// A redirect like the Hub's is believed: it is the address's own host that says it, as with the bytes. Mirrors of the
    /// Hub and its endpoints on other ports are such.
    pub(super) async fn plain(&mut self, url: &SourceUrl) -> Result<Found, ResolveError> {
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
                first: Said { sha256, size: linked_size },
                second_place: "the storage behind it",
                second: Said { sha256: None, size: probe.size },
            });
        }
        let size = linked_size.or(probe.size);
        let size = size.ok_or_else(|| ResolveError::NoSize { what: source.to_string() })?;
        // A weak one says nothing about bytes (RFC 9110 section 8.8.1).
        let etag = probe.etag.filter(|etag| etag.starts_with('"'));
        Ok(Found { url: url.clone(), size, sha256, name: None, civitai_type: None, etag, source })
    }
}
