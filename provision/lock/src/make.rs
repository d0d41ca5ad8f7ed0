//! From what is wanted to entries of a lock: resolved, placed, and read where nobody says the digest.

use std::ops::ControlFlow;

use provision_core::digest::Sha256;
use provision_core::model_path::ModelPath;

use crate::entry::Entry;
use crate::expiry::Expiry;
use crate::import::Wanted;
use crate::layout::{self, Hints, LayoutError};
use crate::resolve::{Found, Kind, ResolveError, Resolver, Said};
use crate::source::Source;
use crate::stream::{Reader, StreamError};

/// Who says what a mirror has to have.
const FIRST: &str = "the first source";

/// What is wanted of one source.
#[derive(Debug, Clone)]
pub struct Order {
    /// Where it comes from; several files, where it is a glob.
    pub source: Source,
    /// Where else.
    pub mirrors: Vec<Source>,
    /// What `--path` says, or a list's whole path.
    pub explicit: Option<String>,
    /// The directory that a list gives.
    pub directory: Option<String>,
    /// The name that a list gives.
    pub name: Option<String>,
    /// The digest, where somebody but the host says it.
    pub sha256: Option<Sha256>,
    /// The length, likewise.
    pub size: Option<u64>,
    /// The groups.
    pub groups: Vec<String>,
}

impl Order {
    /// A source, and nothing else said.
    pub fn of(source: Source) -> Self {
        Self {
            source,
            mirrors: Vec::new(),
            explicit: None,
            directory: None,
            name: None,
            sha256: None,
            size: None,
            groups: Vec::new(),
        }
    }
}

impl From<&Wanted> for Order {
    fn from(wanted: &Wanted) -> Self {
        Self {
            source: wanted.source.clone(),
            mirrors: wanted.mirrors.clone(),
            explicit: wanted.path.as_deref().map(layout::within),
            directory: wanted.directory.clone(),
            name: Some(wanted.name.clone()).filter(|name| !name.is_empty()),
            sha256: wanted.sha256,
            size: wanted.size,
            groups: Vec::new(),
        }
    }
}

/// Why there is no entry.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The host.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The place is not known.
    #[error("{what}: {error}")]
    Layout {
        /// The source.
        what: String,
        /// Why.
        error: LayoutError,
    },
    /// An address that expires.
    #[error("{url}: {expiry}")]
    Expiring {
        /// The address, without its query.
        url: String,
        /// Why.
        expiry: Expiry,
    },
    /// What somebody says of the file is not what its host says.
    #[error(
        "{what}: {who} says {said}, and the host says {found}; one of them is wrong, or it is another file"
    )]
    Differs {
        /// The source.
        what: String,
        /// Who.
        who: &'static str,
        /// What.
        said: Said,
        /// What the host says.
        found: Said,
    },
    /// One path or digest for several files.
    #[error("{what} means {files} files; {option}")]
    Several {
        /// The glob.
        what: String,
        /// How many.
        files: usize,
        /// The way out.
        option: &'static str,
    },
    /// The bytes could not be read.
    #[error("{what}: {error}")]
    Stream {
        /// The source.
        what: String,
        /// Why.
        error: StreamError,
    },
}

impl MakeError {
    /// What a host's answer means; `None` where it is not about a host.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Resolve(error) => Some(error.kind()),
            Self::Differs { .. } | Self::Stream { error: StreamError::OtherSize { .. }, .. } => {
                Some(Kind::Differs)
            }
            Self::Stream { error: StreamError::Host(error), .. } => Some(Kind::of(error)),
            // As with a page in place of a file.
            Self::Stream { error: StreamError::Empty { .. }, .. } => Some(Kind::Unreachable),
            Self::Layout { .. } | Self::Expiring { .. } | Self::Several { .. } | Self::Stream { .. } => None,
        }
    }
}

/// An entry that was made.
#[derive(Debug, Clone)]
pub struct Made {
    /// It.
    pub entry: Entry,
    /// Its bytes were read for it.
    pub was_read: bool,
}

/// Makes entries.
#[derive(Debug)]
pub struct Maker {
    /// Who asks the hosts.
    pub resolver: Resolver,
    /// Who reads what has to be read.
    pub reader: Reader,
    /// Whether addresses that expire are taken.
    pub allow_expiring: bool,
}

impl Maker {
    /// The entries that `order` comes to: one, or one for each file that a glob means.
    pub async fn make(&mut self, order: &Order) -> Result<Vec<Entry>, MakeError> {
        let mut entries = Vec::new();
        let all = self.make_each(order, |made| {
            entries.push(made.entry);
            ControlFlow::Continue(())
        });
        all.await?;
        Ok(entries)
    }

    /// The same, each as soon as it is known: one whose bytes were read has been paid for, and what comes after it may take hours
    /// or fail. Ends where `done` breaks.
    pub async fn make_each(
        &mut self,
        order: &Order,
        mut done: impl FnMut(Made) -> ControlFlow<()>,
    ) -> Result<(), MakeError> {
        for source in std::iter::once(&order.source).chain(&order.mirrors) {
            self.check_expiry(source)?;
        }
        // Without a host's answer, where that is possible: a place that is not known need not be asked for.
        if !order.source.may_be_glob() && !matches!(order.source, Source::Civitai(_)) {
            place(order, &order.source, None, None)?;
        }
        let found = self.resolver.resolve(&order.source).await?;
        if found.len() > 1 {
            let several = |option| {
                let what = order.source.to_string();
                Err(MakeError::Several { what, files: found.len(), option })
            };
            if order.sha256.is_some() {
                return several("a digest is one file's: leave --sha256 out, or name the file");
            }
            if !order.mirrors.is_empty() {
                return several("a mirror is one file's: add the files one by one with their mirrors");
            }
            if order.explicit.as_ref().is_some_and(|path| !path.ends_with('/')) {
                return several("give --path a directory that ends with `/`, or name the file");
            }
        }
        for found in &found {
            let path = place(order, &found.source, found.name.as_deref(), found.civitai_type.as_deref())?;
            let read = self.reader.files_read();
            let entry = self.entry(order, found, path).await?;
            let was_read = self.reader.files_read() > read;
            if done(Made { entry, was_read }).is_break() {
                break;
            }
        }
        Ok(())
    }

