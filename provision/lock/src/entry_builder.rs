//! Builds lock entries from requests: each source is resolved, placed, and read if its host publishes no digest.

use provision_core::digest::Sha256;
use provision_core::lockfile::{LockfileErrorKind, TakenPaths};
use provision_core::model_path::ModelPath;
use provision_core::source_url::SourceUrl;
use provision_engine::unpinned::UnpinnedError;
use provision_http::RequestError;

use crate::digest_reader::{DigestError, DigestReader};
use crate::entry::Entry;
use crate::expiry::Expiry;
use crate::import::ImportedModel;
use crate::placement::{self, Hints, PlacementError};
use crate::resolve::{Declared, Found, Kind, ResolveError, Resolver};
use crate::source::Source;

/// The party that declares a mirror's digest, in messages.
const FIRST: &str = "the first source";

/// A request to add a source to the lock.
#[derive(Debug, Clone)]
pub struct AddRequest {
    /// The source; a glob names several files.
    pub source: Source,
    /// Further sources of the same bytes.
    pub mirrors: Vec<Source>,
    /// The value of `--path`, or the whole path from a list.
    pub explicit: Option<String>,
    /// The directory from a list.
    pub directory: Option<String>,
    /// The name from a list.
    pub name: Option<String>,
    /// The digest from the user or a list.
    pub sha256: Option<Sha256>,
    /// The length from the user or a list.
    pub size: Option<u64>,
    /// The groups.
    pub groups: Vec<String>,
    /// The folder if nothing else names one.
    pub folder: Option<String>,
    /// A mirror that fails is left out, and the entry is built without it.
    pub may_lose_mirrors: bool,
    /// A person typed `explicit`, so a missing suffix is asked about. A list's paths are whole.
    pub is_typed: bool,
}

impl AddRequest {
    /// A request with a source only.
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
            folder: None,
            may_lose_mirrors: false,
            is_typed: false,
        }
    }

    /// The same with the folder for what nothing else places. A list's bare name is such a file, too.
    #[must_use]
    pub fn with_folder(mut self, folder: Option<String>) -> Self {
        if folder.is_some() && !self.is_typed {
            if let Some(name) = self.explicit.take_if(|path| !path.contains('/')) {
                self.name = Some(name);
            }
            self.folder = folder;
        }
        self
    }

    /// The directory in `explicit`; `None` if it is a file's path or absent.
    fn directory(&self) -> Option<String> {
        placement::as_directory(self.explicit.as_deref()?)
    }

    /// True if the request names the file, so that no host does.
    fn has_name(&self) -> bool {
        self.name.is_some() || self.is_for_one_file()
    }

    /// True if `explicit` is a file's path.
    fn is_for_one_file(&self) -> bool {
        self.explicit.is_some() && self.directory().is_none()
    }
}

impl From<&ImportedModel> for AddRequest {
    fn from(model: &ImportedModel) -> Self {
        Self {
            source: model.source.clone(),
            mirrors: model.mirrors.clone(),
            explicit: model.explicit(),
            directory: model.directory.clone(),
            name: model.given_name().map(str::to_owned),
            sha256: model.sha256,
            size: model.size,
            groups: Vec::new(),
            folder: None,
            // Another list may have added them.
            may_lose_mirrors: true,
            is_typed: model.chosen.is_some(),
        }
    }
}

/// An entry that could not be built.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// The host failed, or refused the request.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The destination path is not known.
    #[error("{what}: {error}")]
    Placement {
        /// The source.
        what: Box<Source>,
        /// The reason.
        error: PlacementError,
    },
    /// The path cannot lie beside another one.
    #[error("{what}: {kind}; give another --path")]
    Collision {
        /// The source.
        what: String,
        /// The rule.
        kind: LockfileErrorKind,
    },
    /// A URL expires.
    #[error("{url}: {expiry}")]
    Expiring {
        /// The URL, without its query.
        url: String,
        /// The reason.
        expiry: Expiry,
    },
    /// The declared digest or size differs from the host's.
    #[error(
        "{what}: {who} declares {said}, but the host declares {found}; correct the wrong value, or give the source of the \
         same file"
    )]
    Differs {
        /// The source.
        what: String,
        /// The party that declared it.
        who: &'static str,
        /// The declared values.
        said: Declared,
        /// The host's values.
        found: Declared,
    },
    /// One path or digest for several files.
    #[error("{what} matches {files} files; {option}")]
    Several {
        /// The glob.
        what: String,
        /// The number of files.
        files: usize,
        /// The way out.
        option: &'static str,
    },
    /// The file could not be read.
    #[error("{what}: {error}")]
    Digest {
        /// The source.
        what: String,
        /// The reason.
        error: DigestError,
    },
}

