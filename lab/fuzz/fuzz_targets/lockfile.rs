//! The lock: an accepted text keeps every promise of `Lockfile`, and an error shows no secret.
#![no_main]

use std::collections::HashSet;
use std::fmt::Write as _;

use libfuzzer_sys::fuzz_target;
use provision_core::lockfile::{Lockfile, Model, quoted};
use provision_fuzz::{bounded, stays_beneath, text};

/// The text of every secret.
const CANARY: &str = "cAnArY7";
/// A line of an input that stands for a URL with secrets.
const PLACE: &str = "@@";

fuzz_target!(|data: &[u8]| bounded(data, check));

/// An input is a lock. Each line that is `@@` becomes the `url` of a model, with secrets.
fn check(data: &[u8]) {
    let text = text(data);
    if text.contains(CANARY) {
        // The search has found the word itself, and put it where no secret is.
        return;
    }
    let mut with_secrets = String::new();
    let mut has_secrets = false;
    for line in text.split_inclusive('\n') {
        if line.trim_end() == PLACE {
            let _ = writeln!(
                with_secrets,
                "url = \"https://{CANARY}:{CANARY}@host/path?sig={CANARY}&more={CANARY}\""
            );
            has_secrets = true;
        } else {
            with_secrets.push_str(line);
        }
    }
    match Lockfile::parse("models.lock", &with_secrets) {
        Ok(lock) => {
            let urls = lock.models().iter().flat_map(|model| &model.sources);
            for url in urls {
                assert!(!format!("{url} {url:?}").contains(CANARY), "a URL shows its secrets");
            }
            check_promises(&lock, &with_secrets);
        }
        Err(error) => {
            let shown = format!("{error}\n{error:?}");
            assert!(!(has_secrets && shown.contains(CANARY)), "an error shows a secret: {error}");
            let location = error.location();
            assert!(location.is_none_or(|location| location.line <= with_secrets.matches('\n').count() + 1));
            assert!(shown.len() < 16 * with_secrets.len() + 4096, "the error has {} bytes", shown.len());
            assert!(!error.to_string().chars().any(|c| c.is_control() && c != '\n'), "{error:?}");
        }
    }
}

fn check_promises(lock: &Lockfile, text: &str) {
    assert!(!lock.marker().is_empty() && !lock.marker().contains('/'));
    assert!(Lockfile::peek(&[text]).is_none_or(|(peeked, _)| peeked == lock.marker()), "two markers");
    let mut keys = HashSet::new();
    let mut total = 0u64;
    for model in lock.models() {
        stays_beneath(&model.path);
        assert!(keys.insert(model.path.collision_key()), "{:?} occurs twice", model.path);
        assert!(!model.sources.is_empty(), "a model has no source");
        total = total.checked_add(model.size).expect("the sum of sizes overflows");
    }
    assert!(i64::try_from(total).is_ok(), "the sum of sizes exceeds a file offset");
    assert!(lock.models().is_sorted_by(|a, b| a.path < b.path));
    for key in &keys {
        let mut above = key.as_str();
        while let Some((parent, _)) = above.rsplit_once('/') {
            assert!(!keys.contains(parent), "{parent:?} is a file and a directory");
            above = parent;
        }
    }
    let written = write(lock);
    let again = Lockfile::parse("again", &written);
    let again = again.unwrap_or_else(|error| panic!("a rewritten lock is refused: {error}"));
    assert_eq!(again.content_digest(), lock.content_digest());
    assert_eq!(again.marker(), lock.marker());
    assert!(again.models().iter().zip(lock.models()).all(|(a, b)| is_same(a, b)));
}

fn is_same(a: &Model, b: &Model) -> bool {
    let bytes = |model: &Model| (model.size, model.sha256, model.pieces);
    (&a.path, &a.sources, bytes(a), &a.groups) == (&b.path, &b.sources, bytes(b), &b.groups)
}

/// A text of the same lock, with hints that have no meaning.
fn write(lock: &Lockfile) -> String {
    let mut text = format!("version = 1\nhint-a.b = [{{}}]\nmarker = {}\n", quoted(lock.marker()));
    for model in lock.models() {
        let urls: Vec<_> = model.sources.iter().map(|source| quoted(source.written())).collect();
        let groups: Vec<_> = model.groups.iter().map(|group| quoted(group)).collect();
        let _ = write!(
            text,
            "[[model]]\npath = {}\nurl = {}\nmirrors = [{}]\nsize = {}\nsha256 = \"{}\"\ngroups = [{}]\n",
            quoted(model.path.as_str()),
            urls[0],
            urls[1..].join(", "),
            model.size,
            model.sha256,
            groups.join(", ")
        );
        if let Some(list) = model.pieces {
            let _ = writeln!(text, "pieces = \"{list}\"");
        }
        let _ = writeln!(text, "hint-path = {}\n[model.hint-more]\nsize = -1", quoted(model.path.as_str()));
    }
    text
}
