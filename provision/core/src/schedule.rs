//! Which connection takes which bytes next: a pure state machine.
//!
//! No I/O, no clock, no randomness: the caller says what time it is (a [`Duration`] since the run began) and what
//! arrived, and is told what to do. So the whole policy is simulated in tests, over speeds and failures that no
//! test server could hold still for.
//!
//! # The rules
//! - One budget of connections serves every file. While a byte of any file is unclaimed, no allowed connection
//!   idles.
//! - A *claim* is a contiguous range that one connection fetches with one request. Its length is two seconds' worth
//!   of that connection's measured speed, at least [`MIN_CLAIM`], and falls towards the end of the set (guided
//!   self-scheduling: Polychronopoulos and Kuck, 1987), so that connections run out of work together.
//! - Claims of one file ascend, so that a hash can follow the contiguous prefix closely.
//! - A few files are worked on at once, the largest first; each gets connections in proportion to what it has left.
//! - When nothing is unclaimed, an idle connection takes its fair share from the claim that would end last.
//! - Bytes are *reserved* before they are written, under the same lock that splits claims. Every byte is reserved
//!   exactly once, so no two connections ever write the same place, whatever is split, revoked or given back.
//! - How many connections a host gets is found by [`ConnectionRamp`], not configured.

mod choice;
mod climb;
mod sizing;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

pub use climb::ConnectionRamp;
pub use sizing::MIN_CLAIM;

use crate::byte_range::{ByteRange, RangeSet};

/// What the caller allows.
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

/// A file of the run, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub usize);

/// A host of the run, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub usize);

/// A place for one connection, kept open from claim to claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub usize);

/// A claim in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(u64);

/// An order to fetch: these bytes of this file, over this slot's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Its number.
    pub id: ClaimId,
    /// The connection.
    pub slot: SlotId,
    /// The file.
    pub file: FileId,
    /// The bytes. Its end may come closer later: see [`Schedule::reserve`].
    pub range: ByteRange,
    /// The file is fetched as one plain stream, because its origin cannot do ranges.
    pub plain: bool,
}

/// How a claim ended, for what the slot can do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// The answer was read to its end: the connection serves the next claim, at the speed it has shown.
    Kept,
    /// It was closed; the next claim opens a new one, whose speed is unknown.
    Closed,
}

/// The state machine. See the module's documentation.
#[derive(Debug, Clone)]
pub struct Schedule {
    limits: Limits,
    hosts: Vec<Host>,
    files: Vec<File>,
    slots: Vec<Slot>,
    flights: BTreeMap<ClaimId, InFlight>,
    claims_made: u64,
}

#[derive(Debug, Clone)]
struct Host {
    climb: ConnectionRamp,
    active: usize,
    not_before: Duration,
    /// Files of this host that no connection has touched, largest first.
    waiting: VecDeque<FileId>,
    /// Files of this host that have been started and have unclaimed bytes.
    open: Vec<FileId>,
    /// Unclaimed bytes of all its files.
    unclaimed: u64,
    /// The median speed of its connections when there last was one.
    median_rate: Option<f64>,
}

#[derive(Debug, Clone)]
struct File {
    host: HostId,
    /// Unclaimed, ascending.
    gaps: RangeSet,
    unclaimed: u64,
    active: usize,
    plain: bool,
    closed: bool,
    /// Its claims were revoked: nothing is claimed until it is started again.
    held: bool,
    not_before: Duration,
}

#[derive(Debug, Clone, Default)]
struct Slot {
    busy: bool,
    /// The host that it has an open connection to.
    host: Option<HostId>,
    /// The speed of this connection.
    meter: sizing::Meter,
    /// The number of the last claim it had.
    last: u64,
}

#[derive(Debug, Clone)]
struct InFlight {
    claim: Claim,
    host: HostId,
    /// The first byte that nobody has reserved yet.
    reserved: u64,
    end: u64,
    began: Duration,
    /// Received since the claim began, as last observed; ahead of `reserved` by what is buffered.
    received: u64,
    revoked: bool,
}

impl InFlight {
    /// The first byte that has neither been received nor reserved.
    fn position(&self) -> u64 {
        (self.claim.range.start + self.received).clamp(self.reserved, self.end)
    }
}

impl Schedule {
    /// An empty schedule.
    pub fn new(limits: Limits) -> Self {
        let limits = Limits { connections: limits.connections.max(1), per_host: limits.per_host.max(1) };
        Self {
            limits,
            hosts: Vec::new(),
            files: Vec::new(),
            slots: Vec::new(),
            flights: BTreeMap::new(),
            claims_made: 0,
        }
    }

    /// Adds a host.
    pub fn add_host(&mut self) -> HostId {
        self.hosts.push(Host {
            climb: ConnectionRamp::new(self.limits.per_host.min(self.limits.connections)),
            active: 0,
            not_before: Duration::ZERO,
            waiting: VecDeque::new(),
            open: Vec::new(),
            unclaimed: 0,
            median_rate: None,
        });
        HostId(self.hosts.len() - 1)
    }

