//! The head of an answer, and how its body is framed (RFC 9112 sections 4 and 6.3).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Version};

use super::body::Framing;
use crate::error::TransportError;

/// More fields than this are no answer of a file server (fault 31).
const MAX_FIELDS: usize = 100;

/// Status, fields, and what follows them.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(super) framing: Framing,
    /// The connection stays open after the body.
    pub(super) persistent: bool,
}

impl Head {
    /// 100 to 199: another answer follows.
    pub(super) fn is_informational(&self) -> bool {
        self.status.is_informational()
    }
}

/// Reads a head from the start of `bytes`: it and its length, or `None` where its end is not there yet.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, TransportError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut answer = httparse::Response::new(&mut fields);
    let len = match answer.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(TransportError::NotHttp),
    };
    let status = answer.code.and_then(|code| StatusCode::from_u16(code).ok());
    let Some(status) = status.filter(|status| *status != StatusCode::SWITCHING_PROTOCOLS) else {
        return Err(TransportError::NotHttp);
    };
    let version = if answer.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let mut headers = HeaderMap::with_capacity(answer.headers.len());
    for field in answer.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| TransportError::NotHttp)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| TransportError::NotHttp)?;
        headers.append(name, value);
    }
    let framing = framing(status, version, &headers)?;
    let persistent = persists(version, &headers) && framing != Framing::ToClose && !is_ambiguous(&headers);
    Ok(Some((Head { status, headers, framing, persistent }, len)))
}

/// How long the body is: RFC 9112 section 6.3, in its order.
fn framing(status: StatusCode, version: Version, headers: &HeaderMap) -> Result<Framing, TransportError> {
    if status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Ok(Framing::Length(0));
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        // HTTP/1.0 has no transfer codings: whoever sends one is not to be believed about its end.
        let chunked =
            tokens(headers, &header::TRANSFER_ENCODING).last().is_some_and(|last| last == "chunked");
        return Ok(if chunked && version == Version::HTTP_11 {
            Framing::chunked()
        } else {
            Framing::ToClose
        });
    }
    let mut length = None;
    for value in tokens(headers, &header::CONTENT_LENGTH) {
        let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let value = value.parse::<u64>().ok().filter(|_| digits).ok_or(TransportError::NotHttp)?;
        if length.replace(value).is_some_and(|before| before != value) {
            return Err(TransportError::NotHttp);
        }
    }
    Ok(length.map_or(Framing::ToClose, Framing::Length))
}

/// Both lengths at once is how answers are smuggled past somebody (RFC 9112 section 6.3, fault 13).
fn is_ambiguous(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH)
}

fn persists(version: Version, headers: &HeaderMap) -> bool {
    let says = |word: &str| tokens(headers, &header::CONNECTION).any(|token| token == word);
    if version == Version::HTTP_10 { says("keep-alive") && !says("close") } else { !says("close") }
}

/// The comma-separated words of a field, over all its lines, in small letters.
fn tokens<'a>(headers: &'a HeaderMap, name: &'a HeaderName) -> impl Iterator<Item = String> + 'a {
    headers.get_all(name).iter().flat_map(|value| {
        // A value that is no text is no word that anything is compared with.
        let text = value.to_str().unwrap_or("?");
        text.split(',').map(|token| token.trim().to_ascii_lowercase()).collect::<Vec<_>>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Head, TransportError> {
        let (head, len) = parse(text.as_bytes())?.expect("a whole head");
        assert_eq!(len, text.len());
        Ok(head)
    }

    fn framed(fields: &str) -> Result<(Framing, bool), TransportError> {
        head(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).map(|head| (head.framing, head.persistent))
    }

    #[test]
    fn a_head_is_not_read_before_its_end_is_there() {
        let text = "HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\n\r\n";
        for end in 0..text.len() {
            assert!(parse(&text.as_bytes()[..end]).unwrap().is_none(), "{end}");
        }
        let head = head(text).unwrap();
        assert_eq!(head.status, 206);
        assert_eq!(head.headers["content-length"], "5");
    }

    #[test]
    fn a_length_is_one_number_however_often_it_is_said() {
        assert_eq!(framed("Content-Length: 5\r\n"), Ok((Framing::Length(5), true)));
        assert_eq!(framed("Content-Length: 5\r\nContent-Length: 5\r\n"), Ok((Framing::Length(5), true)));
        assert_eq!(framed("Content-Length: 5, 5\r\n"), Ok((Framing::Length(5), true)));
        for lie in ["5\r\nContent-Length: 6", "5, 6", "+5", "-5", "5 5", "", "0x5", "99999999999999999999"] {
            assert_eq!(framed(&format!("Content-Length: {lie}\r\n")), Err(TransportError::NotHttp), "{lie}");
        }
    }

    #[test]
    fn fault_13_chunks_win_over_a_length_and_end_the_connection() {
        assert_eq!(framed("Transfer-Encoding: chunked\r\n"), Ok((Framing::chunked(), true)));
        let both = "Content-Length: 5\r\nTransfer-Encoding: Chunked\r\n";
        assert_eq!(framed(both), Ok((Framing::chunked(), false)));
        assert_eq!(framed("Transfer-Encoding: chunked, gzip\r\n"), Ok((Framing::ToClose, false)));
        let old = head("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        assert_eq!((old.framing, old.persistent), (Framing::ToClose, false));
    }

    #[test]
    fn a_body_without_a_length_ends_with_its_connection() {
        assert_eq!(framed(""), Ok((Framing::ToClose, false)));
        let empty = head("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n").unwrap();
        assert_eq!((empty.framing, empty.persistent), (Framing::Length(0), true));
    }

    #[test]
    fn who_keeps_a_connection() {
        assert_eq!(framed("Content-Length: 5\r\nConnection: Close\r\n"), Ok((Framing::Length(5), false)));
        assert_eq!(framed("Content-Length: 5\r\nConnection: x, close\r\n"), Ok((Framing::Length(5), false)));
        let old = |fields: &str| {
            head(&format!("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n{fields}\r\n")).unwrap().persistent
        };
        assert!(!old(""));
        assert!(old("Connection: keep-alive\r\n"));
    }

    #[test]
    fn fault_31_what_is_no_head_is_refused() {
        for text in ["220 ready\r\n\r\n", "HTTP/2 200\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "<html>\r\n\r\n"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\na b: c\r\n\r\n").is_err());
        let many = (0..=MAX_FIELDS).fold(String::new(), |text, n| format!("{text}a{n}: b\r\n"));
        assert!(parse(format!("HTTP/1.1 200 OK\r\n{many}\r\n").as_bytes()).is_err());
    }
}
