//! Builds lock entries from requests: each source is resolved, placed, and read if its host publishes no digest.

mod error;
mod prepared;
mod request;

use provision_core::digest::Sha256;
use provision_core::lockfile::{LockfileErrorKind, TakenPaths};
use provision_core::model_path::ModelPath;

use crate::digest_reader::DigestReader;
use crate::entry::Entry;
use crate::expiry::Expiry;
use crate::placement::{self, Hints, PlacementError};
use crate::resolve::{Declared, Found, Resolver};
use crate::source::Source;

pub use error::EntryError;
pub use prepared::{BuiltEntry, PreparedEntry};
pub use request::AddRequest;

/// The party that declares a mirror's digest, in messages.
const FIRST: &str = "the first source";

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

/// Builds entries, in three steps over all requests of a command: [`Self::check`] needs no host, [`Self::prepare`] asks
/// hosts, and [`Self::finish`] reads files. A step leaves no check that it can make to a later one, which may take
/// hours.
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
                Ok(path) => self.taken.check(&path).map_err(|kind| collision(&request.source, kind))?,
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
            if let Err(kind @ LockfileErrorKind::Nested { .. }) = self.taken.check(&path) {
                return Err(collision(&request.source, kind));
            }
        }
        Ok(())
    }

    /// Asks the hosts of a checked request. Reads no file. Requests can be asked for at the same time; their entries
    /// are then taken ([`Self::take`]) in their order.
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
        self.taken.take(path).map_err(|kind| collision(source, kind))
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
            follows: request.follows.clone(),
            groups: request.groups.clone(),
            may_lose_mirrors: request.may_lose_mirrors,
            lost_mirrors,
        })
    }

    /// Reads the file if its digest is unknown.
    pub async fn finish(&mut self, prepared: PreparedEntry) -> Result<BuiltEntry, EntryError> {
        let PreparedEntry { found, path, groups, follows, mut lost_mirrors, .. } = prepared;
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
        let source = follows.or_else(|| found.followed());
        let entry = Entry { path, url: found.url, mirrors, size, sha256, pieces: None, groups, source };
        Ok(BuiltEntry { entry, was_read, lost_mirrors })
    }

    /// The digest that is known without reading the file; `None` if it has to be read.
    fn declared(&self, found: &Found) -> Result<Option<Sha256>, EntryError> {
        let declared = self.reader.declared(found);
        declared.map_err(|error| EntryError::Digest { what: found.source.to_string(), error })
    }

    /// Resolves a source that has to be one file; `option` is the way out if it is not.
    async fn one(&self, source: &Source, option: &'static str) -> Result<Found, EntryError> {
        let mut found = self.resolver.resolve(source).await?;
        let files = found.len();
        let several = || EntryError::Several { what: source.to_string(), files, option };
        found.pop().filter(|_| files == 1).ok_or_else(several)
    }

    /// Resolves a mirror and checks that it declares the same bytes.
    async fn mirror(&self, source: &Source, of: &Found, sha256: Option<Sha256>) -> Result<Found, EntryError> {
        self.check_expiry(source)?;
        let mirror = self.one(source, "a mirror has to be one file: name it").await?;
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

    /// Resolves the entry's source again, but reads no file. A file without a declared digest has to be read when its
    /// URL or size changed. It also has to be read if its URL is not pinned and the user named the model (`is_named`).
    pub async fn ask_again(
        &mut self,
        entry: &Entry,
        source: &Source,
        is_named: bool,
    ) -> Result<Followed, EntryError> {
        let option = "the `source` in the lock has to name one file: correct it";
        let found = self.one(source, option).await?;
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
    // Mirrors serve the old bytes, and the list describes them.
    let same = sha256 == entry.sha256;
    let mirrors = if same { entry.mirrors.clone() } else { Vec::new() };
    let pieces = entry.pieces.filter(|_| same);
    let now = Entry { url: found.url.clone(), mirrors, size, sha256, pieces, ..entry.clone() };
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

fn collision(source: &Source, kind: LockfileErrorKind) -> EntryError {
    EntryError::Collision { what: source.to_string(), kind }
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
