//! An HTTP/1.1 origin on loopback for tests, demonstrations and benchmarks of a downloader.
//!
//! It serves generated files with honest ranges and strong `ETag`s, as fast or as slowly as its [`Shape`] says, and
//! goes wrong on demand: a [`Fault`] set for a path with [`Control::inject`]. It counts what was asked of it
//! ([`Counters`], [`Recorded`]), and a test can wait for what it is about to count.
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
//! Code map: `request` reads, `control` decides with `answer` (honest) and `corrupt` (not so), `connection` sends,
//! `shape` paces, `tls` encrypts, `counters` remembers, `origin` accepts and stops, `hub` signs URLs and asks for tokens,
//! and `hosts` imitates known hosts whole: what they say of their files, and how they hand them out. The parts that
//! decide are pure; only `connection` and `origin` touch sockets. No HTTP library takes part: wrong bytes must be
//! possible.

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
mod tls;

pub use blocking::{BlockingOrigin, WaitedInVain};
pub use content::Content;
pub use control::Control;
pub use counters::{Counters, LOG_LIMIT, PathCounters};
pub use fault::{Claim, Condition, Fault, Injection, LOGIN_PAGE, ResetAt, When};
pub use hosts::signing::SIGNATURE_PREFIX;
pub use origin::{Origin, OriginConfig};
pub use request::{MAX_REQUEST_HEAD, Recorded};
pub use shape::{OverLimit, Shape};
pub use tls::{Certificate, Tls, authority};
