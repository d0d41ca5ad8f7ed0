//! The wire: DNS names to TCP, proxies, TLS and HTTP/1.1.
//!
//! Documents go over reqwest (`pool`). Bodies of model files go over a client of our own (`http1`): a GET, its head,
//! and its body into the caller's buffer. Three properties were measured:
//! - A body is read straight into the buffer that is hashed and written. A library's read-ahead holds hundreds of
//!   kilobytes a connection, and each slice of it keeps the whole buffer.
//! - A connection is one TCP stream, so `--connections` is a limit and the schedule knows whose speed it measures.
//! - The next address is tried after 250 ms, and a proxy's refusal has a kind of its own.
//!
//! docs/decisions.md, entry 1, has the figures and the condition for another look.

use std::time::Duration;

pub(crate) mod connect;
pub(crate) mod http1;
pub(crate) mod pool;
pub(crate) mod proxy;

/// The time limit for the rest of a short body, and for the end of a body whose bytes have all come.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_millis(200);

/// The longest beginning of a body that is read for a host's reason, in bytes.
pub(crate) const LONGEST_REASON: usize = 16 << 10;

/// The longest rest of a body that is read to keep its connection, in bytes.
pub(crate) const LONGEST_DRAIN: usize = 16 << 10;
