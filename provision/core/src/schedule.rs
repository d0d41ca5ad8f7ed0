//! [`Schedule`]: a pure state machine that assigns byte ranges to connections.
//!
//! It has no I/O, clock or randomness. The caller passes the time (a [`Duration`] since the run began) and the number
//! of bytes that arrived, and receives the next claim. So tests simulate the whole policy over any speed and failure.
//!
//! # Glossary
//! | term | meaning |
//! |---|---|
//! | file | a download of the run; its *gaps* are the ranges that no connection has claimed |
//! | host | the authority that serves a file; it limits connections and may ask for a pause |
//! | source | an address of a file; the *lead* always serves it, *companions* join and leave |
//! | lane | a source that serves a file now, with its host; each lane has a host of its own |
//! | slot | a place for one connection, kept open from claim to claim, with the measured speed |
//! | claim | a contiguous range that one slot fetches with one request |
//! | in flight | a claim that was handed out and has not ended |
//! | reserved | bytes of a claim that its owner may write; every byte is reserved once |
//!
//! # Rules
//! - All files share one budget of connections. While a byte is unclaimed, no allowed connection idles.
//! - A claim's length is two seconds of its connection's measured speed, at least [`MIN_CLAIM`]. It falls towards the
//!   end of the set, so that connections run out of work together (guided self-scheduling: Polychronopoulos and Kuck,
//!   1987).
//! - Claims of one file ascend, so that a hash can follow the contiguous prefix closely.
//! - A few files are worked on at once, the largest first. Each gets connections in proportion to its unclaimed bytes.
//! - When nothing is unclaimed, an idle connection takes its fair share of the claim that would end last.
//! - A connection takes work from every lane's file. So the lanes of a file share it by their measured speed, and a
//!   fast lane takes over what a slow one holds. A lane that would add next to nothing rests, and is asked again from
//!   time to time.
//! - A range whose bytes were wrong is fetched again by one claim, so that one source answers for it.
//! - Bytes are reserved before they are written, under the same lock that splits claims. So no two connections write
//!   the same place, whatever is split, revoked or given back.
//! - [`ConnectionRamp`] finds the number of connections to a host by measurement.
//!
//! # Example
//! One file of 3 MiB on one host. Two connections share it, and the second takes over when the first one fails:
//!
//! ```
//! use std::time::Duration;
//! use provision_core::byte_range::ByteRange;
//! use provision_core::schedule::{Connection, Limits, Schedule};
//!
//! const MIB: u64 = 1 << 20;
//! let start = Duration::ZERO;
//! let mut schedule = Schedule::new(Limits::default());
//! let host = schedule.add_host();
//! let file = schedule.add_file(host, [ByteRange::new(0, 3 * MIB)]);
//!
//! // A new host gets two connections. Their speed is unknown, so each claim is short.
//! let first = schedule.next(start).unwrap();
//! let second = schedule.next(start).unwrap();
//! assert_eq!(first.range, ByteRange::new(0, MIB));
//! assert_eq!(second.range, ByteRange::new(MIB, 2 * MIB));
//! assert!(schedule.next(start).is_none()); // the ramp allows no third yet
//!
//! // The first connection writes 100 bytes and fails: the rest of its claim is unclaimed again.
//! assert_eq!(schedule.reserve(first.id, 100), 100);
//! schedule.finish(first.id, Connection::Closed);
//! assert_eq!(schedule.unclaimed(file), 2 * MIB - 100);
//!
//! // The second connection ends its claim, stays open, and takes the lowest unclaimed range.
//! schedule.reserve(second.id, MIB);
//! schedule.finish(second.id, Connection::Kept);
//! let rest = schedule.next(start).unwrap();
//! assert_eq!((rest.slot, rest.range), (second.slot, ByteRange::new(100, MIB)));
//! ```

mod choice;
mod claim;
mod lanes;
mod ramp;
mod sizing;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

pub use claim::{Claim, ClaimId, Connection, FileId, HostId, Limits, SlotId, SourceId};
use lanes::Lane;
pub use ramp::ConnectionRamp;
pub use sizing::MIN_CLAIM;

use crate::byte_range::{ByteRange, RangeSet};

