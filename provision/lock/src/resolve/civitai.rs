//! Resolves Civitai's model versions. `sizeKB` is a rounded fraction, so the size comes from a probe of the download.
//!
//! A version can have several files, and the site decides which of them a download URL serves. A declared digest is
//! accepted only if the download has the length of its file, and no other candidate has that length.
use std::rc::Rc;

use provision_core::digest::Sha256;
use provision_http::metadata::MetadataError;
use serde::Deserialize;

use super::{Found, Kind, ResolveError, Resolver, api, digest, some_of};
use crate::source::{CivitaiVersion, Source};

const CIVITAI: &str = "https://civitai.com";

/// A model version.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Version {
    model_id: Option<u64>,
    /// `Public`, `EarlyAccess`, ….
    availability: Option<String>,
    early_access_ends_at: Option<String>,
    model: Option<Model>,
    #[serde(default)]
    files: Vec<File>,
}

#[derive(Debug, Deserialize)]
struct Model {
    r#type: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    id: Option<u64>,
    name: String,
    #[serde(rename = "sizeKB")]
    size_kb: Option<f64>,
    r#type: Option<String>,
    #[serde(default)]
    metadata: FileMetadata,
    #[serde(default)]
    hashes: Hashes,
    primary: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileMetadata {
    format: Option<String>,
    size: Option<String>,
    fp: Option<String>,
    quant_type: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Hashes {
    #[serde(rename = "SHA256")]
    sha256: Option<String>,
}

impl File {
    /// Returns true if the file matches the filters of a download URL.
    fn fits(&self, filters: &[(String, String)]) -> bool {
        filters.iter().all(|(name, value)| {
            let id = self.id.map(|id| id.to_string());
            let has = match name.as_str() {
                "fileId" => &id,
                "type" => &self.r#type,
                "format" => &self.metadata.format,
                "size" => &self.metadata.size,
                "quantType" => &self.metadata.quant_type,
                _ => &self.metadata.fp,
            };
            has.as_deref().is_some_and(|has| has.eq_ignore_ascii_case(value))
        })
    }
}

impl File {
    /// Compares a length with the declared one, within the rounding to whole kilobytes; `None` if none is declared.
    fn has_size(&self, bytes: u64) -> Option<bool> {
        self.size_kb.map(|kb| (kb * 1024.0 - bytes as f64).abs() < 1024.0)
    }

    fn sha256(&self) -> Option<Sha256> {
        self.hashes.sha256.as_deref().and_then(digest)
    }
}

impl Version {
    /// The error of a refused download while the version is in early access; a token alone does not help then.
    fn early_access(&self, source: &Source, id: u64) -> Option<ResolveError> {
        // The host's text is shown only if it is a date.
        let is_date = |date: &&str| {
            date.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            })
        };
        let until = self.early_access_ends_at.as_deref().and_then(|until| until.get(..10)).filter(is_date);
        let is_early = self.availability.as_deref() == Some("EarlyAccess") || until.is_some();
        is_early.then(|| ResolveError::EarlyAccess {
            what: source.to_string(),
            until: until.map(str::to_owned),
            page: match self.model_id {
                Some(model) => format!("{CIVITAI}/models/{model}?modelVersionId={id}"),
                None => format!("{CIVITAI}/model-versions/{id}"),
            },
        })
    }

    /// The files that match the filters.
    fn fitting(&self, filters: &[(String, String)]) -> Vec<&File> {
        self.files.iter().filter(|file| file.fits(filters)).collect()
    }

    /// The chosen file: the primary one of those that match, or else the first.
    fn choose(&self, filters: &[(String, String)]) -> Option<&File> {
        let fitting = self.fitting(filters);
        let primary = fitting.iter().find(|file| file.primary == Some(true));
        primary.or(fitting.first()).copied()
    }

    /// The digest for a download of this length, if only one file fits.
    fn digest_of(&self, file: &File, filters: &[(String, String)], size: u64) -> Option<Sha256> {
        let sha256 = file.sha256()?;
        let may_be = |other: &&File| other.has_size(size) != Some(false);
        self.fitting(filters)
            .into_iter()
            .filter(may_be)
            .all(|other| other.sha256() == Some(sha256))
            .then_some(sha256)
    }
}