    /// Adds a file of which `gaps` are wanted. A file without gaps is complete from the start.
    pub fn add_file(&mut self, host: HostId, gaps: impl IntoIterator<Item = ByteRange>) -> FileId {
        let id = FileId(self.files.len());
        self.files.push(File {
            host,
            gaps: RangeSet::new(),
            unclaimed: 0,
            active: 0,
            plain: false,
            closed: false,
            held: false,
            not_before: Duration::ZERO,
        });
        self.fill(id, gaps);
        id
    }

    /// The next claim, if there is work and a connection allowed for it.
    pub fn next(&mut self, now: Duration) -> Option<Claim> {
        if self.flights.len() >= self.limits.connections {
            return None;
        }
        self.claim_unclaimed(now).or_else(|| self.split_slowest(now))
    }

    /// Takes the next `len` bytes of a claim for writing and returns how many of them are the owner's: fewer where
    /// the claim has been shortened, none where it was revoked or is unknown. What is reserved must be written.
    pub fn reserve(&mut self, id: ClaimId, len: u64) -> u64 {
        let Some(flight) = self.flights.get_mut(&id) else { return 0 };
        let granted = len.min(flight.end - flight.reserved);
        flight.reserved += granted;
        granted
    }

    /// The first byte past a claim, as it stands now; `None` once it has been revoked.
    pub fn end_of(&self, id: ClaimId) -> Option<u64> {
        self.flights.get(&id).filter(|flight| !flight.revoked).map(|flight| flight.end)
    }

