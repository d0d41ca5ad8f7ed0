//! Union of several locks.
//!
//! A file in two locks is one file with the sources and groups of both. One path with two digests is an error that
//! names both locks. The rules of one lock hold across all: no two paths that some file system takes for one, and none
//! below another. The first lock that names a marker decides its name, since other programs look for a project's own
//! marker. So does the first that has a piece list for a file: two lists may both describe it, and one is enough.

use crate::byte_size::ByteSize;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::{DEFAULT_MARKER, Lockfile, LockfileErrorKind, Model, UsedNames, check_total};
use crate::digest::{Hasher, Sha256};
use crate::model_path::ModelPath;

/// Locks that cannot be joined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// One path with two digests.
    #[error(
        "{path} is two different files: in {first} it has {}, in {second} it has {}; remove it from one of them, or \
         fetch them into two directories",
        said(this),
        said(other)
    )]
    Differs {
        /// The path.
        path: ModelPath,
        /// The lock that comes first.
        first: String,
        /// Length and digest in it.
        this: (u64, Sha256),
        /// The other lock.
        second: String,
        /// Length and digest in that.
        other: (u64, Sha256),
    },
    /// Each lock is valid, and together they break a rule.
    #[error("{first} and {second} cannot be used together: {kind}")]
    Clash {
        /// One.
        first: String,
        /// The other.
        second: String,
        /// The rule.
        kind: LockfileErrorKind,
    },
}

fn said((size, sha256): &(u64, Sha256)) -> String {
    format!("{} with SHA-256 {sha256}", ByteSize(*size).exact())
}

/// A model and the number of the lock that listed it first.
type Listed = (Model, usize);

impl Lockfile {
    /// Joins `locks`, each with its name for messages. A single lock stays as it is; no lock gives an empty one.
    ///
    /// # Errors
    /// One path with two digests, or two paths that are one file.
    pub fn join(locks: Vec<(String, Self)>) -> Result<Self, JoinError> {
        let (names, locks): (Vec<String>, Vec<Self>) = locks.into_iter().unzip();
        let text = digest_of_texts(locks.iter().map(|lock| lock.text));
        let markers = locks.iter().map(|lock| lock.marker.as_ref());
        let (marks, marker) = markers
            .enumerate()
            .find_map(|(at, marker)| Some((at, marker?.clone())))
            .map_or((0, None), |(at, marker)| (at, Some(marker)));
        let mut models: BTreeMap<ModelPath, Listed> = BTreeMap::new();
        for (at, lock) in locks.into_iter().enumerate() {
            for model in lock.models {
                match models.entry(model.path.clone()) {
                    Entry::Vacant(entry) => drop(entry.insert((model, at))),
                    Entry::Occupied(mut entry) => add(&mut entry.get_mut().0, model).map_err(|other| {
                        let (known, first) = entry.get();
                        JoinError::Differs {
                            path: other.path,
                            first: names[*first].clone(),
                            this: (known.size, known.sha256),
                            second: names[at].clone(),
                            other: (other.size, other.sha256),
                        }
                    })?,
                }
            }
        }
        let clash = |path: &str, own: usize, kind: LockfileErrorKind| {
            // A path of no model is the marker.
            let other = kind.other(path).and_then(|other| Some(models.get(&other.parse().ok()?)?.1));
            let (first, second) = (names[own].clone(), names[other.unwrap_or(marks)].clone());
            JoinError::Clash { first, second, kind }
        };
        let mut used = UsedNames::new(marker.as_deref().unwrap_or(DEFAULT_MARKER));
        let mut total = 0;
        for (path, (model, at)) in &models {
            used.add(path).map_err(|kind| clash(path.as_str(), *at, kind))?;
            check_total(&mut total, model.size).map_err(|kind| clash(path.as_str(), *at, kind))?;
        }
        let models = models.into_values().map(|(model, _)| model).collect();
        Ok(Self { marker, models, text })
    }
}

/// Adds the sources and groups of `other` to `known`, and its piece list if `known` has none. Returns `other` if its
/// bytes differ.
fn add(known: &mut Model, other: Model) -> Result<(), Model> {
    if (known.size, known.sha256) != (other.size, other.sha256) {
        return Err(other);
    }
    known.pieces = known.pieces.or(other.pieces);
    for source in other.sources {
        if !known.sources.contains(&source) {
            known.sources.push(source);
        }
    }
    for group in other.groups {
        if !known.groups.contains(&group) {
            known.groups.push(group);
        }
    }
    Ok(())
}

