//! Lanes: the sources that serve one file side by side, and the share of each by its measured speed.
//!
//! A file always has its lead, which is lane 0. Companions join and leave while claims of other lanes go on. A file
//! with one lane is scheduled as if there were none.

use std::time::Duration;

use super::{Claim, ClaimId, File, FileId, HostId, InFlight, MIN_CLAIM, Schedule, SourceId, sizing};

/// A lane whose host has less than this share of the fastest one's speed rests: its claims would only make the end
/// late.
const WORTH: f64 = 1.0 / 20.0;

/// The speed in bytes per second against which a companion is measured while no other lane's speed is known.
const UNKNOWN: f64 = 100e3;

/// The time after which a lane without claims is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// A lane that has served its claim within this time is asked again at once.
const SOON: Duration = Duration::from_secs(1);

/// The least time that a claim at another host has for its first byte, before a lane with nothing to do takes it over.
const FIRST_BYTE: Duration = Duration::from_millis(100);

/// A source that serves a file.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    pub(super) source: SourceId,
    pub(super) host: HostId,
    /// It gets claims. A lane that has left stays until its revoked claims have ended.
    pub(super) joined: bool,
    pub(super) active: usize,
    pub(super) not_before: Duration,
    /// Its last claim to end has brought bytes. Otherwise a companion has one claim at a time, and takes over none.
    pub(super) answered: bool,
    /// The time of its last claim.
    asked: Option<Duration>,
}

impl Lane {
    pub(super) fn new(source: SourceId, host: HostId) -> Self {
        let not_before = Duration::ZERO;
        Self { source, host, joined: true, active: 0, not_before, answered: false, asked: None }
    }

    fn is_due(&self, now: Duration) -> bool {
        self.active == 0 && self.asked.is_none_or(|asked| now.saturating_sub(asked) >= ASK_AGAIN)
    }
}

impl File {
    pub(super) fn lane_mut(&mut self, source: SourceId) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.source == source)
    }

    fn joined(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter().filter(|lane| lane.joined)
    }

    fn is_shared(&self) -> bool {
        self.lanes.len() > 1
    }

    fn is_companion(&self, lane: &Lane) -> bool {
        lane.source != self.lanes[0].source
    }

    /// Counts a claim at this host, and returns its source.
    pub(super) fn began_at(&mut self, host: HostId, now: Duration) -> SourceId {
        self.active += 1;
        let at = self.lanes.iter().position(|lane| lane.joined && lane.host == host).unwrap_or(0);
        let lane = &mut self.lanes[at];
        (lane.active, lane.asked) = (lane.active + 1, Some(now));
        lane.source
    }

    /// A claim of this source has ended after `took`; `received` tells if any byte of it came.
    pub(super) fn ended(&mut self, source: SourceId, received: bool, took: Duration) {
        self.active -= 1;
        if let Some(lane) = self.lane_mut(source) {
            lane.active -= 1;
            lane.answered &= received;
            if received && took < SOON {
                // A short claim measures nothing: the next one goes on with it.
                lane.asked = None;
            }
        }
        self.lanes.retain(|lane| lane.joined || lane.active > 0);
    }
}

impl Schedule {
    /// The file gets this lead, and no companion. It must have no claim in flight.
    pub fn lead(&mut self, file: FileId, source: SourceId, host: HostId) {
        debug_assert_eq!(self.files[file.0].active, 0, "claims are revoked and ended before a new lead");
        self.unlist(file);
        let unclaimed = self.files[file.0].unclaimed;
        for lane in std::mem::take(&mut self.files[file.0].lanes) {
            if lane.joined {
                self.hosts[lane.host.0].unclaimed -= unclaimed;
            }
        }
        self.files[file.0].lanes.push(Lane::new(source, host));
        self.hosts[host.0].unclaimed += unclaimed;
        self.list(file);
    }

    /// A companion joins, unless it serves the file already, its last claims have not ended, or another lane has its
    /// host.
    pub fn join(&mut self, file: FileId, source: SourceId, host: HostId) -> bool {
        let state = &mut self.files[file.0];
        if state.lanes.iter().any(|lane| lane.source == source || (lane.joined && lane.host == host)) {
            return false;
        }
        state.lanes.push(Lane::new(source, host));
        self.hosts[host.0].unclaimed += state.unclaimed;
        self.list(file);
        true
    }

