//! [`Entry`]: what is written for one model. A [`Model`] is what a fetch reads; this is what a command wants to be there.

use provision_core::digest::Sha256;
use provision_core::lockfile::Model;
use provision_core::model_path::ModelPath;
use provision_core::source_url::SourceUrl;

/// One `[[model]]`, as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it goes, below the destination; also what it is found by.
    pub path: ModelPath,
    /// The first source.
    pub url: SourceUrl,
    /// The others, in the order in which they are tried.
    pub mirrors: Vec<SourceUrl>,
    /// Its length in bytes.
    pub size: u64,
    /// The digest of all its bytes.
    pub sha256: Sha256,
    /// The groups that it belongs to.
    pub groups: Vec<String>,
    /// What `lock update` follows, as it is written: a branch's or a tag's name, where the address has a commit.
    pub source: Option<String>,
}

impl Entry {
    /// Takes over what `older` has and this one does not say: mirrors, groups and the source are added to, since adding a
    /// model again is no reason to lose them. A mirror that is the address now is left out. So are all of them where the
    /// bytes are other ones: a mirror has what it had, and a fetch would come upon that when the first source fails.
    pub fn keep_from(&mut self, older: &Self) {
        let before = std::mem::take(&mut self.mirrors);
        let kept = if older.sha256 == self.sha256 { older.mirrors.as_slice() } else { &[] };
        for mirror in kept.iter().chain(&before) {
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
            groups: model.groups.clone(),
            source: model.source.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_of_other_bytes_go_unless_they_are_given_again() {
        let older = entry("http://a/x", &["http://b/x", "http://c/x"], &["one"], Some("hf:o/r/x"));
        let mut newer = entry("http://a/x", &["http://c/x", "http://d/x"], &[], None);
        newer.sha256 = Sha256::of(b"y");
        let expected = Entry { groups: vec!["one".into()], source: older.source.clone(), ..newer.clone() };
        newer.keep_from(&older);
        assert_eq!(newer, expected);
    }

    fn entry(url: &str, mirrors: &[&str], groups: &[&str], source: Option<&str>) -> Entry {
        Entry {
            path: "vae/x".parse().unwrap(),
            url: url.parse().unwrap(),
            mirrors: mirrors.iter().map(|mirror| mirror.parse().unwrap()).collect(),
            size: 1,
            sha256: Sha256::of(b"x"),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            source: source.map(str::to_owned),
        }
    }

    #[test]
    fn adding_again_keeps_mirrors_and_groups_and_the_new_address_is_no_mirror() {
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
