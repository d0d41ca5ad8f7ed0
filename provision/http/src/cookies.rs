//! Cookies of a redirect chain: some hosts redirect in a circle until a cookie of theirs comes back (fault 101). Pure.
//!
//! Only redirects of the chain set cookies, and a cookie goes back to the host and port that set it, whatever its
//! `Domain` says. Path, `Secure`, `Max-Age` and `Expires` count as in RFC 6265. A cookie is a secret: no message has
//! it.

use std::fmt;
use std::time::SystemTime;

use http::header::{self, HeaderMap, HeaderValue};

use provision_core::redact::Redactor;
use provision_core::source_url::SourceUrl;

/// The most cookies of a chain.
const MOST: usize = 20;
/// The longest name and value, in bytes (RFC 6265 section 6.1).
const LONGEST: usize = 4 << 10;
/// The longest `Cookie` header, in bytes; servers refuse longer heads.
const LONGEST_HEADER: usize = 8 << 10;
/// The shortest value that is removed from texts of the host.
const SHORTEST_SECRET: usize = 6;

/// The cookies of a chain, in the order in which they were set.
#[derive(Clone, Default)]
pub(crate) struct Cookies(Vec<Cookie>);

#[derive(Clone)]
struct Cookie {
    name: String,
    value: String,
    host: String,
    /// The port, if it is not the scheme's own.
    port: Option<u16>,
    path: String,
    is_secure: bool,
}

impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cookies({})", self.0.len())
    }
}

impl Cookies {
    /// Takes the cookies of a redirect of `url`.
    pub(crate) fn keep(&mut self, headers: &HeaderMap, url: &SourceUrl, now: SystemTime) {
        for value in headers.get_all(header::SET_COOKIE) {
            let Some((cookie, is_over)) = value.to_str().ok().and_then(|text| Cookie::parse(text, url, now))
            else {
                continue;
            };
            self.0.retain(|known| !known.is_same(&cookie));
            if !is_over {
                self.0.push(cookie);
            }
        }
        self.0.drain(..self.0.len().saturating_sub(MOST));
    }

    /// The `Cookie` header for a request to `url`.
    pub(crate) fn header(&self, url: &SourceUrl) -> Option<HeaderValue> {
        let mut cookies: Vec<&Cookie> = self.0.iter().filter(|cookie| cookie.goes_to(url)).collect();
        // Longer paths first (RFC 6265 section 5.4).
        cookies.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        let mut text = String::new();
        for Cookie { name, value, .. } in cookies {
            let separator = if text.is_empty() { "" } else { "; " };
            if text.len() + separator.len() + name.len() + value.len() < LONGEST_HEADER {
                text.extend([separator, name, "=", value]);
            }
        }
        let mut value = HeaderValue::try_from(text).ok().filter(|value| !value.is_empty())?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Adds every value to a redactor.
    pub(crate) fn add_to(&self, redactor: &mut Redactor) {
        for cookie in self.0.iter().filter(|cookie| cookie.value.len() >= SHORTEST_SECRET) {
            redactor.add_token(cookie.value.trim_matches('"'));
        }
    }
}

impl Cookie {
    /// The cookie of a `Set-Cookie`, and whether that removes it. `None` for one that is malformed, too long, or for
    /// another host.
    fn parse(text: &str, url: &SourceUrl, now: SystemTime) -> Option<(Self, bool)> {
        let mut parts = text.split(';').map(str::trim);
        let (name, value) = parts.next()?.split_once('=')?;
        let (name, value) = (name.trim_end(), value.trim_start());
        if name.is_empty() || name.len() + value.len() > LONGEST {
            return None;
        }
        let host = url.host();
        let mut cookie = Self {
            name: name.to_owned(),
            value: value.to_owned(),
            port: url.as_url().port(),
            path: default_path(url.as_url().path()),
            is_secure: false,
            host,
        };
        let (mut max_age, mut expires) = (None, None);
        for part in parts {
            let (attribute, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim();
            match attribute.trim_end().to_ascii_lowercase().as_str() {
                "path" if value.starts_with('/') => value.clone_into(&mut cookie.path),
                "secure" => cookie.is_secure = true,
                "domain" if !is_within(&cookie.host, value) => return None,
                "max-age" => max_age = value.parse::<i64>().ok().or(max_age),
                "expires" => expires = date(value).or(expires),
                _ => {}
            }
        }
        let is_over = match max_age {
            Some(seconds) => seconds <= 0,
            None => expires.is_some_and(|end| end <= now),
        };
        Some((cookie, is_over))
    }

    fn is_same(&self, other: &Self) -> bool {
        (&self.name, &self.host, self.port, &self.path) == (&other.name, &other.host, other.port, &other.path)
    }

    fn goes_to(&self, url: &SourceUrl) -> bool {
        // The path itself, or a directory above (RFC 6265 section 5.1.4).
        let below = url.as_url().path().strip_prefix(self.path.as_str());
        let is_below =
            below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || self.path.ends_with('/'));
        self.host == url.host()
            && self.port == url.as_url().port()
            && is_below
            && (!self.is_secure || url.is_https() || url.is_loopback())
    }
}

/// The directory of a request's path (RFC 6265 section 5.1.4).
fn default_path(path: &str) -> String {
    match path.rfind('/') {
        None | Some(0) => "/".to_owned(),
        Some(end) => path[..end].to_owned(),
    }
}

/// True if a `Domain` attribute is about `host` (RFC 6265 section 5.1.3).
fn is_within(host: &str, domain: &str) -> bool {
    let domain = domain.trim_start_matches('.').to_ascii_lowercase();
    domain.is_empty()
        || host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// An HTTP date, or an older form with dashes.
fn date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text).or_else(|_| httpdate::parse_http_date(&text.replace('-', " "))).ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::test_support::headers;

