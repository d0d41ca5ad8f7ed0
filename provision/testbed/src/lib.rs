//! An HTTP/1.1 origin on loopback for tests, demonstrations and benchmarks of a downloader.
//!
//! It serves generated files with honest ranges and strong `ETag`s. A [`Shape`] sets its speed and limits, and a
//! [`Fault`] set by [`Control::inject`] breaks the answers for a path. The origin counts its requests and bytes
//! ([`Counters`]) and keeps its requests ([`Recorded`]); a test can wait for a count instead of sleeping.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use provision_testbed::{BlockingOrigin, Content, Fault, OriginConfig, When};
//!
//! let origin = BlockingOrigin::start(OriginConfig::default())?;
//! let content = Content::generated(7, 1_000_000);
//! origin.put("/vae/x.safetensors", content.clone());
//! origin.inject("/vae/x.safetensors", Fault::CutBody(1000).when(When::First(2)));
//! assert!(origin.url("/vae/x.safetensors").ends_with("/vae/x.safetensors"));
//! assert_eq!(origin.counters().requests, 0);
//! # Ok(())
//! # }
//! ```
//!
//! Code map: `request` parses; `control` decides with `answer` (honest) and `corrupt` (not so); `connection` sends,
//! paced by `shape`; `stream` is TCP or, with the feature `tls`, TLS; `counters` remembers; `origin` accepts and stops;
//! `hosts` emulates model hosts, whose signed URLs `signatures` checks. Only `connection` and `origin` touch sockets;
//! the parts that decide are pure. HTTP is written by hand: a library would refuse to send two framings or a cut chunk.

mod answer;
mod blocking;
mod connection;
mod content;
mod control;
mod corrupt;
mod counters;
mod fault;
pub mod hosts;
mod origin;
mod request;
mod shape;
mod signatures;
mod stream;
#[cfg(feature = "tls")]
mod tls;

pub use blocking::{BlockingOrigin, WaitTimeout};
pub use content::Content;
pub use control::Control;
pub use counters::{Counters, LOG_LIMIT, PathCounters};
pub use fault::{Claim, Condition, Fault, Injection, LOGIN_PAGE, ResetAt, When};
pub use origin::{Origin, OriginConfig};
pub use request::{MAX_REQUEST_HEAD, Recorded};
pub use shape::{OverLimit, Shape};
pub use signatures::SIGNATURE_PREFIX;
#[cfg(feature = "tls")]
pub use tls::{Certificate, Tls, authority};
