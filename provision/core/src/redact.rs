//! What a server was told, so that nothing of it is repeated from what the server says (I6).
//!
//! A refusal, a page, an error in words, a redirect may repeat the request that it answers: by accident, to be helpful, or
//! so that a secret stands in somebody's log. How a secret looks says nothing: a password is a word. So what is shown of
//! a server's words is searched for what it was really told, in capitals or not, and also where it is percent-encoded
//! (RFC 3986 section 2.1) or escaped as JSON does (RFC 8259 section 7), twice if need be. Who writes a
//! secret backwards gets it through; it is his own message then.

use std::borrow::Cow;
use std::fmt;

use crate::source_url::SourceUrl;

/// What is shorter is no secret in a query, and may be part of any word.
const SHORTEST: usize = 6;
/// What is shorter may be part of a long text, or of a name, by chance.
const SHORTEST_TOKEN: usize = 12;
/// How often an escape may be escaped.
const LEVELS: usize = 2;

/// Everything that must not be repeated of one request, and of those that led to it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Redactor(Vec<Hidden>);

#[derive(Clone, PartialEq, Eq)]
struct Hidden {
    text: String,
    kind: Kind,
    /// It is hidden only where it is a word: it is short.
    is_word: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A credential's own text, which no word of a language is.
    Token,
    /// Of a login: any text.
    Password,
    /// Of an address: a secret or not.
    Query,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Told({})", self.0.len())
    }
}

impl Redactor {
    /// A token, or what stands for one: `Bearer` and `Basic` send it as it is.
    pub fn add_token(&mut self, text: &str) {
        self.add(text, Kind::Token);
    }

    /// A user's password: any text.
    pub fn add_password(&mut self, text: &str) {
        self.add(text, Kind::Password);
    }

    fn add(&mut self, text: &str, kind: Kind) {
        // Padding is left out by some.
        let text = text.trim_end_matches('=');
        if !text.is_empty() {
            self.0.push(Hidden { text: text.to_owned(), kind, is_word: text.len() < SHORTEST });
        }
    }

    /// What the queries of these addresses have, in their order. What stands in the first one's path, too, is shown anyway;
    /// in the others a host may have put it there.
    pub fn add_queries<'u>(&mut self, urls: impl Iterator<Item = &'u SourceUrl>) {
        let urls: Vec<&SourceUrl> = urls.collect();
        for query in urls.iter().filter_map(|url| url.as_url().query()) {
            let values = query.split(['&', ';']).filter_map(|pair| Some(pair.split_once('=')?.1));
            for value in std::iter::once(query).chain(values) {
                let decoded = decoded(value);
                let spaced = decoded.replace('+', " ");
                for text in [value, &decoded, &spaced] {
                    let is_shown = || urls.first().is_some_and(|url| url.as_url().path().contains(text));
                    if text.len() >= SHORTEST && !self.0.iter().any(|known| known.text == text) && !is_shown()
                    {
                        self.0.push(Hidden { text: text.to_owned(), kind: Kind::Query, is_word: false });
                    }
                }
            }
        }
    }

    /// The text without what was told.
    pub fn conceal<'t>(&self, text: &'t str) -> Cow<'t, str> {
        // Each byte, and where it begins; an escape is one byte of the next level.
        let mut level: Vec<(u8, usize)> = text.bytes().zip(0..).collect();
        let mut hidden = vec![false; text.len()];
        for _ in 0..=LEVELS {
            for secret in &self.0 {
                secret.hide_in(&level, text.len(), &mut hidden);
            }
            let Some(next) = unescaped(&level) else { break };
            level = next;
        }
        if !hidden.contains(&true) {
            return Cow::Borrowed(text);
        }
        let mut shown = Vec::with_capacity(text.len());
        for (at, byte) in text.bytes().enumerate() {
            if !hidden[at] {
                shown.push(byte);
            } else if at == 0 || !hidden[at - 1] {
                shown.extend_from_slice("…".as_bytes());
            }
        }
        Cow::Owned(String::from_utf8_lossy(&shown).into_owned())
    }

    /// The text, if it repeats nothing of what was told.
    pub fn harmless(&self, text: String) -> Option<String> {
        matches!(self.conceal(&text), Cow::Borrowed(_)).then_some(text)
    }

    /// The name of a commit or the digest of a file, if it is no credential. An address may name in its query what is asked for,
    /// and then its host has to say it.
    pub fn harmless_digest(&self, text: String) -> Option<String> {
        let is_digest = matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_digest {
            return self.harmless(text);
        }
        let credentials = self.0.iter().filter(|hidden| hidden.kind != Kind::Query).cloned().collect();
        Self(credentials).harmless(text)
    }

    /// Whether a long text has a token in it.
    pub fn has_token(&self, text: &[u8]) -> bool {
        self.has(text, |kind| kind == Kind::Token)
    }

    /// Whether a host's name has a token or a password in it.
    pub fn is_in_name(&self, host: &str) -> bool {
        self.has(host.as_bytes(), |kind| kind != Kind::Query)
    }

    fn has(&self, text: &[u8], counts: impl Fn(Kind) -> bool) -> bool {
        let secrets = self.0.iter().filter(|hidden| counts(hidden.kind)).map(|hidden| hidden.text.as_bytes());
        let long: Vec<&[u8]> = secrets.filter(|secret| secret.len() >= SHORTEST_TOKEN).collect();
        let is_in = |text: &[u8]| {
            let is_here =
                |secret: &&[u8]| text.windows(secret.len()).any(|here| here.eq_ignore_ascii_case(secret));
            long.iter().any(is_here)
        };
        // Without the places: a listing may have megabytes. Most have no escape.
        let mut level = Cow::Borrowed(text);
        for _ in 0..LEVELS {
            if long.is_empty() || is_in(&level) {
                break;
            }
            let Some(next) = plain(&level) else { return false };
            level = Cow::Owned(next);
        }
        is_in(&level)
    }
}