/// The state machine; see the module's documentation.
#[derive(Debug, Clone)]
pub struct Schedule {
    limits: Limits,
    hosts: Vec<Host>,
    files: Vec<File>,
    slots: Vec<Slot>,
    flights: BTreeMap<ClaimId, InFlight>,
    claims_made: u64,
    /// The time that the caller passed last.
    now: Duration,
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
            now: Duration::ZERO,
        }
    }

    /// The next claim, if there is work and a connection allowed for it.
    pub fn next(&mut self, now: Duration) -> Option<Claim> {
        if self.flights.len() >= self.limits.connections {
            return None;
        }
        self.claim_unclaimed(now).or_else(|| self.split_slowest(now))
    }

    /// Adds a host.
    pub fn add_host(&mut self) -> HostId {
        self.hosts.push(Host {
            ramp: ConnectionRamp::new(self.limits.per_host.min(self.limits.connections)),
            active: 0,
            not_before: Duration::ZERO,
            heard: None,
            silent: false,
            waiting: VecDeque::new(),
            open: Vec::new(),
            unclaimed: 0,
            median_rate: None,
        });
        HostId(self.hosts.len() - 1)
    }

    /// Adds a file that lacks `gaps`. A file without gaps is complete from the start.
    pub fn add_file(&mut self, host: HostId, gaps: impl IntoIterator<Item = ByteRange>) -> FileId {
        let id = FileId(self.files.len());
        self.files.push(File {
            lanes: vec![Lane::new(SourceId(0), host)],
            gaps: RangeSet::new(),
            undivided: BTreeMap::new(),
            unclaimed: 0,
            active: 0,
            plain: false,
            closed: false,
            held: false,
        });
        self.fill(id, gaps);
        id
    }

    /// Reserves the next `len` bytes of a claim and returns the number that its owner may write. That is fewer after a
    /// split, and none after a revocation or for an unknown claim. The owner must write all reserved bytes.
    pub fn reserve(&mut self, id: ClaimId, len: u64) -> u64 {
        let Some(flight) = self.flights.get_mut(&id) else { return 0 };
        let granted = len.min(flight.end - flight.reserved);
        flight.reserved += granted;
        granted
    }

    /// The current end of a claim; `None` once it is revoked.
    pub fn end_of(&self, id: ClaimId) -> Option<u64> {
        self.flights.get(&id).filter(|flight| !flight.revoked).map(|flight| flight.end)
    }

    /// Records the bytes that a claim has received since it began. Frequent calls give good speeds.
    pub fn observe(&mut self, now: Duration, id: ClaimId, received: u64) {
        self.now = now;
        let Some(flight) = self.flights.get_mut(&id) else { return };
        let news = received.saturating_sub(flight.received);
        if flight.received == 0 && news == 0 {
            // The wait for a response is latency, not a slow connection.
            return;
        }
        let meter = &mut self.slots[flight.claim.slot.0].meter;
        if flight.received == 0 {
            self.hosts[flight.host.0].ramp.first_byte(now.saturating_sub(flight.began));
            meter.start(now);
        } else {
            meter.add(now, news);
        }
        flight.received += news;
        self.hosts[flight.host.0].ramp.add(news);
        let (host, file, source) = (flight.host, flight.claim.file, flight.claim.source);
        if news > 0 {
            self.heard(host, now);
            if let Some(lane) = self.files[file.0].lane_mut(source) {
                lane.answered = true;
            }
        }
    }

    /// Advances the time: the ramps adjust, and connections far slower than their siblings lose the rest of their
    /// claims. Returns the claims whose owners must read [`Schedule::end_of`] again without waiting for their next
    /// bytes.
    pub fn tick(&mut self, now: Duration) -> Vec<ClaimId> {
        self.now = now;
        for at in 0..self.hosts.len() {
            // A connection that has served a claim counts as flowing before the next response's first byte: with many
            // small files most connections wait for one.
            let flows = |f: &&InFlight| f.received > 0 || self.slots[f.claim.slot.0].host == Some(f.host);
            let flowing = self.flights.values().filter(|f| f.host.0 == at).filter(flows).count();
            let host = &mut self.hosts[at];
            let starved = host.unclaimed == 0;
            host.ramp.tick(now, host.active, flowing, starved);
        }
        self.shorten_crawling(now);
        self.flights
            .values()
            .filter(|f| f.revoked || f.claim.range.start + f.received >= f.end)
            .map(|f| f.claim.id)
            .collect()
    }

    /// Ends a claim. Its unreserved bytes are unclaimed again.
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
        let took = self.now.saturating_sub(flight.began);
        self.files[flight.claim.file.0].ended(flight.claim.source, flight.received > 0, took);
        self.leave_rest(flight.claim, ByteRange::new(flight.reserved, flight.end));
    }

    /// Makes no claim of this file at its lead before `until`.
    pub fn pause_file(&mut self, file: FileId, until: Duration) {
        let lead = &mut self.files[file.0].lanes[0];
        lead.not_before = lead.not_before.max(until);
    }

    /// The host of a source asked for a pause (429, 503): no claim before `until`, and half the connections after it.
    pub fn throttle(&mut self, file: FileId, source: SourceId, now: Duration, until: Duration) {
        let Some(host) = self.host_of(file, source) else { return };
        let host = &mut self.hosts[host.0];
        host.not_before = host.not_before.max(until);
        host.ramp.throttle(now);
    }

    /// As [`Schedule::throttle`], for the host of the file's lead.
    pub fn throttle_lead(&mut self, file: FileId, now: Duration, until: Duration) {
        self.throttle(file, self.files[file.0].lanes[0].source, now, until);
    }

    /// The host does not answer: no claim before `until`, and then one at a time until it does.
    pub fn silence(&mut self, host: HostId, until: Duration) {
        let host = &mut self.hosts[host.0];
        host.not_before = host.not_before.max(until);
        host.silent = true;
    }

    /// The host has answered.
    pub fn heard(&mut self, host: HostId, now: Duration) {
        let host = &mut self.hosts[host.0];
        (host.heard, host.silent) = (Some(now), false);
    }

    /// The time of the host's last answer.
    pub fn last_heard(&self, host: HostId) -> Option<Duration> {
        self.hosts[host.0].heard
    }

    /// The host of a source refused a connection while others of this run were open: their number is its limit.
    pub fn refused(&mut self, file: FileId, source: SourceId, now: Duration) {
        let Some(host) = self.host_of(file, source) else { return };
        let standing = self.flights.values().filter(|f| f.host == host && f.received > 0).count();
        if standing > 0 {
            self.hosts[host.0].ramp.back_off(now, standing);
        }
    }

    /// Revokes every claim of a file; buffered bytes are discarded. No new claim is made until [`Schedule::restart`],
    /// so that waiting for the revoked claims comes to an end.
    pub fn revoke(&mut self, file: FileId) -> Vec<ClaimId> {
        self.files[file.0].held = true;
        self.revoke_those(file, |_| true)
    }

    fn revoke_those(&mut self, file: FileId, is_one: impl Fn(&Claim) -> bool) -> Vec<ClaimId> {
        let (mut revoked, mut rests) = (Vec::new(), Vec::new());
        for flight in self.flights.values_mut().filter(|f| f.claim.file == file && is_one(&f.claim)) {
            rests.push((flight.claim, ByteRange::new(flight.reserved, flight.end)));
            flight.end = flight.reserved;
            flight.revoked = true;
            revoked.push(flight.claim.id);
        }
        for (claim, rest) in rests {
            self.leave_rest(claim, rest);
        }
        revoked
    }

    /// Fetches the file as one stream from now on: one claim at a time, over all that is left.
    pub fn set_plain(&mut self, file: FileId, plain: bool) {
        self.files[file.0].plain = plain;
    }

    /// Starts a file again with these `gaps`. It must have no claim in flight.
    pub fn restart(&mut self, file: FileId, gaps: impl IntoIterator<Item = ByteRange>) {
        debug_assert_eq!(self.files[file.0].active, 0, "claims are revoked and ended before a restart");
        self.drop_unclaimed(file);
        let state = &mut self.files[file.0];
        (state.closed, state.held) = (false, false);
        state.lanes[0].not_before = Duration::ZERO;
        self.fill(file, gaps);
    }

    /// Ends a file and revokes its claims.
    pub fn close(&mut self, file: FileId) -> Vec<ClaimId> {
        self.drop_unclaimed(file);
        self.files[file.0].closed = true;
        self.revoke(file)
    }

    /// Bytes of a file that were written are dropped: they are unclaimed again, while claims of other ranges go on. The
    /// next claim at `range` takes it as a whole, so that one source sends all of it. The file must not be read as a
    /// stream.
    pub fn give_back(&mut self, file: FileId, range: ByteRange) {
        let rests = self.flights.values().filter(|flight| flight.claim.file == file);
        let mut rests = rests.map(|flight| ByteRange::new(flight.reserved, flight.end));
        debug_assert!(
            rests.all(|rest| rest.start >= range.end || rest.end <= range.start || rest.is_empty()),
            "written bytes are in no claim's rest"
        );
        if !self.files[file.0].closed {
            self.files[file.0].undivided.insert(range.start, range.end);
            self.fill(file, [range]);
        }
    }

    /// The number of a file's claims in flight.
    pub fn active(&self, file: FileId) -> usize {
        self.files[file.0].active
    }

    /// Bytes received from the host of a file's lead, over the whole run and all its files.
    pub fn received_from_host(&self, file: FileId) -> u64 {
        self.hosts[self.files[file.0].lanes[0].host.0].ramp.received()
    }

    /// Returns true if every byte of a file is reserved and no claim is in flight.
    pub fn is_complete(&self, file: FileId) -> bool {
        let file = &self.files[file.0];
        !file.closed && file.unclaimed == 0 && file.active == 0
    }

    /// The number of claims in flight.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// The number of a file's unclaimed bytes.
    pub fn unclaimed(&self, file: FileId) -> u64 {
        self.files[file.0].unclaimed
    }

    /// The last bytes of a claim are unclaimed again. Those of an undivided one stay together.
    fn leave_rest(&mut self, claim: Claim, rest: ByteRange) {
        if claim.undivided && !rest.is_empty() {
            self.give_back(claim.file, rest);
        } else if !self.files[claim.file.0].closed {
            self.fill(claim.file, [rest]);
        }
    }

    fn fill(&mut self, id: FileId, gaps: impl IntoIterator<Item = ByteRange>) {
        let file = &mut self.files[id.0];
        let before = file.gaps.len();
        gaps.into_iter().for_each(|gap| file.gaps.insert(gap));
        let more = file.gaps.len() - before;
        file.unclaimed += more;
        for lane in file.lanes.iter().filter(|lane| lane.joined) {
            self.hosts[lane.host.0].unclaimed += more;
        }
        self.list(id);
    }

    fn drop_unclaimed(&mut self, id: FileId) {
        self.unlist(id);
        self.take(id, RangeSet::new());
    }

    /// Leaves a file with these gaps; the other unclaimed bytes are claimed or dropped.
    fn take(&mut self, id: FileId, kept: RangeSet) {
        let file = &mut self.files[id.0];
        let taken = file.unclaimed - kept.len();
        (file.unclaimed, file.gaps) = (kept.len(), kept);
        for lane in file.lanes.iter().filter(|lane| lane.joined) {
            self.hosts[lane.host.0].unclaimed -= taken;
        }
    }

    /// Adds a file with unclaimed bytes to the lists of work of its lanes' hosts.
    fn list(&mut self, id: FileId) {
        let file = &self.files[id.0];
        if file.closed || file.unclaimed == 0 {
            return;
        }
        let (size, files) = (file.unclaimed, &self.files);
        for lane in file.lanes.iter().filter(|lane| lane.joined) {
            let host = &mut self.hosts[lane.host.0];
            if host.open.contains(&id) {
                continue;
            }
            let at = host.waiting.partition_point(|other| files[other.0].unclaimed >= size);
            if host.waiting.get(at.saturating_sub(1)) == Some(&id) || host.waiting.contains(&id) {
                continue;
            }
            host.waiting.insert(at, id);
        }
    }

    fn unlist(&mut self, id: FileId) {
        for lane in self.files[id.0].lanes.iter().filter(|lane| lane.joined) {
            self.hosts[lane.host.0].unlist(id);
        }
    }

    fn host_is_ready(&self, host: &Host, now: Duration) -> bool {
        let most = if host.silent { 1 } else { host.ramp.target().min(self.limits.per_host) };
        host.not_before <= now && host.active < most
    }
}