    async fn entry(&mut self, order: &Order, found: &Found, path: ModelPath) -> Result<Entry, MakeError> {
        agree("what was given", order.sha256, order.size, found)?;
        let mut mirrors = Vec::with_capacity(order.mirrors.len());
        let sha256 = order.sha256.or(found.sha256);
        for mirror in &order.mirrors {
            mirrors.push(self.mirror(mirror, found, sha256).await?);
        }
        let sha256 = match sha256 {
            Some(sha256) => sha256,
            None => self.digest(found, &path, None).await?,
        };
        // A mirror's host may say a digest where the first one says none.
        for mirror in &mirrors {
            agree(FIRST, Some(sha256), None, mirror)?;
        }
        let mirrors = mirrors.into_iter().map(|mirror| mirror.url).collect();
        Ok(Entry {
            path,
            url: found.url.clone(),
            mirrors,
            size: found.size,
            sha256,
            groups: order.groups.clone(),
            source: found.followed(),
        })
    }

    /// What a mirror is, if it has the same bytes as far as its host says.
    async fn mirror(
        &mut self,
        source: &Source,
        of: &Found,
        sha256: Option<Sha256>,
    ) -> Result<Found, MakeError> {
        let mut found = self.resolver.resolve(source).await?;
        let files = found.len();
        let Some(mirror) = found.pop().filter(|_| files == 1) else {
            let option = "a mirror is one file's: name it";
            return Err(MakeError::Several { what: source.to_string(), files, option });
        };
        agree(FIRST, sha256, Some(of.size), &mirror)?;
        Ok(mirror)
    }

    /// The digest of what was found, by reading it; what turns out to be `known` is not kept.
    async fn digest(
        &mut self,
        found: &Found,
        path: &ModelPath,
        known: Option<Sha256>,
    ) -> Result<Sha256, MakeError> {
        let read = self.reader.read(found, path, known).await;
        read.map_err(|error| MakeError::Stream { what: found.source.to_string(), error })
    }

    fn check_expiry(&self, source: &Source) -> Result<(), MakeError> {
        let Source::Url(url) = source else { return Ok(()) };
        match Expiry::of(url).filter(|_| !self.allow_expiring) {
            Some(expiry) => Err(MakeError::Expiring { url: url.to_string(), expiry }),
            None => Ok(()),
        }
    }

    /// What the lock's entry comes to when its source is followed to what it is now; `None` where it is what it was. The
    /// bytes are read where their digest is not said and the address or the size is another one; and for who has named the model
    /// (`is_named`) also where both are the same and the address does not pin the bytes.
    pub async fn follow(
        &mut self,
        entry: &Entry,
        source: &Source,
        is_named: bool,
    ) -> Result<Option<Entry>, MakeError> {
        let found = self.resolver.resolve(source).await?;
        let [found] = &found[..] else {
            let option = "the lock's `source` has to be one file's";
            return Err(MakeError::Several { what: source.to_string(), files: found.len(), option });
        };
        let is_same_address = found.url == entry.url && (!is_named || Source::of_url(&found.url).is_pinned());
        let sha256 = match found.sha256 {
            Some(sha256) => sha256,
            None if is_same_address && found.size == entry.size => entry.sha256,
            None => self.digest(found, &entry.path, Some(entry.sha256)).await?,
        };
        // Mirrors have what they had.
        let mirrors = if sha256 == entry.sha256 { entry.mirrors.clone() } else { Vec::new() };
        let now = Entry { url: found.url.clone(), mirrors, size: found.size, sha256, ..entry.clone() };
        Ok((now != *entry).then_some(now))
    }
}

/// Where a file goes.
fn place(
    order: &Order,
    source: &Source,
    name: Option<&str>,
    civitai_type: Option<&str>,
) -> Result<ModelPath, MakeError> {
    let at_source = source.path();
    let hints = Hints {
        explicit: order.explicit.as_deref(),
        directory: order.directory.as_deref(),
        name: order.name.as_deref().or(name),
        civitai_type,
        at_source: at_source.as_deref(),
    };
    layout::destination(&hints).map_err(|error| MakeError::Layout { what: source.to_string(), error })
}

/// Whether what somebody says is what the host says, as far as both say something.
fn agree(
    who: &'static str,
    sha256: Option<Sha256>,
    size: Option<u64>,
    found: &Found,
) -> Result<(), MakeError> {
    let differs = |given: Option<bool>| given == Some(true);
    let other_digest = sha256.zip(found.sha256).map(|(a, b)| a != b);
    let other_size = size.map(|size| size != found.size);
    if differs(other_digest) || differs(other_size) {
        return Err(MakeError::Differs {
            what: found.source.to_string(),
            who,
            said: Said { sha256, size },
            found: Said { sha256: found.sha256, size: Some(found.size) },
        });
    }
    Ok(())
}
