//! Model versions of Civitai.

use std::fmt;

use url::Url;

use super::url_credentials::is_credential;
use super::{Form, FormProblem, SourceError, address};

/// The parameters that choose among a version's files.
const FILTERS: [&str; 6] = ["fileId", "type", "format", "size", "fp", "quantType"];

/// A model version: a number that is never reused for other files. If the version has several files, the download URL's
/// parameters choose one: `civitai:128713?format=SafeTensor&fp=fp16`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CivitaiVersion {
    /// The version's number, which differs from the model's.
    pub id: u64,
    /// Names and values of the filters, in the given order.
    pub filters: Vec<(String, String)>,
}

impl CivitaiVersion {
    /// `VERSION_ID`, or `MODEL_ID@VERSION_ID` as the site's resource names have it, and filters.
    pub(super) fn parse(text: &str) -> Result<Self, SourceError> {
        let (numbers, query) = text.split_once('?').unwrap_or((text, ""));
        let id = numbers.rsplit('@').next().unwrap_or(numbers);
        let mut filters = Vec::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if !FILTERS.contains(&&*name) {
                return Err(FormProblem::Filter.of(Form::Civitai));
            }
            filters.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self { id: number(id)?, filters })
    }

    /// `air:ECOSYSTEM:TYPE:civitai:MODEL_ID@VERSION_ID`, which the site shows for copying.
    pub(super) fn parse_urn(text: &str) -> Result<Self, SourceError> {
        let (_, numbers) = text.split_once(":civitai:").ok_or(SourceError::Unknown)?;
        let (_, id) = numbers.split_once('@').ok_or(FormProblem::Version.of(Form::Civitai))?;
        Ok(Self { id: number(id)?, filters: Vec::new() })
    }

    /// From a URL. Only the filters are kept; anything else, such as a token, is dropped.
    pub(super) fn of_address(id: &str, url: &Url) -> Result<Self, SourceError> {
        let chosen = url.query_pairs().filter(|(name, _)| FILTERS.contains(&&**name));
        let filters = chosen.map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        Ok(Self { id: number(id)?, filters })
    }

    /// True if the query of a download URL has a parameter of unknown meaning. It may choose another file (fault 114),
    /// so such a URL is no version's short form.
    pub(super) fn may_choose_otherwise(url: &Url) -> bool {
        let is_known = |name: &str| FILTERS.contains(&name) || name.starts_with("utm_");
        url.query_pairs().any(|(name, value)| !is_known(&name) && !is_credential(&name, &value))
    }

    pub(super) fn address(&self) -> Url {
        let id = self.id.to_string();
        let mut url = address("https://civitai.com", ["api", "download", "models", &id]);
        if !self.filters.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.filters);
        }
        url
    }
}

fn number(text: &str) -> Result<u64, SourceError> {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    let number = if digits { text.parse().ok().filter(|id| *id > 0) } else { None };
    number.ok_or(FormProblem::Version.of(Form::Civitai))
}

impl fmt::Display for CivitaiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "civitai:{}", self.id)?;
        if self.filters.is_empty() {
            return Ok(());
        }
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        write!(f, "?{}", query.extend_pairs(&self.filters).finish())
    }
}
