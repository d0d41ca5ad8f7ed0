//! Choice of the next claim: its file, its slot, its length, and the claim to split when nothing is unclaimed.

use std::time::Duration;

use super::{Claim, ClaimId, File, FileId, HostId, InFlight, Schedule, Slot, SlotId, sizing};
use crate::byte_range::ByteRange;

/// The number of files with unclaimed bytes that get connections at the same time.
const FILES_AT_ONCE: usize = 4;

impl File {
    /// The end of the undivided range that has the byte `at`.
    fn undivided_from(&self, at: u64) -> Option<u64> {
        self.undivided.range(..=at).next_back().map(|(_, &end)| end).filter(|end| *end > at)
    }

    /// The start of the first undivided range after `at`, or the end of all files.
    fn next_undivided(&self, at: u64) -> u64 {
        self.undivided.range(at + 1..).next().map_or(u64::MAX, |(&start, _)| start)
    }
}

impl Schedule {
    /// Opens waiting files up to [`FILES_AT_ONCE`], then picks the one with most unclaimed bytes for each connection
    /// that it would have. Of its hosts, the one whose connections are fastest.
    fn pick(&mut self, now: Duration) -> Option<(FileId, HostId)> {
        let mut best: Option<((f64, f64), (FileId, HostId))> = None;
        for at in (0..self.hosts.len()).map(HostId) {
            if !self.host_is_ready(&self.hosts[at.0], now) {
                continue;
            }
            let mut ready = self.hosts[at.0].open.iter().filter(|id| self.is_ready(**id, at, now)).count();
            let mut passed_over = 0;
            while ready < FILES_AT_ONCE && passed_over < self.hosts[at.0].waiting.len() {
                let id = self.hosts[at.0].waiting[passed_over];
                if self.is_ready(id, at, now) {
                    self.hosts[at.0].waiting.remove(passed_over);
                    self.hosts[at.0].open.push(id);
                    ready += 1;
                } else {
                    passed_over += 1;
                }
            }
            for id in self.hosts[at.0].open.iter().filter(|id| self.is_ready(**id, at, now)) {
                let file = &self.files[id.0];
                let score = (file.unclaimed as f64 / (file.active + 1) as f64, self.appeal(*id, at, now));
                if best.is_none_or(|(most, _)| score > most) {
                    best = Some((score, (*id, at)));
                }
            }
        }
        best.map(|(_, picked)| picked)
    }

    pub(super) fn claim_unclaimed(&mut self, now: Duration) -> Option<Claim> {
        let (id, host) = self.pick(now)?;
        let slot = self.idle_slot(host);
        let gap = self.files[id.0].gaps.iter().next()?;
        let undivided = self.files[id.0].undivided_from(gap.start).filter(|_| !self.files[id.0].plain);
        let len = if self.files[id.0].plain {
            // One stream to the end: held bytes on the way are skipped.
            self.files[id.0].gaps.iter().last().map_or(gap.end, |last| last.end) - gap.start
        } else if let Some(end) = undivided {
            end.min(gap.end) - gap.start
        } else {
            let gap = ByteRange::new(gap.start, gap.end.min(self.files[id.0].next_undivided(gap.start)));
            let own = self.slots[slot.0].meter.rate();
            let rate = own.or_else(|| self.median_rate(host));
            let state = &self.hosts[host.0];
            let connections = state.ramp.target().max(state.active + 1);
            let least = self.least_claim(id, own);
            let unclaimed = (state.unclaimed as f64 * self.share_of(id, host)) as u64;
            sizing::claim_len(rate, gap.len(), unclaimed, connections, least)
        };
        let range = ByteRange::new(gap.start, gap.start + len);
        let kept = self.files[id.0].gaps.iter().filter_map(|gap| after(gap, range.end)).collect();
        self.take(id, kept);
        if self.files[id.0].unclaimed == 0 {
            self.hosts[host.0].open.retain(|other| *other != id);
            for lane in self.files[id.0].lanes.iter().filter(|lane| lane.joined && lane.host != host) {
                self.hosts[lane.host.0].unlist(id);
            }
        }
        self.files[id.0].undivided.retain(|start, end| *start >= range.end || *end <= range.start);
        Some(self.launch(now, id, (host, slot), range, undivided.is_some()))
    }

