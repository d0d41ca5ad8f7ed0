//! The head of an answer: status, fields, and the framing of the body (RFC 9112 sections 4 and 6.3).
//!
//! The parser is as tolerant as the one of documents: folded values, spaces before a colon, up to 256 fields. Two different
//! lengths are an error. A length beside a transfer coding, which response smuggling needs, ends the connection
//! after this answer (fault 13).

use std::borrow::Cow;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Version};

use super::body::Framing;
use crate::transport::TransportError;

/// The most fields of a head, for both clients; file servers send far fewer (fault 31).
pub(crate) const MAX_FIELDS: usize = 256;

/// A parsed head.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(super) framing: Framing,
    /// The peer keeps the connection open after the body.
    pub(super) persistent: bool,
}

impl Head {
    /// True for 100 to 199: another answer follows.
    pub(super) fn is_informational(&self) -> bool {
        self.status.is_informational()
    }
}

/// Parses the head at the start of `bytes`. Returns it with its length, or `None` if it is incomplete.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, TransportError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut answer = httparse::Response::new(&mut fields);
    let mut parser = httparse::ParserConfig::default();
    parser.allow_obsolete_multiline_headers_in_responses(true);
    parser.allow_spaces_after_header_name_in_responses(true);
    let len = match parser.parse_response(&mut answer, bytes) {
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
        let value = HeaderValue::from_bytes(&unfolded(field.value)).map_err(|_| TransportError::NotHttp)?;
        headers.append(name, value);
    }
    let framing = framing(status, version, &headers)?;
    let persistent = persists(version, &headers) && framing != Framing::ToClose && !is_ambiguous(&headers);
    Ok(Some((Head { status, headers, framing, persistent }, len)))
}

/// The value of a field in one line: a line break of a folded value counts as spaces (RFC 9112 section 5.2).
fn unfolded(value: &[u8]) -> Cow<'_, [u8]> {
    let is_break = |byte: &u8| matches!(byte, b'\r' | b'\n');
    if !value.iter().any(is_break) {
        return Cow::Borrowed(value);
    }
    value.iter().map(|byte| if is_break(byte) { b' ' } else { *byte }).collect()
}

/// The framing of the body, by the rules of RFC 9112 section 6.3 in their order.
fn framing(status: StatusCode, version: Version, headers: &HeaderMap) -> Result<Framing, TransportError> {
    if status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Ok(Framing::Length(0));
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        // HTTP/1.0 has no transfer codings, so the end of such a body is the end of the connection.
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

/// True for a head with both framings, the mark of response smuggling (RFC 9112 section 6.3, fault 13).
fn is_ambiguous(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH)
}

/// True if the peer keeps the connection open, by its `Connection` field and version.
fn persists(version: Version, headers: &HeaderMap) -> bool {
    let has = |word: &str| tokens(headers, &header::CONNECTION).any(|token| token == word);
    if version == Version::HTTP_10 { has("keep-alive") && !has("close") } else { !has("close") }
}

/// The comma-separated words of a field, over all its lines, in lower case.
fn tokens<'a>(headers: &'a HeaderMap, name: &'a HeaderName) -> impl Iterator<Item = String> + 'a {
    headers.get_all(name).iter().flat_map(|value| {
        // A value that is not text matches no word.
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
    fn an_incomplete_head_is_not_parsed() {
        let text = "HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\n\r\n";
        for end in 0..text.len() {
            assert!(parse(&text.as_bytes()[..end]).unwrap().is_none(), "{end}");
        }
        let head = head(text).unwrap();
        assert_eq!(head.status, 206);
        assert_eq!(head.headers["content-length"], "5");
    }

    #[test]
    fn content_length_is_one_number_even_if_repeated() {
        assert_eq!(framed("Content-Length: 5\r\n"), Ok((Framing::Length(5), true)));
        assert_eq!(framed("Content-Length: 5\r\nContent-Length: 5\r\n"), Ok((Framing::Length(5), true)));
        assert_eq!(framed("Content-Length: 5, 5\r\n"), Ok((Framing::Length(5), true)));
        for value in ["5\r\nContent-Length: 6", "5, 6", "+5", "-5", "5 5", "", "0x5", "99999999999999999999"]
        {
            assert_eq!(
                framed(&format!("Content-Length: {value}\r\n")),
                Err(TransportError::NotHttp),
                "{value}"
            );
        }
    }

    #[test]
    fn fault_13_chunks_override_a_length_and_end_the_connection() {
        assert_eq!(framed("Transfer-Encoding: chunked\r\n"), Ok((Framing::chunked(), true)));
        let both = "Content-Length: 5\r\nTransfer-Encoding: Chunked\r\n";
        assert_eq!(framed(both), Ok((Framing::chunked(), false)));
        assert_eq!(framed("Transfer-Encoding: chunked, gzip\r\n"), Ok((Framing::ToClose, false)));
        let old = head("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        assert_eq!((old.framing, old.persistent), (Framing::ToClose, false));
    }

    #[test]
    fn a_body_without_a_length_ends_with_the_connection() {
        assert_eq!(framed(""), Ok((Framing::ToClose, false)));
        let empty = head("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n").unwrap();
        assert_eq!((empty.framing, empty.persistent), (Framing::Length(0), true));
    }

    #[test]
    fn connection_field_and_version_decide_persistence() {
        assert_eq!(framed("Content-Length: 5\r\nConnection: Close\r\n"), Ok((Framing::Length(5), false)));
        assert_eq!(framed("Content-Length: 5\r\nConnection: x, close\r\n"), Ok((Framing::Length(5), false)));
        let old = |fields: &str| {
            head(&format!("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n{fields}\r\n")).unwrap().persistent
        };
        assert!(!old(""));
        assert!(old("Connection: keep-alive\r\n"));
    }

    #[test]
    fn fault_31_malformed_heads_are_refused() {
        for text in ["220 ready\r\n\r\n", "HTTP/2 200\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "<html>\r\n\r\n"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\na b: c\r\n\r\n").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n").is_err());
        let many = (0..=MAX_FIELDS).fold(String::new(), |text, n| format!("{text}a{n}: b\r\n"));
        assert!(parse(format!("HTTP/1.1 200 OK\r\n{many}\r\n").as_bytes()).is_err());
    }
}
