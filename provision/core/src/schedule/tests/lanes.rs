//! Files with several sources, each at a host of its own.

use super::*;

const SIZE: u64 = 4_000_000_000;

/// One file at hosts that join at once; `limits` are those of the run.
fn beside(hosts: usize, size: u64, limits: Limits) -> Simulation {
    let mut simulation = Simulation::new(limits, &[size], Duration::from_millis(40));
    join_all(&mut simulation, FileId(0), hosts);
    simulation
}

fn join_all(simulation: &mut Simulation, file: FileId, hosts: usize) {
    for source in 1..hosts {
        let host = simulation.schedule.add_host();
        assert!(simulation.schedule.join(file, SourceId(source), host));
    }
}

/// Bytes a second of hosts with a pipe each, and at most `each` for a connection.
fn pipes<const N: usize>(pipes: [f64; N], each: f64) -> impl Fn(&Claim, usize) -> f64 {
    move |claim, sharing| (pipes[claim.source.0] / sharing.max(1) as f64).min(each)
}

fn seconds<const N: usize>(hosts: [f64; N], each: f64) -> f64 {
    beside(N, 2 * SIZE, Limits::default()).run(&pipes(hosts, each))
}

#[test]
fn two_hosts_give_the_sum_of_their_speeds() {
    for hosts in [[200e6, 100e6], [100e6, 200e6], [150e6, 150e6], [250e6, 30e6], [30e6, 250e6]] {
        for each in [f64::INFINITY, 8e6] {
            // Of what each gives alone, so that the first second of an unknown host counts for all.
            let alone = hosts.map(|pipe| 1.0 / seconds([pipe], each));
            let ideal = 1.0 / alone.iter().sum::<f64>();
            let took = seconds(hosts, each);
            assert!(took <= ideal / 0.95, "{hosts:?}, {each}: {took:.2} s, ideal {ideal:.2} s");
        }
    }
}

#[test]
fn a_slow_host_costs_a_fast_one_next_to_nothing() {
    for slow in [10e3, 100e3, 1e6, 4e6] {
        for each in [f64::INFINITY, 8e6] {
            let alone = seconds([200e6], each);
            for hosts in [[200e6, slow], [slow, 200e6]] {
                let took = seconds(hosts, each);
                assert!(took <= alone * 1.05, "{hosts:?}, {each}: {took:.2} s, alone {alone:.2} s");
            }
        }
    }
}

#[test]
fn a_host_that_stops_sending_loses_its_work_to_the_other() {
    let mut simulation = beside(2, SIZE, Limits::default());
    let rate = pipes([100e6, 100e6], f64::INFINITY);
    while simulation.now < Duration::from_secs(5) {
        simulation.step(&rate, &mut || None);
    }
    let rate = pipes([100e6, 0.0], f64::INFINITY);
    let took = simulation.run(&rate);
    assert!(took <= 35.0 * 1.1, "{took:.2} s");
}

#[test]
fn a_host_that_recovers_is_used_again() {
    let mut simulation = beside(2, 2 * SIZE, Limits::default());
    let slow = pipes([100e6, 1e5], f64::INFINITY);
    while simulation.now < Duration::from_secs(20) {
        simulation.step(&slow, &mut || None);
    }
    let took = simulation.run(&pipes([100e6, 60e6], f64::INFINITY));
    // At most one wait of ten seconds before it is asked again, and its connections start with two.
    let ideal = 20.0 + 10.0 + (2.0 * SIZE as f64 - 3000e6) / 160e6;
    assert!(took <= ideal * 1.1, "{took:.2} s, ideal {ideal:.2} s");
}

#[test]
fn the_fast_host_gets_the_connections_of_a_small_budget() {
    let limits = Limits { connections: 8, per_host: 8 };
    let rate = |claim: &Claim, _| if claim.source.0 == 0 { 1e6 } else { 8e6 };
    let took = beside(2, SIZE / 10, limits).run(&rate);
    let ideal = SIZE as f64 / 10.0 / (8.0 * 8e6);
    assert!(took <= ideal * 1.25, "{took:.2} s, ideal {ideal:.2} s");
}

#[test]
fn a_companion_without_an_answer_has_one_claim() {
    let (mut schedule, file) = one_file([ByteRange::new(0, SIZE)]);
    let b = schedule.add_host();
    assert!(schedule.join(file, SourceId(1), b));
    assert!(!schedule.join(file, SourceId(2), b), "another lane has that host");
    let claims: Vec<Claim> = std::iter::from_fn(|| schedule.next(Duration::ZERO)).collect();
    let companions: Vec<_> = claims.iter().filter(|claim| claim.source == SourceId(1)).collect();
    assert_eq!((claims.len(), companions.len()), (3, 1));
    schedule.observe(Duration::ZERO, companions[0].id, 1);
    assert_eq!(schedule.next(Duration::ZERO).unwrap().source, SourceId(1));
}

