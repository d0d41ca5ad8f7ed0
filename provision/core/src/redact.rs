//! [`Redactor`]: removes every credential that was sent from text that the server returns (I6).
//!
//! A refusal, an error page or a redirect may repeat the request that it answers. The look of a word does not tell
//! whether it is secret: a password can be any word. So the redactor searches for the exact secrets of the request,
//! in upper or lower case, percent-encoded (RFC 3986 section 2.1) or escaped as in JSON (RFC 8259 section 7), up to
//! two escapes deep. A server that encodes a secret in another way is not covered.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use aho_corasick::Anchored;
use aho_corasick::automaton::{Automaton as _, StateID};
use aho_corasick::nfa::noncontiguous::NFA;

use crate::source_url::SourceUrl;

/// The shortest query value that counts as a secret, in bytes. Shorter ones are part of ordinary words.
const SHORTEST: usize = 6;
/// The shortest secret that is searched for in long texts and host names. Shorter ones occur there by chance.
const SHORTEST_TOKEN: usize = 12;
/// The number of nested escapes that are undone.
const LEVELS: usize = 2;

/// The secrets of one request and of the requests that led to it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Redactor(Vec<Secret>);

#[derive(Clone, PartialEq, Eq)]
struct Secret {
    text: String,
    kind: Kind,
    /// A short secret: removed only where it stands as a word of its own.
    is_word: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A credential's own text, never a word of a language.
    Token,
    /// A password: any text.
    Password,
    /// A value of a URL's query, or a part of a redirected path, which may be a secret.
    Query,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({})", self.0.len())
    }
}

impl Redactor {
    /// Adds a token, or the encoded login that `Basic` sends in its place.
    pub fn add_token(&mut self, text: &str) {
        self.add(text, Kind::Token);
    }

    /// Adds a password.
    pub fn add_password(&mut self, text: &str) {
        self.add(text, Kind::Password);
    }

    fn add(&mut self, text: &str, kind: Kind) {
        // Some servers repeat base64 without its padding.
        let text = text.trim_end_matches('=');
        if !text.is_empty() {
            self.0.push(Secret { text: text.to_owned(), kind, is_word: text.len() < SHORTEST });
        }
    }

