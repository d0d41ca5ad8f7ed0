//! A lock at an address, used only with the digest that was given with the address: a lock decides over every file.
//!
//! The destination keeps its text beside the marker, under a name made of the address without its query, which changes
//! with every signature. A text with the right digest is valid wherever it lies, so a container that has started once
//! starts without a network. A text with a URL that has a query is not kept.

use std::sync::Arc;
use std::time::Instant;

use camino::Utf8Path;

use super::{Code, Failure, Lists, Text};
use crate::cli::environment::Network;
use crate::cli::{say, units};
use provision_core::backoff::{FailureRow, RetryPolicy};
use provision_core::digest::Sha256;
use provision_core::lockfile::{Lockfile, LockfileError, LockfileErrorKind, MAX_BYTES, Model};
use provision_core::source_url::SourceUrl;
use provision_core::terminal_text::TerminalText;
use provision_disk::Destination;
use provision_engine::leftovers::kept_lock_name;
use provision_http::{HttpClient, Remedy, RequestError, ResponseError};
use provision_lock::source::Source;

/// Permission to ask a host.
#[derive(Debug)]
pub enum Access<'a> {
    /// No connection is made.
    Never,
    /// Requests use these credentials and this retry policy.
    With(&'a mut Network, RetryPolicy),
}

impl<'a> Access<'a> {
    /// Requests use the default retry policy.
    pub fn with(network: &'a mut Network) -> Self {
        Self::With(network, RetryPolicy::default())
    }

    /// The retry policy.
    pub fn retry(&mut self, retry: RetryPolicy) {
        if let Self::With(_, policy) = self {
            *policy = retry;
        }
    }
}

/// An address and the digest of its text.
#[derive(Debug)]
pub(super) struct Remote {
    url: SourceUrl,
    pin: Sha256,
}

/// The file that keeps a text.
#[derive(Debug)]
pub(super) struct Kept(String);

impl Kept {
    fn of(url: &SourceUrl) -> Self {
        let address = Source::lasting_address(url);
        Self(kept_lock_name(&Sha256::of(address.as_str().as_bytes())))
    }

    fn read(&self, destination: &Utf8Path) -> Option<Vec<u8>> {
        Destination::open(destination).ok()??.root().read_small(&self.0, MAX_BYTES).ok()?
    }

    /// The file's name.
    pub(super) fn into_name(self) -> String {
        self.0
    }

    /// Writes the text if there is a destination and the text cannot contain a secret. A failure is a warning: the next
    /// start then needs the network.
    pub(super) fn write(&self, destination: &Utf8Path, name: &str, text: &str) {
        if may_hold_secret(text) {
            return;
        }
        let Ok(Some(destination)) = Destination::open(destination) else { return };
        if let Err(error) = destination.root().write_small(&self.0, text.as_bytes()) {
            let why = error.reason();
            say(format_args!("warning: the lock {name} is not kept, and will be fetched again: {why}"));
        }
    }
}

/// Returns true if a URL with a query or a login occurs anywhere in the text. Its signature or token must not reach all
/// readers of the models. The check decodes the text as TOML does, and covers comments in any form.
fn may_hold_secret(text: &str) -> bool {
    let is_bare = |model: &Model| {
        let sources = model.sources.iter().all(|url| url.as_url().query().is_none());
        sources && model.source.as_deref().is_none_or(|source| !is_with_more(source))
    };
    let Ok(lock) = Lockfile::parse("", text) else { return true };
    let mut words = text.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\''));
    !lock.models().iter().all(is_bare) || words.any(is_with_more)
}

/// Returns true if a word is a URL with a login, a query or a fragment.
fn is_with_more(word: &str) -> bool {
    // A URL within another one has its separators encoded, perhaps twice.
    let word = decoded(&decoded(word.as_bytes())).to_ascii_lowercase();
    let word = String::from_utf8_lossy(&word).into_owned();
    let Some((_, rest)) = word.split_once("http").and_then(|(_, rest)| rest.split_once(':')) else {
        return word.contains("://") && word.contains('?');
    };
    let host = rest.trim_start_matches(['/', '\\']).split(['/', '\\']).next().unwrap_or_default();
    rest.contains('?') || host.contains('@')
}

/// The text with `%XX` decoded.
fn decoded(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            decoded.push(byte);
            rest = &after[2..];
        } else {
            decoded.push(*first);
            rest = after;
        }
    }
    decoded
}

impl Remote {
    /// The file of the destination that keeps its text.
    pub(super) fn kept(&self) -> Kept {
        Kept::of(&self.url)
    }

    /// Takes an address and its digest.
    ///
    /// # Errors
    /// Usage errors, which do not repeat an invalid address: it may contain a secret.
    pub(super) fn new(text: &str, pin: Option<&Sha256>) -> Result<Self, Failure> {
        let usage = |why: String| Failure::new(Code::Usage, why);
        let url: SourceUrl = text
            .parse()
            .map_err(|error| usage(format!("the address after --lock cannot be used: {error}")))?;
        if !url.is_https() && !url.is_loopback() {
            return Err(usage(format!(
                "the lock {url} would be fetched without encryption; give its https address (http is for this machine \
                 alone)"
            )));
        }
        let Some(pin) = pin else {
            return Err(usage(format!(
                "the lock {url} is at an address, where its owner decides what is installed; give the \
                 SHA-256 of the one that you have read: --lock-sha256 HEX, or PROVISION_LOCK_SHA256 (sha256sum FILE \
                 says it)"
            )));
        };
        Ok(Self { url, pin: *pin })
    }

