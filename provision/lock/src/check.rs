//! Whether hosts still have what a lock says, without fetching it or writing anything.
//!
//! Each address is asked, the mirrors too. "Right" is as much as the host says: where it gives no digest, the size alone was
//! compared, and that is said.

use std::fmt;

use provision_core::lockfile::Model;

use crate::resolve::{Kind, ResolveError, Resolver, Said};
use crate::source::Source;

/// What is to be said of one address.
#[derive(Debug)]
pub enum Verdict {
    /// The host says the lock's digest and size.
    Right,
    /// The host gives no digest; the size is the lock's.
    SizeOnly,
    /// The host says something else.
    Differs {
        /// The lock.
        expected: Said,
        /// The host.
        found: Said,
    },
    /// The host could not be asked, refuses, or has nothing there.
    Failed(ResolveError),
}

impl Verdict {
    /// What it means; `None` where all is well.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Right | Self::SizeOnly => None,
            Self::Differs { .. } => Some(Kind::Differs),
            Self::Failed(error) => Some(error.kind()),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Right => f.write_str("right"),
            Self::SizeOnly => f.write_str("there, with the right size; the host does not say its digest"),
            Self::Differs { expected, found } => {
                write!(f, "other bytes: the lock says {expected}, the host says {found}")
            }
            Self::Failed(error) => error.fmt(f),
        }
    }
}

/// Asks the hosts of all addresses of `model`, in their order.
pub async fn check(resolver: &mut Resolver, model: &Model) -> Vec<Verdict> {
    let mut verdicts = Vec::with_capacity(model.sources.len());
    for url in &model.sources {
        let source = Source::of_url(url);
        verdicts.push(match resolver.resolve(&source).await {
            Ok(found) => match &found[..] {
                [found] => {
                    let other =
                        found.size != model.size || found.sha256.is_some_and(|sha| sha != model.sha256);
                    if other {
                        Verdict::Differs {
                            expected: Said { sha256: Some(model.sha256), size: Some(model.size) },
                            found: Said { sha256: found.sha256, size: Some(found.size) },
                        }
                    } else if found.sha256.is_some() {
                        Verdict::Right
                    } else {
                        Verdict::SizeOnly
                    }
                }
                _ => Verdict::Failed(ResolveError::NoFile {
                    what: source.to_string(),
                    known: format!("{} files that its brackets match", found.len()),
                }),
            },
            Err(error) => Verdict::Failed(error),
        });
    }
    verdicts
}
