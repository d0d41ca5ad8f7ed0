//! The schedule against simulated connections.

use proptest::prelude::*;

use super::*;

mod lanes;

const QWEN: [u64; 4] = [253_806_246, 9_384_670_680, 1_698_951_104, 20_430_698_424];
const STEP: Duration = Duration::from_millis(10);
const FLUSH: u64 = 256 << 10;

/// A connection of the simulation: what it is fetching, and when its first byte comes.
struct Wire {
    claim: Claim,
    flows_at: Duration,
    /// Received since the claim began, in bytes, and how much of it has been reserved.
    received: f64,
    reserved: u64,
}

/// Bytes a second of a claim, of so many that its source sends at the same time.
type Rate<'a> = dyn Fn(&Claim, usize) -> f64 + 'a;

struct Simulation {
    schedule: Schedule,
    sizes: Vec<u64>,
    written: Vec<RangeSet>,
    wires: Vec<Wire>,
    now: Duration,
    latency: Duration,
}

impl Simulation {
    fn new(limits: Limits, sizes: &[u64], latency: Duration) -> Self {
        let mut schedule = Schedule::new(limits);
        let host = schedule.add_host();
        for &size in sizes {
            schedule.add_file(host, [ByteRange::new(0, size)]);
        }
        let written = sizes.iter().map(|_| RangeSet::new()).collect();
        Self { schedule, sizes: sizes.to_vec(), written, wires: Vec::new(), now: Duration::ZERO, latency }
    }

    /// Reserves what `wire` has received and checks that none of it was written before. True when the claim is done.
    fn flush(schedule: &mut Schedule, written: &mut [RangeSet], wire: &mut Wire, all: bool) -> bool {
        loop {
            let buffered = wire.received as u64 - wire.reserved;
            let end = schedule.end_of(wire.claim.id);
            let at = wire.claim.range.start + wire.reserved;
            let rest = end.map_or(0, |end| end.saturating_sub(at));
            if rest == 0 {
                return true;
            }
            if buffered < FLUSH.min(rest) && !(all && buffered > 0) {
                return false;
            }
            let granted = schedule.reserve(wire.claim.id, buffered.min(FLUSH));
            let range = ByteRange::new(at, at + granted);
            let set = &mut written[wire.claim.file.0];
            let before = set.len();
            set.insert(range);
            assert_eq!(set.len() - before, granted, "bytes {range:?} were written twice");
            wire.reserved += granted;
            if granted == 0 {
                return true;
            }
        }
    }

    /// One step of time at `rate(slot)` bytes/s; `fails(wire)` ends a claim early, after flushing or not.
    fn step(&mut self, rate: &Rate<'_>, fails: &mut dyn FnMut() -> Option<bool>) {
        self.now += STEP;
        while let Some(claim) = self.schedule.next(self.now) {
            let flows_at = self.now + self.latency;
            self.wires.push(Wire { claim, flows_at, received: 0.0, reserved: 0 });
        }
        let (schedule, written, now) = (&mut self.schedule, &mut self.written, self.now);
        let flowing: Vec<SourceId> =
            self.wires.iter().filter(|wire| now >= wire.flows_at).map(|wire| wire.claim.source).collect();
        let mut left = Vec::new();
        for mut wire in self.wires.drain(..) {
            if self.now >= wire.flows_at {
                let asked = wire.claim.range.len() as f64;
                let sharing = flowing.iter().filter(|source| **source == wire.claim.source).count();
                wire.received = (wire.received + rate(&wire.claim, sharing) * STEP.as_secs_f64()).min(asked);
            }
            schedule.observe(self.now, wire.claim.id, wire.received as u64);
            if let Some(flush) = fails() {
                Self::flush(schedule, written, &mut wire, flush);
                schedule.finish(wire.claim.id, Connection::Closed);
            } else if Self::flush(schedule, written, &mut wire, false) {
                let whole = wire.reserved == wire.claim.range.len();
                schedule.finish(wire.claim.id, if whole { Connection::Kept } else { Connection::Closed });
            } else {
                left.push(wire);
            }
        }
        for id in schedule.tick(self.now) {
            if let Some(at) = left.iter().position(|wire| wire.claim.id == id) {
                Self::flush(schedule, written, &mut left[at], true);
            }
        }
        self.wires = left;
    }

