//! [`StoreAddress`]: a place that has files by their digest, as one line of text.
//!
//! ```text
//! https://cache.example/models/{sha256}        a web server; also {size}, {path}, and {env:NAME} in the query
//! http://localhost:3030/torrents/{infohash}/stream/0
//!                                              a torrent client that serves files; see `with_infohashes`
//! oci://HOST/NAME                              a repository of a registry; ?ns=REGISTRY for a mirror that wants it
//! s3://BUCKET/PREFIX                           a bucket; ?endpoint=URL&region=NAME&style=path|virtual
//! file:///mnt/models                           a directory of this machine
//! ```
//!
//! A file's address follows from its path, size and digest alone, so a store needs no list. The value of `{env:NAME}`
//! is a secret: it stands in the query only, which is never shown (I6), and goes over https or to this machine only. No
//! error repeats the text, which may contain a secret.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use crate::digest::Sha256;
use crate::model_path::ModelPath;
use crate::source_url::{BucketObject, BucketStyle, SourceUrl, SourceUrlError};
use crate::torrent::InfoHash;

/// The value of a variable of the environment; `None` if it is not set.
pub type Variable<'v> = &'v dyn Fn(&str) -> Option<String>;

/// A place that has files by their digest.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreAddress {
    /// A web server.
    Template(Template),
    /// A repository of a registry.
    Registry(Registry),
    /// A bucket.
    Bucket(Bucket),
    /// A directory; the file is `DIR/SHA256`.
    Directory(Utf8PathBuf),
}

/// A web server's address with placeholders.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    /// Everything before the query.
    front: Pattern,
    query: Option<Pattern>,
    /// The info hashes for `{infohash}`.
    infohashes: BTreeMap<Sha256, InfoHash>,
    /// The text without its query.
    shown: String,
}

/// A repository of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Registry {
    /// The registry's host, with a port unless it is the scheme's default.
    pub host: String,
    /// The repository's name.
    pub name: String,
    /// The registry that a mirror stands for: the query `ns`, which goes along with every request.
    pub namespace: Option<String>,
}

/// A bucket, and the beginning of the keys in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// `PREFIX/{sha256}`, or a pattern of the user's.
    key: Pattern,
    /// The endpoint, if the address names one.
    pub endpoint: Option<Url>,
    /// The region, if the address names one.
    pub region: Option<String>,
    /// The style, if the address names one.
    pub style: Option<BucketStyle>,
    /// False for the address of a lock, whose bucket is a source as any other.
    is_store: bool,
    shown: String,
}

/// A text that is no [`StoreAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreAddressError {
    /// None of the forms.
    #[error(
        "a store is https://HOST/PATH/{{sha256}}, oci://HOST/NAME, s3://BUCKET/PREFIX or file:///DIRECTORY"
    )]
    Form,
    /// A web server's address that is the same for all files.
    #[error(
        "the address is the same for every file; put {{sha256}}, {{path}} or {{infohash}} where their names differ, as in \
         https://cache.example/models/{{sha256}}"
    )]
    NoPlaceholder,
    /// A brace that begins or ends no placeholder.
    #[error(
        "braces hold one of {{sha256}}, {{size}}, {{path}}, {{infohash}} and {{env:NAME}}; write %7B and %7D for others"
    )]
    Placeholder,
    /// A placeholder in the scheme or the host.
    #[error("a placeholder stands behind the host, as in https://cache.example/models/{{sha256}}")]
    HostPlaceholder,
    /// A secret outside of the query.
    #[error(
        "{{env:NAME}} stands in the query of an https address, which is never shown, as in \
         https://HOST/PATH/{{sha256}}?{{env:NAME}}"
    )]
    SecretPlace,
    /// A secret for plain http.
    #[error("the value of {{env:{name}}} goes over https only, or to this machine: write https://")]
    SecretOverHttp {
        /// The variable.
        name: String,
    },
    /// A variable that is not set.
    #[error("the variable {name}, which the address names as {{env:{name}}}, is not set")]
    Unset {
        /// The variable.
        name: String,
    },
    /// A variable whose value cannot stand in a query.
    #[error("the variable {name} has a character that no query has; encode it, such as %20 for a space")]
    Value {
        /// The variable.
        name: String,
    },
    /// A variable in a lock.
    #[error("an address in a lock has no {{env:NAME}}; give it to the command, with --store")]
    Variable,
    /// An info hash in a lock.
    #[error("an address in a lock has no {{infohash}}; give it to the command, with --store")]
    InfoHash,
    /// No address of the web.
    #[error("{0}")]
    Url(SourceUrlError),
    /// Not the form of a repository.
    #[error(
        "a registry is oci://HOST/NAME, with NAME in lower case and without a tag, as in \
         oci://registry.example/team/models; a mirror may need ?ns=REGISTRY"
    )]
    Registry,
    /// Not the form of a bucket.
    #[error(
        "a bucket is s3://BUCKET/PREFIX, with ?endpoint=URL&region=NAME&style=path or virtual where they are needed"
    )]
    Bucket,
    /// Not the form of a directory.
    #[error("a directory is file:///DIRECTORY, an absolute path of this machine, as in file:///mnt/models")]
    Directory,
}

