//! A request, parsed from the wire.
//!
//! Parsing is pure. It is lenient where a test may be odd: any method, and absolute-form targets as a proxy gets them.
//! It is strict where other files rely on it: three words in the first line, a colon in each header.

use percent_encoding::{percent_decode_str, percent_encode_byte};

/// The longest request head that is read; a longer one is answered by 431.
pub const MAX_REQUEST_HEAD: usize = 32 << 10;

/// One request, and the status of its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The number of its connection, from 0 in the order of acceptance.
    pub connection: u64,
    /// The method as sent.
    pub method: String,
    /// The target as sent: path and query, or a whole URL if the client uses the origin as a proxy.
    pub target: String,
    /// The target's path, percent-decoded: the key of files, faults and counters.
    pub path: String,
    /// The target's query without the question mark, as sent.
    pub query: Option<String>,
    /// All header lines in order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The text of the `Range` header.
    pub range: Option<String>,
    /// The status sent, before any fault on the wire; 0 while a [`When::Custom`](crate::When::Custom) is asked.
    pub status: u16,
    is_http_1_0: bool,
}

impl Recorded {
    /// The first value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first byte of the `Range` header; `None` without the header, and for a suffix range.
    pub fn range_start(&self) -> Option<u64> {
        self.range.as_deref()?.strip_prefix("bytes=")?.split('-').next()?.parse().ok()
    }

    /// The value of one `name=value` of the query, as sent.
    pub fn query_value(&self, name: &str) -> Option<&str> {
        let pairs = self.query.as_deref()?.split('&');
        pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    pub(crate) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// Keep the connection open after the answer.
    pub(crate) fn keeps_open(&self) -> bool {
        let asked = self.header("connection").unwrap_or_default().to_ascii_lowercase();
        if self.is_http_1_0 { asked.contains("keep-alive") } else { !asked.contains("close") }
    }
}

/// The length of a head, up to and including the empty line.
pub(crate) fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// Parses a head of [`head_length`] bytes; `None` if it is not HTTP/1.
pub(crate) fn parse(head: &[u8], connection: u64) -> Option<Recorded> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || !version.starts_with("HTTP/1.") {
        return None;
    }
    let headers = lines
        .take_while(|line| !line.is_empty())
        .map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        })
        .collect::<Option<Vec<_>>>()?;
    let local = origin_form(target);
    let (path, query) = local.split_once('?').map_or((local, None), |(path, query)| (path, Some(query)));
    let range = headers.iter().find(|(name, _)| name == "range").map(|(_, value)| value.clone());
    Some(Recorded {
        connection,
        method: method.to_owned(),
        target: target.to_owned(),
        path: percent_decode(path),
        query: query.map(str::to_owned),
        headers,
        range,
        status: 0,
        is_http_1_0: version == "HTTP/1.0",
    })
}

/// Removes scheme and host from `http://host/path?query`, the target that a proxy gets.
fn origin_form(target: &str) -> &str {
    match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => target,
    }
}

/// Decodes `%XX`; invalid escapes stay as they are.
pub(crate) fn percent_decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Encodes every byte that a path may not contain; slashes stay.
pub(crate) fn percent_encode(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(percent_encode_byte(byte));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(head: &str) -> Option<Recorded> {
        parse(head.as_bytes(), 3)
    }

    #[test]
    fn a_request_is_parsed() {
        let head = "GET /a%20b/c?sig=1&x=2 HTTP/1.1\r\nHost: h\r\nRANGE:  bytes=5-9 \r\n\r\n";
        assert_eq!(head_length(format!("{head}GET").as_bytes()), Some(head.len()));
        let request = parsed(head).unwrap();
        assert_eq!(request.path, "/a b/c");
        assert_eq!(request.target, "/a%20b/c?sig=1&x=2");
        assert_eq!(request.query_value("x"), Some("2"));
        assert_eq!(request.range.as_deref(), Some("bytes=5-9"));
        assert_eq!(request.range_start(), Some(5));
        assert!(request.keeps_open());
    }

    #[test]
    fn connection_and_version_decide_on_keep_alive() {
        assert!(!parsed("GET / HTTP/1.0\r\n\r\n").unwrap().keeps_open());
        assert!(!parsed("GET / HTTP/1.1\r\nConnection: Close\r\n\r\n").unwrap().keeps_open());
    }

    #[test]
    fn a_proxy_target_is_reduced_to_its_path() {
        assert_eq!(parsed("GET http://h:1/p?q HTTP/1.1\r\n\r\n").unwrap().path, "/p");
        assert_eq!(parsed("GET http://h HTTP/1.1\r\n\r\n").unwrap().path, "/");
    }

    #[test]
    fn malformed_heads_are_rejected() {
        for head in
            ["GET /\r\n\r\n", "GET / x HTTP/1.1\r\n\r\n", "GET / SPDY\r\n\r\n", "GET / HTTP/1.1\r\nx\r\n\r\n"]
        {
            assert!(parsed(head).is_none(), "{head:?}");
        }
    }

    #[test]
    fn percent_encoding_in_both_directions() {
        assert_eq!(percent_decode("/%C3%A9%2f%zz%4"), "/é/%zz%4");
        assert_eq!(percent_encode("/é b?"), "/%C3%A9%20b%3F");
    }
}
