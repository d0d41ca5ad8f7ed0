//! The testbed on a raw socket: the bytes on the wire, for each group of faults.

#![allow(clippy::unwrap_used, reason = "clippy exempts only test functions, not their helpers")]

mod client;
mod faults;
mod honest;
mod hosts;
mod shape;
mod signing;
#[cfg(feature = "tls")]
mod tls;
mod transport;
