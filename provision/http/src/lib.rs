//! HTTP: requests, answers and bodies.
//!
//! An [`HttpClient`] holds the settings that all requests of a run share: credentials, proxies, certificates, time
//! limits. A [`Connection`] is one TCP stream at a time, so the schedule knows whose speed it measures. `response`
//! validates an answer's head against the request before a byte of the body is used.
//!
//! HTTP/1.1 only: the streams of one HTTP/2 connection share one window and one core. `If-Range` is never sent: the
//! answer has a validator anyway, and `If-Range` would only turn a usable part into a whole body (faults 17 and 18).
//!
//! Documents go over reqwest (`api`), bodies over a client of our own (`connection`, `body`).
//!
//! Imports run down this list: `body`, `metadata`, `upload` (whole exchanges), `connection` (a body's requests), `api`
//! (documents and tokens), `signing` (of requests for buckets), `request_rules`, `client`, `bucket`, `wire/` (both
//! transports), `error`, `s3_config`, `credential_service`, `auth/`, `cookies`, `response`, `refusal`, `host_rules`,
//! `dns/`, `transport`. [`RequestError::remedy`] is the one decision about a failure; retries are for `engine`, and for
//! `metadata` its own.

mod api;
pub mod auth;
mod body;
mod bucket;
mod client;
mod connection;
mod content_disposition;
mod cookies;
pub mod credential_service;
mod dns;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod host_rules;
mod hub_headers;
pub mod metadata;
mod public_ip;
mod redirect;
mod refusal;
mod request_rules;
mod response;
pub mod s3_config;
mod signing;
pub mod sniff;
#[cfg(test)]
mod test_support;
mod tls;
mod transport;
mod upload;
mod wire;

pub use auth::credentials::{Credential, Credentials, Secret, base64};
pub use auth::registries::{Registries, RegistryLogins};
pub use body::{Answer, BodyEnd};
pub use client::{ClientConfig, ClientError, HttpClient, Sources};
pub use connection::{Connection, FirstHead};
pub use dns::Hosts;
pub use error::{BodyPrefix, Remedy, RequestError, UntrustedSource};
pub use redirect::RedirectError;
pub use request_rules::Resolved;
pub use response::{BodyKind, ContentId, ExpectedBody, FileChanged, ResponseError};
pub use tls::{Roots, RootsError};
pub use transport::{HeaderProblem, ProxyName, TransportError};
pub use upload::{Reply, Sent, Upload, UploadBody};
pub use wire::proxy::{Proxies, ProxyError, ProxyVariable};