    /// Ends revoked claims.
    fn close(&mut self, revoked: &[ClaimId]) {
        for id in revoked {
            self.schedule.finish(*id, Connection::Closed);
        }
        self.wires.retain(|wire| !revoked.contains(&wire.claim.id));
    }

    fn is_done(&self) -> bool {
        (0..self.sizes.len()).all(|file| self.schedule.is_complete(FileId(file)))
    }

    fn run(&mut self, rate: &Rate<'_>) -> f64 {
        while !self.is_done() {
            self.step(rate, &mut || None);
            assert!(self.now < Duration::from_mins(10), "it never ends");
        }
        self.check();
        self.now.as_secs_f64()
    }

    fn check(&self) {
        for (set, size) in self.written.iter().zip(&self.sizes) {
            assert_eq!(set.len(), *size, "bytes are missing: {:?}", set.missing(*size));
        }
    }
}

/// A schedule with one file.
fn one_file(ranges: impl IntoIterator<Item = ByteRange>) -> (Schedule, FileId) {
    let mut schedule = Schedule::new(Limits::default());
    let host = schedule.add_host();
    let file = schedule.add_file(host, ranges);
    (schedule, file)
}

#[test]
fn a_makespan_is_close_to_the_ideal() {
    // The part of the sizes, the latency, the rate of seven connections in eight and of the eighth, and the limit.
    for (divisor, latency, fast, eighth, most) in
        [(1, 50, 10e6, 10e6, 1.05), (1, 50, 10e6, 1e6, 1.15), (20, 2, 4e6, 4e6, 1.08)]
    {
        let rate = |slot: SlotId| if slot.0 % 8 == 7 { eighth } else { fast };
        let sizes = QWEN.map(|size| size / divisor);
        let mut simulation = Simulation::new(Limits::default(), &sizes, Duration::from_millis(latency));
        let makespan = simulation.run(&|claim, _| rate(claim.slot));
        let ideal = sizes.iter().sum::<u64>() as f64 / (0..64).map(|n| rate(SlotId(n))).sum::<f64>();
        assert!(makespan <= ideal * most, "1/{divisor}, {eighth}: {makespan:.2} s, ideal {ideal:.2} s");
    }
}

#[test]
fn ten_thousand_small_files_are_scheduled_by_size_and_soon() {
    let sizes: Vec<u64> = (0..10_000).map(|n| 1000 + n).collect();
    let mut simulation = Simulation::new(Limits::default(), &sizes, Duration::ZERO);
    let first = simulation.schedule.next(Duration::ZERO).unwrap();
    assert_eq!(first.file, FileId(9999));
    assert_eq!(first.range, ByteRange::new(0, 10_999));
    simulation.schedule.finish(first.id, Connection::Kept);
    simulation.run(&|_, _| 1e9);
}

#[test]
fn claims_of_a_file_ascend() {
    let mut simulation = Simulation::new(Limits::default(), &QWEN, Duration::ZERO);
    let mut last = [0; 4];
    for _ in 0..200 {
        simulation.step(&|_, _| 10e6, &mut || None);
        for wire in &simulation.wires {
            let (at, file) = (wire.claim.range.start, wire.claim.file.0);
            assert!(wire.claim.id.0 < last[file] || at >= last[file].min(at));
            last[file] = last[file].max(at);
        }
    }
}

#[test]
fn a_stalled_connection_loses_the_rest_of_its_claim() {
    let sizes = [64 << 20];
    let mut simulation = Simulation::new(Limits { connections: 4, per_host: 4 }, &sizes, Duration::ZERO);
    let makespan = simulation.run(&|claim, _| if claim.slot.0 == 0 { 0.0 } else { 10e6 });
    assert!(makespan < 64.0 / 30.0 * 1.048_576 * 3.0 + 2.0, "{makespan:.2} s");
}