    /// The `Cookie` header for `to` after redirects of `from` that set these cookies.
    fn sent(from: &str, set: &[&str], to: &str) -> Option<String> {
        let mut cookies = Cookies::default();
        for value in set {
            cookies.keep(
                &headers(&[("set-cookie", value)]),
                &from.parse().unwrap(),
                UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            );
        }
        assert!(!format!("{cookies:?}").contains('='));
        cookies.header(&to.parse().unwrap()).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn fault_101_a_cookie_goes_to_its_host_port_and_path_only() {
        let from = "https://h.example/a/b";
        for (set, to, expected) in [
            ("x=1", "https://h.example/a/c", Some("x=1")),
            ("x=1", "https://h.example/a", Some("x=1")),
            ("x=1", "https://h.example/ab", None),
            ("x=1; Path=/", "https://h.example/ab", Some("x=1")),
            ("x=1; path=/a/", "https://h.example/a/c", Some("x=1")),
            ("x=1; Path=/", "https://h.example:8443/", None),
            ("x=1; Path=/", "https://other.example/", None),
            ("x=1; Path=/; Domain=.example", "https://other.example/", None),
            ("x=1; Path=/; Domain=example", "https://h.example/", Some("x=1")),
            ("x=1; Path=/; Domain=other.example", "https://h.example/", None),
            ("x=1; Path=/; Secure", "http://h.example/", None),
            ("x=1; Path=/", "http://h.example/", Some("x=1")),
            ("x=; Path=/", "https://h.example/", Some("x=")),
            ("x=1=2; Path=/; HttpOnly; SameSite=Lax", "https://h.example/", Some("x=1=2")),
            ("=1", "https://h.example/a/c", None),
            ("x", "https://h.example/a/c", None),
            ("x=1; Max-Age=0", "https://h.example/a/c", None),
            ("x=1; Expires=Wed, 21-Oct-2015 07:28:00 GMT", "https://h.example/a/c", None),
            ("x=1; Max-Age=5; Expires=Wed, 21 Oct 2015 07:28:00 GMT", "https://h.example/a/c", Some("x=1")),
        ] {
            assert_eq!(sent(from, &[set], to).as_deref(), expected, "{set} {to}");
        }
        let loopback = "http://127.0.0.1:8080/x";
        assert_eq!(sent(loopback, &["x=1; Secure"], loopback).as_deref(), Some("x=1"));
        assert_eq!(sent(loopback, &["x=1"], "http://127.0.0.1:8081/x"), None);
    }

    #[test]
    fn fault_101_a_cookie_is_replaced_removed_and_bounded() {
        let url = "https://h.example/a/b";
        assert_eq!(sent(url, &["x=1", "y=2", "x=3"], url).as_deref(), Some("y=2; x=3"));
        assert_eq!(sent(url, &["x=1", "x=; Max-Age=-1"], url), None);
        assert_eq!(sent(url, &["x=1; Path=/", "y=2; Path=/a"], url).as_deref(), Some("y=2; x=1"));
        let long = format!("x={}", "y".repeat(LONGEST));
        assert_eq!(sent(url, &[&long], url), None);
        let many: Vec<String> = (0..100).map(|n| format!("n{n}={}", "y".repeat(1000))).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let header = sent(url, &many, url).unwrap();
        assert!(header.len() <= LONGEST_HEADER && header.starts_with("n80="), "{}", header.len());
    }
}