use StoreAddressError as Error;

impl StoreAddress {
    /// Parses an address. `variable` gives the values of `{env:NAME}`.
    ///
    /// # Errors
    /// It has none of the forms, or names a variable that is not set. The error does not repeat the text.
    pub fn parse(text: &str, variable: Variable<'_>) -> Result<Self, StoreAddressError> {
        Self::parse_with(text, Some(variable))
    }

    /// Parses an address of a lock, which names no variable. `None` for one of the web without a digest or a path in
    /// braces: that is the address of one file.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_in_lock(text: &str) -> Result<Option<Self>, StoreAddressError> {
        let is_web = scheme(text).is_none_or(|(scheme, _)| !matches!(&*scheme, "oci" | "s3" | "file"));
        if is_web && !text.contains("{sha256}") && !text.contains("{path}") {
            return Ok(None);
        }
        let mut address = Self::parse_with(text, None)?;
        if let Self::Bucket(bucket) = &mut address {
            bucket.is_store = false;
        }
        if address.needs_infohashes() { Err(Error::InfoHash) } else { Ok(Some(address)) }
    }

    fn parse_with(text: &str, variable: Option<Variable<'_>>) -> Result<Self, StoreAddressError> {
        let (scheme, rest) = scheme(text).ok_or(Error::Form)?;
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(Error::Url(SourceUrlError::Characters));
        }
        match &*scheme {
            "http" | "https" => Template::parse(text, variable).map(Self::Template),
            "oci" => Registry::parse(rest).ok_or(Error::Registry).map(Self::Registry),
            "s3" => Bucket::parse(rest).map(Self::Bucket),
            "file" => directory(text).ok_or(Error::Directory).map(Self::Directory),
            _ => Err(Error::Form),
        }
    }

    /// True if the address of a file has the info hash of its torrent, which no lock knows.
    pub fn needs_infohashes(&self) -> bool {
        matches!(self, Self::Template(template) if template.has(|part| matches!(part, Part::InfoHash)))
    }

    /// With the info hashes of files. A file without one is not at this store.
    #[must_use]
    pub fn with_infohashes(mut self, infohashes: BTreeMap<Sha256, InfoHash>) -> Self {
        if let Self::Template(template) = &mut self {
            template.infohashes = infohashes;
        }
        self
    }

    /// The address of a file, also in a directory.
    pub fn source_of(&self, path: &ModelPath, size: u64, sha256: &Sha256) -> Option<SourceUrl> {
        match self {
            Self::Directory(directory) => SourceUrl::of_file(&directory.join(sha256.to_string())),
            address => address.url_of(path, size, sha256),
        }
    }

    /// The address of a piece list, also in a directory. A reader knows its digest only, so there is none where the
    /// address needs a path, a size or an info hash.
    pub fn source_of_list(&self, sha256: &Sha256) -> Option<SourceUrl> {
        let needs_digest_alone = match self {
            Self::Template(template) => !template.has(|part| !part.is_of_digest()),
            Self::Bucket(bucket) => bucket.key.0.iter().all(Part::is_of_digest),
            Self::Registry(_) | Self::Directory(_) => true,
        };
        let path = sha256.to_string().parse().ok()?;
        needs_digest_alone.then(|| self.source_of(&path, 0, sha256)).flatten()
    }

    /// The address of a file; `None` in a directory.
    pub fn url_of(&self, path: &ModelPath, size: u64, sha256: &Sha256) -> Option<SourceUrl> {
        let file = File { path, size, sha256, infohash: None };
        match self {
            Self::Template(template) => {
                let infohash = template.infohashes.get(sha256).copied();
                let is_known = infohash.is_some() || !self.needs_infohashes();
                is_known.then(|| template.url_of(&File { infohash, ..file }).ok()).flatten()
            }
            Self::Registry(registry) => registry.url(&format!("blobs/sha256:{sha256}")),
            Self::Bucket(bucket) => {
                SourceUrl::of_object(bucket.object(bucket.key.expand(&file, &str::to_owned))).ok()
            }
            Self::Directory(_) => None,
        }
    }
}

