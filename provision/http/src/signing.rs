//! Signing: the signature of a request for a bucket's object, and the corrections that a refusal carries.
//!
//! Each request is signed when it is sent, for minutes (`SigV4`, in the query), so no signature expires midway. The
//! signed address is that of one request: it is kept nowhere and shown nowhere (I6). A signature goes to the endpoint
//! that the address or the configuration names, and past no redirect. The keys themselves never leave this machine, so
//! plain http is allowed.
//!
//! A host that refuses the clock or the region sends the right value, and the client takes it over. Expired keys are
//! renewed. Then the request is sent again, once for each cause.

use std::borrow::Cow;
use std::time::UNIX_EPOCH;

use http::StatusCode;
use http::header::{self, HeaderMap};
use jiff::Timestamp;
use rusty_s3::Method;
use rusty_s3::signing::sign;

use crate::auth::credentials::Secret;
use crate::bucket::{Corrected, Known, Problem, place};
use crate::client::{HttpClient, Sources};
use crate::error::RequestError;
use crate::request_rules::{Resolved, wall_clock};
use crate::s3_config::S3Credentials;
use crate::sniff;
use provision_core::source_url::{BucketObject, SourceUrl};
use provision_core::store_address::is_region;
use provision_core::xml::element;

/// The validity of a signature, in seconds. A request is sent at once; the rest is for clocks that differ.
const VALID_FOR: u64 = 900;
/// The seconds by which a clock may differ that says so over plain http. A reader of such a request, or its server,
/// could otherwise get a signature that is valid in some years.
const MOST_APART: u64 = 24 * 3600;

impl HttpClient {
    /// The address for one request of the object at `at`, which [`Self::effective`] gave: with a signature, if there
    /// are keys. `query` and `headers` are sorted by name; the headers are sent with the same values. Any other URL
    /// stays as it is.
    pub(crate) async fn sign<'u>(
        &self,
        at: &'u SourceUrl,
        method: Method,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Result<Cow<'u, SourceUrl>, RequestError> {
        let Some(object) = at.object() else { return Ok(Cow::Borrowed(at)) };
        let mut url = at.as_url().clone();
        if let Some(keys) = self.keys_for(at, object).await? {
            let ahead = self.buckets.known().ahead.get(&at.authority()).copied().unwrap_or_default();
            let time = Timestamp::from_second(seconds().saturating_add(ahead)).unwrap_or_default();
            let (region, token) = (self.buckets.region(&self.config.s3, object), keys.session_token.as_ref());
            let (secret, token) = (keys.secret_key.reveal(), token.map(Secret::reveal));
            let (query, headers) = (query.iter().copied(), headers.iter().copied());
            url =
                sign(&time, method, url, &keys.access_key, secret, token, &region, VALID_FOR, query, headers);
            self.buckets.known().keys = Some(keys);
        } else if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        SourceUrl::from_url(url).map(Cow::Owned).or(Ok(Cow::Borrowed(at)))
    }

    /// The keys for a request. A list's own endpoint gets none: they belong to another.
    async fn keys_for(
        &self,
        at: &SourceUrl,
        object: &BucketObject,
    ) -> Result<Option<S3Credentials>, RequestError> {
        if !self.is_signed(object) {
            return Ok(None);
        }
        let expired = self.buckets.known().expired.clone();
        let keys = self.config.s3.credentials.credentials(self, expired.as_ref()).await;
        keys.map_err(|error| RequestError::Credentials { url: at.clone(), error: Box::new(error) })
    }

    /// False for a list's own endpoint.
    fn is_signed(&self, object: &BucketObject) -> bool {
        self.config.sources == Sources::Own || object.endpoint.is_none()
    }

    /// Takes over the correction in the refusal of `at`. True if the request is worth sending again, from the object's
    /// own address.
    pub(crate) fn corrects(
        &self,
        at: &SourceUrl,
        (status, headers): (StatusCode, &HeaderMap),
        body: &[u8],
        corrected: &mut Corrected,
    ) -> bool {
        let Some(object) = at.object().filter(|_| matches!(status.as_u16(), 301 | 307 | 400 | 403)) else {
            return false;
        };
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let body = String::from_utf8_lossy(body);
        let mut known = self.buckets.known();
        match Problem::of(status, &body) {
            Problem::Clock if !std::mem::replace(&mut corrected.clock, true) => {
                let date = text(header::DATE.as_str()).and_then(|date| httpdate::parse_http_date(date).ok());
                let date = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok());
                let Some(date) = date.and_then(|date| i64::try_from(date.as_secs()).ok()) else {
                    return false;
                };
                let ahead = date - seconds();
                let is_believed = at.is_https() || at.is_loopback() || ahead.unsigned_abs() <= MOST_APART;
                if is_believed {
                    known.ahead.insert(at.authority(), ahead);
                }
                is_believed
            }
            Problem::Region if !std::mem::replace(&mut corrected.region, true) => {
                let region = text("x-amz-bucket-region").or_else(|| element(&body, "Region"));
                let Some(region) = region.filter(|region| is_region(region)) else { return false };
                known.regions.insert(place(object), region.to_owned());
                true
            }
            Problem::Expired if self.is_signed(object) && !std::mem::replace(&mut corrected.keys, true) => {
                let Known { expired, keys, .. } = &mut *known;
                expired.clone_from(keys);
                expired.is_some()
            }
            _ => false,
        }
    }

    /// The failure of a request for an object that was answered with a 4xx.
    pub(crate) fn refused_object(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        at: &Resolved,
        object: &BucketObject,
        body: &[u8],
        resolved_earlier: bool,
    ) -> RequestError {
        let redactor = self.redactor_of(at);
        let message = sniff::reason(body, headers, &redactor);
        let (url, code) = (at.url.clone(), None);
        let keys = self.buckets.keys().filter(|_| self.is_signed(object));
        let problem = Problem::of(status, &String::from_utf8_lossy(body));
        let advice = match (problem, &keys) {
            (Problem::Clock, _) => "the clock of this machine or of that host is wrong: set it".to_owned(),
            (Problem::Region, _) => {
                "the bucket is in another region: give it as ?region=NAME, or in AWS_REGION".to_owned()
            }
            (Problem::Keys | Problem::Expired, Some(keys)) => {
                format!("the host does not accept {keys}: it is mistyped, expired or of another host")
            }
            (Problem::Denied, Some(keys)) => {
                format!("{keys} may not read this object, or there is none and the key may not list the bucket")
            }
            (Problem::Keys | Problem::Expired | Problem::Denied, None) => {
                "if the bucket is private, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, to a key \
                 that may read it"
                    .to_owned()
            }
            (Problem::Missing, _) => "check the bucket, the prefix, the endpoint and the region".to_owned(),
        };
        let status = status.as_u16();
        match problem {
            Problem::Clock | Problem::Keys | Problem::Expired | Problem::Denied
                if problem != Problem::Denied || !object.is_store =>
            {
                let with_login = keys.is_some();
                RequestError::Refused { url, status, code, message, advice, with_login, resolved_earlier }
            }
            _ => RequestError::Missing { url, status, code, message, advice },
        }
    }
}

/// The time, in seconds since 1970.
fn seconds() -> i64 {
    let since = wall_clock().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
