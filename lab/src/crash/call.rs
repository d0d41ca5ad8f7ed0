//! A system call that changes a file, and the choice of the calls that are disturbed.

use std::collections::BTreeMap;
use std::fmt;

use fastrand::Rng;

/// A call of a traced run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    /// Over all threads, from 1.
    pub(super) number: u64,
    pub(super) name: String,
    /// The file that it changes.
    pub(super) path: String,
}

impl Call {
    /// Parses `NUMBER NAME PATH`, as the tracer prints it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(3, ' ').map(str::to_owned);
        let (number, name) = (words.next()?.parse().ok()?, words.next()?);
        Some(Self { number, name, path: words.next()? })
    }

    pub(super) fn syncs_journal(&self) -> bool {
        self.name.ends_with("sync") && file_kind(&self.path) == "journal"
    }

    /// The call's name with the kind of its file.
    pub(super) fn kind(&self) -> String {
        format!("{} {}", self.name, file_kind(&self.path))
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {}, {} on {}", self.number, self.name, self.path)
    }
}

/// The program's use of a file, read from its name.
fn file_kind(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or_default();
    let is_digest = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
        _ if name == ".provision.lock" => "lock",
        _ if name.contains(".provision.journal") => "record of verified files",
        _ if name.contains(".models-installed") => "marker",
        "part" => "part",
        "journal" => "journal",
        "tmp" => "temporary",
        "safetensors" => "file",
        _ if is_digest => "object",
        _ => "directory",
    }
}

/// Picks the numbers of `count` calls, each kind once before any kind twice, so that rare calls are picked too.
pub(super) fn spread(calls: &[Call], count: usize, rng: &mut Rng) -> Vec<u64> {
    let mut calls: Vec<_> = calls.iter().collect();
    rng.shuffle(&mut calls);
    let mut kinds = BTreeMap::<String, usize>::new();
    let mut picked = Vec::new();
    for call in calls {
        let nth = kinds.entry(call.kind()).or_default();
        *nth += 1;
        picked.push((*nth, call.number));
    }
    // Shuffled again: a count that ends midway omits any kind, not the rare ones.
    rng.shuffle(&mut picked);
    picked.sort_by_key(|(nth, _)| *nth);
    picked.into_iter().map(|(_, number)| number).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_picks_every_kind_first_and_repeats_by_seed() {
        let call = |number, name: &str| Call { number, name: name.to_owned(), path: "/d/.x.part".to_owned() };
        let calls: Vec<_> = (1..=90)
            .map(|number| call(number, "pwrite64"))
            .chain([call(91, "fsync"), call(92, "mkdirat")])
            .collect();
        let picked = spread(&calls, 5, &mut Rng::with_seed(7));
        assert!(picked.contains(&91) && picked.contains(&92), "{picked:?}");
        assert_eq!(picked.len(), 5);
        assert_eq!(picked, spread(&calls, 5, &mut Rng::with_seed(7)));
        assert_eq!(spread(&calls, 1000, &mut Rng::with_seed(7)).len(), 92, "each once");
    }

    #[test]
    fn a_call_parses_and_other_text_does_not() {
        let call = Call { number: 3, name: "fsync".to_owned(), path: "/a b/c".to_owned() };
        assert_eq!(Call::parse("3 fsync /a b/c"), Some(call));
        assert_eq!(Call::parse("x fsync /a"), None);
        assert_eq!(Call::parse("3 fsync"), None);
    }

    #[test]
    fn file_kinds_follow_from_names() {
        for (path, kind) in [
            ("/d/.provision.lock", "lock"),
            ("/d/.provision.journal", "record of verified files"),
            ("/d/..provision.journal.0a1b2c3d.tmp", "record of verified files"),
            ("/d/..models-installed.0a1b2c3d.tmp", "marker"),
            ("/d/vae/.x.safetensors.a70580f0.part", "part"),
            ("/d/vae/.x.safetensors.a70580f0.journal", "journal"),
            ("/d/vae/.x.safetensors.a70580f0.tmp", "temporary"),
            ("/d/vae/x.safetensors", "file"),
            ("/d/vae", "directory"),
            ("/d/layers/vae/tmp", "directory"),
        ] {
            assert_eq!(file_kind(path), kind, "{path}");
        }
    }
}
