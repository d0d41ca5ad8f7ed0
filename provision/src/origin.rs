//! HTTP: everything between an address and its bytes.
//!
//! An [`Origin`] holds what every request of a run shares (credentials, proxies, certificates, timeouts) and makes
//! [`Connection`]s. A connection is one TCP stream at a time, so the schedule knows whose speed it measures. An
//! answer is never believed: `answer` checks its head against what was asked before a byte of it is used.
//!
//! HTTP/1.1 on purpose: many streams in one HTTP/2 connection share one window and one core. `If-Range` is never
//! sent: an answer carries its validator anyway, and all that `If-Range` adds is a way to turn a usable part into a
//! whole body (faults 17 and 18).

mod address;
mod answer;
mod body;
mod client;
mod connect;
mod credentials;
mod document;
mod error;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod http1;
mod linked;
pub mod metadata;
mod proxy;
mod redirect;
mod registry;
mod resolver;
mod tls;
mod told;

pub use answer::{Asked, Shape};
pub use client::{Answer, Connection, End, Origin, OriginConfig, OriginError, Resolved};
pub use credentials::{Credential, Credentials, Secret};
pub use error::{Beginning, Remedy, RequestError, TransportError, Unusable};
pub use linked::{Identity, Replaced};
pub use proxy::{Proxies, ProxyError};
pub use redirect::RedirectError;
pub use resolver::Hosts;
pub use tls::{Roots, RootsError};
pub use told::Told;