impl Hidden {
    /// Marks every place in a level of a text of `length` bytes where it is.
    fn hide_in(&self, level: &[(u8, usize)], length: usize, hidden: &mut [bool]) {
        let secret = self.text.as_bytes();
        let is_letter = |at: Option<usize>| {
            at.and_then(|at| level.get(at)).is_some_and(|(byte, _)| byte.is_ascii_alphanumeric())
        };
        for (at, here) in level.windows(secret.len()).enumerate() {
            let is_it = here.iter().zip(secret).all(|((byte, _), own)| byte.eq_ignore_ascii_case(own));
            let end = at + secret.len();
            if is_it && !(self.is_word && (is_letter(at.checked_sub(1)) || is_letter(Some(end)))) {
                hidden[here[0].1..level.get(end).map_or(length, |(_, start)| *start)].fill(true);
            }
        }
    }
}

/// The text with each `%41` as the byte that it stands for.
pub fn decoded(text: &str) -> String {
    let text = text.as_bytes();
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        // No other escape: a backslash is a character of a password.
        let escaped = (*byte == b'%').then(|| escape(|at| text.get(at).copied(), at)).flatten();
        let (byte, length) = escaped.unwrap_or((*byte, 1));
        bytes.push(byte);
        at += length;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A level with each escape as the byte that it stands for; `None` where there is none.
fn unescaped(level: &[(u8, usize)]) -> Option<Vec<(u8, usize)>> {
    let byte_at = |at: usize| level.get(at).map(|(byte, _)| *byte);
    let mut next = Vec::with_capacity(level.len());
    let mut at = 0;
    while let Some((byte, start)) = level.get(at) {
        let (byte, length) = escape(byte_at, at).unwrap_or((*byte, 1));
        next.push((byte, *start));
        at += length;
    }
    (next.len() < level.len()).then_some(next)
}

/// The same of bytes whose places do not matter.
fn plain(text: &[u8]) -> Option<Vec<u8>> {
    let byte_at = |at: usize| text.get(at).copied();
    // Of what is not copied yet.
    let (mut from, mut at) = (0, 0);
    let mut next = Vec::new();
    while let Some(found) = text[at..].iter().position(|byte| matches!(byte, b'%' | b'\\')) {
        at += found;
        match escape(byte_at, at) {
            Some((byte, length)) => {
                next.extend_from_slice(&text[from..at]);
                next.push(byte);
                at += length;
                from = at;
            }
            None => at += 1,
        }
    }
    next.extend_from_slice(&text[from..]);
    (next.len() < text.len()).then_some(next)
}

/// The byte that an escape at `at` stands for, and the escape's length. Beyond ASCII, JSON's stand for no byte, and no token has one.
fn escape(byte: impl Fn(usize) -> Option<u8>, at: usize) -> Option<(u8, usize)> {
    let hex = |at: usize, digits: usize| {
        (at..at + digits).try_fold(0, |value, at| Some(value << 4 | char::from(byte(at)?).to_digit(16)?))
    };
    let (value, length) = match (byte(at)?, byte(at + 1)?) {
        (b'%', _) => (hex(at + 1, 2)?, 3),
        (b'\\', b'u') => (hex(at + 2, 4).filter(|value| *value < 0x80)?, 6),
        (b'\\', b'/') => (u32::from(b'/'), 2),
        _ => return None,
    };
    Some((value as u8, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(tokens: &[&str], passwords: &[&str], urls: &[&str]) -> Redactor {
        let mut told = Redactor::default();
        for token in tokens {
            told.add_token(token);
        }
        for password in passwords {
            told.add_password(password);
        }
        let urls: Vec<SourceUrl> = urls.iter().map(|url| url.parse().unwrap()).collect();
        told.add_queries(urls.iter());
        told
    }

    #[test]
    fn fault_53_what_was_told_is_hidden_in_every_spelling() {
        let told =
            told(&["lettersonlytoken", "dXNlcjpwYXNz"], &["a word+more", "abc", "a long password"], &[]);
        for (said, shown) in [
            ("no lettersonlytoken here", "no … here"),
            ("LettersOnlyToken", "…"),
            ("lettersonlytokenlettersonlytoken", "…"),
            ("?t=%6cettersonly%74oken&x", "?t=…&x"),
            ("%256cettersonlytoken", "…"),
            ("a \\u006cettersonly\\u0074oken.", "a …."),
            ("\\u00e9 \\n \\", "\\u00e9 \\n \\"),
            ("%6Cettersonly", "%6Cettersonly"),
            ("Basic dXNlcjpwYXNz==", "Basic …=="),
            ("of a%20word%2bmore.", "of …."),
            ("abc, abcd, xabc, ABC", "…, abcd, xabc, …"),
            ("wörter lettersonlytoken ü", "wörter … ü"),
            ("%", "%"),
            ("%e2%28", "%e2%28"),
            ("", ""),
        ] {
            assert_eq!(told.conceal(said), shown, "{said}");
        }
        assert!(told.has_token(b"{\"a\": \"LETTERSonlytoken\"}") && !told.has_token(b"a long password"));
        for escaped in ["%6cettersonlytoken", "\\u006Cettersonlytoken", "\\\\ \\u006cettersonly%74oken é"] {
            assert!(told.has_token(escaped.as_bytes()), "{escaped}");
        }
        assert!(!told.has_token(b"\\u006cetters %") && !Redactor::default().has_token(b"%41"));
        assert!(told.is_in_name("x.lettersonlytoken.example") && told.is_in_name("a long password"));
        assert!(!told.is_in_name("abc.example"));
    }

    #[test]
    fn fault_53_of_queries_everything_is_hidden_that_is_long_enough_and_not_shown_anyway() {
        let told = told(
            &[],
            &[],
            &[
                "https://h/a/model.bin?name=model.bin&Signature=letters%2Bonly&x=1",
                "https://c/another/letters+only/y?Key=another",
            ],
        );
        for (said, shown) in [
            ("model.bin, letters+only, letters%2Bonly, another", "model.bin, …, …, …"),
            ("1 is x", "1 is x"),
            ("/y?Key=another", "/y?…"),
            ("letters only", "…"),
        ] {
            assert_eq!(told.conceal(said), shown, "{said}");
        }
        assert_eq!(decoded("%41\\u0041\\/%4"), "A\\u0041\\/%4");
        let semicolons = self::told(&[], &[], &["https://h/x?a=b;Signature=letters%2Bonly"]);
        assert_eq!(semicolons.conceal("of letters+only."), "of ….");
        assert_eq!(told.harmless("0123abcd".to_owned()).as_deref(), Some("0123abcd"));
        assert_eq!(told.harmless("another".to_owned()), None);
    }

    #[test]
    fn fault_53_a_digest_that_is_asked_for_may_be_said_and_a_token_that_looks_like_one_may_not() {
        let (digest, token) = ("0a".repeat(32), "1b".repeat(20));
        let told = told(&[&token], &[], &[&format!("https://h/x?sha256={digest}&word=letters")]);
        assert_eq!(told.harmless_digest(digest.clone()), Some(digest.clone()));
        assert_eq!(told.harmless_digest(digest.to_uppercase()), Some(digest.to_uppercase()));
        assert_eq!(told.harmless_digest(token), None);
        assert_eq!(told.harmless_digest("letters".to_owned()), None);
        assert_eq!(told.harmless(digest), None);
    }
}
