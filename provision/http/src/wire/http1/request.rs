//! A request's head.

use http::header::HeaderValue;
use url::{Position, Url};

/// Who is asked, and how the address is written for it (RFC 9112 section 3.2). Not to be shown: it may hold a login.
#[derive(Clone)]
pub(crate) enum Form {
    /// The host itself: path and query.
    Origin,
    /// A proxy: the whole address, and the login that the proxy wants.
    Absolute(Option<HeaderValue>),
}

/// A GET.
pub(crate) struct Request<'a> {
    pub(crate) url: &'a Url,
    pub(crate) form: &'a Form,
    /// `Accept`.
    pub(crate) accept: &'a str,
    /// `Range`.
    pub(crate) range: Option<String>,
    pub(crate) authorization: Option<&'a HeaderValue>,
}

impl Request<'_> {
    /// As it is sent. No `Referer`, no cookie, and nothing but `identity` is accepted: with anything else, CDNs have
    /// compressed and dropped the range.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let target = match self.form {
            Form::Origin => &self.url[Position::BeforePath..Position::AfterQuery],
            Form::Absolute(_) => &self.url[..Position::AfterQuery],
        };
        let mut bytes = Vec::with_capacity(512);
        let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| bytes.extend_from_slice(part));
        put(&[b"GET ", target.as_bytes(), b" HTTP/1.1\r\nHost: "]);
        put(&[self.url[Position::BeforeHost..Position::AfterPort].as_bytes()]);
        put(&[b"\r\nUser-Agent: provision/", env!("CARGO_PKG_VERSION").as_bytes()]);
        put(&[b"\r\nAccept: ", self.accept.as_bytes(), b"\r\nAccept-Encoding: identity"]);
        if let Some(range) = &self.range {
            put(&[b"\r\nRange: ", range.as_bytes()]);
        }
        if let Some(value) = self.authorization {
            put(&[b"\r\nAuthorization: ", value.as_bytes()]);
        }
        if let Form::Absolute(Some(value)) = self.form {
            put(&[b"\r\nProxy-Authorization: ", value.as_bytes()]);
        }
        put(&[b"\r\n\r\n"]);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(url: &str, form: &Form) -> String {
        let request = Request {
            url: &Url::parse(url).unwrap(),
            form,
            accept: "*/*",
            range: Some("bytes=0-9".to_owned()),
            authorization: Some(&HeaderValue::from_static("Bearer x")),
        };
        String::from_utf8(request.to_bytes()).unwrap()
    }

    #[test]
    fn a_host_is_sent_the_path_and_a_proxy_the_whole_address() {
        let url = "http://h.example:8080/a%20b?c=d#e";
        let direct = sent(url, &Form::Origin);
        assert!(direct.starts_with("GET /a%20b?c=d HTTP/1.1\r\nHost: h.example:8080\r\n"), "{direct}");
        assert!(direct.contains("\r\nRange: bytes=0-9\r\nAuthorization: Bearer x\r\n"), "{direct}");
        assert!(direct.ends_with("\r\n\r\n") && !direct.contains("Proxy-"), "{direct}");
        let proxied = sent(url, &Form::Absolute(Some(HeaderValue::from_static("Basic y"))));
        assert!(proxied.starts_with("GET http://h.example:8080/a%20b?c=d HTTP/1.1\r\nHost: h.example"));
        assert!(proxied.contains("\r\nProxy-Authorization: Basic y\r\n"), "{proxied}");
    }

    #[test]
    fn a_standard_port_is_left_out_and_ipv6_keeps_its_brackets() {
        assert!(sent("https://h.example:443/", &Form::Origin).contains("\r\nHost: h.example\r\n"));
        assert!(sent("http://[::1]:81/", &Form::Origin).contains("\r\nHost: [::1]:81\r\n"));
    }

    #[test]
    fn fault_51_no_referer_is_sent() {
        assert!(!sent("http://h.example/", &Form::Origin).to_ascii_lowercase().contains("referer"));
    }
}