    /// A companion leaves. Returns its claims, which are revoked; the others go on.
    pub fn leave(&mut self, file: FileId, source: SourceId) -> Vec<ClaimId> {
        let is_companion = |lane: &Lane| lane.source == source && lane.joined;
        let Some(at) = self.files[file.0].lanes.iter().skip(1).position(is_companion) else {
            return Vec::new();
        };
        let revoked = self.revoke_those(file, |claim: &Claim| claim.source == source);
        let state = &mut self.files[file.0];
        let lane = &mut state.lanes[at + 1];
        lane.joined = false;
        let host = &mut self.hosts[lane.host.0];
        host.unclaimed -= state.unclaimed;
        host.unlist(file);
        state.lanes.retain(|lane| lane.joined || lane.active > 0);
        revoked
    }

    /// Moves a lane and its claims in flight to another host, the end of a redirect. Returns false if another lane has
    /// that host: then the companion of the two leaves.
    pub fn set_host(&mut self, file: FileId, source: SourceId, host: HostId) -> bool {
        let Some(at) = self.files[file.0].lanes.iter().position(|lane| lane.source == source && lane.joined)
        else {
            return true;
        };
        let old = self.files[file.0].lanes[at].host;
        if old == host {
            return true;
        }
        let other = self.files[file.0].joined().find(|lane| lane.host == host).map(|lane| lane.source);
        if let Some(other) = other {
            self.leave(file, if at == 0 { other } else { source });
            if at > 0 {
                return false;
            }
        }
        let unclaimed = self.files[file.0].unclaimed;
        self.hosts[old.0].unlist(file);
        self.files[file.0].lanes[at].host = host;
        self.hosts[old.0].unclaimed -= unclaimed;
        self.hosts[host.0].unclaimed += unclaimed;
        let is_moved = |flight: &&mut InFlight| flight.claim.file == file && flight.claim.source == source;
        for flight in self.flights.values_mut().filter(is_moved) {
            self.hosts[flight.host.0].active -= 1;
            self.hosts[host.0].active += 1;
            flight.host = host;
        }
        self.list(file);
        true
    }

    /// True if the source serves the file.
    pub fn has_lane(&self, file: FileId, source: SourceId) -> bool {
        self.files[file.0].joined().any(|lane| lane.source == source)
    }

    /// The host of a source that serves the file.
    pub(super) fn host_of(&self, file: FileId, source: SourceId) -> Option<HostId> {
        self.files[file.0].lanes.iter().find(|lane| lane.source == source).map(|lane| lane.host)
    }

    /// True if the file's lane at this host may get a claim.
    pub(super) fn is_ready(&self, id: FileId, host: HostId, now: Duration) -> bool {
        let file = &self.files[id.0];
        let Some(lane) = file.joined().find(|lane| lane.host == host) else { return false };
        !file.held
            && lane.not_before <= now
            && (!file.plain || file.active == 0)
            && (!file.is_companion(lane) || lane.answered || lane.active == 0)
            && (!file.is_shared() || lane.is_due(now) || !self.rests(file, lane, now))
    }

    /// True if the file's lane at this host may take over a part of another claim.
    pub(super) fn may_split(&self, id: FileId, host: HostId, now: Duration) -> bool {
        let file = &self.files[id.0];
        let is_tried = |lane: &Lane| lane.host == host && (lane.answered || !file.is_companion(lane));
        file.joined().any(is_tried) && self.is_ready(id, host, now)
    }

    /// The lanes beside `lane` that may be asked now.
    fn beside(&self, file: &File, lane: &Lane, now: Duration) -> impl Iterator<Item = HostId> {
        let is_open = move |other: &&Lane| {
            other.source != lane.source
                && other.not_before <= now
                && self.hosts[other.host.0].not_before <= now
        };
        file.joined().filter(is_open).map(|other| other.host)
    }