#[test]
fn a_plain_file_has_one_claim_over_everything_left() {
    let (mut schedule, file) = one_file([ByteRange::new(10, 20), ByteRange::new(50, 100 << 20)]);
    schedule.set_plain(file, true);
    let claim = schedule.next(Duration::ZERO).unwrap();
    assert_eq!((claim.range, claim.plain), (ByteRange::new(10, 100 << 20), true));
    assert_eq!(schedule.next(Duration::ZERO), None);
    schedule.finish(claim.id, Connection::Closed);
    assert_eq!(schedule.next(Duration::ZERO).unwrap().range, ByteRange::new(10, 100 << 20));
}

#[test]
fn revoked_claims_reserve_nothing_and_give_everything_back() {
    let (mut schedule, file) = one_file([ByteRange::new(0, 100 << 20)]);
    let claims: Vec<Claim> = std::iter::from_fn(|| schedule.next(Duration::ZERO)).collect();
    assert_eq!(claims.len(), 2);
    assert_eq!(schedule.reserve(claims[1].id, 1000), 1000);
    assert_eq!(schedule.revoke(file).len(), 2);
    for claim in &claims {
        assert_eq!(schedule.reserve(claim.id, 10), 0);
        assert_eq!(schedule.end_of(claim.id), None);
        schedule.finish(claim.id, Connection::Closed);
    }
    assert_eq!(schedule.unclaimed(file), (100 << 20) - 1000);
    assert_eq!(schedule.next(Duration::ZERO), None, "a revoked file is held until it is started again");
    schedule.restart(file, [ByteRange::new(0, 100 << 20)]);
    assert_eq!(schedule.unclaimed(file), 100 << 20);
}

#[test]
fn pauses_hold_a_file_and_throttling_holds_a_host() {
    let second = Duration::from_secs(1);
    let mut schedule = Schedule::new(Limits::default());
    let host = schedule.add_host();
    let (a, b) =
        (schedule.add_file(host, [ByteRange::new(0, 10)]), schedule.add_file(host, [ByteRange::new(0, 9)]));
    schedule.pause_file(a, second);
    let of_b = schedule.next(Duration::ZERO).unwrap();
    assert_eq!(of_b.file, b);
    assert_eq!(schedule.next(Duration::ZERO), None);
    schedule.throttle(a, SourceId(0), Duration::ZERO, second * 2);
    assert_eq!(schedule.next(second), None);
    // One of its two connections is what is left, and it is in use.
    schedule.finish(of_b.id, Connection::Kept);
    assert_eq!(schedule.next(second), None);
    assert_eq!(schedule.next(second * 2).unwrap().file, a);
}

#[test]
fn one_connection_is_enough_and_never_exceeded() {
    let mut simulation =
        Simulation::new(Limits { connections: 1, per_host: 64 }, &[5 << 20, 3], Duration::ZERO);
    while !simulation.is_done() {
        simulation.step(&|_, _| 10e6, &mut || None);
        assert!(simulation.schedule.in_flight() <= 1);
    }
    simulation.check();
}

#[test]
fn a_range_that_is_given_back_gets_one_claim_that_no_other_connection_shares() {
    const MIB: u64 = 1 << 20;
    let (mut schedule, file) = one_file([ByteRange::new(0, 40 * MIB)]);
    let first = schedule.next(Duration::ZERO).unwrap();
    let second = schedule.next(Duration::ZERO).unwrap();
    assert_eq!(schedule.reserve(first.id, MIB), MIB);
    schedule.finish(first.id, Connection::Kept);
    let (piece, neighbour) = (ByteRange::new(100, 700), ByteRange::new(700, 900));
    schedule.give_back(file, piece);
    schedule.give_back(file, neighbour);
    assert_eq!(schedule.end_of(second.id), Some(2 * MIB), "the other claim goes on");
    let again = schedule.next(Duration::ZERO).unwrap();
    assert_eq!((again.range, again.undivided), (piece, true));
    // The rest of a claim that fails stays together, also after a restart, and takes nothing of the range behind it.
    schedule.reserve(again.id, 100);
    schedule.finish(again.id, Connection::Closed);
    let rest = schedule.next(Duration::ZERO).unwrap();
    assert_eq!((rest.range, rest.undivided), (ByteRange::new(200, 700), true));
    schedule.revoke(file);
    schedule.finish(second.id, Connection::Closed);
    schedule.finish(rest.id, Connection::Closed);
    schedule.restart(file, [ByteRange::new(200, 40 * MIB)]);
    let rest = schedule.next(Duration::ZERO).unwrap();
    assert_eq!((rest.range, rest.undivided), (ByteRange::new(200, 700), true));
    schedule.reserve(rest.id, 500);
    schedule.finish(rest.id, Connection::Kept);
    assert_eq!(schedule.next(Duration::ZERO).unwrap().range, neighbour);
}