    /// Tells how many bytes a claim has received since it began. Called often, for speeds.
    pub fn observe(&mut self, now: Duration, id: ClaimId, received: u64) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        let news = received.saturating_sub(flight.received);
        if flight.received == 0 && news == 0 {
            // The wait for an answer is latency, not a slow connection.
            return;
        }
        let meter = &mut self.slots[flight.claim.slot.0].meter;
        if flight.received == 0 {
            self.hosts[flight.host.0].climb.first_byte(now.saturating_sub(flight.began));
            meter.start(now);
        } else {
            meter.add(now, news);
        }
        flight.received += news;
        self.hosts[flight.host.0].climb.add(news);
    }

    /// Lets time pass: connection counts climb, connections that crawl far below their siblings lose the rest of
    /// their claims. Returns the claims whose owners must look again at [`Schedule::end_of`] without waiting for
    /// their next bytes.
    pub fn tick(&mut self, now: Duration) -> Vec<ClaimId> {
        for at in 0..self.hosts.len() {
            // A connection that has served a claim flows, though the next answer's first byte is not there yet: of many
            // small files most are always waited for.
            let flows = |f: &&InFlight| f.received > 0 || self.slots[f.claim.slot.0].host == Some(f.host);
            let flowing = self.flights.values().filter(|f| f.host.0 == at).filter(flows).count();
            let host = &mut self.hosts[at];
            let starved = host.unclaimed == 0;
            host.climb.tick(now, host.active, flowing, starved);
        }
        self.shorten_crawling(now);
        self.flights
            .values()
            .filter(|f| f.revoked || f.claim.range.start + f.received >= f.end)
            .map(|f| f.claim.id)
            .collect()
    }

    /// Ends a claim. What it has not reserved is unclaimed again.
    pub fn finish(&mut self, id: ClaimId, connection: Connection) {
        let Some(flight) = self.flights.remove(&id) else { return };
        self.hosts[flight.host.0].active -= 1;
        let slot = &mut self.slots[flight.claim.slot.0];
        slot.busy = false;
        match connection {
            Connection::Kept => {
                slot.host = Some(flight.host);
                slot.meter.stop();
            }
            Connection::Closed => *slot = Slot { last: slot.last, ..Slot::default() },
        }
        self.files[flight.claim.file.0].active -= 1;
        if !self.files[flight.claim.file.0].closed {
            self.fill(flight.claim.file, [ByteRange::new(flight.reserved, flight.end)]);
        }
    }

    /// No claim of this file is made before `until`.
    pub fn pause_file(&mut self, file: FileId, until: Duration) {
        let file = &mut self.files[file.0];
        file.not_before = file.not_before.max(until);
    }

    /// The host asked for quiet (429, 503): no claim before `until`, and half the connections after that.
    pub fn throttle(&mut self, file: FileId, now: Duration, until: Duration) {
        let host = &mut self.hosts[self.files[file.0].host.0];
        host.not_before = host.not_before.max(until);
        host.climb.throttle(now);
    }

    /// The host refused a connection while others of this run stood: that many are what it allows.
    pub fn refused(&mut self, file: FileId, now: Duration) {
        let host = self.files[file.0].host;
        let standing = self.flights.values().filter(|f| f.host == host && f.received > 0).count();
        if standing > 0 {
            self.hosts[host.0].climb.back_off(now, standing);
        }
    }

    /// Takes every claim of a file away from its owners, whose buffered bytes are not wanted. No new one is made
    /// until [`Schedule::restart`]: whoever waits for the revoked ones to end must not wait for ever.
    pub fn revoke(&mut self, file: FileId) -> Vec<ClaimId> {
        self.files[file.0].held = true;
        let mut revoked = Vec::new();
        for flight in self.flights.values_mut().filter(|f| f.claim.file == file) {
            let rest = ByteRange::new(flight.reserved, flight.end);
            flight.end = flight.reserved;
            flight.revoked = true;
            revoked.push(flight.claim.id);
            let (file, host) = (&mut self.files[file.0], &mut self.hosts[flight.host.0]);
            if !file.closed {
                file.gaps.insert(rest);
                file.unclaimed += rest.len();
                host.unclaimed += rest.len();
            }
        }
        if !revoked.is_empty() {
            self.list(file);
        }
        revoked
    }

    /// From now on the file is one plain stream: a single claim at a time, over everything that is left.
    pub fn set_plain(&mut self, file: FileId, plain: bool) {
        self.files[file.0].plain = plain;
    }

    /// The file's bytes come from another host now (a mirror, or where a redirect led); so do its claims in flight.
    pub fn set_host(&mut self, file: FileId, host: HostId) {
        let old = self.files[file.0].host;
        if old == host {
            return;
        }
        self.unlist(file);
        self.files[file.0].host = host;
        self.hosts[old.0].unclaimed -= self.files[file.0].unclaimed;
        self.hosts[host.0].unclaimed += self.files[file.0].unclaimed;
        for flight in self.flights.values_mut().filter(|flight| flight.claim.file == file) {
            self.hosts[flight.host.0].active -= 1;
            self.hosts[host.0].active += 1;
            flight.host = host;
        }
        self.list(file);
    }

    /// Starts a file over: `gaps` are wanted. It must have no claim in flight.
    pub fn restart(&mut self, file: FileId, gaps: impl IntoIterator<Item = ByteRange>) {
        debug_assert_eq!(self.files[file.0].active, 0, "claims are revoked and ended before a restart");
        self.drop_unclaimed(file);
        let state = &mut self.files[file.0];
        (state.closed, state.held, state.not_before) = (false, false, Duration::ZERO);
        self.fill(file, gaps);
    }

    /// Nothing more is wanted of a file; its claims are revoked.
    pub fn close(&mut self, file: FileId) -> Vec<ClaimId> {
        self.drop_unclaimed(file);
        self.files[file.0].closed = true;
        self.revoke(file)
    }

    /// Claims in flight for a file.
    pub fn active(&self, file: FileId) -> usize {
        self.files[file.0].active
    }

    /// Bytes received from the host of a file, over the whole run and all its files.
    pub fn received_from_host(&self, file: FileId) -> u64 {
        self.hosts[self.files[file.0].host.0].climb.received()
    }

    /// Whether every byte of a file has been reserved and no claim is in flight.
    pub fn is_complete(&self, file: FileId) -> bool {
        let file = &self.files[file.0];
        !file.closed && file.unclaimed == 0 && file.active == 0
    }

    /// Claims in flight.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Bytes of a file that no connection has claimed.
    pub fn unclaimed(&self, file: FileId) -> u64 {
        self.files[file.0].unclaimed
    }

    fn fill(&mut self, id: FileId, gaps: impl IntoIterator<Item = ByteRange>) {
        let file = &mut self.files[id.0];
        let before = file.gaps.len();
        gaps.into_iter().for_each(|gap| file.gaps.insert(gap));
        let more = file.gaps.len() - before;
        file.unclaimed += more;
        self.hosts[file.host.0].unclaimed += more;
        self.list(id);
    }

    fn drop_unclaimed(&mut self, id: FileId) {
        self.unlist(id);
        let file = &mut self.files[id.0];
        self.hosts[file.host.0].unclaimed -= file.unclaimed;
        file.unclaimed = 0;
        file.gaps = RangeSet::new();
    }

    /// Puts a file with unclaimed bytes where `next` looks.
    fn list(&mut self, id: FileId) {
        let file = &self.files[id.0];
        if file.closed || file.unclaimed == 0 {
            return;
        }
        let (size, files) = (file.unclaimed, &self.files);
        let host = &mut self.hosts[file.host.0];
        if host.open.contains(&id) {
            return;
        }
        let at = host.waiting.partition_point(|other| files[other.0].unclaimed >= size);
        if host.waiting.get(at.saturating_sub(1)) == Some(&id) || host.waiting.contains(&id) {
            return;
        }
        host.waiting.insert(at, id);
    }

    fn unlist(&mut self, id: FileId) {
        let host = &mut self.hosts[self.files[id.0].host.0];
        host.open.retain(|other| *other != id);
        host.waiting.retain(|other| *other != id);
    }

    fn is_ready(&self, id: FileId, now: Duration) -> bool {
        let file = &self.files[id.0];
        !file.held && file.not_before <= now && (!file.plain || file.active == 0)
    }

    fn host_is_ready(&self, host: &Host, now: Duration) -> bool {
        host.not_before <= now && host.active < host.climb.target().min(self.limits.per_host)
    }
}

#[cfg(test)]
mod tests;