#[test]
fn a_companion_that_leaves_gives_its_bytes_back() {
    let (mut schedule, file) = one_file([ByteRange::new(0, SIZE)]);
    let b = schedule.add_host();
    schedule.join(file, SourceId(1), b);
    let claims: Vec<Claim> = std::iter::from_fn(|| schedule.next(Duration::ZERO)).collect();
    let revoked = schedule.leave(file, SourceId(1));
    assert_eq!(revoked.len(), 1);
    let kept: u64 = claims.iter().filter(|claim| claim.id != revoked[0]).map(|c| c.range.len()).sum();
    assert_eq!(schedule.unclaimed(file), SIZE - kept);
    assert!(!schedule.has_lane(file, SourceId(1)));
    assert!(!schedule.join(file, SourceId(1), b), "its claim has not ended");
    schedule.finish(revoked[0], Connection::Closed);
    assert!(schedule.join(file, SourceId(1), b));
    schedule.check();
}

#[test]
fn two_lanes_that_lead_to_one_host_become_one() {
    let (mut schedule, file) = one_file([ByteRange::new(0, SIZE)]);
    let (b, c) = (schedule.add_host(), schedule.add_host());
    schedule.join(file, SourceId(1), b);
    assert!(schedule.set_host(file, SourceId(1), c));
    assert!(schedule.set_host(file, SourceId(0), c), "the lead stays");
    assert!(!schedule.has_lane(file, SourceId(1)));
    schedule.join(file, SourceId(1), b);
    assert!(!schedule.set_host(file, SourceId(1), c), "the companion leaves");
    assert!(!schedule.has_lane(file, SourceId(1)));
    schedule.check();
}

impl Schedule {
    /// Asserts that the counts of hosts and files agree with the claims.
    pub(super) fn check(&self) {
        for (at, host) in self.hosts.iter().enumerate() {
            let lanes = self.files.iter().flat_map(|file| file.lanes.iter().map(move |lane| (file, lane)));
            let here = lanes.filter(|(_, lane)| lane.joined && lane.host.0 == at);
            assert_eq!(host.unclaimed, here.map(|(file, _)| file.unclaimed).sum::<u64>(), "host {at}");
            assert_eq!(host.active, self.flights.values().filter(|flight| flight.host.0 == at).count());
        }
        for (at, file) in self.files.iter().enumerate() {
            let id = FileId(at);
            assert_eq!(file.unclaimed, file.gaps.len());
            for lane in &file.lanes {
                let of_lane =
                    |flight: &&InFlight| flight.claim.file == id && flight.claim.source == lane.source;
                assert_eq!(lane.active, self.flights.values().filter(of_lane).count());
                let host = &self.hosts[lane.host.0];
                let listed = host.open.iter().chain(&host.waiting).filter(|other| **other == id).count();
                let is_work = lane.joined && file.unclaimed > 0;
                assert_eq!(listed, usize::from(is_work), "file {at} at host {}", lane.host.0);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]
    /// Connections that fail or stall, files that are restarted, and sources that join and leave.
    #[test]
    fn no_schedule_loses_or_repeats_a_byte(
        sizes in prop::collection::vec(0u64..40_000_000, 1..6),
        rates in prop::collection::vec(prop_oneof![Just(0.0), 1e4..1e6, 1e6..1e8], 3..12),
        seed in any::<u64>(),
        connections in 1usize..12,
        hosts in 1usize..5,
        revoking in any::<bool>(),
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let limits = Limits { connections, per_host: 9 };
        let mut simulation = Simulation::new(limits, &sizes, Duration::from_millis(20));
        let hosts: Vec<HostId> =
            (0..hosts).map(|at| if at == 0 { HostId(0) } else { simulation.schedule.add_host() }).collect();
        let mut steps = 0u32;
        // With one source, connection 0 always works, and source 0 with several, so that every run can end.
        let rate = |claim: &Claim, sharing: usize| match (hosts.len(), claim.slot.0, claim.source.0) {
            (1, 0, _) => 2e7,
            (2.., _, 0) => 2e7 / sharing.max(1) as f64,
            (1, slot, _) => rates[slot % rates.len()],
            (_, _, source) => rates[source - 1] / sharing.max(1) as f64,
        };
        while !simulation.is_done() {
            steps += 1;
            let faulty = steps < 400;
            let mut fails = || (faulty && random.u32(0..40) == 0).then(|| random.bool());
            simulation.step(&rate, &mut fails);
            let file = FileId(random.usize(0..sizes.len()));
            if revoking && faulty && steps.is_multiple_of(50) {
                let revoked = simulation.schedule.revoke(file);
                simulation.close(&revoked);
                let missing = simulation.written[file.0].missing(simulation.sizes[file.0]);
                simulation.schedule.restart(file, missing);
            }
            if hosts.len() > 1 && faulty && steps.is_multiple_of(7) {
                let source = SourceId(random.usize(1..hosts.len()));
                let schedule = &mut simulation.schedule;
                match random.u32(0..4) {
                    0 | 1 => drop(schedule.join(file, source, hosts[random.usize(1..hosts.len())])),
                    2 => drop(schedule.set_host(file, source, hosts[random.usize(0..hosts.len())])),
                    _ => {
                        let revoked = schedule.leave(file, source);
                        simulation.close(&revoked);
                    }
                }
            }
            simulation.schedule.check();
            prop_assert!(simulation.schedule.in_flight() <= connections);
            prop_assert!(steps < 60_000, "it never ends");
        }
        simulation.check();
    }
}
