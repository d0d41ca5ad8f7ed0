//! [`Entry`] is one model as a command writes it. A fetch reads [`Model`] instead.

use provision_core::digest::Sha256;
use provision_core::lockfile::Model;
use provision_core::model_path::ModelPath;
use provision_core::source_url::SourceUrl;

/// One `[[model]]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path below the destination; it identifies the entry.
    pub path: ModelPath,
    /// The first URL.
    pub url: SourceUrl,
    /// The other URLs, in the order in which they are tried.
    pub mirrors: Vec<SourceUrl>,
    /// The length in bytes.
    pub size: u64,
    /// The SHA-256 of the file.
    pub sha256: Sha256,
    /// The SHA-256 of its piece list.
    pub pieces: Option<Sha256>,
    /// The groups.
    pub groups: Vec<String>,
    /// The source that `lock update` follows, as written: a branch or tag, if the URL names a commit.
    pub source: Option<String>,
}

impl Entry {
    /// Keeps `older`'s mirrors, piece list, groups and source, so that adding a model again does not lose them. The new
    /// URL is not kept as a mirror. If the digest changed, all old mirrors are dropped: they serve the old bytes, and a
    /// fetch would fall back to them. The list, which describes the old bytes, is dropped too.
    pub fn keep_from(&mut self, older: &Self) {
        let before = std::mem::take(&mut self.mirrors);
        let same = Some(older).filter(|older| older.sha256 == self.sha256);
        self.pieces = self.pieces.or(same.and_then(|older| older.pieces));
        for mirror in same.map(|older| older.mirrors.as_slice()).unwrap_or_default().iter().chain(&before) {
            if *mirror != self.url && !self.mirrors.contains(mirror) {
                self.mirrors.push(mirror.clone());
            }
        }
        let before = std::mem::take(&mut self.groups);
        for group in older.groups.iter().chain(&before) {
            if !self.groups.contains(group) {
                self.groups.push(group.clone());
            }
        }
        self.source = self.source.take().or_else(|| older.source.clone());
    }
}

impl From<&Model> for Entry {
    fn from(model: &Model) -> Self {
        let (url, mirrors) = model.sources.split_first().expect("a model has a source");
        Self {
            path: model.path.clone(),
            url: url.clone(),
            mirrors: mirrors.to_vec(),
            size: model.size,
            sha256: model.sha256,
            pieces: model.pieces,
            groups: model.groups.clone(),
            source: model.source.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_of_old_bytes_are_dropped_unless_given_again() {
        let older = entry("http://a/x", &["http://b/x", "http://c/x"], &["one"], Some("hf:o/r/x"));
        let mut newer = entry("http://a/x", &["http://c/x", "http://d/x"], &[], None);
        newer.sha256 = Sha256::of(b"y");
        let expected = Entry { groups: vec!["one".into()], source: older.source.clone(), ..newer.clone() };
        newer.keep_from(&older);
        assert_eq!(newer, expected);
    }

    #[test]
    fn a_list_of_old_bytes_is_dropped_and_one_of_the_same_bytes_stays() {
        let [one, two] = [b"one", b"two"].map(|list| Some(Sha256::of(list)));
        let older = Entry { pieces: one, ..entry("http://a/x", &[], &[], None) };
        for (sha256, given, expected) in [
            (older.sha256, None, one),
            (older.sha256, two, two),
            (Sha256::of(b"y"), None, None),
            (Sha256::of(b"y"), two, two),
        ] {
            let mut newer = Entry { sha256, pieces: given, ..older.clone() };
            newer.keep_from(&older);
            assert_eq!(newer.pieces, expected);
        }
    }

    fn entry(url: &str, mirrors: &[&str], groups: &[&str], source: Option<&str>) -> Entry {
        Entry {
            path: "vae/x".parse().unwrap(),
            url: url.parse().unwrap(),
            mirrors: mirrors.iter().map(|mirror| mirror.parse().unwrap()).collect(),
            size: 1,
            sha256: Sha256::of(b"x"),
            pieces: None,
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            source: source.map(str::to_owned),
        }
    }

    #[test]
    fn adding_again_keeps_mirrors_and_groups() {
        let older = entry("http://a/x", &["http://b/x", "http://c/x"], &["one"], Some("hf:o/r/x"));
        let mut newer = entry("http://b/x", &["http://d/x"], &["two", "one"], None);
        newer.keep_from(&older);
        assert_eq!(
            newer,
            entry("http://b/x", &["http://c/x", "http://d/x"], &["one", "two"], Some("hf:o/r/x"))
        );
        let before = newer.clone();
        newer.keep_from(&before);
        assert_eq!(newer, before);
    }
}
