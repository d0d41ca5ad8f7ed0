//! What the Hub's redirect says of the file that it leads to, held against what is wanted. Pure.
//!
//! Only the redirect says it: `X-Linked-Etag` (quoted; for a large file its SHA-256), `X-Linked-Size` and `X-Repo-Commit`.
//! It is asked for whenever a source is resolved, first and each time a signed address has expired. So a file behind a
//! branch that somebody replaced is recognised before a byte of the new one is fetched: its bytes beside those of the old
//! one would only be found wrong at the very end. A commit that changed while digest and size did not is another file's
//! news. A small file's tag is the name of a git object, which says nothing of its SHA-256: then the size is all there is.

use std::fmt;

use http::header::HeaderMap;

use crate::error::ResponseError;
use crate::response::ExpectedBody;
use provision_core::digest::Sha256;

/// The longest name of a commit that is shown (git: 40 digits, or 64).
const LONGEST_COMMIT: usize = 64;

/// Another file is behind an address than the lock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChanged {
    /// What the lock says.
    pub was: ContentId,
    /// What the host says.
    pub is: ContentId,
    /// The commit that the address stands for now.
    pub commit: Option<String>,
}

/// What a file is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentId {
    /// The digest of its bytes.
    Sha256(Sha256),
    /// Its length in bytes.
    Size(u64),
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digest) => write!(f, "SHA-256 {digest}"),
            Self::Size(bytes) => write!(f, "{bytes} bytes"),
        }
    }
}

impl fmt::Display for FileChanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { was, is, commit } = self;
        write!(f, "the file at this address is another one now: it was {was} (the lock), it is {is}")?;
        if let Some(commit) = commit {
            write!(f, " at commit {commit}")?;
        }
        f.write_str(
            "; to take the new one: cargo xtask lock update; to keep the old one: pin the address in the lock to the \
             commit that has it",
        )
    }
}

/// Whether a redirect leads to what was asked for, as far as it says.
pub(super) fn check(headers: &HeaderMap, asked: ExpectedBody) -> Result<(), ResponseError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let commit = || {
        let is_one =
            |name: &&str| name.len() <= LONGEST_COMMIT && name.bytes().all(|b| b.is_ascii_hexdigit());
        text("x-repo-commit").filter(|name| !name.is_empty()).filter(is_one).map(str::to_owned)
    };
    let replaced =
        |was, is| Err(ResponseError::FileChanged(Box::new(FileChanged { was, is, commit: commit() })));
    if let (Some(was), Some(is)) = (asked.sha256, text("x-linked-etag").and_then(digest))
        && was != is
    {
        return replaced(ContentId::Sha256(was), ContentId::Sha256(is));
    }
    match text("x-linked-size").and_then(|size| size.parse().ok()) {
        Some(size) if size != asked.size => replaced(ContentId::Size(asked.size), ContentId::Size(size)),
        _ => Ok(()),
    }
}

/// A strong validator that is a SHA-256; what is anything else says nothing.
fn digest(etag: &str) -> Option<Sha256> {
    etag.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use http::header::HeaderName;

    use super::*;

    const SIZE: u64 = 100;
    const OURS: [u8; 32] = [7; 32];

    fn ask(head: &[(&str, &str)]) -> Result<(), ResponseError> {
        let mut headers = HeaderMap::new();
        for (name, value) in head {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        check(&headers, ExpectedBody { range: None, size: SIZE, sha256: Some(Sha256::from_bytes(OURS)) })
    }

    fn quoted(digest: [u8; 32]) -> String {
        format!("\"{}\"", Sha256::from_bytes(digest))
    }

    #[test]
    fn another_digest_or_size_is_another_file_and_the_commit_is_named() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let other =
            [("x-linked-etag", &*quoted([8; 32])), ("x-linked-size", "100"), ("x-repo-commit", commit)];
        let Err(ResponseError::FileChanged(replaced)) = ask(&other) else { panic!("it was taken") };
        assert_eq!(replaced.was, ContentId::Sha256(Sha256::from_bytes(OURS)));
        assert_eq!(replaced.is, ContentId::Sha256(Sha256::from_bytes([8; 32])));
        let text = replaced.to_string();
        assert!(text.contains(commit) && text.contains("lock update") && text.contains("pin"), "{text}");
        let shorter = ask(&[("x-linked-etag", &*quoted(OURS)), ("x-linked-size", "99")]);
        assert!(
            matches!(&shorter, Err(ResponseError::FileChanged(is)) if is.is == ContentId::Size(99)),
            "{shorter:?}"
        );
    }

    #[test]
    fn what_is_no_sha256_says_nothing() {
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
            assert_eq!(ask(&[("x-linked-etag", etag), ("x-linked-size", "100")]), Ok(()), "{etag}");
        }
        assert_eq!(ask(&[]), Ok(()));
        assert_eq!(ask(&[("x-linked-size", "many")]), Ok(()));
    }

    #[test]
    fn a_commit_that_moved_is_no_other_file_and_what_is_no_commit_is_not_shown() {
        let same = quoted(OURS);
        assert_eq!(ask(&[("x-linked-etag", &same), ("x-repo-commit", "0123abc")]), Ok(()));
        let Err(ResponseError::FileChanged(replaced)) =
            ask(&[("x-linked-size", "1"), ("x-repo-commit", "<b>main</b>")])
        else {
            panic!("it was taken")
        };
        assert_eq!(replaced.commit, None);
    }
}
