//! The lock's text as serde reads it: keys and types, no meaning.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use super::error::{Located, LockfileErrorKind};
use super::hints::WithoutHints;
use super::{Model, redaction};
use crate::digest::Sha256;
use crate::model_path::ModelPath;
use crate::source_url::SourceUrl;
use crate::store_address::{StoreAddress, StoreAddressError};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lock {
    version: Spanned<i64>,
    pub(super) marker: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) model: Vec<WithoutHints<RawModel>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawModel {
    pub(super) path: Spanned<String>,
    url: Spanned<String>,
    #[serde(default)]
    mirrors: Vec<Spanned<String>>,
    size: Spanned<i64>,
    sha256: Spanned<String>,
    pieces: Option<Spanned<String>>,
    #[serde(default)]
    groups: Vec<String>,
    source: Option<String>,
}

/// The version alone: a lock of another version may have other keys, and the error is then about the version.
#[derive(Deserialize)]
struct VersionOnly {
    version: Spanned<toml::Value>,
}

/// The keys before the first model.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    version: i64,
    pub(super) marker: Option<String>,
}

/// The keys of a lock of this version that is written in `head` up to its first model.
pub(super) fn peek(head: &str) -> Option<Head> {
    let WithoutHints(head): WithoutHints<Head> = toml::from_str(head).ok()?;
    (head.version == 1).then_some(head)
}

pub(super) fn parse(text: &str) -> Result<Lock, Located> {
    let located =
        |error: toml::de::Error| (error.span(), LockfileErrorKind::Toml(redaction::message(error.message())));
    let other = |span: Range<usize>| {
        let found = redaction::number(&text[span.clone()]);
        Err((Some(span), LockfileErrorKind::Version { found }))
    };
    // Only the head: parsing tens of thousands of models twice takes a second.
    if let Ok(VersionOnly { version }) = toml::from_str(super::head(text))
        && version.get_ref().as_integer() != Some(1)
    {
        return other(version.span());
    }
    let WithoutHints(lock): WithoutHints<Lock> = toml::from_str(text).map_err(located)?;
    if *lock.version.get_ref() == 1 { Ok(lock) } else { other(lock.version.span()) }
}

impl RawModel {
    pub(super) fn into_model(self) -> Result<Model, Located> {
        let path = self.path.get_ref().parse();
        let path = path.map_err(|error| (Some(self.path.span()), LockfileErrorKind::Path(error)))?;
        let size = *self.size.get_ref();
        let size = u64::try_from(size)
            .map_err(|_| (Some(self.size.span()), LockfileErrorKind::NegativeSize { found: size }))?;
        let digest = |written: &Spanned<String>| {
            let parsed = written.get_ref().parse::<Sha256>();
            parsed.map_err(|error| (Some(written.span()), LockfileErrorKind::Digest(error)))
        };
        let sha256 = digest(&self.sha256)?;
        let pieces = self.pieces.as_ref().map(digest).transpose()?;
        let mut sources = Vec::with_capacity(1 + self.mirrors.len());
        for url in std::iter::once(&self.url).chain(&self.mirrors) {
            let parsed = source(url.get_ref(), &path, size, &sha256);
            sources.push(parsed.map_err(|kind| (Some(url.span()), kind))?);
        }
        Ok(Model { path, sources, size, sha256, pieces, groups: self.groups, source: self.source })
    }
}

/// A model's source: the address of its file, or that of a store, which has the file under its digest or path.
fn source(text: &str, path: &ModelPath, size: u64, sha256: &Sha256) -> Result<SourceUrl, LockfileErrorKind> {
    match StoreAddress::parse_in_lock(text).map_err(LockfileErrorKind::Store)? {
        None => text.parse().map_err(LockfileErrorKind::Url),
        Some(store) => {
            let source = store.source_of(path, size, sha256);
            let source = source.ok_or(LockfileErrorKind::Store(StoreAddressError::Form))?;
            Ok(source.with_written(text))
        }
    }
}