    fn rests(&self, file: &File, lane: &Lane, now: Duration) -> bool {
        // Before its ramp has measured, a host has too few connections to be judged.
        let is_known = self.hosts[lane.host.0].ramp.has_settled();
        let Some(speed) = self.speed_of(lane.host).filter(|_| is_known) else { return false };
        let others = self.beside(file, lane, now).map(|host| &self.hosts[host.0]);
        let mut speeds = others.filter_map(|host| Some(host.median_rate? * host.active as f64));
        speeds.any(|other| speed < other * WORTH)
    }

    /// The speed of a host over all connections that it rewards.
    fn speed_of(&self, host: HostId) -> Option<f64> {
        let host = &self.hosts[host.0];
        Some(host.median_rate? * host.ramp.target().min(self.limits.per_host) as f64)
    }

    /// The order of a file's hosts for the next connection. A host that is due comes first. The square of a
    /// connection's speed leads most of a scarce budget to fast connections. The count of connections damps a change: a
    /// host whose speed was measured with other counts neither gets nor loses all at once.
    pub(super) fn appeal(&self, id: FileId, host: HostId, now: Duration) -> f64 {
        let file = &self.files[id.0];
        let Some(lane) = file.joined().find(|lane| lane.host == host).filter(|_| file.is_shared()) else {
            return 0.0;
        };
        let is_silent = file.is_companion(lane) && !lane.answered;
        match self.hosts[host.0].median_rate {
            _ if lane.is_due(now) => f64::INFINITY,
            _ if is_silent => 0.0,
            rate => rate.map_or(f64::INFINITY, |rate| rate * rate / (self.hosts[host.0].active + 1) as f64),
        }
    }

    /// The share of a file's unclaimed bytes that this host will fetch.
    pub(super) fn share_of(&self, id: FileId, host: HostId) -> f64 {
        let file = &self.files[id.0];
        let Some(speed) = self.speed_of(host).filter(|_| file.is_shared()) else { return 1.0 };
        let all: f64 = file.joined().filter_map(|lane| self.speed_of(lane.host)).sum();
        speed / all.max(1.0)
    }

    /// The shortest claim of a file for a connection of this speed.
    pub(super) fn least_claim(&self, id: FileId, rate: Option<f64>) -> u64 {
        match rate.filter(|_| self.files[id.0].is_shared()) {
            Some(rate) => ((rate * sizing::CLAIM_SECONDS) as u64).clamp(sizing::LEAST_BESIDE, MIN_CLAIM),
            None => MIN_CLAIM,
        }
    }

    /// The speed and latency of a new connection for this file: at the claim's own host, which has this `median`, or at
    /// the fastest lane's.
    pub(super) fn fastest_for(
        &self,
        flight: &InFlight,
        median: Option<f64>,
        now: Duration,
    ) -> Option<(f64, Duration)> {
        let latency = self.hosts[flight.host.0].ramp.latency();
        let own = median.map(|median| (median, latency));
        let file = &self.files[flight.claim.file.0];
        if !file.is_shared() {
            return own;
        }
        let Some(lane) = file.joined().find(|lane| lane.source == flight.claim.source) else { return own };
        let unknown = file.is_companion(lane).then_some((UNKNOWN, latency));
        let others = self.beside(file, lane, now).filter_map(|host| {
            let host = &self.hosts[host.0];
            Some((host.median_rate?, host.ramp.latency()))
        });
        others.chain(unknown).chain(own).max_by(|a, b| a.0.total_cmp(&b.0))
    }

    /// The current speed of a claim at another host, as a lane sees it whose connections have this `(speed, latency)`.
    pub(super) fn rate_of_other(
        &self,
        flight: &InFlight,
        now: Duration,
        (newcomer, latency): (f64, Duration),
        usual: Option<f64>,
    ) -> f64 {
        let own = self.hosts[flight.host.0].ramp.latency();
        let patience = (own.max(latency) * 4).max(FIRST_BYTE);
        if flight.received == 0 && now.saturating_sub(flight.began) > patience {
            return 0.0;
        }
        self.rate_of(flight, now, usual.unwrap_or(newcomer))
    }
}
