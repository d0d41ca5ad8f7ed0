//! The head of an answer: status, fields, and the framing of the body (RFC 9112 sections 4 and 6.3).
//!
//! The parser is as lenient as common clients (fault 93): folded values, spaces before a colon, up to 256 fields. A
//! field with an odd name or value is left out, and the connection ends after the answer; if it looks like one that
//! decides about the body, it is an error that names it. So are two different lengths. A length beside a transfer
//! coding, which response smuggling needs, ends the connection after this answer (fault 13).

use std::borrow::Cow;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Version};

use super::body::Framing;
use crate::transport::{HeaderProblem, TransportError};

/// The most fields of a head, for both clients; file servers send far fewer (fault 31).
pub(crate) const MAX_FIELDS: usize = 256;

/// The fields that decide about the body, or about the next request.
const DECISIVE: [&str; 5] =
    ["Content-Length", "Transfer-Encoding", "Content-Range", "Content-Encoding", "Location"];

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
    let mut odd_fields;
    let mut answer = httparse::Response::new(&mut fields);
    let mut parser = httparse::ParserConfig::default();
    parser.allow_obsolete_multiline_headers_in_responses(true);
    parser.allow_spaces_after_header_name_in_responses(true);
    let mut parsed = parser.parse_response(&mut answer, bytes);
    let has_odd_fields = matches!(
        parsed,
        Err(httparse::Error::HeaderName | httparse::Error::HeaderValue | httparse::Error::NewLine)
    );
    if has_odd_fields {
        parser.ignore_invalid_headers_in_responses(true);
        odd_fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        answer = httparse::Response::new(&mut odd_fields);
        parsed = parser.parse_response(&mut answer, bytes);
    }
    let len = match parsed {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(HeaderProblem::TooMany.into()),
        Err(_) if has_odd_fields => {
            return Err(odd_field(bytes).err().unwrap_or(HeaderProblem::Unreadable).into());
        }
        Err(_) => return Err(TransportError::NotHttp),
    };
    if has_odd_fields {
        odd_field(&bytes[..len])?;
    }
    let status = answer.code.and_then(|code| StatusCode::from_u16(code).ok());
    let Some(status) = status.filter(|status| *status != StatusCode::SWITCHING_PROTOCOLS) else {
        return Err(TransportError::NotHttp);
    };
    let version = if answer.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let mut headers = HeaderMap::with_capacity(answer.headers.len());
    for field in answer.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| HeaderProblem::Unreadable)?;
        let value = HeaderValue::from_bytes(&unfolded(field.value)).map_err(|_| HeaderProblem::Unreadable)?;
        headers.append(name, value);
    }
    let framing = framing(status, version, &headers)?;
    let is_certain = framing != Framing::ToClose && !is_ambiguous(&headers) && !has_odd_fields;
    let persistent = persists(version, &headers) && is_certain;
    Ok(Some((Head { status, headers, framing, persistent }, len)))
}

