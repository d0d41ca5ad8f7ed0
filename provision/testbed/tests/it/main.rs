//! The testbed against a raw socket: what is on the wire, byte by byte, for each group of faults.

#![allow(clippy::unwrap_used, reason = "clippy takes only test functions for tests, not their helpers")]

mod client;
mod faults;
mod honest;
mod hosts;
mod shape;
mod signing;
mod tls;
mod transport;
