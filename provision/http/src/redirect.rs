//! Redirects: the URL that a `Location` leads to, and the reasons to refuse it. Pure.
//!
//! https never becomes http, and other schemes are refused. The rules that need the peer's address are in
//! `request_rules`.

use std::fmt::Write as _;

use url::Url;

use provision_core::source_url::{SourceUrl, SourceUrlError};

/// The longest redirect chain.
pub(crate) const MAX_HOPS: usize = 10;

/// A redirect that the client does not follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedirectError {
    /// It leads from https to http.
    #[error("it redirects from https to http, which is never followed; give another URL")]
    Downgrade,
    /// It has no usable `Location`.
    #[error("it redirects, but to no usable URL: {0}")]
    Location(String),
    /// It leads from a public address to a private one.
    #[error(
        "a public host redirects to a private address ({host}), which is never followed; if the file is yours, give its URL there"
    )]
    Private {
        /// The private host.
        host: String,
    },
    /// The chain is longer than ten hops, or a circle.
    #[error("it redirects more than {MAX_HOPS} times; give another URL")]
    TooMany,
}

/// The URL that `location` in an answer of `from` leads to; it may be relative (RFC 9110 section 10.2.2). Spaces,
/// quotes and bytes above 127 are encoded, as browsers do (WHATWG URL); control characters are refused.
pub(crate) fn follow(from: &SourceUrl, location: Option<&[u8]>) -> Result<SourceUrl, RedirectError> {
    let unusable = |why: &str| RedirectError::Location(why.to_owned());
    let location = location.ok_or_else(|| unusable("its Location is missing"))?;
    let location = location.trim_ascii();
    if location.is_empty() || location.iter().any(u8::is_ascii_control) {
        return Err(unusable("its Location is empty or has control characters"));
    }
    let location = location.iter().fold(String::new(), |mut text, byte| {
        match byte {
            0x80.. => write!(text, "%{byte:02X}").unwrap_or_default(),
            _ => text.push(char::from(*byte)),
        }
        text
    });
    let url: Url = from.as_url().join(&location).map_err(|error| unusable(&error.to_string()))?;
    let next = SourceUrl::from_url(url).map_err(|error| match error {
        SourceUrlError::Scheme { scheme } => unusable(&format!("its scheme is {scheme:?}")),
        error => unusable(&error.to_string()),
    })?;
    if from.is_https() && !next.is_https() {
        return Err(RedirectError::Downgrade);
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(from: &str, to: &str) -> Result<String, RedirectError> {
        follow(&from.parse().unwrap(), Some(to.as_bytes())).map(|url| url.as_url().to_string())
    }

    #[test]
    fn relative_and_absolute_locations_keep_their_query() {
        assert_eq!(location("https://h/a/b?x", "/c?sig=1").unwrap(), "https://h/c?sig=1");
        assert_eq!(location("https://h/a/b", "c").unwrap(), "https://h/a/c");
        assert_eq!(location("http://h/a", "https://cdn/x").unwrap(), "https://cdn/x");
        assert_eq!(location("https://h/a", "//cdn/x").unwrap(), "https://cdn/x");
    }

    #[test]
    fn fault_45_https_never_becomes_http() {
        assert_eq!(location("https://h/a", "http://h/a"), Err(RedirectError::Downgrade));
    }

    #[test]
    fn fault_46_other_schemes_are_refused() {
        for to in ["file:///etc/passwd", "ftp://h/x", "data:text/plain,x", "javascript:1"] {
            assert!(matches!(location("http://h/a", to), Err(RedirectError::Location(_))), "{to}");
        }
    }

    #[test]
    fn fault_49_unusable_locations_are_refused() {
        assert!(follow(&"http://h/".parse().unwrap(), None).is_err());
        for to in [
            "",
            "http://h/\r\nX: y",
            "http://u:p@h/",
            "http://u@h/",
            "http://a%2Fb/",
            "http://",
            "http://h /",
        ] {
            assert!(matches!(location("http://h/a", to), Err(RedirectError::Location(_))), "{to}");
        }
    }

    #[test]
    fn fault_102_spaces_quotes_and_other_bytes_are_encoded() {
        assert_eq!(location("https://h/a", " /b c?d e").unwrap(), "https://h/b%20c?d%20e");
        assert_eq!(location("https://h/a", "/é?ü=\"x\"").unwrap(), "https://h/%C3%A9?%C3%BC=%22x%22");
        assert_eq!(
            location("https://h/a", "https://bücher.example/").unwrap(),
            "https://xn--bcher-kva.example/"
        );
        let raw = follow(&"http://h/".parse().unwrap(), Some(b"/\xff?sig=%2B/+")).unwrap();
        assert_eq!(raw.as_url().as_str(), "http://h/%FF?sig=%2B/+");
    }
}