impl Template {
    fn parse(text: &str, variable: Option<Variable<'_>>) -> Result<Self, StoreAddressError> {
        let text = text.split('#').next().unwrap_or_default();
        let (front, query) = text.split_once('?').map_or((text, None), |(front, query)| (front, Some(query)));
        let shown = front.to_owned();
        let behind_host = front.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
        if behind_host.map_or(front, |(host, _)| host).contains(['{', '}']) {
            return Err(Error::HostPlaceholder);
        }
        let front = Pattern::parse(front, variable)?;
        if front.secret().is_some() {
            return Err(Error::SecretPlace);
        }
        let query = query.map(|query| Pattern::parse(query, variable)).transpose()?;
        let template = Self { front, query, infohashes: BTreeMap::new(), shown };
        if !template.has(|part| matches!(part, Part::Sha256 | Part::Path | Part::InfoHash)) {
            return Err(Error::NoPlaceholder);
        }
        let path = "x".parse().map_err(|_| Error::Form)?;
        let any = File { path: &path, size: 0, sha256: &Sha256::from_bytes([0; 32]), infohash: None };
        let url = template.url_of(&any).map_err(Error::Url)?;
        let secret = template.query.as_ref().and_then(Pattern::secret);
        if let Some(name) = secret.filter(|_| !url.is_https() && !url.is_loopback()) {
            return Err(Error::SecretOverHttp { name: name.to_owned() });
        }
        Ok(template)
    }

    fn has(&self, is_wanted: impl Fn(&Part) -> bool) -> bool {
        [&self.front].into_iter().chain(&self.query).any(|pattern| pattern.0.iter().any(&is_wanted))
    }

    fn url_of(&self, file: &File<'_>) -> Result<SourceUrl, SourceUrlError> {
        let by_segment = |path: &str| path.split('/').map(encoded).collect::<Vec<_>>().join("/");
        let mut url = self.front.expand(file, &by_segment);
        if let Some(query) = &self.query {
            url = url + "?" + &query.expand(file, &encoded);
        }
        url.parse()
    }
}

impl Registry {
    fn parse(text: &str) -> Option<Self> {
        let (place, query) = text.split_once('?').map_or((text, None), |(place, query)| (place, Some(query)));
        let (host, name) = place.split_once('/')?;
        let namespace = match query {
            Some(query) => Some(query.strip_prefix("ns=").filter(|name| is_authority(name))?.to_owned()),
            None => None,
        };
        let registry = Self { host: host.to_owned(), name: name.to_owned(), namespace };
        (is_authority(host) && is_repository(name)).then_some(registry)
    }

