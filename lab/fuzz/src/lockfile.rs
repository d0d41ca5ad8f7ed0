//! The lock: what is accepted keeps every promise of the type, and what is refused never shows a secret.

use std::collections::HashSet;
use std::fmt::Write as _;

use provision_core::lockfile::{Lockfile, Model, quoted};

use crate::{model_path, text};

/// What stands where secrets do.
const CANARY: &str = "cAnArY7";
/// Stands in an input for a line with an address that has secrets in it.
const PLACE: &str = "@@";

/// An input is a lock. Each line that is `@@` becomes the address line of a model, with secrets.
pub fn check(data: &[u8]) {
    let text = text(data);
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
            let addresses = lock.models().iter().flat_map(|model| &model.sources);
            for address in addresses {
                assert!(!format!("{address} {address:?}").contains(CANARY), "an address shows its secrets");
            }
            keeps_its_promises(&lock, &with_secrets);
        }
        Err(error) => {
            let shown = format!("{error}\n{error:?}");
            assert!(!(has_secrets && shown.contains(CANARY)), "an error shows a secret: {error}");
            let place = error.place();
            assert!(place.is_none_or(|place| place.line <= with_secrets.matches('\n').count() + 1));
            assert!(shown.len() < 16 * with_secrets.len() + 4096, "an error of {} bytes", shown.len());
            assert!(!error.to_string().chars().any(|c| c.is_control() && c != '\n'), "{error:?}");
        }
    }
}

fn keeps_its_promises(lock: &Lockfile, text: &str) {
    assert!(!lock.marker().is_empty() && !lock.marker().contains('/'));
    assert!(Lockfile::peek(&[text]).is_none_or(|(peeked, _)| peeked == lock.marker()), "two markers");
    let mut keys = HashSet::new();
    let mut total = 0u64;
    for model in lock.models() {
        model_path::stays_beneath(&model.path);
        assert!(keys.insert(model.path.collision_key()), "{:?} is there twice", model.path);
        assert!(!model.sources.is_empty(), "nowhere to be had");
        total = total.checked_add(model.size).expect("sizes add up");
    }
    assert!(i64::try_from(total).is_ok(), "sizes fit a file system's numbers");
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
    let again = again.unwrap_or_else(|error| panic!("what was accepted is refused: {error}"));
    assert_eq!(again.content_digest(), lock.content_digest());
    assert_eq!(again.marker(), lock.marker());
    assert!(again.models().iter().zip(lock.models()).all(|(a, b)| is_same(a, b)));
}

fn is_same(a: &Model, b: &Model) -> bool {
    (&a.path, &a.sources, a.size, a.sha256, &a.groups) == (&b.path, &b.sources, b.size, b.sha256, &b.groups)
}

/// A lock that says the same.
fn write(lock: &Lockfile) -> String {
    let mut text = format!("version = 1\nmarker = {}\n", quoted(lock.marker()));
    for model in lock.models() {
        let addresses: Vec<_> = model.sources.iter().map(|source| quoted(source.as_url().as_str())).collect();
        let groups: Vec<_> = model.groups.iter().map(|group| quoted(group)).collect();
        let _ = write!(
            text,
            "[[model]]\npath = {}\nurl = {}\nmirrors = [{}]\nsize = {}\nsha256 = \"{}\"\ngroups = [{}]\n",
            quoted(model.path.as_str()),
            addresses[0],
            addresses[1..].join(", "),
            model.size,
            model.sha256,
            groups.join(", ")
        );
    }
    text
}