/// Refuses a head with a line that is no field, or with a malformed field that looks like a decisive one.
fn odd_field(head: &[u8]) -> Result<(), HeaderProblem> {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let is_odd_value = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    let letters = |name: &[u8]| -> Vec<u8> {
        name.iter().filter(|byte| byte.is_ascii_alphabetic()).map(u8::to_ascii_lowercase).collect()
    };
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || matches!(line[0], b' ' | b'\t') {
            continue;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return Err(HeaderProblem::NoColon);
        };
        let (name, value) = (line[..colon].trim_ascii_end(), &line[colon + 1..]);
        let is_odd = name.is_empty() || !name.iter().all(is_token) || value.iter().any(is_odd_value);
        let name = letters(name);
        if let Some(like) = DECISIVE.iter().find(|known| is_odd && letters(known.as_bytes()) == name) {
            return Err(HeaderProblem::Malformed(like));
        }
    }
    Ok(())
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
        let malformed = || HeaderProblem::Malformed("Content-Length");
        let value = value.parse::<u64>().ok().filter(|_| digits).ok_or_else(malformed)?;
        if length.replace(value).is_some_and(|before| before != value) {
            return Err(malformed().into());
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
    fn fault_13_fields_and_version_decide_framing_and_persistence() {
        let (five, chunked, to_close) = (Framing::Length(5), Framing::chunked(), Framing::ToClose);
        let (ok, old) = ("HTTP/1.1 200 OK", "HTTP/1.0 200 OK");
        for (status, fields, framing, persistent) in [
            (ok, "Content-Length: 5\r\n", &five, true),
            (ok, "Content-Length: 5\r\nContent-Length: 5\r\n", &five, true),
            (ok, "Content-Length: 5, 5\r\n", &five, true),
            // Chunks override a length and end the connection.
            (ok, "Transfer-Encoding: chunked\r\n", &chunked, true),
            (ok, "Content-Length: 5\r\nTransfer-Encoding: Chunked\r\n", &chunked, false),
            (ok, "Transfer-Encoding: chunked, gzip\r\n", &to_close, false),
            (old, "Transfer-Encoding: chunked\r\n", &to_close, false),
            (ok, "", &to_close, false),
            ("HTTP/1.1 204 No Content", "Content-Length: 5\r\n", &Framing::Length(0), true),
            (ok, "Content-Length: 5\r\nConnection: Close\r\n", &five, false),
            (ok, "Content-Length: 5\r\nConnection: x, close\r\n", &five, false),
            (old, "Content-Length: 5\r\n", &five, false),
            (old, "Content-Length: 5\r\nConnection: keep-alive\r\n", &five, true),
        ] {
            let head = head(&format!("{status}\r\n{fields}\r\n")).unwrap();
            assert_eq!((&head.framing, head.persistent), (framing, persistent), "{status}, {fields}");
        }
        let malformed = Err(TransportError::Header(HeaderProblem::Malformed("Content-Length")));
        for value in ["5\r\nContent-Length: 6", "5, 6", "+5", "-5", "5 5", "", "0x5", "99999999999999999999"]
        {
            assert_eq!(framed(&format!("Content-Length: {value}\r\n")), malformed, "{value}");
        }
    }

    #[test]
    fn fault_31_malformed_heads_are_refused() {
        for text in ["220 ready\r\n\r\n", "HTTP/2 200\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "<html>\r\n\r\n"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").is_err());
        let many = (0..=MAX_FIELDS).fold(String::new(), |text, n| format!("{text}a{n}: b\r\n"));
        let refused = |fields: &str| match framed(fields) {
            Err(TransportError::Header(problem)) => problem,
            other => panic!("{fields:?}: {other:?}"),
        };
        assert_eq!(refused(&many), HeaderProblem::TooMany);
        assert_eq!(refused("no colon\r\n"), HeaderProblem::NoColon);
        assert_eq!(refused("a b: c\r\nno colon\r\n"), HeaderProblem::NoColon);
    }

    #[test]
    fn fault_93_an_odd_field_is_left_out_unless_it_decides() {
        for odd in
            ["a b: c", "(x): y", "X@Y: z", "gr\u{f6}\u{df}e: 1", ": empty", "X: a\u{1}b", "X\t : a\u{7f}"]
        {
            let text = format!("{odd}\r\nContent-Length: 5\r\nETag: \"x\"\r\n");
            // Nothing is known for certain about the bytes after it.
            assert_eq!(framed(&text), Ok((Framing::Length(5), false)), "{odd:?}");
            let partial = format!("HTTP/1.1 200 OK\r\n{odd}\r\nContent-Le");
            assert!(parse(partial.as_bytes()).unwrap().is_none(), "{odd:?}");
        }
        for (odd, name) in [
            ("Content Length: 5", "Content-Length"),
            ("Content-Length\u{1}: 5", "Content-Length"),
            ("Transfer Encoding: chunked", "Transfer-Encoding"),
            ("Location: http://h/\u{1}", "Location"),
            ("(Content-Range): bytes 0-1/2", "Content-Range"),
        ] {
            let refused = framed(&format!("{odd}\r\n"));
            assert_eq!(refused, Err(TransportError::Header(HeaderProblem::Malformed(name))), "{odd:?}");
        }
    }
}