    /// The address of `rest` below the repository, such as `blobs/uploads/`. A registry on this machine uses plain
    /// http, as in container engines. `None` if `rest` makes no URL.
    pub fn url(&self, rest: &str) -> Option<SourceUrl> {
        let mut path = format!("{}/v2/{}/{rest}", self.host, self.name);
        if let Some(namespace) = &self.namespace {
            path = path + "?ns=" + namespace;
        }
        let url: SourceUrl = format!("https://{path}").parse().ok()?;
        if url.is_loopback() { format!("http://{path}").parse().ok() } else { Some(url) }
    }
}

/// True for a registry's host, with or without a port. URL parsers drop or move characters that are not part of a host.
pub fn is_authority(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    let url = || Url::parse(&format!("https://{text}/")).ok();
    !text.is_empty() && text.chars().all(allowed) && url().is_some_and(|url| url.path() == "/")
}

/// True for the name of a repository: components of lower-case letters and digits with separators between (`.`, `_`,
/// `-`).
pub fn is_repository(name: &str) -> bool {
    let plain = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    let is_component =
        |text: &str| plain(text.chars().next()) && plain(text.chars().last()) && text.chars().all(allowed);
    name.split('/').all(is_component)
}

impl Bucket {
    fn parse(text: &str) -> Result<Self, StoreAddressError> {
        let (place, query) = text.split_once('?').unwrap_or((text, ""));
        let (name, prefix) = place.split_once('/').unwrap_or((place, ""));
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if !(1..=255).contains(&name.len()) || !name.chars().all(allowed) || name.contains("..") {
            return Err(Error::Bucket);
        }
        let prefix = prefix.trim_end_matches('/');
        let is_segment = |segment: &str| !matches!(segment, "" | "." | "..");
        if !prefix.is_empty() && !prefix.split('/').all(is_segment) {
            return Err(Error::Bucket);
        }
        let mut key = Pattern::parse(prefix, None)?;
        if key.0.iter().any(|part| matches!(part, Part::InfoHash)) {
            return Err(Error::Bucket);
        }
        if !key.0.iter().any(|part| matches!(part, Part::Sha256 | Part::Path)) {
            key.0.extend((!prefix.is_empty()).then(|| Part::Text("/".to_owned())));
            key.0.push(Part::Sha256);
        }
        let (name, shown) = (name.to_owned(), format!("s3://{place}"));
        let mut bucket = Self { name, key, endpoint: None, region: None, style: None, is_store: true, shown };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "endpoint" => {
                    let endpoint: SourceUrl = value.parse().map_err(Error::Url)?;
                    bucket.endpoint = Some(endpoint.as_url().clone()).filter(|url| url.query().is_none());
                    bucket.endpoint.as_ref().ok_or(Error::Bucket)?;
                }
                "region" if is_region(&value) => bucket.region = Some(value.into_owned()),
                "style" if value == "path" => bucket.style = Some(BucketStyle::Path),
                "style" if value == "virtual" => bucket.style = Some(BucketStyle::Virtual),
                _ => return Err(Error::Bucket),
            }
        }
        Ok(bucket)
    }

    /// The object with this key.
    pub fn object(&self, key: String) -> BucketObject {
        let Self { name, endpoint, region, style, is_store, .. } = self;
        let (bucket, endpoint, region) = (name.clone(), endpoint.clone(), region.clone());
        BucketObject { bucket, key, endpoint, region, style: *style, is_store: *is_store }
    }
}