impl EntryError {
    /// The failed request, if its host gave no answer.
    pub fn silence(&self) -> Option<&RequestError> {
        match self {
            Self::Resolve(error) => error.silence(),
            _ => None,
        }
    }

    /// The kind of a host's failure; `None` if the error is not about a host.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Resolve(error) => Some(error.kind()),
            Self::Differs { .. } => Some(Kind::Differs),
            Self::Digest { error, .. } => match error {
                DigestError::Host(error) => Some(Kind::of(error)),
                DigestError::Download(UnpinnedError::OtherSize { .. }) => Some(Kind::Differs),
                // The same kind as a web page in place of the file.
                DigestError::Empty { .. } => Some(Kind::Unreachable),
                DigestError::Download(_) => None,
            },
            Self::Placement { .. }
            | Self::Collision { .. }
            | Self::Expiring { .. }
            | Self::Several { .. } => None,
        }
    }
}

/// An entry as its hosts describe it. Its file is read if none of them declares the digest.
#[derive(Debug)]
pub struct PreparedEntry {
    found: Found,
    path: ModelPath,
    mirrors: Vec<Found>,
    sha256: Option<Sha256>,
    groups: Vec<String>,
    may_lose_mirrors: bool,
    /// The host chose the file's name, and so the path.
    is_named_by_host: bool,
    /// The failures of the mirrors that are left out.
    pub lost_mirrors: Vec<EntryError>,
}

impl PreparedEntry {
    /// The entry's path.
    pub fn path(&self) -> &ModelPath {
        &self.path
    }

    /// The first source.
    pub fn source(&self) -> &Source {
        &self.found.source
    }

    /// The first download URL.
    pub fn url(&self) -> &SourceUrl {
        &self.found.url
    }

    /// The length in bytes, if the host or the request declares one.
    pub fn size(&self) -> Option<u64> {
        self.found.size
    }

    /// The file's digest, if the host or the request declares one.
    pub fn sha256(&self) -> Option<Sha256> {
        self.sha256
    }

    /// True if the file has to be read, for its digest or its length.
    pub fn has_to_be_read(&self) -> bool {
        self.sha256.is_none() || self.found.size.is_none()
    }

    /// True if the host chose the file's name, and so the path.
    pub fn is_named_by_host(&self) -> bool {
        self.is_named_by_host
    }

    /// True if both digests are known and the files are equal.
    pub fn has_bytes_of(&self, other: &Self) -> bool {
        self.sha256.is_some() && self.sha256 == other.sha256 && !self.has_another_size(other)
    }

    /// True if both digests or both lengths are known, and they show that the files differ.
    pub fn differs_from(&self, other: &Self) -> bool {
        self.sha256.zip(other.sha256).is_some_and(|(a, b)| a != b) || self.has_another_size(other)
    }

    fn has_another_size(&self, other: &Self) -> bool {
        self.size().zip(other.size()).is_some_and(|(a, b)| a != b)
    }

    /// Adds the sources of another entry with these bytes as mirrors. The bytes have one length, so either host may declare it.
    pub fn add_mirrors(&mut self, other: Self) {
        self.found.size = self.found.size.or(other.found.size);
        self.mirrors.push(other.found);
        self.mirrors.extend(other.mirrors);
        self.lost_mirrors.extend(other.lost_mirrors);
    }
}

/// A finished entry.
#[derive(Debug)]
pub struct BuiltEntry {
    /// The entry.
    pub entry: Entry,
    /// True if the file was read for it.
    pub was_read: bool,
    /// The failures of the mirrors that are left out.
    pub lost_mirrors: Vec<EntryError>,
}

/// The result of resolving an entry's source again.
#[derive(Debug)]
pub enum Followed {
    /// Nothing changed.
    Unchanged,
    /// The entry as it is now.
    Changed(Box<Entry>),
    /// The file has to be read: no host declares its digest.
    Unread(Box<Found>),
}

