//! `cargo lab simulate`: the schedule alone, against hosts that no machine here has. No socket, no disk, no clock.
//!
//! The model: all connections share a pipe of so many bytes a second; each gets at most a window for each round trip. A
//! response begins one round trip after its request, and three on a new connection (TCP and TLS 1.3). SHA-256 takes so
//! many bytes a second of one file, and as many of another on a second core; a file is complete when it is hashed. With
//! a piece list, each core hashes another piece of the same file. A second source has a pipe of its own, with the same
//! round trips. Then one term after the other is taken away: the time that this saves is the cost of the term.

#![expect(clippy::print_stdout, reason = "the command's result")]

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use provision_core::byte_range::ByteRange;
use provision_core::piece_list::MAX_PIECE;
use provision_core::schedule::{Claim, Connection, FileId, Limits, Schedule, SlotId, SourceId};

/// Runs the schedule against simulated hosts and says which term limits it
#[derive(Debug, Clone, Args)]
pub(crate) struct SimulateArgs {
    /// Ceiling for the connections
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) connections: usize,
}

const STEP: Duration = Duration::from_millis(1);
/// The interval of `Schedule::tick`, as in a real run.
const TICK: Duration = Duration::from_millis(20);
/// The bytes that a connection collects before it reserves them.
const FLUSH: f64 = 262_144.0;
/// A longer run has a fault.
const LONGEST: Duration = Duration::from_mins(10);
/// The bytes that Linux lets a connection have in flight by default (the largest of `tcp_rmem`).
const WINDOW: f64 = 6_291_456.0;
/// Bytes a second of one file on one core; measured on the machine of docs/performance.md.
const HASH: f64 = 1.3e9;
/// Cores that hash.
const CORES: f64 = 2.0;

/// A host and the files on it.
#[derive(Debug, Clone, Copy)]
struct Host {
    name: &'static str,
    /// Bytes a second of each source; 0 without a second one.
    pipes: [f64; 2],
    round_trip: Duration,
    window: f64,
    /// Bytes a second on one core.
    hash: f64,
    /// The files have piece lists.
    pieces: bool,
    files: usize,
    /// Bytes of each file.
    size: u64,
}

impl Host {
    const fn new(name: &'static str, pipes: [f64; 2], round_trip_ms: u64, files: usize, size: u64) -> Self {
        let round_trip = Duration::from_millis(round_trip_ms);
        Self { name, pipes, round_trip, window: WINDOW, hash: HASH, pieces: false, files, size }
    }
}

const HOSTS: [Host; 6] = [
    Host::new("10 Gbit/s, 40 ms, 1,000 files of 10 MB", [1.25e9, 0.0], 40, 1_000, 10_000_000),
    Host::new("10 Gbit/s, 40 ms, 10,000 files of 1 MB", [1.25e9, 0.0], 40, 10_000, 1_000_000),
    Host::new("25 Gbit/s, 10 ms, one file of 40 GB", [3.125e9, 0.0], 10, 1, 40_000_000_000),
    Host::new("2 Gbit/s beside 1 Gbit/s, 20 ms, one file of 10 GB", [250e6, 125e6], 20, 1, 10_000_000_000),
    Host::new("2 Gbit/s beside 1 Mbit/s, 20 ms, one file of 10 GB", [250e6, 125e3], 20, 1, 10_000_000_000),
    Host::new("1 Mbit/s beside 2 Gbit/s, 20 ms, one file of 10 GB", [125e3, 250e6], 20, 1, 10_000_000_000),
];

pub(crate) fn run(args: &SimulateArgs) -> Result<()> {
    let ceiling = args.connections;
    for host in HOSTS {
        let line = |what: &str, seconds: f64, note: &str| println!("  {what:<44} {seconds:>7.2} s{note}");
        let ideal = host.files as f64 * host.size as f64 / host.pipes.iter().sum::<f64>();
        let whole = Simulation::run(host, ceiling)?;
        let seconds = whole.now.as_secs_f64();
        println!("{}; {ceiling} connections at most", host.name);
        line("the pipe alone would take", ideal, "");
        let (times, open, requests) = (seconds / ideal, whole.most_open, whole.requests);
        let note = format!("  {times:.2} times that, {open} connections at most, {requests} requests");
        line("simulated", seconds, &note);
        for (change, host, ceiling) in [
            ("without round trips", Host { round_trip: Duration::ZERO, ..host }, ceiling),
            ("without a window", Host { window: f64::INFINITY, ..host }, ceiling),
            ("with piece lists", Host { pieces: true, ..host }, ceiling),
            ("with a hash that costs nothing", Host { hash: f64::INFINITY, ..host }, ceiling),
            ("with four times the connections", host, 4 * ceiling),
        ] {
            let changed = Simulation::run(host, ceiling)?.now.as_secs_f64();
            line(change, changed, &format!("  {:+.2} s", changed - seconds));
        }
        println!();
    }
    Ok(())
}

/// A claim and the bytes of it that have arrived.
struct InFlight {
    claim: Claim,
    flows_at: Duration,
    received: f64,
    reserved: u64,
}

struct Simulation {
    host: Host,
    schedule: Schedule,
    now: Duration,
    in_flight: Vec<InFlight>,
    /// The slots with an open connection.
    open: HashSet<SlotId>,
    /// Reserved bytes of each file that are not hashed.
    unhashed: Vec<f64>,
    most_open: usize,
    requests: usize,
}