/// The digest of one text, or of the digests of several texts in their order.
pub(super) fn digest_of_texts(texts: impl ExactSizeIterator<Item = Sha256>) -> Sha256 {
    let is_one = texts.len() == 1;
    let mut hasher = Hasher::new();
    for text in texts {
        if is_one {
            return text;
        }
        hasher.update(format!("{text}\n").as_bytes());
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    const A: &str = "a70580f0213e67967ee9c95f05bb400e8fb08307e017a924bf3441223e023d1f";
    const B: &str = "b70580f0213e67967ee9c95f05bb400e8fb08307e017a924bf3441223e023d1f";

    fn lock(head: &str, entries: &[(&str, &str, &str)]) -> Lockfile {
        let mut text = format!("version = 1\n{head}\n");
        for (path, url, rest) in entries {
            let _ = writeln!(text, "[[model]]\npath = {path:?}\nurl = {url:?}\nsize = 5\n{rest}");
        }
        Lockfile::parse("a lock", &text).unwrap()
    }

    fn sha256(digest: &str) -> String {
        format!("sha256 = {digest:?}")
    }

    fn join(locks: &[Lockfile]) -> Result<Lockfile, JoinError> {
        let names = ["one.lock", "two.lock", "three.lock"].map(str::to_owned);
        Lockfile::join(names.into_iter().zip(locks.iter().cloned()).collect())
    }

    #[test]
    fn a_model_in_both_has_the_sources_and_groups_of_both() {
        let a = sha256(A);
        let first =
            lock("", &[("x", "https://h/x", &format!("{a}\ngroups = [\"g\"]")), ("z", "https://h/z", &a)]);
        let rest = format!("{a}\ngroups = [\"h\", \"g\"]\nmirrors = [\"https://h/x\"]");
        let second = lock("", &[("x", "https://m/x", &rest), ("a", "https://m/a", &a)]);
        let joined = join(&[first, second]).unwrap();
        let paths: Vec<_> = joined.models().iter().map(|model| model.path.as_str()).collect();
        assert_eq!(paths, ["a", "x", "z"]);
        let sources: Vec<_> = joined.models()[1].sources.iter().map(ToString::to_string).collect();
        assert_eq!(sources, ["https://h/x", "https://m/x"]);
        assert_eq!(joined.models()[1].groups, ["g", "h"]);
    }

    #[test]
    fn the_first_lock_with_a_piece_list_for_a_file_decides() {
        let [plain, one, two] = ["", "\npieces = \"A\"", "\npieces = \"B\""].map(|more| {
            let more = more.replace("\"A\"", &format!("{A:?}")).replace("\"B\"", &format!("{B:?}"));
            lock("", &[("x", "https://h/x", &(sha256(A) + &more))])
        });
        for (locks, expected) in [
            (vec![&plain, &one], Some(A)),
            (vec![&two, &plain], Some(B)),
            (vec![&plain, &two, &one], Some(B)),
            (vec![&one, &two], Some(A)),
            (vec![&plain, &plain], None),
        ] {
            let joined = join(&locks.into_iter().cloned().collect::<Vec<_>>()).unwrap();
            assert_eq!(joined.models()[0].pieces.map(|list| list.to_string()).as_deref(), expected);
            assert_eq!(joined.content_digest(), plain.content_digest());
        }
    }

    #[test]
    fn one_path_with_two_digests_names_both_locks_and_digests() {
        let locks = [A, B].map(|digest| lock("", &[("vae/x", "https://h/x", &sha256(digest))]));
        let error = join(&locks).unwrap_err();
        assert!(matches!(error, JoinError::Differs { .. }));
        let text = error.to_string();
        for part in ["vae/x", "one.lock", "two.lock", A, B, "remove it"] {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
    }

    #[test]
    fn paths_that_are_one_file_are_refused_across_locks() {
        let a = sha256(A);
        for (one, two) in [("vae/X", "vae/x"), ("vae", "vae/x"), ("vae/x", "vae"), ("y", ".m")] {
            let first = lock("marker = \".m\"", &[(one, "https://h/x", &a)]);
            let second = lock("", &[(two, "https://h/x", &a)]);
            let error = join(&[first, second]).unwrap_err();
            assert!(matches!(error, JoinError::Clash { .. }), "{one} {two}: {error:?}");
            let text = error.to_string();
            assert!(text.contains("one.lock") && text.contains("two.lock"), "{text}");
        }
    }

    #[test]
    fn the_marker_is_the_first_that_is_named() {
        let a = sha256(A);
        let plain = lock("", &[("x", "https://h/x", &a)]);
        let [m, n] = [".m", ".n"].map(|name| lock(&format!("marker = {name:?}"), &[]));
        assert_eq!(join(&[plain.clone(), m.clone(), n.clone()]).unwrap().marker(), ".m");
        assert_eq!(join(&[n, plain.clone(), m]).unwrap().marker(), ".n");
        assert_eq!(join(&[plain.clone(), plain]).unwrap().marker(), DEFAULT_MARKER);
    }

    #[test]
    fn one_lock_keeps_its_digest_several_depend_on_their_order() {
        let a = sha256(A);
        let [x, y] = ["x", "y"].map(|path| lock("", &[(path, "https://h/x", &a)]));
        assert_eq!(join(std::slice::from_ref(&x)).unwrap().text_digest(), x.text_digest());
        let joined = join(&[x.clone(), y.clone()]).unwrap();
        assert_ne!(joined.text_digest(), join(&[y, x]).unwrap().text_digest());
    }
}
