//! Blobs of OCI registries (distribution spec 1.1, "Pulling blobs").

use std::fmt;

use provision_core::digest::Sha256;
use provision_core::source_url::SourceUrl;
use url::Url;

use super::{Form, FormProblem, SourceError};

/// A blob. Its name is its digest, which verifies it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Blob {
    /// The registry's host, with a port unless it is the scheme's default.
    pub registry: String,
    /// The repository's name.
    pub name: String,
    /// The digest.
    pub sha256: Sha256,
}

impl Blob {
    pub(super) fn parse(text: &str) -> Result<Self, SourceError> {
        let form = Form::Oci;
        let text = text.strip_prefix("//").unwrap_or(text);
        let (place, digest) = text.split_once("@sha256:").ok_or(FormProblem::NoDigest.of(form))?;
        let sha256 = digest.parse().map_err(|error| FormProblem::Digest(error).of(form))?;
        let (registry, name) = place.split_once('/').unwrap_or((place, ""));
        if !name.split('/').all(is_component) {
            return Err(FormProblem::Repository.of(form));
        }
        // URL parsers drop or move characters that are not part of a host, such as a tab.
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        let is_host = !registry.is_empty() && registry.chars().all(allowed);
        let base = is_host.then(|| Url::parse(&format!("https://{registry}/")).ok()).flatten();
        if base.is_none_or(|url| url.host_str().is_none() || url.path() != "/") {
            return Err(FormProblem::Registry.of(form));
        }
        Ok(Self { registry: registry.to_owned(), name: name.to_owned(), sha256 })
    }

    /// A registry on this machine uses plain http, as in container engines.
    pub(super) fn address(&self) -> Url {
        let path = format!("{}/v2/{}/blobs/sha256:{}", self.registry, self.name, self.sha256);
        let url: SourceUrl = format!("https://{path}").parse().expect("the registry is a host");
        if url.is_loopback() {
            return Url::parse(&format!("http://{path}")).expect("only the scheme differs");
        }
        url.as_url().clone()
    }
}

/// Returns true for lower-case letters and digits with single separators (`.`, `_`, `__` or dashes).
fn is_component(text: &str) -> bool {
    let plain = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    plain(text.chars().next()) && plain(text.chars().last()) && text.chars().all(allowed)
}

impl fmt::Display for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci:{}/{}@sha256:{}", self.registry, self.name, self.sha256)
    }
}
