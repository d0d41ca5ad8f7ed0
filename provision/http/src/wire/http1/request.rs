//! Requests: the bytes of a GET.
//!
//! A request has no `Referer`, no cookie but those of its own redirects, and accepts `identity` only: for any other
//! encoding CDNs have compressed the body and dropped the range.

use http::header::HeaderValue;
use url::{Position, Url};

use provision_core::byte_range::ByteRange;

/// The `User-Agent` of every request.
pub(crate) const USER_AGENT: &str = concat!("provision/", env!("CARGO_PKG_VERSION"));

/// The form of the request target (RFC 9112 section 3.2). It may hold a login, so it has no `Debug`.
#[derive(Clone)]
pub(crate) enum RequestTarget {
    /// Path and query, for the host itself.
    Origin,
    /// The whole URL, for a proxy, and the `Proxy-Authorization` value.
    Absolute(Option<HeaderValue>),
}

/// The headers in which requests differ.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestHeaders {
    /// `Range`.
    pub(crate) range: Option<ByteRange>,
    /// `Accept`.
    pub(crate) accept: &'static str,
}

/// The headers that only the host of a request may see.
#[derive(Debug, Clone, Default)]
pub(crate) struct Secrets {
    /// `Authorization`.
    pub(crate) authorization: Option<HeaderValue>,
    /// `Cookie`.
    pub(crate) cookie: Option<HeaderValue>,
}

/// A GET.
pub(crate) struct Request<'a> {
    pub(crate) url: &'a Url,
    pub(crate) target: &'a RequestTarget,
    pub(crate) headers: RequestHeaders,
    pub(crate) secrets: &'a Secrets,
}

impl Request<'_> {
    /// The bytes to send.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let target = match self.target {
            RequestTarget::Origin => &self.url[Position::BeforePath..Position::AfterQuery],
            RequestTarget::Absolute(_) => &self.url[..Position::AfterQuery],
        };
        let mut bytes = Vec::with_capacity(512);
        let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| bytes.extend_from_slice(part));
        put(&[b"GET ", target.as_bytes(), b" HTTP/1.1\r\nHost: "]);
        put(&[self.url[Position::BeforeHost..Position::AfterPort].as_bytes()]);
        put(&[b"\r\nUser-Agent: ", USER_AGENT.as_bytes()]);
        put(&[b"\r\nAccept: ", self.headers.accept.as_bytes(), b"\r\nAccept-Encoding: identity"]);
        if let Some(range) = self.headers.range {
            put(&[b"\r\nRange: ", range.to_header().as_bytes()]);
        }
        if let Some(value) = &self.secrets.authorization {
            put(&[b"\r\nAuthorization: ", value.as_bytes()]);
        }
        if let Some(value) = &self.secrets.cookie {
            put(&[b"\r\nCookie: ", value.as_bytes()]);
        }
        if let RequestTarget::Absolute(Some(value)) = self.target {
            put(&[b"\r\nProxy-Authorization: ", value.as_bytes()]);
        }
        put(&[b"\r\n\r\n"]);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(url: &str, target: &RequestTarget) -> String {
        let request = Request {
            url: &Url::parse(url).unwrap(),
            target,
            headers: RequestHeaders { range: Some(ByteRange::new(0, 10)), accept: "*/*" },
            secrets: &Secrets {
                authorization: Some(HeaderValue::from_static("Bearer x")),
                cookie: Some(HeaderValue::from_static("a=b")),
            },
        };
        String::from_utf8(request.to_bytes()).unwrap()
    }

    #[test]
    fn a_host_gets_the_path_and_a_proxy_the_whole_url() {
        let url = "http://h.example:8080/a%20b?c=d#e";
        let direct = sent(url, &RequestTarget::Origin);
        assert!(direct.starts_with("GET /a%20b?c=d HTTP/1.1\r\nHost: h.example:8080\r\n"), "{direct}");
        assert!(
            direct.contains("\r\nRange: bytes=0-9\r\nAuthorization: Bearer x\r\nCookie: a=b\r\n"),
            "{direct}"
        );
        assert!(direct.ends_with("\r\n\r\n") && !direct.contains("Proxy-"), "{direct}");
        let proxied = sent(url, &RequestTarget::Absolute(Some(HeaderValue::from_static("Basic y"))));
        assert!(proxied.starts_with("GET http://h.example:8080/a%20b?c=d HTTP/1.1\r\nHost: h.example"));
        assert!(proxied.contains("\r\nProxy-Authorization: Basic y\r\n"), "{proxied}");
    }

    #[test]
    fn default_ports_are_omitted_and_ipv6_keeps_brackets() {
        assert!(sent("https://h.example:443/", &RequestTarget::Origin).contains("\r\nHost: h.example\r\n"));
        assert!(sent("http://[::1]:81/", &RequestTarget::Origin).contains("\r\nHost: [::1]:81\r\n"));
    }

    #[test]
    fn fault_51_no_referer_is_sent() {
        assert!(!sent("http://h.example/", &RequestTarget::Origin).to_ascii_lowercase().contains("referer"));
    }
}