#[test]
fn what_a_crawling_connection_leaves_of_an_undivided_range_gets_one_claim() {
    let piece = ByteRange::new(0, 4 << 20);
    let limits = Limits { connections: 8, per_host: 8 };
    let mut simulation = Simulation::new(limits, &[64 << 20], Duration::from_millis(20));
    // Held from the start, then dropped.
    simulation.schedule.restart(FileId(0), [ByteRange::new(piece.end, 64 << 20)]);
    simulation.schedule.give_back(FileId(0), piece);
    let mut claims = BTreeMap::new();
    while !simulation.is_done() {
        let rate = |claim: &Claim, _| if claim.range.start == piece.start { 20e3 } else { 2e6 };
        simulation.step(&rate, &mut || None);
        let of_piece =
            simulation.wires.iter().map(|wire| wire.claim).filter(|claim| claim.range.start < piece.end);
        claims.extend(of_piece.map(|claim| (claim.id, (claim.range.end, claim.undivided))));
        assert!(simulation.now < Duration::from_secs(15), "one connection holds the file up");
    }
    simulation.check();
    assert_eq!(claims.into_values().collect::<Vec<_>>(), [(piece.end, true); 2]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// Pieces that are dropped at random, while claims of the rest are in flight, are written again, and no other byte
    /// is.
    #[test]
    fn ranges_that_are_given_back_are_fetched_again_and_no_other_byte_is(
        size in 1u64..40_000_000,
        piece in 50_000u64..5_000_000,
        seed in any::<u64>(),
        connections in 1usize..12,
        hosts in 1usize..4,
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut simulation =
            Simulation::new(Limits { connections, per_host: 9 }, &[size], Duration::from_millis(20));
        for source in 1..hosts {
            let host = simulation.schedule.add_host();
            simulation.schedule.join(FileId(0), SourceId(source), host);
        }
        let mut steps = 0u32;
        while !simulation.is_done() {
            steps += 1;
            let mut fails = || (steps < 400 && random.u32(0..40) == 0).then(|| random.bool());
            simulation.step(&|_, _| 2e7, &mut fails);
            let dropped = ByteRange::new(random.u64(0..size.div_ceil(piece)) * piece, size);
            let dropped = ByteRange::new(dropped.start, size.min(dropped.start + piece));
            if steps < 400 && random.u32(0..5) == 0 && simulation.written[0].contains(dropped) {
                // `flush` fails where a byte is written twice, so all but the dropped ones are written once.
                let missing: RangeSet = simulation.written[0].missing(size).into_iter().chain([dropped]).collect();
                simulation.written[0] = missing.missing(size).into_iter().collect();
                simulation.schedule.give_back(FileId(0), dropped);
            }
            prop_assert!(steps < 60_000, "it never ends");
        }
        simulation.check();
    }
}

#[test]
fn a_host_without_an_answer_gets_one_claim_at_a_time() {
    let mut schedule = Schedule::new(Limits::default());
    let host = schedule.add_host();
    for n in 1..4 {
        schedule.add_file(host, [ByteRange::new(0, n << 20)]);
    }
    let (start, later) = (Duration::ZERO, Duration::from_secs(1));
    schedule.silence(host, later);
    assert!(schedule.next(start).is_none());
    let claim = schedule.next(later).unwrap();
    assert!(schedule.next(later).is_none());
    schedule.observe(later, claim.id, 1);
    assert!(schedule.next(later).is_some() && schedule.last_heard(host) == Some(later));
}