    /// Adds the query values of these URLs, in their order. Values that also stand in the first URL's path are public.
    /// The later URLs come from a host, which may have copied a secret into their path.
    pub fn add_queries<'u>(&mut self, urls: impl Iterator<Item = &'u SourceUrl>) {
        let urls: Vec<&SourceUrl> = urls.collect();
        let mut known: HashSet<String> = self.0.iter().map(|secret| secret.text.clone()).collect();
        let mut texts = Vec::new();
        for query in urls.iter().filter_map(|url| url.as_url().query()) {
            let values = query.split(['&', ';']).filter_map(|pair| Some(pair.split_once('=')?.1));
            for value in std::iter::once(query).chain(values) {
                let decoded = decoded(value);
                let spaced = decoded.replace('+', " ");
                for text in [value, &decoded, &spaced] {
                    if text.len() >= SHORTEST && known.insert(text.to_owned()) {
                        texts.push(text.to_owned());
                    }
                }
            }
        }
        if let Some(first) = urls.first() {
            self.extend_unless_public(texts, first);
        }
    }

    /// Adds the parts of the paths of these URLs, in their order, that may be secrets and are not in the first URL's
    /// path. The later URLs come from a host, and some carry a signature in their path (fault 104).
    pub fn add_paths<'u>(&mut self, mut urls: impl Iterator<Item = &'u SourceUrl>) {
        let Some(first) = urls.next() else { return };
        // A word is no secret. Its removal would make messages unreadable.
        let is_word =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'-' | b'_'));
        let mut texts = Vec::new();
        for url in urls {
            for part in url.as_url().path().split('/') {
                let value = part.split_once('=').map(|(_, value)| value);
                for text in [Some(part), value].into_iter().flatten() {
                    let decoded = decoded(text);
                    texts.extend([text.to_owned(), decoded]);
                }
            }
        }
        texts.retain(|text| text.len() >= SHORTEST && !is_word(text));
        texts.sort_unstable();
        texts.dedup();
        self.extend_unless_public(texts, first);
    }

    /// Adds those of `texts` that are not in the path of `first`.
    fn extend_unless_public(&mut self, texts: Vec<String>, first: &SourceUrl) {
        let is_public = occurring(&texts, first.as_url().path().as_bytes());
        let texts = texts.into_iter().zip(is_public).filter(|(_, is_public)| !is_public);
        self.0.extend(texts.map(|(text, _)| Secret { text, kind: Kind::Query, is_word: false }));
    }

    /// The text with every secret replaced by `…`.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.0.is_empty() {
            return Cow::Borrowed(text);
        }
        let (words, long): (Vec<&Secret>, Vec<&Secret>) = self.0.iter().partition(|secret| secret.is_word);
        // Too many secrets for a search.
        let Some(searcher) = searcher(long.iter().map(|secret| &secret.text), true) else {
            return Cow::Owned("…".to_owned());
        };
        // Each byte with its position in the text; an escape becomes one byte of the next level.
        let mut level: Vec<(u8, usize)> = text.bytes().zip(0..).collect();
        let mut hidden = vec![false; text.len()];
        for _ in 0..=LEVELS {
            for word in &words {
                word.hide_in(&level, &mut hidden);
            }
            hide_long_in(&searcher, &level, &mut hidden);
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

    /// The text, if it contains no secret.
    pub fn clean(&self, text: String) -> Option<String> {
        matches!(self.redact(&text), Cow::Borrowed(_)).then_some(text)
    }

    /// A commit or a file's digest, if it is no credential. A URL's query may name the digest, and the host's answer
    /// then repeats it legitimately.
    pub fn clean_digest(&self, text: String) -> Option<String> {
        let is_digest = matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_digest {
            return self.clean(text);
        }
        let credentials = self.0.iter().filter(|hidden| hidden.kind != Kind::Query).cloned().collect();
        Self(credentials).clean(text)
    }

    /// Returns true if a long text contains a token.
    pub fn contains_token(&self, text: &[u8]) -> bool {
        self.has(text, |kind| kind == Kind::Token)
    }

    /// Returns true if a host name contains a token or a password.
    pub fn contains_secret(&self, host: &str) -> bool {
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
        // Positions are not tracked: a listing may have megabytes, and most have no escape.
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

impl Secret {
    /// Marks every occurrence of a word in one level of a text; `hidden` has the text's length.
    fn hide_in(&self, level: &[(u8, usize)], hidden: &mut [bool]) {
        let secret = self.text.as_bytes();
        let is_letter = |at: Option<usize>| {
            at.and_then(|at| level.get(at)).is_some_and(|(byte, _)| byte.is_ascii_alphanumeric())
        };
        for (at, here) in level.windows(secret.len()).enumerate() {
            let is_it = here.iter().zip(secret).all(|((byte, _), own)| byte.eq_ignore_ascii_case(own));
            let end = at + secret.len();
            if is_it && !is_letter(at.checked_sub(1)) && !is_letter(Some(end)) {
                hide(level, at, end, hidden);
            }
        }
    }
}

/// Hides the bytes `from..end` of a level.
fn hide(level: &[(u8, usize)], from: usize, end: usize, hidden: &mut [bool]) {
    let length = hidden.len();
    hidden[level[from].1..level.get(end).map_or(length, |(_, start)| *start)].fill(true);
}

/// A search for all of `texts` at once: its time is in proportion to both sides (fault 105). `None` if they are too
/// many.
fn searcher(texts: impl Iterator<Item = impl AsRef<[u8]>>, ignores_case: bool) -> Option<NFA> {
    NFA::builder().ascii_case_insensitive(ignores_case).prefilter(false).build(texts).ok()
}

/// The states of a search after each byte at which a text ends.
fn endings<'s>(
    searcher: &'s NFA,
    bytes: impl Iterator<Item = u8> + 's,
) -> impl Iterator<Item = (usize, StateID)> + 's {
    let start = searcher.start_state(Anchored::No).ok();
    let states = bytes.scan(start, |state, byte| {
        *state = state.map(|state| searcher.next_state(Anchored::No, state, byte));
        *state
    });
    states.zip(1..).map(|(state, end)| (end, state)).filter(|(_, state)| searcher.is_match(*state))
}

/// Marks every occurrence of a searched text in one level.
fn hide_long_in(searcher: &NFA, level: &[(u8, usize)], hidden: &mut [bool]) {
    // The number of texts that begin and end at each byte; only the longest of those with one end counts.
    let (mut begins, mut ends) = (vec![0u32; level.len() + 1], vec![0u32; level.len() + 1]);
    for (end, state) in endings(searcher, level.iter().map(|(byte, _)| *byte)) {
        let longest = searcher.pattern_len(searcher.match_pattern(state, 0));
        begins[end - longest] += 1;
        ends[end] += 1;
    }
    let mut open = 0;
    for at in 0..level.len() {
        open = open + begins[at] - ends[at];
        if open > 0 {
            hide(level, at, at + 1, hidden);
        }
    }
}

/// For each of `texts`, true if it occurs in `bytes`.
fn occurring(texts: &[String], bytes: &[u8]) -> Vec<bool> {
    let mut occurs = vec![false; texts.len()];
    if texts.is_empty() {
        return occurs;
    }
    let Some(searcher) = searcher(texts.iter(), false) else { return occurs };
    let mut seen = HashSet::new();
    for (_, state) in endings(&searcher, bytes.iter().copied()).filter(|(_, state)| seen.insert(*state)) {
        for index in 0..searcher.match_len(state) {
            occurs[searcher.match_pattern(state, index).as_usize()] = true;
        }
    }
    occurs
}

