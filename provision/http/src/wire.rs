//! The wire client: DNS names to TCP, proxies, TLS and HTTP/1.1, into the caller's buffer.
//!
//! Bodies of model files use it instead of a client library, for three properties that were measured:
//! - A body is read straight into the buffer that is hashed and written. A library's read-ahead holds hundreds of kilobytes a
//!   connection, and each slice of it keeps the whole buffer.
//! - A connection is one TCP stream, so `--connections` is a limit and the schedule knows whose speed it measures.
//! - The next address is tried after 250 ms, and a proxy's refusal has a kind of its own.
//!
//! docs/decisions.md, entry 1, has the figures and the condition for another look.

pub(crate) mod connect;
pub(crate) mod http1;
pub(crate) mod proxy;
