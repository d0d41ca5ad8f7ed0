//! Canary secrets in every test, and the search for them (I6, fault 53).
//!
//! Each origin of a test has its own token and signature, and each begins with [`MARK`]. Every lock of a
//! [`Fixture`](crate::fixture::Fixture) has signatures in its URLs, every run has the token of the fixture's origin,
//! and every process of the program has more of them in its environment. The search covers output, returned errors,
//! files on disk and panic messages, and each origin may receive only its own secrets. A fixture searches after each
//! run and when it is dropped. The program is started in one place, [`crate::program::start`], which searches all its
//! output; a test below enforces that.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use provision_testbed::{Control, SIGNATURE_PREFIX};

use crate::fixture::Recorder;

/// The prefix of every canary.
pub(crate) const MARK: &str = "CanaryNeverShown";
/// The password in the netrc file.
const NETRC: &str = "CanaryNeverShown-netrc";

/// The token that belongs to the origin at this address.
pub(crate) fn token(origin: &Control) -> String {
    format!("{MARK}-token-of-{}", origin.addr())
}

fn signature(origin: &Control) -> String {
    format!("{MARK}-signature-of-{}", origin.addr())
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 (RFC 4648 section 4) of these bits, without padding.
fn digits(bits: &[u8]) -> String {
    let digit = |six: &[u8]| char::from(DIGITS[six.iter().fold(0, |sum, bit| sum << 1 | usize::from(*bit))]);
    bits.chunks_exact(6).map(digit).collect()
}

fn bits(text: &str) -> Vec<u8> {
    text.bytes().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect()
}

pub(crate) fn encode(text: &str) -> String {
    let mut bits = bits(text);
    bits.resize(bits.len().next_multiple_of(6), 0);
    digits(&bits)
}

/// The mark in Base64, as in `Basic …`. Its form depends on the preceding bytes; these digits hold bits of the mark
/// alone.
fn encoded() -> [String; 3] {
    [0, 4, 2].map(|skipped| digits(&bits(MARK)[skipped..]))
}

/// The first secret in `text`, with its surroundings.
fn find(text: &str) -> Option<String> {
    let marks = [MARK.to_owned(), MARK.to_lowercase(), SIGNATURE_PREFIX.to_owned()];
    let at = marks.iter().chain(&encoded()).find_map(|mark| text.find(mark.as_str()))?;
    let from = (0..=at.saturating_sub(80)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    Some(text[from..].chars().take(240).collect())
}

/// Fails if `text` holds a secret.
#[track_caller]
pub(crate) fn assert_none(what: &str, text: &str) {
    if let Some(found) = find(text) {
        panic!("a secret is in {what}: {found}");
    }
}

/// An error and its sources, in each format that a caller may print.
pub(crate) fn formats(error: &dyn std::error::Error) -> String {
    let mut text = format!("{error}\n{error:?}\n{error:#?}\n");
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = writeln!(text, "{error}\n{error:?}");
        cause = error.source();
    }
    text
}

thread_local! {
    /// The origins of the test that runs on this thread.
    static ORIGINS: RefCell<Vec<Origin>> = const { RefCell::new(Vec::new()) };
}

struct Origin {
    control: Control,
    /// It forwards requests to other hosts, so it receives their secrets.
    is_proxy: bool,
    /// Additional secrets that it may receive.
    own: Vec<String>,
}

/// Adds the origin to the search at the end of the test.
pub(crate) fn watch(control: Control, is_proxy: bool) {
    ORIGINS.with_borrow_mut(|origins| origins.push(Origin { control, is_proxy, own: Vec::new() }));
}

/// Adds a secret that this origin may receive.
pub(crate) fn belongs_to(origin: &Control, secret: &str) {
    ORIGINS.with_borrow_mut(|origins| {
        // The last one: an earlier origin may have had the same port.
        let known = origins.iter_mut().rev().find(|known| known.control.addr() == origin.addr());
        known.unwrap().own.push(secret.to_owned());
    });
}

/// The URL with a signature in its query: that of the origin that it leads to, or else that of `own`.
pub(crate) fn signed(url: &str, own: &Control) -> String {
    // A file of this machine has no signature, and the form of a store no query that is free.
    if url.contains('?') || !url.starts_with("http") {
        return url.to_owned();
    }
    // By its address, or else by its port under any name.
    let by_address = |origin: &&Origin| url.contains(&format!("//{}/", origin.control.addr()));
    let by_port = |origin: &&Origin| url.contains(&format!(":{}/", origin.control.addr().port()));
    let signature = ORIGINS.with_borrow(|origins| {
        let owner = origins.iter().find(by_address).or_else(|| origins.iter().find(by_port));
        signature(owner.map_or(own, |owner| &owner.control))
    });
    format!("{url}?X-Amz-Date=20260101&X-Amz-Signature={signature}")
}

/// The target without the query that [`signed`] added.
pub(crate) fn unsigned(target: &str) -> &str {
    target.split_once("?X-Amz-Date=").map_or(target, |(target, _)| target)
}

/// Secrets that an origin received although they belong to another.
fn received_by_others() -> Vec<String> {
    let mut found = Vec::new();
    ORIGINS.with_borrow(|origins| {
        for Origin { control, own: more, .. } in origins.iter().filter(|origin| !origin.is_proxy) {
            let mut own = [&more[..], &[token(control), signature(control)]].concat();
            if control.addr().ip() == Ipv4Addr::LOCALHOST {
                // A netrc file has hosts, but no ports.
                own.push(encode(&format!("user:{NETRC}")));
            }
            for request in control.requests() {
                let mut text = request.target.clone();
                for (name, value) in &request.headers {
                    let _ = write!(text, "\n{name}: {value}");
                }
                for own in &own {
                    text = text.replace(own.as_str(), "");
                }
                if text.contains(MARK) || encoded().iter().any(|mark| text.contains(mark.as_str())) {
                    found.push(format!("{} received another origin's secret: {text}", control.addr()));
                }
            }
        }
    });
    found
}

/// Searches for secrets when a fixture is dropped.
pub(crate) struct Watch {
    roots: Vec<PathBuf>,
    events: Arc<Recorder>,
    /// Lengths of models in the fixture's locks.
    models: BTreeSet<u64>,
}

impl Watch {
    pub(crate) fn new(root: &Path, events: Arc<Recorder>) -> Self {
        Self { roots: vec![root.to_owned()], events, models: BTreeSet::new() }
    }

    /// Adds a directory to the search.
    pub(crate) fn also(&mut self, root: PathBuf) {
        self.roots.push(root);
    }

    /// Declares that a large file of this length is a model, which a test has generated.
    pub(crate) fn knows_model_of(&mut self, size: u64) {
        self.models.insert(size);
    }

    /// Every secret that is found in a forbidden place.
    fn leaks(&self) -> Vec<String> {
        let mut found = received_by_others();
        let events = self.events.filter_map(|event| {
            let texts = [format!("{event:?}"), serde_json::to_string(event).unwrap()];
            texts.iter().find_map(|text| find(text))
        });
        found.extend(events.into_iter().map(|event| format!("in an event: {event}")));
        for root in &self.roots {
            self.look(root, root, &mut found);
        }
        found
    }

    /// Searches every file below `at` except locks and large models, and every name.
    fn look(&self, root: &Path, at: &Path, found: &mut Vec<String>) {
        // A file that a test has made unreadable was not written by a run.
        for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            if find(&name).is_some() {
                found.push(format!("in a file's name: {name}"));
            }
            let Ok(metadata) = path.symlink_metadata() else { continue };
            if metadata.is_dir() {
                self.look(root, &path, found);
            }
            if metadata.is_symlink()
                && let Ok(end) = std::fs::read_link(&path)
                && find(&end.to_string_lossy()).is_some()
            {
                found.push(format!("in where {name} leads"));
            }
            let ends = |wanted: &str| path.extension().is_some_and(|ending| ending == wanted);
            let is_lock = name.starts_with("models.lock") || name.starts_with("netrc") || ends("toml");
            let is_model = self.models.contains(&metadata.size()) || ends("part");
            let is_passed_over = is_lock || (is_model && metadata.size() > LARGE);
            if metadata.is_file()
                && !is_passed_over
                && let Some(secret) = find_in(&path)
            {
                found.push(format!("in {name}: {secret}"));
            }
        }
    }
}