/// The text with percent-encoding undone.
pub fn decoded(text: &str) -> String {
    let text = text.as_bytes();
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        // Only percent-encoding: a backslash may be a character of a password.
        let escaped = (*byte == b'%').then(|| escape(|at| text.get(at).copied(), at)).flatten();
        let (byte, length) = escaped.unwrap_or((*byte, 1));
        bytes.push(byte);
        at += length;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The level with each escape undone; `None` if it has no escape.
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

/// As [`unescaped`], for bytes whose positions do not matter.
fn plain(text: &[u8]) -> Option<Vec<u8>> {
    let byte_at = |at: usize| text.get(at).copied();
    // `from` is the first byte that is not copied yet.
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

/// The byte that an escape at `at` stands for, and the escape's length. JSON escapes beyond ASCII are left alone: no
/// token contains such a character.
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

    fn redactor(tokens: &[&str], passwords: &[&str], urls: &[&str]) -> Redactor {
        let mut redactor = Redactor::default();
        for token in tokens {
            redactor.add_token(token);
        }
        for password in passwords {
            redactor.add_password(password);
        }
        let urls: Vec<SourceUrl> = urls.iter().map(|url| url.parse().unwrap()).collect();
        redactor.add_queries(urls.iter());
        redactor
    }

    #[test]
    fn fault_104_parts_of_redirected_paths_are_redacted() {
        let urls =
            ["https://h/models/flux-1.bin", "https://cdn/files/token=Canary-77/Secret%2F9x/flux-1.bin"];
        let urls: Vec<SourceUrl> = urls.iter().map(|url| url.parse().unwrap()).collect();
        let mut redactor = Redactor::default();
        redactor.add_paths(urls.iter());
        for (said, shown) in [
            ("no files/token=Canary-77 here", "no files/… here"),
            ("Canary-77, Secret/9x and Secret%2f9x", "…, … and …"),
            ("files of flux-1.bin", "files of flux-1.bin"),
        ] {
            assert_eq!(redactor.redact(said), shown);
        }
    }

    #[test]
    fn fault_53_secrets_are_redacted_in_every_spelling() {
        let redactor =
            redactor(&["lettersonlytoken", "dXNlcjpwYXNz"], &["a word+more", "abc", "a long password"], &[]);
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
            assert_eq!(redactor.redact(said), shown, "{said}");
        }
        assert!(
            redactor.contains_token(b"{\"a\": \"LETTERSonlytoken\"}")
                && !redactor.contains_token(b"a long password")
        );
        for escaped in ["%6cettersonlytoken", "\\u006Cettersonlytoken", "\\\\ \\u006cettersonly%74oken é"] {
            assert!(redactor.contains_token(escaped.as_bytes()), "{escaped}");
        }
        assert!(!redactor.contains_token(b"\\u006cetters %") && !Redactor::default().contains_token(b"%41"));
        assert!(
            redactor.contains_secret("x.lettersonlytoken.example")
                && redactor.contains_secret("a long password")
        );
        assert!(!redactor.contains_secret("abc.example"));
    }

    #[test]
    fn fault_53_long_query_values_are_redacted_unless_public() {
        let redactor = redactor(
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
            assert_eq!(redactor.redact(said), shown, "{said}");
        }
        assert_eq!(decoded("%41\\u0041\\/%4"), "A\\u0041\\/%4");
        let semicolons = self::redactor(&[], &[], &["https://h/x?a=b;Signature=letters%2Bonly"]);
        assert_eq!(semicolons.redact("of letters+only."), "of ….");
        assert_eq!(redactor.clean("0123abcd".to_owned()).as_deref(), Some("0123abcd"));
        assert_eq!(redactor.clean("another".to_owned()), None);
    }

    #[test]
    fn fault_105_many_parameters_cost_time_in_proportion() {
        let url = |hop: u32| {
            let query: Vec<String> = (0..9000).map(|n| format!("{n}=value{hop}x{n}")).collect();
            format!("https://h/{}?{}", "value1x".repeat(1000), query.join("&"))
        };
        let urls: Vec<String> = (0..10).map(url).collect();
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        let began = std::time::Instant::now();
        let redactor = redactor(&["lettersonlytoken"], &[], &urls);
        let said = "value3x77 value1x ".repeat(4000);
        assert_eq!(redactor.redact(&said), "… value1x ".repeat(4000));
        // Quadratic time takes minutes.
        assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
        let nested: Vec<String> = (6..300).map(|length| format!("a={}", "a".repeat(length))).collect();
        let redactor = self::redactor(&[], &[], &[&format!("https://h/x?{}", nested.join("&"))]);
        assert_eq!(redactor.redact(&"a".repeat(60_000)), "…");
        assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    }

    #[test]
    fn fault_53_a_requested_digest_is_clean_a_token_like_it_is_not() {
        let (digest, token) = ("0a".repeat(32), "1b".repeat(20));
        let redactor = redactor(&[&token], &[], &[&format!("https://h/x?sha256={digest}&word=letters")]);
        assert_eq!(redactor.clean_digest(digest.clone()), Some(digest.clone()));
        assert_eq!(redactor.clean_digest(digest.to_uppercase()), Some(digest.to_uppercase()));
        assert_eq!(redactor.clean_digest(token), None);
        assert_eq!(redactor.clean_digest("letters".to_owned()), None);
        assert_eq!(redactor.clean(digest), None);
    }
}