/// Builds entries, in three steps over all requests of a command: [`Self::check`] needs no host, [`Self::prepare`] asks hosts,
/// and [`Self::finish`] reads files. What a step can find out is never left to a later one, which may take hours.
#[derive(Debug)]
pub struct EntryBuilder {
    /// Resolves sources.
    pub resolver: Resolver,
    /// Reads files without a declared digest.
    pub reader: DigestReader,
    /// True to accept URLs that expire.
    pub allow_expiring: bool,
    /// The paths of the lock, and of the entries that were built.
    pub taken: TakenPaths,
}

impl EntryBuilder {
    /// Builds the request's entries: one, or one for each file that a glob matches.
    pub async fn build(&mut self, request: &AddRequest) -> Result<Vec<Entry>, EntryError> {
        self.check(request)?;
        let mut entries = Vec::new();
        for prepared in self.prepare(request).await? {
            self.take(prepared.source(), prepared.path())?;
            entries.push(self.finish(prepared).await?.entry);
        }
        Ok(entries)
    }

    /// Checks everything that needs no host: expiry, place, collisions. Takes the request's path if it is known.
    pub fn check(&mut self, request: &AddRequest) -> Result<(), EntryError> {
        self.check_expiry(&request.source)?;
        for mirror in request.mirrors.iter().filter(|_| !request.may_lose_mirrors) {
            self.check_expiry(mirror)?;
        }
        let is_nameless = matches!(request.source, Source::Url(_))
            && request.name.is_none()
            && !request.source.has_model_name();
        let is_listed = request.source.may_be_glob() || matches!(request.source, Source::Civitai(_));
        if request.is_for_one_file() || !(is_listed || is_nameless) {
            let path = place(request, &request.source, None, None)?;
            return self.take(&request.source, &path);
        }
        if is_nameless {
            // The host may have another name, but no other folder. Without one, the URL's last part is the name.
            match place(request, &request.source, None, None) {
                Ok(path) => self
                    .taken
                    .clone()
                    .take(&path)
                    .map_err(|kind| EntryError::Collision { what: request.source.to_string(), kind })?,
                Err(EntryError::Placement { error: PlacementError::NoName { .. }, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.check_directory(request)
    }

    /// Checks that any name would be accepted in the request's directory.
    fn check_directory(&self, request: &AddRequest) -> Result<(), EntryError> {
        if let Some(directory) = request.directory() {
            let any = Hints { explicit: Some(&directory), name: Some("x"), ..Hints::default() };
            let path = placement::destination(&any).map_err(|error| unplaced(&request.source, error))?;
            let directory_is_free = self.taken.clone().take(&path);
            if let Err(kind @ LockfileErrorKind::Nested { .. }) = directory_is_free {
                return Err(EntryError::Collision { what: request.source.to_string(), kind });
            }
        }
        Ok(())
    }

    /// Asks the hosts of a checked request. Reads no file. Requests can be asked for at the same time; their entries are then taken
    /// ([`Self::take`]) in their order.
    pub async fn prepare(&self, request: &AddRequest) -> Result<Vec<PreparedEntry>, EntryError> {
        let found = self.resolver.resolve(&request.source).await?;
        if found.len() > 1 {
            let several = |option| {
                let what = request.source.to_string();
                Err(EntryError::Several { what, files: found.len(), option })
            };
            if request.sha256.is_some() {
                return several("--sha256 applies to one file: leave it out, or name the file");
            }
            if !request.mirrors.is_empty() {
                return several("--mirror applies to one file: add the files one by one with their mirrors");
            }
            if request.is_for_one_file() {
                return several("give --path a directory that ends with `/`, or name the file");
            }
        }
        let mut entries = Vec::with_capacity(found.len());
        for mut found in found {
            found.size = found.size.or(request.size);
            let path = place(request, &found.source, found.name.as_deref(), found.civitai_type.as_deref())?;
            entries.push(self.prepare_one(request, found, path).await?);
        }
        Ok(entries)
    }

    /// Takes the path of an entry: another path that cannot lie beside it is refused from now on.
    pub fn take(&mut self, source: &Source, path: &ModelPath) -> Result<(), EntryError> {
        let taken = self.taken.take(path);
        taken.map_err(|kind| EntryError::Collision { what: source.to_string(), kind })
    }

    async fn prepare_one(
        &self,
        request: &AddRequest,
        found: Found,
        path: ModelPath,
    ) -> Result<PreparedEntry, EntryError> {
        agree("the option or list", request.sha256, request.size, &found)?;
        let sha256 = match request.sha256 {
            Some(sha256) => Some(sha256),
            None => self.declared(&found)?,
        };
        let (mut mirrors, mut lost_mirrors) = (Vec::with_capacity(request.mirrors.len()), Vec::new());
        for mirror in &request.mirrors {
            match self.mirror(mirror, &found, sha256).await {
                Ok(mirror) => mirrors.push(mirror),
                Err(error) if request.may_lose_mirrors => lost_mirrors.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok(PreparedEntry {
            is_named_by_host: found.is_named_by_host && !request.has_name(),
            found,
            path,
            mirrors,
            sha256,
            groups: request.groups.clone(),
            may_lose_mirrors: request.may_lose_mirrors,
            lost_mirrors,
        })
    }

    /// Reads the file if its digest is unknown.
    pub async fn finish(&mut self, prepared: PreparedEntry) -> Result<BuiltEntry, EntryError> {
        let PreparedEntry { found, path, groups, mut lost_mirrors, .. } = prepared;
        let (sha256, size, was_read) = match (prepared.sha256, found.size) {
            (Some(sha256), Some(size)) => (sha256, size, false),
            (given, _) => {
                let (sha256, size) = self.digest(&found, &path, None).await?;
                let read = Found { sha256: Some(sha256), size: Some(size), ..found.clone() };
                agree("the option or list", given, None, &read)?;
                (sha256, size, true)
            }
        };
        // A mirror's host may declare a digest even if the first one does not.
        let mut mirrors = Vec::with_capacity(prepared.mirrors.len());
        for mirror in prepared.mirrors {
            match agree(FIRST, Some(sha256), Some(size), &mirror) {
                Ok(()) if mirror.url == found.url || mirrors.contains(&mirror.url) => {}
                Ok(()) => mirrors.push(mirror.url),
                Err(error) if prepared.may_lose_mirrors => lost_mirrors.push(error),
                Err(error) => return Err(error),
            }
        }
        let entry =
            Entry { path, url: found.url.clone(), mirrors, size, sha256, groups, source: found.followed() };
        Ok(BuiltEntry { entry, was_read, lost_mirrors })
    }

    /// The digest that is known without reading the file; `None` if it has to be read.
    fn declared(&self, found: &Found) -> Result<Option<Sha256>, EntryError> {
        let declared = self.reader.declared(found);
        declared.map_err(|error| EntryError::Digest { what: found.source.to_string(), error })
    }

    /// Resolves a source that has to be one file.
    async fn one(&self, source: &Source) -> Result<Found, EntryError> {
        let mut found = self.resolver.resolve(source).await?;
        let files = found.len();
        found.pop().filter(|_| files == 1).ok_or_else(|| {
            let option = "a mirror has to be one file: name it";
            EntryError::Several { what: source.to_string(), files, option }
        })
    }

    /// Resolves a mirror and checks that it declares the same bytes.
    async fn mirror(&self, source: &Source, of: &Found, sha256: Option<Sha256>) -> Result<Found, EntryError> {
        self.check_expiry(source)?;
        let mirror = self.one(source).await?;
        agree(FIRST, sha256, of.size, &mirror)?;
        Ok(mirror)
    }

    /// Reads the file for its digest and its length; if the digest is `known`, the bytes are not kept.
    async fn digest(
        &mut self,
        found: &Found,
        path: &ModelPath,
        known: Option<Sha256>,
    ) -> Result<(Sha256, u64), EntryError> {
        let read = self.reader.read(found, path, known).await;
        read.map_err(|error| EntryError::Digest { what: found.source.to_string(), error })
    }

    fn check_expiry(&self, source: &Source) -> Result<(), EntryError> {
        let Source::Url(url) = source else { return Ok(()) };
        match Expiry::of(url).filter(|_| !self.allow_expiring) {
            Some(expiry) => Err(EntryError::Expiring { url: url.to_string(), expiry }),
            None => Ok(()),
        }
    }

    /// Resolves the entry's source again, and reads the file if that is necessary; `None` if nothing changed.
    pub async fn follow(
        &mut self,
        entry: &Entry,
        source: &Source,
        is_named: bool,
    ) -> Result<Option<Entry>, EntryError> {
        match self.ask_again(entry, source, is_named).await? {
            Followed::Unchanged => Ok(None),
            Followed::Changed(now) => Ok(Some(*now)),
            Followed::Unread(found) => {
                let (sha256, size) = self.digest(&found, &entry.path, Some(entry.sha256)).await?;
                Ok(changed(entry, &found, sha256, size))
            }
        }
    }

    /// Resolves the entry's source again, but reads no file. A file without a declared digest has to be read when its URL or size
    /// changed, and for a model that the user named (`is_named`) if its URL is not pinned.
    pub async fn ask_again(
        &mut self,
        entry: &Entry,
        source: &Source,
        is_named: bool,
    ) -> Result<Followed, EntryError> {
        let mut found = self.resolver.resolve(source).await?;
        let files = found.len();
        let Some(found) = found.pop().filter(|_| files == 1) else {
            let option = "the `source` in the lock has to name one file: correct it";
            return Err(EntryError::Several { what: source.to_string(), files, option });
        };
        let is_same_address = found.url == entry.url && (!is_named || Source::of_url(&found.url).is_pinned());
        let sha256 = match found.sha256 {
            None if is_same_address && found.size.is_none_or(|size| size == entry.size) => Some(entry.sha256),
            _ => self.declared(&found)?,
        };
        // Without a declared length, the same digest has the same one.
        let size = found.size.or((sha256 == Some(entry.sha256)).then_some(entry.size));
        Ok(match (sha256, size) {
            (Some(sha256), Some(size)) => match changed(entry, &found, sha256, size) {
                Some(now) => Followed::Changed(Box::new(now)),
                None => Followed::Unchanged,
            },
            _ => Followed::Unread(Box::new(found)),
        })
    }
}

/// The entry with the URL, size and digest of now; `None` if it is the same.
fn changed(entry: &Entry, found: &Found, sha256: Sha256, size: u64) -> Option<Entry> {
    // Mirrors serve the old bytes.
    let mirrors = if sha256 == entry.sha256 { entry.mirrors.clone() } else { Vec::new() };
    let now = Entry { url: found.url.clone(), mirrors, size, sha256, ..entry.clone() };
    (now != *entry).then_some(now)
}

/// The destination path.
fn place(
    request: &AddRequest,
    source: &Source,
    name: Option<&str>,
    civitai_type: Option<&str>,
) -> Result<ModelPath, EntryError> {
    let at_source = source.path();
    let file = name.map(str::to_owned).or_else(|| source.file_name());
    if let (true, Some(explicit), Some(file)) = (request.is_typed, &request.explicit, &file) {
        placement::check_suffix(explicit, file).map_err(|error| unplaced(source, error))?;
    }
    let hints = Hints {
        explicit: request.explicit.as_deref(),
        directory: request.directory.as_deref(),
        name: request.name.as_deref().or(name),
        civitai_type,
        at_source: at_source.as_deref(),
        otherwise: request.folder.as_deref(),
    };
    placement::destination(&hints).map_err(|error| unplaced(source, error))
}

fn unplaced(source: &Source, error: PlacementError) -> EntryError {
    EntryError::Placement { what: Box::new(source.clone()), error }
}

/// Checks declared values against the host's, as far as both exist.
fn agree(
    who: &'static str,
    sha256: Option<Sha256>,
    size: Option<u64>,
    found: &Found,
) -> Result<(), EntryError> {
    let differs = |given: Option<bool>| given == Some(true);
    let other_digest = sha256.zip(found.sha256).map(|(a, b)| a != b);
    let other_size = size.zip(found.size).map(|(a, b)| a != b);
    if differs(other_digest) || differs(other_size) {
        return Err(EntryError::Differs {
            what: found.source.to_string(),
            who,
            said: Declared { sha256, size },
            found: Declared { sha256: found.sha256, size: found.size },
        });
    }
    Ok(())
}
