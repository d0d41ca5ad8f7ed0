//! Hub headers: the identity of a file in the headers of the Hub's redirect, checked against the lock. Pure.
//!
//! The headers are `X-Linked-Etag` (quoted; the SHA-256 of a large file), `X-Linked-Size` and `X-Repo-Commit`. They are
//! on the redirect only, so [`check`] runs at every hop: on the first request, and again when a signed URL has expired.
//! A file that was replaced behind a branch is found before its first byte is fetched. Without the check, the part
//! would mix bytes of both versions, and only the final digest would fail.
//!
//! A new commit alone is no change: it may concern another file. The tag of a small file is the name of a git object,
//! not a SHA-256; then only the size is compared.

use http::header::HeaderMap;

use crate::response::{ContentId, ExpectedBody, FileChanged, ResponseError};
use provision_core::digest::Sha256;

/// The longest commit name that is shown (git: 40 digits, or 64).
const LONGEST_COMMIT: usize = 64;

/// Checks the headers of a redirect against the lock.
///
/// # Errors
/// [`ResponseError::FileChanged`] if they announce another digest or size. Absent headers are no error.
pub(crate) fn check(headers: &HeaderMap, expected: ExpectedBody) -> Result<(), ResponseError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let commit = || {
        let is_commit =
            |name: &&str| name.len() <= LONGEST_COMMIT && name.bytes().all(|b| b.is_ascii_hexdigit());
        text("x-repo-commit").filter(|name| !name.is_empty()).filter(is_commit).map(str::to_owned)
    };
    let changed = |expected, found| {
        Err(ResponseError::FileChanged(Box::new(FileChanged { expected, found, commit: commit() })))
    };
    if let (Some(expected), Some(found)) = (expected.sha256, text("x-linked-etag").and_then(digest))
        && expected != found
    {
        return changed(ContentId::Sha256(expected), ContentId::Sha256(found));
    }
    match text("x-linked-size").and_then(|size| size.parse().ok()) {
        Some(size) if size != expected.size => changed(ContentId::Size(expected.size), ContentId::Size(size)),
        _ => Ok(()),
    }
}

/// The digest in a strong validator; `None` for any other validator.
fn digest(etag: &str) -> Option<Sha256> {
    etag.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::headers;

    const SIZE: u64 = 100;
    const OURS: [u8; 32] = [7; 32];

    fn answer(head: &[(&str, &str)]) -> Result<(), ResponseError> {
        check(
            &headers(head),
            ExpectedBody { range: None, size: SIZE, sha256: Some(Sha256::from_bytes(OURS)) },
        )
    }

    fn quoted(digest: [u8; 32]) -> String {
        format!("\"{}\"", Sha256::from_bytes(digest))
    }

    #[test]
    fn another_digest_or_size_is_a_change_and_names_the_commit() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let other =
            [("x-linked-etag", &*quoted([8; 32])), ("x-linked-size", "100"), ("x-repo-commit", commit)];
        let Err(ResponseError::FileChanged(changed)) = answer(&other) else { panic!("it was accepted") };
        assert_eq!(changed.expected, ContentId::Sha256(Sha256::from_bytes(OURS)));
        assert_eq!(changed.found, ContentId::Sha256(Sha256::from_bytes([8; 32])));
        let text = changed.to_string();
        assert!(text.contains(commit) && text.contains("lock update") && text.contains("pin"), "{text}");
        let shorter = answer(&[("x-linked-etag", &*quoted(OURS)), ("x-linked-size", "99")]);
        assert!(
            matches!(&shorter, Err(ResponseError::FileChanged(changed)) if changed.found == ContentId::Size(99)),
            "{shorter:?}"
        );
    }

    #[test]
    fn a_tag_that_is_no_sha256_is_ignored() {
        for etag in [
            "",
            "\"\"",
            "\"",
            // A git object's name.
            "\"0123456789abcdef0123456789abcdef01234567\"",
            // Not quoted, weak, in capitals.
            &Sha256::from_bytes([8; 32]).to_string(),
            &format!("W/{}", quoted([8; 32])),
            &quoted([0xab; 32]).to_uppercase(),
        ] {
            assert_eq!(answer(&[("x-linked-etag", etag), ("x-linked-size", "100")]), Ok(()), "{etag}");
        }
        assert_eq!(answer(&[]), Ok(()));
        assert_eq!(answer(&[("x-linked-size", "many")]), Ok(()));
    }

    #[test]
    fn a_new_commit_alone_is_no_change_and_odd_commits_are_hidden() {
        let same = quoted(OURS);
        assert_eq!(answer(&[("x-linked-etag", &same), ("x-repo-commit", "0123abc")]), Ok(()));
        let Err(ResponseError::FileChanged(changed)) =
            answer(&[("x-linked-size", "1"), ("x-repo-commit", "<b>main</b>")])
        else {
            panic!("it was accepted")
        };
        assert_eq!(changed.commit, None);
    }
}
