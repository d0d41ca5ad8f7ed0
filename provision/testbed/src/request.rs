//! A request, read from the wire and remembered.
//!
//! Parsing is pure and lenient where a test may want to be odd (any method, absolute-form targets as a proxy gets
//! them), strict where the rest relies on it (three words in the first line, a colon in each header).

use std::net::SocketAddr;

/// The largest request head that is read; a longer one is answered by 431.
pub const MAX_REQUEST_HEAD: usize = 32 << 10;

/// One request as it came, and the status that it was answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The number of the connection that it came over, from 0 in the order of acceptance.
    pub connection: u64,
    /// The other end of that connection.
    pub peer: SocketAddr,
    /// The method as sent.
    pub method: String,
    /// The target as sent: path and query, or a whole URL when a client takes the origin for a proxy.
    pub target: String,
    /// The target's path, percent-decoded. Contents, injections and counters go by it.
    pub path: String,
    /// The target's query without the question mark, as sent.
    pub query: Option<String>,
    /// All header lines in order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The `Range` header's text.
    pub range: Option<String>,
    /// The status sent, before any fault on the wire; 0 while a [`When::Custom`](crate::When::Custom) looks at it.
    pub status: u16,
    /// False for HTTP/1.0.
    pub(crate) keeps_alive: bool,
}

impl Recorded {
    /// The first value of a header; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first byte that the `Range` header asks for: `None` without one, or for a suffix range.
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

    /// Whether the client wants to go on after this answer.
    pub(crate) fn wants_more(&self) -> bool {
        let asked = self.header("connection").unwrap_or_default().to_ascii_lowercase();
        if self.keeps_alive { !asked.contains("close") } else { asked.contains("keep-alive") }
    }
}

/// Where the head ends: the length up to and including the empty line.
pub(crate) fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// Reads a head that [`head_length`] has delimited. `None`: not HTTP/1.
pub(crate) fn parse(head: &[u8], connection: u64, peer: SocketAddr) -> Option<Recorded> {
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
    let (path, query) = match local.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (local, None),
    };
    let mut recorded = Recorded {
        connection,
        peer,
        method: method.to_owned(),
        target: target.to_owned(),
        path: percent_decode(path),
        query,
        headers,
        range: None,
        status: 0,
        keeps_alive: version != "HTTP/1.0",
    };
    recorded.range = recorded.header("range").map(str::to_owned);
    Some(recorded)
}

/// `http://host/path?query` as a proxy gets it, without scheme and host.
fn origin_form(target: &str) -> &str {
    match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => target,
    }
}

/// Decodes `%XX`; what is not valid stays as it is.
pub(crate) fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        let decoded =
            digits.filter(|_| bytes[at] == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(decoded.unwrap_or(bytes[at]));
        at += if decoded.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Encodes what may not stand in a path; slashes stay.
pub(crate) fn percent_encode(path: &str) -> String {
    path.bytes().fold(String::with_capacity(path.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&crate::content::hex(&[byte]).to_ascii_uppercase());
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(head: &str) -> Option<Recorded> {
        parse(head.as_bytes(), 3, "127.0.0.1:9".parse().unwrap())
    }

    #[test]
    fn a_request_is_taken_apart() {
        let head = "GET /a%20b/c?sig=1&x=2 HTTP/1.1\r\nHost: h\r\nRANGE:  bytes=5-9 \r\n\r\n";
        assert_eq!(head_length(format!("{head}GET").as_bytes()), Some(head.len()));
        let request = parsed(head).unwrap();
        assert_eq!(request.path, "/a b/c");
        assert_eq!(request.target, "/a%20b/c?sig=1&x=2");
        assert_eq!(request.query_value("x"), Some("2"));
        assert_eq!(request.range.as_deref(), Some("bytes=5-9"));
        assert_eq!(request.range_start(), Some(5));
        assert!(request.wants_more());
    }

    #[test]
    fn connection_and_version_decide_on_more() {
        assert!(!parsed("GET / HTTP/1.0\r\n\r\n").unwrap().wants_more());
        assert!(!parsed("GET / HTTP/1.1\r\nConnection: Close\r\n\r\n").unwrap().wants_more());
    }

    #[test]
    fn a_proxy_request_loses_its_host() {
        assert_eq!(parsed("GET http://h:1/p?q HTTP/1.1\r\n\r\n").unwrap().path, "/p");
        assert_eq!(parsed("GET http://h HTTP/1.1\r\n\r\n").unwrap().path, "/");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for head in
            ["GET /\r\n\r\n", "GET / x HTTP/1.1\r\n\r\n", "GET / SPDY\r\n\r\n", "GET / HTTP/1.1\r\nx\r\n\r\n"]
        {
            assert!(parsed(head).is_none(), "{head:?}");
        }
    }

    #[test]
    fn percent_both_ways() {
        assert_eq!(percent_decode("/%C3%A9%2f%zz%4"), "/é/%zz%4");
        assert_eq!(percent_encode("/é b?"), "/%C3%A9%20b%3F");
    }
}
