//! Check of a lock's URLs against their hosts: no download, and nothing is written.
//!
//! Every URL is asked, mirrors too. A verdict is only as strong as the host's answer: if the host publishes no digest,
//! only the size is compared, and the verdict says so.

use std::fmt;

use camino::Utf8Path;
use provision_core::lockfile::Model;
use provision_http::RequestError;

use crate::resolve::{Declared, Kind, ResolveError, Resolver};
use crate::source::Source;

/// The result for one URL.
#[derive(Debug)]
pub enum Verdict {
    /// The host declares the lock's digest and size.
    Right,
    /// The host declares no digest; the size matches the lock.
    SizeOnly,
    /// The host declares neither digest nor size.
    Present,
    /// The host declares another digest or size.
    Differs {
        /// The lock's values.
        expected: Declared,
        /// The host's values.
        found: Declared,
    },
    /// The host is unreachable, refuses access, or has no such file.
    Failed(ResolveError),
}

impl Verdict {
    /// The failed request, if its host gave no answer.
    pub fn silence(&self) -> Option<&RequestError> {
        match self {
            Self::Failed(error) => error.silence(),
            _ => None,
        }
    }

    /// The failure's kind; `None` for a match.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Right | Self::SizeOnly | Self::Present => None,
            Self::Differs { .. } => Some(Kind::Differs),
            Self::Failed(error) => Some(error.kind()),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Right => f.write_str("right"),
            Self::SizeOnly => f.write_str("present with the right size; the host declares no digest"),
            Self::Present => f.write_str("present; the host declares neither digest nor size"),
            Self::Differs { expected, found } => {
                write!(
                    f,
                    "different bytes: the lock lists {expected}, the host declares {found}; `lock update` follows the host"
                )
            }
            Self::Failed(error) => error.fmt(f),
        }
    }
}

/// Compares the length of a file of this machine. A fetch verifies its bytes.
fn check_file(path: &Utf8Path, model: &Model) -> Verdict {
    match path.metadata() {
        Ok(found) if found.len() == model.size => Verdict::SizeOnly,
        Ok(found) => Verdict::Differs {
            expected: Declared { sha256: None, size: Some(model.size) },
            found: Declared { sha256: None, size: Some(found.len()) },
        },
        Err(error) => {
            let known = format!("nothing there ({error})");
            Verdict::Failed(ResolveError::NoFile { what: path.to_string(), known })
        }
    }
}

/// Asks the hosts of all of `model`'s URLs, in order.
pub async fn check(resolver: &Resolver, model: &Model) -> Vec<Verdict> {
    let mut verdicts = Vec::with_capacity(model.sources.len());
    for url in &model.sources {
        if let Some(path) = url.file() {
            verdicts.push(check_file(&path, model));
            continue;
        }
        let source = Source::of_url(url);
        verdicts.push(match resolver.resolve(&source).await {
            Ok(found) => match &found[..] {
                [found] => {
                    let other = found.size.is_some_and(|size| size != model.size)
                        || found.sha256.is_some_and(|sha| sha != model.sha256);
                    if other {
                        Verdict::Differs {
                            expected: Declared { sha256: Some(model.sha256), size: Some(model.size) },
                            found: Declared { sha256: found.sha256, size: found.size },
                        }
                    } else if found.sha256.is_some() {
                        Verdict::Right
                    } else if found.size.is_some() {
                        Verdict::SizeOnly
                    } else {
                        Verdict::Present
                    }
                }
                _ => Verdict::Failed(ResolveError::NoFile {
                    what: source.to_string(),
                    known: format!("{} files that match its brackets", found.len()),
                }),
            },
            Err(error) => Verdict::Failed(error),
        });
    }
    verdicts
}