impl Simulation {
    /// Runs to the end.
    fn run(host: Host, connections: usize) -> Result<Self> {
        let mut schedule = Schedule::new(Limits { connections, per_host: connections });
        let at = schedule.add_host();
        let second = (host.pipes[1] > 0.0).then(|| schedule.add_host());
        for _ in 0..host.files {
            let file = schedule.add_file(at, [ByteRange::new(0, host.size)]);
            if let Some(second) = second {
                schedule.join(file, SourceId(1), second);
            }
        }
        let mut simulation = Self {
            host,
            schedule,
            now: Duration::ZERO,
            in_flight: Vec::new(),
            open: HashSet::new(),
            unhashed: vec![0.0; host.files],
            most_open: 0,
            requests: 0,
        };
        while !simulation.is_done() {
            ensure!(simulation.now < LONGEST, "{}: no end after {} s", host.name, LONGEST.as_secs());
            simulation.step();
        }
        Ok(simulation)
    }

    fn is_done(&self) -> bool {
        self.in_flight.is_empty()
            && self.unhashed.iter().all(|bytes| *bytes < 1.0)
            && (0..self.host.files).all(|file| self.schedule.is_complete(FileId(file)))
    }

    fn step(&mut self) {
        self.now += STEP;
        self.launch();
        self.receive();
        if self.now.as_millis().is_multiple_of(TICK.as_millis()) {
            for id in self.schedule.tick(self.now) {
                let at = self.in_flight.iter().position(|flight| flight.claim.id == id);
                if let Some(flight) = at.map(|at| self.in_flight.swap_remove(at)) {
                    self.flush(flight, true);
                }
            }
        }
        self.hash();
    }

    fn launch(&mut self) {
        while let Some(claim) = self.schedule.next(self.now) {
            let trips = if self.open.insert(claim.slot) { 3 } else { 1 };
            let flows_at = self.now + self.host.round_trip * trips;
            self.in_flight.push(InFlight { claim, flows_at, received: 0.0, reserved: 0 });
            self.requests += 1;
        }
        self.most_open = self.most_open.max(self.open.len());
    }

    /// Shares each pipe equally, up to the window of each connection.
    fn receive(&mut self) {
        let seconds = STEP.as_secs_f64();
        let round_trip = self.host.round_trip.as_secs_f64();
        let most = if round_trip > 0.0 { self.host.window / round_trip * seconds } else { f64::INFINITY };
        let shares = self.host.pipes.into_iter().enumerate().map(|(source, pipe)| {
            let flows =
                |flight: &&InFlight| flight.flows_at <= self.now && flight.claim.source == SourceId(source);
            let flowing = self.in_flight.iter().filter(flows).count();
            (pipe * seconds / flowing.max(1) as f64).min(most)
        });
        let shares: Vec<f64> = shares.collect();
        for mut flight in std::mem::take(&mut self.in_flight) {
            if flight.flows_at <= self.now {
                flight.received =
                    (flight.received + shares[flight.claim.source.0]).min(flight.claim.range.len() as f64);
                self.schedule.observe(self.now, flight.claim.id, flight.received as u64);
            }
            self.flush(flight, false);
        }
    }

    /// Reserves the received bytes, and ends the claim or leaves it in flight.
    fn flush(&mut self, mut flight: InFlight, all: bool) {
        let InFlight { claim, received, reserved, .. } = &mut flight;
        let Some(end) = self.schedule.end_of(claim.id) else {
            self.finish(claim, false);
            return;
        };
        let rest = end.saturating_sub(claim.range.start + *reserved);
        let buffered = (*received as u64).saturating_sub(*reserved).min(rest);
        if buffered > 0 && (all || buffered == rest || buffered as f64 >= FLUSH) {
            let granted = self.schedule.reserve(claim.id, buffered);
            *reserved += granted;
            self.unhashed[claim.file.0] += granted as f64;
        }
        if claim.range.start + *reserved >= end {
            let is_whole = *reserved == claim.range.len();
            self.finish(claim, is_whole);
        } else {
            self.in_flight.push(flight);
        }
    }

    /// A claim that was cut short leaves bytes in flight, so its connection is closed.
    fn finish(&mut self, claim: &Claim, is_whole: bool) {
        let connection = if is_whole { Connection::Kept } else { Connection::Closed };
        if !is_whole {
            self.open.remove(&claim.slot);
        }
        self.schedule.finish(claim.id, connection);
    }

    fn hash(&mut self) {
        let mut cores = CORES;
        for bytes in self.unhashed.iter_mut().filter(|bytes| **bytes > 0.0) {
            if cores <= 0.0 {
                return;
            }
            // A core for the file, or for each of its pieces that wait.
            let lanes = if self.host.pieces { (*bytes / MAX_PIECE as f64).ceil() } else { 1.0 };
            let used = cores.min(lanes);
            let most = self.host.hash * STEP.as_secs_f64() * used;
            cores -= (*bytes / most).min(1.0) * used;
            *bytes = (*bytes - most).max(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_40_gb_is_proven_by_its_list_in_about_half_the_time() {
        let host = HOSTS.into_iter().find(|host| host.files == 1 && host.pipes[1] == 0.0).unwrap();
        let seconds = |pieces| Simulation::run(Host { pieces, ..host }, 64).unwrap().now.as_secs_f64();
        let (without, with) = (seconds(false), seconds(true));
        assert!(without > 30.0 && with < 16.0, "{without:.1} s without a list, {with:.1} s with one");
    }
}
