//! S3: the endpoint and region of requests for buckets, and the keys that sign them.
//!
//! [`S3Config`] is the part of the configuration that the environment gives. Its [`CredentialsProvider`] finds keys
//! when the first request needs them, keeps them, and renews them before they expire.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use crate::auth::credentials::Secret;
use crate::credential_service::Services;
use provision_core::redact::Redactor;
use provision_core::source_url::SourceUrl;

/// The settings of requests for buckets. Those in an address, `?endpoint=` and `?region=`, win.
#[derive(Debug, Clone)]
pub struct S3Config {
    /// The endpoint; AWS's own for the region if there is none.
    pub endpoint: Option<SourceUrl>,
    /// The region; `us-east-1` if there is none.
    pub region: Option<String>,
    /// The source of keys.
    pub credentials: Arc<dyn CredentialsProvider>,
}

impl Default for S3Config {
    fn default() -> Self {
        Self { endpoint: None, region: None, credentials: Arc::new(Anonymous) }
    }
}

/// The keys that sign requests for buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Credentials {
    /// The access key's identifier. It is no secret, and each signed request shows it.
    pub access_key: String,
    /// The secret access key.
    pub secret_key: Secret,
    /// The token of a session, which each request carries.
    pub session_token: Option<Secret>,
    /// The end of their validity; `None` for keys without one.
    pub expires: Option<SystemTime>,
    /// The variable, file or service that they came from, for messages.
    pub source: String,
}

impl S3Credentials {
    /// The keys in words, for messages: `the S3 key in AWS_ACCESS_KEY_ID`.
    pub fn name(&self) -> String {
        format!("the S3 key in {}", self.source)
    }

    /// Adds the secrets to a redactor.
    pub fn add_to(&self, redactor: &mut Redactor) {
        redactor.add_token(self.secret_key.reveal());
        if let Some(token) = &self.session_token {
            redactor.add_token(token.reveal());
        }
    }
}

/// The future of a provider's answer.
pub type CredentialsFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Option<S3Credentials>, CredentialsError>> + Send + 'a>>;

/// A source of keys: it keeps the keys that it found, and renews them before they expire.
pub trait CredentialsProvider: fmt::Debug + Send + Sync {
    /// The keys for the next request; `None` for requests without a signature. `refused` are keys that a host just
    /// refused as expired: they are not given again, unless there are no newer ones. `services` carries the requests to
    /// services that issue keys.
    fn credentials<'a>(
        &'a self,
        services: &'a dyn Services,
        refused: Option<&'a S3Credentials>,
    ) -> CredentialsFuture<'a>;

    /// Adds every secret that it has given or used to a redactor.
    fn add_to(&self, redactor: &mut Redactor);
}

/// The provider without keys.
#[derive(Debug, Clone, Copy)]
struct Anonymous;

impl CredentialsProvider for Anonymous {
    fn credentials<'a>(&'a self, _: &'a dyn Services, _: Option<&'a S3Credentials>) -> CredentialsFuture<'a> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn add_to(&self, _: &mut Redactor) {}
}

/// Configured keys that cannot be had, with the way out. It carries no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there are no keys for S3 from {source_name}: {why}")]
pub struct CredentialsError {
    /// The variable, file or service that should have given them.
    pub source_name: String,
    /// The cause and the way out.
    pub why: String,
}