impl Resolver {
    pub(super) async fn civitai(&self, version: &CivitaiVersion) -> Result<Found, ResolveError> {
        let source = Source::Civitai(version.clone());
        let described = self.version(version.id).await;
        let described = described.map_err(|error| {
            ResolveError::host_with(&source, error, "; the version was removed from Civitai: add another one")
        })?;
        let Some(file) = described.choose(&version.filters) else {
            let known = some_of(described.files.iter().map(|file| file.name.as_str()));
            return Err(ResolveError::NoFile { what: source.to_string(), known });
        };
        let url = source.address();
        let probe = self.metadata.probe(&url).await.map_err(|error| {
            let is_refused = Kind::of(&error) == Kind::Refused;
            let early = described.early_access(&source, version.id).filter(|_| is_refused);
            early.unwrap_or_else(|| ResolveError::host(&source, error))
        })?;
        let size = probe.size.ok_or_else(|| ResolveError::NoSize { what: source.to_string() })?;
        if let (Some(false), Some(kilobytes)) = (file.has_size(size), file.size_kb) {
            return Err(ResolveError::OtherFile {
                what: source.to_string(),
                name: file.name.clone(),
                listed: (kilobytes * 1024.0) as u64,
                found: size,
                known: some_of(described.files.iter().map(|file| file.name.as_str())),
            });
        }
        Ok(Found {
            url,
            size: Some(size),
            sha256: described.digest_of(file, &version.filters, size),
            name: Some(file.name.clone()),
            is_named_by_host: false,
            civitai_type: described.model.as_ref().map(|model| model.r#type.clone()),
            etag: file.id.map(|id| id.to_string()),
            source,
        })
    }

    async fn version(&self, id: u64) -> Result<Rc<Version>, MetadataError> {
        let url = api(CIVITAI, ["api", "v1", "model-versions", &id.to_string()], &[]);
        self.versions.get(id, || async { Ok(Rc::new(self.metadata.json(&url).await?.parse()?)) }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_choose_a_versions_file_and_prefer_the_primary() {
        let version: Version = serde_json::from_value(serde_json::json!({
            "model": {"type": "LORA"},
            "files": [
                {"name": "b", "type": "Model", "metadata": {"fp": "fp16", "format": "SafeTensor", "size": null}},
                {"name": "a", "type": "Model", "metadata": {"fp": "fp32", "format": "SafeTensor"}, "primary": true},
                {"name": "c", "id": 7, "type": "VAE", "metadata": {"quantType": "Q4_K_M"}},
            ],
        }))
        .unwrap();
        let choose = |filters: &[(&str, &str)]| {
            let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            let filters: Vec<_> = filters.iter().map(owned).collect();
            version.choose(&filters).map(|file| file.name.as_str())
        };
        assert_eq!(choose(&[]), Some("a"));
        assert_eq!(choose(&[("fp", "FP16")]), Some("b"));
        assert_eq!(choose(&[("format", "SafeTensor")]), Some("a"));
        assert_eq!(choose(&[("type", "VAE")]), Some("c"));
        assert_eq!(choose(&[("fileId", "7")]), Some("c"));
        assert_eq!(choose(&[("fileId", "8")]), None);
        assert_eq!(choose(&[("quantType", "q4_k_m")]), Some("c"));
        assert_eq!(choose(&[("size", "full")]), None);
    }

    #[test]
    fn a_digest_needs_one_file_of_the_downloads_length() {
        let (one, other) = (Sha256::of(b"1"), Sha256::of(b"2"));
        let version = |kb: [Option<f64>; 2]| -> Version {
            let file = |kb: Option<f64>, sha256: Sha256| {
                let sha256 = sha256.to_string().to_uppercase();
                serde_json::json!({"name": "x", "sizeKB": kb, "hashes": {"SHA256": sha256}})
            };
            serde_json::from_value(serde_json::json!({"files": [file(kb[0], one), file(kb[1], other)]}))
                .unwrap()
        };
        let digest = |kb, size| {
            let version = version(kb);
            version.digest_of(&version.files[0], &[], size)
        };
        assert_eq!(digest([Some(1000.0), Some(2000.0)], 1_024_000), Some(one));
        // Rounded to whole kilobytes, up or down.
        assert_eq!(digest([Some(1000.0), Some(2000.0)], 1_024_999), Some(one));
        assert_eq!(digest([Some(1000.0), Some(2000.0)], 1_023_001), Some(one));
        // Both files fit.
        assert_eq!(digest([Some(1000.0), Some(1000.5)], 1_024_000), None);
        assert_eq!(digest([Some(1000.0), None], 1_024_000), None);
        let version = version([Some(2_082_642.474_609_375), None]);
        let file = &version.files[0];
        assert_eq!(file.has_size(2_132_625_894), Some(true));
        assert_eq!(file.has_size(2_132_625_894 + 1024), Some(false));
        assert_eq!(file.has_size(2_132_625_894 - 1024), Some(false));
        assert_eq!(version.files[1].has_size(1), None);
    }
}