    /// The text: the copy in `destination`, else a fetch from the address.
    pub(super) fn read(
        self,
        destination: Option<&Utf8Path>,
        asking: &mut Access<'_>,
    ) -> Result<Text, Failure> {
        let Self { url, pin } = &self;
        let (name, kept) = (url.to_string(), Kept::of(url));
        let is_right = |bytes: &Vec<u8>| Sha256::of(bytes) == *pin;
        if let Some(bytes) = destination.and_then(|path| kept.read(path)).filter(is_right) {
            return Ok(Text {
                is_remote: true,
                lists: Some(Lists::Below(self.url)),
                ..Text::new(&name, bytes)?
            });
        }
        let Access::With(network, retry) = asking else {
            let why = format!(
                "the lock {name} is not kept in {}, and --offline forbids the network; fetch once \
                 with the network, or give --lock a file",
                destination.unwrap_or(Utf8Path::new("the destination"))
            );
            return Err(Failure::new(Code::Network, why));
        };
        let origin = HttpClient::new(network.config()?).map_err(|error| Failure::new(Code::Usage, error))?;
        let bytes = self.fetch(&origin, retry)?;
        let found = Sha256::of(&bytes);
        if found != *pin {
            let why = format!(
                "the lock {name} does not match its digest: it has SHA-256 {found}, --lock-sha256 says {pin}. \
                 Nothing was changed. Read what is there now before you pin it, or give an address that does not move, \
                 such as one with a commit in it"
            );
            return Err(Failure::new(Code::Lock, why));
        }
        let lists = Some(Lists::Below(self.url));
        Ok(Text { is_remote: true, kept: Some(kept), lists, ..Text::new(&name, bytes)? })
    }

    fn fetch(&self, origin: &Arc<HttpClient>, retry: &RetryPolicy) -> Result<Vec<u8>, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::new(Code::Unexpected, error))?;
        let asked = origin.effective(&self.url);
        let fetched = runtime.block_on(async {
            let (started, mut row) = (Instant::now(), FailureRow::default());
            loop {
                let began = started.elapsed();
                let error = match origin.document(&self.url, MAX_BYTES).await {
                    Ok(bytes) => return Ok(bytes),
                    Err(error) => error,
                };
                let Remedy::Retry { wait, .. } = error.remedy() else { return Err(error) };
                let time = (began, started.elapsed());
                let Some(wait) = retry.after(&mut row, time, fastrand::f64(), wait) else {
                    return Err(error);
                };
                let after = units::duration(wait);
                say(TerminalText(format_args!("warning: the lock {asked}: {error}; again in {after}")));
                tokio::time::sleep(wait).await;
            }
        });
        fetched.map_err(|error| failure(&asked, &error))
    }
}

/// The failure of a request for the lock at `asked`.
fn failure(asked: &SourceUrl, error: &RequestError) -> Failure {
    if let RequestError::Response { error: ResponseError::Oversized { .. }, .. } = error {
        return LockfileError::of_file(&asked.to_string(), LockfileErrorKind::TooLarge).into();
    }
    let code = match error {
        error if error.is_refusal() => Code::Refused,
        error if error.is_out_of_descriptors() => Code::Disk,
        _ => Code::Network,
    };
    Failure::new(code, TerminalText(format_args!("the lock {asked} cannot be fetched: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_53_a_query_anywhere_in_a_lock_counts_as_secret() {
        let lock = |url: &str, more: &str| {
            let sha256 = "0".repeat(64);
            format!(
                "version = 1\n[[model]]\npath = \"x\"\nurl = {url}\nsize = 1\nsha256 = \"{sha256}\"\n{more}\n"
            )
        };
        let bare = "\"https://h/x\"";
        for text in [
            lock("\"https://h/x?sig=1\"", ""),
            lock("\"https:\\u002f\\u002fh/x\\u003fsig=1\"", ""),
            lock("\"https:h/x\\u003f%73ig=1\"", ""),
            lock("\"\"\"https://h/x\\\n  ?sig=1\"\"\"", ""),
            lock(bare, "mirrors = [\"http://h/y\", 'http://h/z?a']"),
            lock(bare, "source = \"https:\\u002f\\u002fh/x?sig=1\""),
            lock(bare, "# was 'https://h/x?sig=1'"),
            lock(bare, "# was https%3A%2F%2Fh%2Fx%3Fsig%3D1"),
            lock(bare, "# was https%253A%252F%252Fh%252Fx%253Fsig%253D1"),
            lock(bare, "# was https://user:password@h/x"),
            "no lock".to_owned(),
        ] {
            assert!(may_hold_secret(&text), "{text}");
        }
        for text in [
            lock(bare, ""),
            lock(bare, "# is that so?"),
            lock(bare, "# why? https://h/x, and https://h/@v1/100%"),
            lock(bare, "source = \"hf:o/r@main/x\""),
        ] {
            assert!(!may_hold_secret(&text), "{text}");
        }
    }

    #[test]
    fn a_new_signature_does_not_change_where_a_lock_is_kept() {
        let kept = |url: &str| Kept::of(&url.parse().unwrap()).0;
        assert_eq!(kept("https://h/models.lock?sig=1&se=3"), kept("https://h/models.lock?sig=2&se=4"));
        assert_ne!(kept("https://h/models.lock"), kept("https://h/other.lock"));
        assert_ne!(kept("https://h/get?file=a.lock"), kept("https://h/get?file=b.lock"));
        assert!(kept("https://h/models.lock").parse::<provision_core::model_path::ModelPath>().is_err());
    }
}