    pub(super) fn split_slowest(&mut self, now: Duration) -> Option<Claim> {
        let usual: Vec<Option<f64>> = (0..self.hosts.len()).map(|at| self.median_rate(HostId(at))).collect();
        let flights = self.flights.values();
        let flights =
            flights.filter(|flight| !flight.revoked && !flight.claim.plain && !flight.claim.undivided);
        let pairs = flights.flat_map(|flight| {
            let lanes = self.files[flight.claim.file.0].lanes.iter();
            lanes.filter(|lane| lane.joined).map(move |lane| (flight, lane.host))
        });
        let (victim, newcomer, share) = pairs
            .filter(|(flight, host)| self.may_split(flight.claim.file, *host, now))
            .filter(|(_, host)| self.host_is_ready(&self.hosts[host.0], now))
            .filter_map(|(flight, host)| {
                let newcomer = usual[host.0]?;
                let latency = self.hosts[host.0].ramp.latency();
                let owner = if flight.host == host {
                    self.rate_of(flight, now, newcomer)
                } else {
                    self.rate_of_other(flight, now, (newcomer, latency), usual[flight.host.0])
                };
                let left = flight.end - flight.position();
                let share = sizing::split(left, owner, newcomer, latency.as_secs_f64(), now.as_secs_f64())?;
                Some(((flight.claim.id, host, share), (left as f64 / owner.max(1.0), share)))
            })
            .max_by(|(_, a), (_, b)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))
            .map(|(found, _)| found)?;
        let flight = self.flights.get_mut(&victim)?;
        let file = flight.claim.file;
        let range = ByteRange::new(flight.end - share, flight.end);
        flight.end = range.start;
        let slot = self.idle_slot(newcomer);
        Some(self.launch(now, file, (newcomer, slot), range, false))
    }

    fn launch(
        &mut self,
        now: Duration,
        file: FileId,
        (host, slot): (HostId, SlotId),
        range: ByteRange,
        undivided: bool,
    ) -> Claim {
        self.claims_made += 1;
        let id = ClaimId(self.claims_made);
        let source = self.files[file.0].began_at(host, now);
        let claim = Claim { id, slot, file, source, range, plain: self.files[file.0].plain, undivided };
        self.hosts[host.0].active += 1;
        let slot = &mut self.slots[slot.0];
        (slot.busy, slot.last) = (true, self.claims_made);
        slot.meter.start(now);
        let flight = InFlight {
            claim,
            host,
            reserved: range.start,
            end: range.end,
            began: now,
            received: 0,
            revoked: false,
        };
        self.flights.insert(claim.id, flight);
        claim
    }

    /// An idle slot: the fastest with a connection to this host, else one without a connection.
    fn idle_slot(&mut self, host: HostId) -> SlotId {
        let idle = self.slots.iter().enumerate().filter(|(_, slot)| !slot.busy);
        let best = idle.max_by(|(_, a), (_, b)| {
            let rank = |slot: &Slot| (slot.host == Some(host), slot.host.is_none());
            let by_speed = a.meter.current_rate(0.0).total_cmp(&b.meter.current_rate(0.0));
            rank(a).cmp(&rank(b)).then(by_speed).then(b.last.cmp(&a.last))
        });
        let id = match best {
            Some((at, slot)) if slot.host.is_none_or(|h| h == host) => SlotId(at),
            _ if self.slots.len() < self.limits.connections => {
                self.slots.push(Slot::default());
                SlotId(self.slots.len() - 1)
            }
            Some((at, _)) => SlotId(at),
            None => unreachable!("fewer claims than connections are in flight"),
        };
        let slot = &mut self.slots[id.0];
        if slot.host != Some(host) {
            *slot = Slot { last: slot.last, ..Slot::default() };
        }
        id
    }

    /// The current speed of a claim's connection. Without a response it counts as its earlier speed, or `usual`, until
    /// it has been silent for several of the host's latencies.
    pub(super) fn rate_of(&self, flight: &InFlight, now: Duration, usual: f64) -> f64 {
        let meter = &self.slots[flight.claim.slot.0].meter;
        let patience = (self.hosts[flight.host.0].ramp.latency() * 4).max(Duration::from_secs(2));
        match flight.received {
            0 if now.saturating_sub(flight.began) > patience => 0.0,
            0 => meter.rate().unwrap_or(usual),
            _ => meter.current_rate(usual),
        }
    }

    /// The median speed of the connections to this host.
    pub(super) fn median_rate(&self, host: HostId) -> Option<f64> {
        let mut rates: Vec<f64> = self
            .flights
            .values()
            .filter(|flight| flight.host == host)
            .filter_map(|flight| self.slots[flight.claim.slot.0].meter.rate())
            .collect();
        if rates.is_empty() {
            rates =
                self.slots.iter().filter(|s| s.host == Some(host)).filter_map(|s| s.meter.rate()).collect();
        }
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied().or(self.hosts[host.0].median_rate)
    }

    /// Takes the rest of its claim from a connection far slower than its siblings. The connection closes, since its
    /// response is not read to the end.
    pub(super) fn shorten_crawling(&mut self, now: Duration) {
        for at in 0..self.hosts.len() {
            let median = self.median_rate(HostId(at));
            self.hosts[at].median_rate = median;
            let crawling: Vec<ClaimId> = self
                .flights
                .values()
                .filter(|flight| flight.host.0 == at && !flight.claim.plain && !flight.revoked)
                .filter(|flight| {
                    let Some((new, latency)) = self.fastest_for(flight, median, now) else { return false };
                    let rate = self.rate_of(flight, now, median.unwrap_or(new));
                    let left = flight.end - flight.position();
                    let is_own = median == Some(new);
                    sizing::is_crawling(rate, new, left, now.saturating_sub(flight.began), latency)
                        // Another host may be slower, as long as its claims end in time.
                        && (is_own || left as f64 > rate * sizing::CLAIM_SECONDS)
                })
                .map(|flight| flight.claim.id)
                .collect();
            for id in crawling {
                let Some(flight) = self.flights.get_mut(&id) else { continue };
                let (claim, rest) = (flight.claim, ByteRange::new(flight.position(), flight.end));
                flight.end = rest.start;
                self.leave_rest(claim, rest);
            }
        }
    }
}

/// The part of `range` at or after `at`.
fn after(range: ByteRange, at: u64) -> Option<ByteRange> {
    (range.end > at).then(|| ByteRange::new(range.start.max(at), range.end))
}
