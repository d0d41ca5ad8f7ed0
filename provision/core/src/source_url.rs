//! [`SourceUrl`]: a URL to download from, which never shows its secrets.
//!
//! A signed URL carries its signature in the query, and people put tokens there too. So `Display` and `Debug` leave the
//! query out (invariant I6). Only [`SourceUrl::as_url`] gives the whole text, and only the HTTP client calls it.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use url::{Host, Url};

/// An `http` or `https` address without user information or fragment, the object of a bucket, or a file of this
/// machine.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SourceUrl {
    url: Url,
    /// Facts that few addresses have; boxed, since errors hold addresses.
    more: Option<Box<More>>,
}

#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct More {
    /// The redacted path, if the path contains a secret.
    shown_path: Option<Box<str>>,
    /// The object of a bucket whose address this is: `s3://BUCKET/KEY`, or that below its endpoint. Requests for it are
    /// signed.
    object: Option<Arc<BucketObject>>,
    /// The address as a lock has it, where it is another text than the URL's.
    written: Option<Box<str>>,
}

/// An object of an S3-compatible bucket, with the facts about the endpoint in its address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BucketObject {
    /// The bucket's name.
    pub bucket: String,
    /// The object's key, not encoded.
    pub key: String,
    /// The endpoint, if the address names one.
    pub endpoint: Option<Url>,
    /// The region, if the address names one.
    pub region: Option<String>,
    /// The style of the endpoint's addresses, if the address names one.
    pub style: Option<BucketStyle>,
    /// The bucket is a store, so an object that may not be read counts as one that is not there.
    pub is_store: bool,
}

/// The place of a bucket's name in the addresses of its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BucketStyle {
    /// `https://ENDPOINT/BUCKET/KEY`
    Path,
    /// `https://BUCKET.ENDPOINT/KEY`
    Virtual,
}

/// A text that is no [`SourceUrl`]. The error does not repeat the text, which may contain a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceUrlError {
    /// It is not a URL at all.
    #[error("not an absolute URL: {0}")]
    Syntax(url::ParseError),
    /// Neither http nor https.
    #[error("the scheme is {scheme:?}; only https and http are fetched")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// `user:password@` in front of the host.
    #[error("the address carries a user name or password; put them into a netrc file")]
    UserInfo,
    /// Control characters or white space, which URL parsers drop silently.
    #[error("the address has white space or control characters in it")]
    Characters,
    /// A host with other characters than letters, digits, `-`, `.` and `_`. The parsers of URLs disagree about them, so
    /// a request could go past a proxy.
    #[error("the host of the address has a character that no host name has")]
    Host,
}

impl SourceUrl {
    /// Takes a parsed URL that keeps the rules.
    pub fn from_url(mut url: Url) -> Result<Self, SourceUrlError> {
        if !matches!(url.scheme(), "http" | "https") {
            // The text before the first colon may be a user name or a token.
            let scheme = url.scheme();
            let is_one = scheme.len() <= 10 && scheme.bytes().all(|b| b.is_ascii_lowercase());
            return Err(SourceUrlError::Scheme { scheme: if is_one { scheme } else { "…" }.to_owned() });
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(SourceUrlError::UserInfo);
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if matches!(url.host(), Some(Host::Domain(name)) if !name.bytes().all(is_name)) {
            return Err(SourceUrlError::Host);
        }
        url.set_fragment(None);
        Ok(Self { url, more: None })
    }

    /// The address of an object, `s3://BUCKET/KEY`. The HTTP client turns it into that of the endpoint.
    pub fn of_object(object: BucketObject) -> Result<Self, SourceUrlError> {
        let mut url = Url::parse(&format!("s3://{}", object.bucket)).map_err(SourceUrlError::Syntax)?;
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(object.key.split('/'));
        }
        Ok(Self { url, more: None }.with_object(Arc::new(object)))
    }

    /// This address, as that of an object: requests for it are signed.
    #[must_use]
    pub fn with_object(mut self, object: Arc<BucketObject>) -> Self {
        self.more.get_or_insert_default().object = Some(object);
        self
    }

    /// The address of a file of this machine; `None` for a relative path. No client asks for it.
    pub fn of_file(path: &Utf8Path) -> Option<Self> {
        let url = Url::from_file_path(path).ok()?;
        Some(Self { url, more: None })
    }

    /// The file of this machine that the address is of.
    pub fn file(&self) -> Option<Utf8PathBuf> {
        if self.url.scheme() != "file" {
            return None;
        }
        Utf8PathBuf::try_from(self.url.to_file_path().ok()?).ok()
    }

