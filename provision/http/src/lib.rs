//! HTTP: everything between an address and its bytes.
//!
//! An [`HttpClient`] holds what every request of a run shares (credentials, proxies, certificates, timeouts) and makes
//! [`Connection`]s. A connection is one TCP stream at a time, so the schedule knows whose speed it measures. An
//! answer is never believed: `answer` checks its head against what was asked before a byte of it is used.
//!
//! HTTP/1.1 on purpose: many streams in one HTTP/2 connection share one window and one core. `If-Range` is never
//! sent: an answer carries its validator anyway, and all that `If-Range` adds is a way to turn a usable part into a
//! whole body (faults 17 and 18).

pub mod auth;
mod body;
mod client;
mod dns;
mod document;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod hub_headers;
pub mod metadata;
mod public_ip;
mod redirect;
mod response;
pub mod sniff;
mod tls;
mod wire;

pub use auth::credentials::{Credential, Credentials, Secret};
pub use client::{Answer, BodyEnd, ClientConfig, ClientError, Connection, HttpClient, Resolved};
pub use dns::Hosts;
pub use error::{BodyPrefix, Remedy, RequestError, ResponseError, TransportError};
pub use hub_headers::{ContentId, FileChanged};
pub use redirect::RedirectError;
pub use response::{BodyKind, ExpectedBody};
pub use tls::{Roots, RootsError};
pub use wire::proxy::{Proxies, ProxyError};
