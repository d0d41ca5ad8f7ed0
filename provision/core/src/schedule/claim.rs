//! Claims, the limits on them, and the numbers of files, hosts, sources and slots in the run.

use crate::byte_range::ByteRange;

/// Ceilings for connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections in the whole run.
    pub connections: usize,
    /// Connections towards one host.
    pub per_host: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 64, per_host: 64 }
    }
}

/// The number of a file in the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub usize);

/// The number of a host in the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub usize);

/// The number of a source among those of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub usize);

/// A place for one connection, kept open from claim to claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub usize);

/// The number of a claim in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(pub(super) u64);

/// A range of a file to fetch over a slot's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Its number.
    pub id: ClaimId,
    /// The connection.
    pub slot: SlotId,
    /// The file.
    pub file: FileId,
    /// The source to ask.
    pub source: SourceId,
    /// The bytes. A split can move the end closer later: see [`Schedule::reserve`](super::Schedule::reserve).
    pub range: ByteRange,
    /// The file comes as one stream, because its origin does not support ranges.
    pub plain: bool,
    /// No other connection takes over a part of it: its bytes shall have one sender. If it crawls or fails, one takes
    /// the rest.
    pub undivided: bool,
}

/// The state of a slot's connection after a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// The response was read to its end: the connection serves the next claim, and its speed is known.
    Kept,
    /// The connection is closed. The next claim opens a new one of unknown speed.
    Closed,
}