    /// This address, which a lock has as `text`.
    #[must_use]
    pub fn with_written(mut self, text: &str) -> Self {
        self.more.get_or_insert_default().written = Some(text.into());
        self
    }

    /// The address as a lock has it, with its secrets.
    pub fn written(&self) -> &str {
        self.more.as_ref().and_then(|more| more.written.as_deref()).unwrap_or(self.url.as_str())
    }

    /// The object that the address is of.
    pub fn object(&self) -> Option<&Arc<BucketObject>> {
        self.more.as_ref()?.object.as_ref()
    }

    /// The same URL with its shown path redacted: a redirect may repeat a secret of the request there.
    #[must_use]
    pub fn with_path_shown(mut self, redact: impl FnOnce(&str) -> Cow<'_, str>) -> Self {
        if let Cow::Owned(shown) = redact(self.url.path()) {
            self.more.get_or_insert_default().shown_path = Some(shown.into());
        }
        self
    }

    /// The address with its secrets, for a request.
    pub fn as_url(&self) -> &Url {
        &self.url
    }

    /// The host's name or address, as text, without brackets around IPv6.
    pub fn host(&self) -> String {
        match self.url.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => String::new(),
        }
    }

    /// `host:port`, the unit that connections are counted by.
    pub fn authority(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        format!("{host}:{}", self.port())
    }

    /// The port, given or the scheme's own.
    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or_default()
    }

    /// Returns true if the connection is encrypted.
    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The host as an address, if it is written as one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self.url.host()? {
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
            Host::Domain(_) => None,
        }
    }

    /// Returns true if the host is this machine: a loopback address or `localhost`.
    pub fn is_loopback(&self) -> bool {
        match self.ip() {
            Some(address) => address.to_canonical().is_loopback(),
            None => matches!(self.url.host(), Some(Host::Domain("localhost"))),
        }
    }

    /// Returns true if scheme, host and port are equal: the web's "same origin" (RFC 6454).
    pub fn is_same_origin(&self, other: &Self) -> bool {
        self.url.origin() == other.url.origin()
    }
}

impl FromStr for SourceUrl {
    type Err = SourceUrlError;

    fn from_str(text: &str) -> Result<Self, SourceUrlError> {
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(SourceUrlError::Characters);
        }
        Self::from_url(Url::parse(text).map_err(SourceUrlError::Syntax)?)
    }
}

impl fmt::Display for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(object) = self.object() {
            return write!(f, "s3://{}/{}", object.bucket, object.key);
        }
        write!(f, "{}://{}", self.url.scheme(), self.url.host_str().unwrap_or_default())?;
        if let Some(port) = self.url.port() {
            write!(f, ":{port}")?;
        }
        let shown = self.more.as_ref().and_then(|more| more.shown_path.as_deref());
        f.write_str(shown.unwrap_or(self.url.path()))?;
        if self.url.query().is_some() { f.write_str("?…") } else { Ok(()) }
    }
}

impl fmt::Debug for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_53_a_signed_query_is_shown_nowhere() {
        let url: SourceUrl =
            "https://cdn.example/a/b?X-Amz-Signature=canary&token=canary#canary".parse().unwrap();
        assert_eq!(url.to_string(), "https://cdn.example/a/b?…");
        assert!(!format!("{url:?}").contains("canary"));
        assert!(url.as_url().as_str().contains("Signature=canary"));
    }

    #[test]
    fn refused_urls_are_not_repeated_in_the_error() {
        for text in [
            "ftp://h/x",
            "file:///etc/passwd",
            "data:,x",
            "https://u:canary@h/x",
            "https://canary@h/",
            "/x",
            "https://h/a b",
            "https://h/\r\nX: y",
            "http://a{b.example/canary",
            "http://a}b.example/",
            "http://a\"b.example/",
            "http://a`b.example/",
            "https://",
        ] {
            let error = text.parse::<SourceUrl>().unwrap_err();
            assert!(!error.to_string().contains("canary"), "{error}");
        }
    }

    #[test]
    fn loopback_is_recognised_in_every_spelling() {
        for text in [
            "http://127.0.0.1:80/",
            "http://127.9.9.9/",
            "http://[::1]:8/",
            "http://localhost/",
            "http://[::ffff:127.0.0.1]/",
        ] {
            assert!(text.parse::<SourceUrl>().unwrap().is_loopback(), "{text}");
        }
        assert!(!"http://localhost.evil/".parse::<SourceUrl>().unwrap().is_loopback());
    }
}