#[derive(Debug, Clone)]
struct Host {
    ramp: ConnectionRamp,
    active: usize,
    not_before: Duration,
    /// The time of its last answer.
    heard: Option<Duration>,
    /// It does not answer: one claim at a time asks on behalf of all, until it does.
    silent: bool,
    /// Files of this host that are not started, largest first.
    waiting: VecDeque<FileId>,
    /// Started files of this host with unclaimed bytes.
    open: Vec<FileId>,
    /// Unclaimed bytes of all its files.
    unclaimed: u64,
    /// The last known median speed of its connections.
    median_rate: Option<f64>,
}

impl Host {
    fn unlist(&mut self, id: FileId) {
        self.open.retain(|other| *other != id);
        self.waiting.retain(|other| *other != id);
    }
}

#[derive(Debug, Clone)]
struct File {
    /// The lead first, then the companions.
    lanes: Vec<Lane>,
    /// Unclaimed, ascending.
    gaps: RangeSet,
    /// Ranges that one claim takes as a whole, by their start: see [`Schedule::give_back`].
    undivided: BTreeMap<u64, u64>,
    unclaimed: u64,
    active: usize,
    plain: bool,
    closed: bool,
    /// Its claims were revoked: no claim is made until it is restarted.
    held: bool,
}

#[derive(Debug, Clone, Default)]
struct Slot {
    busy: bool,
    /// The host of its open connection.
    host: Option<HostId>,
    /// The speed of this connection.
    meter: sizing::Meter,
    /// The number of its last claim.
    last: u64,
}

#[derive(Debug, Clone)]
struct InFlight {
    claim: Claim,
    host: HostId,
    /// The first byte that is not reserved.
    reserved: u64,
    end: u64,
    began: Duration,
    /// Bytes received since the claim began, as last observed. Buffered bytes are received and not yet reserved.
    received: u64,
    revoked: bool,
}

impl InFlight {
    /// The first byte that is neither received nor reserved.
    fn position(&self) -> u64 {
        (self.claim.range.start + self.received).clamp(self.reserved, self.end)
    }
}

#[cfg(test)]
mod tests;