/// True for a region's name.
pub fn is_region(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// The scheme in lower case, and the text after `://`.
fn scheme(text: &str) -> Option<(String, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    Some((scheme.to_ascii_lowercase(), rest))
}

fn directory(text: &str) -> Option<Utf8PathBuf> {
    let url = Url::parse(text).ok()?;
    let is_plain = url.host_str().is_none_or(|host| host == "localhost")
        && url.query().is_none()
        && url.fragment().is_none();
    let path = percent_encoding::percent_decode_str(url.path()).decode_utf8().ok()?;
    let path = Utf8Path::new(&*path);
    let is_component = |part: Utf8Component<'_>| !matches!(part, Utf8Component::ParentDir);
    let is_path = path.is_absolute() && path.components().all(is_component) && !path.as_str().contains('\0');
    (is_plain && is_path && !path.as_str().contains(['{', '}'])).then(|| path.to_owned())
}

/// The file that an address is expanded for.
struct File<'f> {
    path: &'f ModelPath,
    size: u64,
    sha256: &'f Sha256,
    infohash: Option<InfoHash>,
}

/// A text with placeholders.
#[derive(Clone, PartialEq, Eq)]
struct Pattern(Vec<Part>);

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Sha256,
    Size,
    Path,
    InfoHash,
    /// The value of a variable.
    Secret {
        name: String,
        value: String,
    },
}

impl Part {
    /// True if it is the same for all files of one digest.
    fn is_of_digest(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Sha256 | Self::Secret { .. })
    }
}

impl Pattern {
    fn parse(text: &str, variable: Option<Variable<'_>>) -> Result<Self, StoreAddressError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, next) = after.split_once('}').ok_or(Error::Placeholder)?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(match name {
                "sha256" => Part::Sha256,
                "size" => Part::Size,
                "path" => Part::Path,
                "infohash" => Part::InfoHash,
                _ => secret(name.strip_prefix("env:").ok_or(Error::Placeholder)?, variable)?,
            });
            rest = next;
        }
        parts.push(Part::Text(rest.to_owned()));
        let is_stray = |part: &Part| matches!(part, Part::Text(text) if text.contains('}'));
        if parts.iter().any(is_stray) { Err(Error::Placeholder) } else { Ok(Self(parts)) }
    }

    /// The first variable in it.
    fn secret(&self) -> Option<&str> {
        self.0.iter().find_map(|part| if let Part::Secret { name, .. } = part { Some(&**name) } else { None })
    }

    /// The text for `file`, whose path is written as `encode` does.
    fn expand(&self, file: &File<'_>, encode: &dyn Fn(&str) -> String) -> String {
        let mut text = String::new();
        for part in &self.0 {
            let _ = match part {
                Part::Text(part) => write!(text, "{part}"),
                Part::Sha256 => write!(text, "{}", file.sha256),
                Part::Size => write!(text, "{}", file.size),
                Part::Path => write!(text, "{}", encode(file.path.as_str())),
                Part::InfoHash => file.infohash.map_or(Ok(()), |hash| write!(text, "{hash}")),
                Part::Secret { value, .. } => write!(text, "{value}"),
            };
        }
        text
    }
}

/// The value of `{env:NAME}`. Azure shows its SAS with a question mark in front.
fn secret(name: &str, variable: Option<Variable<'_>>) -> Result<Part, StoreAddressError> {
    let variable = variable.ok_or(Error::Variable)?;
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(Error::Placeholder);
    }
    let name = name.to_owned();
    let Some(value) = variable(&name).filter(|value| !value.is_empty()) else {
        return Err(Error::Unset { name });
    };
    let value = value.strip_prefix('?').unwrap_or(&value).to_owned();
    if value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        Ok(Part::Secret { name, value })
    } else {
        Err(Error::Value { name })
    }
}

fn encoded(text: &str) -> String {
    const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, ENCODED).to_string()
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Template(Template { shown, query, .. }) => {
                f.write_str(shown)?;
                f.write_str(if query.is_some() { "?…" } else { "" })
            }
            Self::Registry(registry) => write!(f, "oci://{}/{}", registry.host, registry.name),
            Self::Bucket(bucket) => f.write_str(&bucket.shown),
            Self::Directory(path) => write!(f, "file://{path}"),
        }
    }
}

impl fmt::Debug for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
