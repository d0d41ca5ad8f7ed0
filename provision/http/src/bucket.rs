//! Buckets: an object's address at its endpoint, the corrections that hosts have sent in this run, and the codes of
//! their refusals.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::StatusCode;
use rusty_s3::{Bucket, UrlStyle};
use url::Url;

use crate::s3_config::{S3Config, S3Credentials};
use provision_core::source_url::{BucketObject, BucketStyle, SourceUrl};
use provision_core::xml::element;

/// The region of a bucket whose region is not given.
const USUAL_REGION: &str = "us-east-1";

/// The corrections that hosts of buckets have sent in this run.
#[derive(Default)]
pub(crate) struct Buckets(Mutex<Known>);

#[derive(Default)]
pub(crate) struct Known {
    /// The seconds that a host's clock is ahead of this machine's, by its authority.
    pub(crate) ahead: HashMap<String, i64>,
    /// The regions that differ from the configured one, by the endpoint that an address names, and by bucket.
    pub(crate) regions: HashMap<(Option<Url>, String), String>,
    /// The keys of the last signature.
    pub(crate) keys: Option<S3Credentials>,
    /// Keys that a host refused as expired.
    pub(crate) expired: Option<S3Credentials>,
}

/// The corrections of one exchange, so that none is made twice.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Corrected {
    pub(crate) clock: bool,
    pub(crate) region: bool,
    pub(crate) keys: bool,
}

impl Buckets {
    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The region of a bucket: as its host said, as the address says, or as configured.
    pub(crate) fn region(&self, config: &S3Config, object: &BucketObject) -> String {
        let learnt = self.known().regions.get(&place(object)).cloned();
        learnt
            .or_else(|| object.region.clone())
            .or_else(|| config.region.clone())
            .unwrap_or_else(|| USUAL_REGION.to_owned())
    }

    /// The object's address at its endpoint; AWS's own if neither the address nor the configuration names one.
    pub(crate) fn address(&self, config: &S3Config, object: &SourceUrl) -> Option<SourceUrl> {
        let shared = object.object()?;
        let BucketObject { bucket, key, endpoint, style, .. } = &**shared;
        let region = self.region(config, shared);
        let given = endpoint.clone().or_else(|| config.endpoint.as_ref().map(|url| url.as_url().clone()));
        let style = style.unwrap_or(match given {
            // A certificate for *.s3.… is not one for a name with further dots.
            None if !bucket.contains('.') => BucketStyle::Virtual,
            _ => BucketStyle::Path,
        });
        let style = match style {
            BucketStyle::Path => UrlStyle::Path,
            BucketStyle::Virtual => UrlStyle::VirtualHost,
        };
        let endpoint = given.or_else(|| Url::parse(&of_aws(&region)).ok())?;
        let of = |style| Bucket::new(endpoint.clone(), style, bucket.clone(), region.clone());
        let place = of(style).or_else(|_| of(UrlStyle::Path)).ok()?;
        Some(SourceUrl::from_url(place.object_url(key)).ok()?.with_object(shared.clone()))
    }

    /// The keys of the last signature, in words.
    pub(crate) fn keys(&self) -> Option<String> {
        self.known().keys.as_ref().map(S3Credentials::name)
    }
}

/// The endpoint that an object's address names, and its bucket. Another endpoint has another bucket of that name.
pub(crate) fn place(object: &BucketObject) -> (Option<Url>, String) {
    (object.endpoint.clone(), object.bucket.clone())
}

fn of_aws(region: &str) -> String {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://s3.{region}.{domain}")
}

/// The cause of a refused request, by the code in the answer (S3 API reference, "Error responses").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The time of the signature.
    Clock,
    /// The region of the signature, or of the endpoint.
    Region,
    /// The keys, or the signature by them.
    Keys,
    /// The keys of a session have expired.
    Expired,
    /// No right to read; also for an object that is not there, if the keys may not list the bucket.
    Denied,
    /// The object, or the bucket.
    Missing,
}

impl Problem {
    /// The cause by status and body.
    pub(crate) fn of(status: StatusCode, body: &str) -> Self {
        let is_late = element(body, "Message").is_some_and(|message| message.contains("expired"));
        match (element(body, "Code").unwrap_or_default(), status.as_u16()) {
            ("RequestTimeTooSkewed" | "RequestExpired", _) => Self::Clock,
            ("AccessDenied", 403) if is_late => Self::Clock,
            (
                "AuthorizationHeaderMalformed"
                | "AuthorizationQueryParametersError"
                | "PermanentRedirect"
                | "TemporaryRedirect",
                _,
            )
            | (_, 301 | 307) => Self::Region,
            ("ExpiredToken" | "InvalidToken" | "TokenRefreshRequired", _) => Self::Expired,
            ("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidSecurity" | "NotSignedUp", _) => {
                Self::Keys
            }
            (_, 401 | 403) => Self::Denied,
            _ => Self::Missing,
        }
    }
}