/// Longer files are read only if they are no models: generated ones hold no secret, and reading them all takes minutes.
const LARGE: u64 = 4 << 20;
/// The size of a search step, and the overlap with the next one: longer than any mark.
const BLOCK: usize = 1 << 20;
const OVERLAP: usize = 256;

/// The first secret in a file of any length.
fn find_in(path: &Path) -> Option<String> {
    let mut file = std::fs::File::open(path).ok()?;
    let mut block = Vec::new();
    loop {
        let kept = block.len().min(OVERLAP);
        block.drain(..block.len() - kept);
        let read = file.by_ref().take(BLOCK as u64).read_to_end(&mut block).ok()?;
        if let Some(secret) = find(&String::from_utf8_lossy(&block)) {
            return Some(secret);
        }
        if read == 0 {
            return None;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let leaks = self.leaks();
            assert!(leaks.is_empty(), "{leaks:#?}");
        }
    }
}

/// A `program` with secrets in every variable that may hold one. `netrc` is written for the given hosts.
pub(crate) fn in_environment(command: &mut Command, netrc: &Path, hosts: &[&str]) {
    let line = |host: &&str| format!("machine {host} login user password {NETRC}\n");
    std::fs::write(netrc, hosts.iter().map(line).collect::<String>()).unwrap();
    // The search passes over files whose names begin with `netrc`.
    let registries = netrc.with_file_name("netrc-registries.json");
    let login = encode(&format!("user:{MARK}-registry"));
    std::fs::write(
        &registries,
        format!("{{\"auths\": {{\"registry.example\": {{\"auth\": \"{login}\"}}}}}}"),
    )
    .unwrap();
    command
        .env("REGISTRY_AUTH_FILE", registries)
        .env("AWS_ACCESS_KEY_ID", "AKIATEST")
        .env("AWS_SECRET_ACCESS_KEY", format!("{MARK}-s3"))
        .env("AWS_CONTAINER_AUTHORIZATION_TOKEN", format!("{MARK}-container"))
        .env("NETRC", netrc)
        .env("HF_TOKEN", format!("{MARK}-hub"))
        .env("CIVITAI_TOKEN", format!("{MARK}-civitai"))
        .env("https_proxy", format!("http://user:{MARK}-proxy@127.0.0.1:9"))
        .env("RUST_BACKTRACE", "full");
}

mod tests;
