//! `cargo lab simulate`: the schedule alone, against hosts that no machine here has. No socket, no disk, no clock.
//!
//! The model: a pipe of so many bytes a second, shared by all connections that flow; each gets at most a window for each
//! round trip; an answer's first byte comes a round trip after its request, two more where the connection is new (TCP
//! and TLS 1.3). SHA-256 takes so many bytes a second of one file, and as many again of another at the same time on
//! another core; a file's verdict waits for it. Then one term after the other is taken away: what the time falls by is
//! what that term costs.

#![expect(clippy::print_stdout, reason = "what was asked for")]

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use provision_core::byte_range::ByteRange;
use provision_core::schedule::{Claim, Connection, FileId, Limits, Schedule, SlotId};

/// Runs the schedule against simulated hosts and says which term limits it
#[derive(Debug, Clone, Args)]
pub(crate) struct SimulateArgs {
    /// Ceiling for the connections
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) connections: usize,
}

const STEP: Duration = Duration::from_millis(1);
/// How often time passes for the schedule, as in a real run.
const TICK: Duration = Duration::from_millis(20);
/// What a claim collects before it asks whether that is still its own, in bytes.
const FLUSH: f64 = 262_144.0;
/// No run may be longer.
const LONGEST: Duration = Duration::from_mins(10);
/// What Linux lets a connection have in flight by default, in bytes (`tcp_rmem`'s largest).
const WINDOW: f64 = 6_291_456.0;
/// Of one file on one core, in bytes a second; measured on the machine of docs/performance.md.
const HASH: f64 = 1.3e9;
/// Cores that hash.
const CORES: f64 = 2.0;

/// A host, and what is fetched from it.
#[derive(Debug, Clone, Copy)]
struct Host {
    name: &'static str,
    /// Bytes a second.
    pipe: f64,
    round_trip: Duration,
    window: f64,
    /// Bytes a second for one file.
    hash: f64,
    files: usize,
    /// Bytes of each file.
    size: u64,
}

const HOSTS: [Host; 3] = [
    Host {
        name: "10 Gbit/s, 40 ms, 1,000 files of 10 MB",
        pipe: 1.25e9,
        round_trip: Duration::from_millis(40),
        window: WINDOW,
        hash: HASH,
        files: 1000,
        size: 10_000_000,
    },
    Host {
        name: "10 Gbit/s, 40 ms, 10,000 files of 1 MB",
        pipe: 1.25e9,
        round_trip: Duration::from_millis(40),
        window: WINDOW,
        hash: HASH,
        files: 10_000,
        size: 1_000_000,
    },
    Host {
        name: "25 Gbit/s, 10 ms, one file of 40 GB",
        pipe: 3.125e9,
        round_trip: Duration::from_millis(10),
        window: WINDOW,
        hash: HASH,
        files: 1,
        size: 40_000_000_000,
    },
];

pub(crate) fn run(args: &SimulateArgs) -> Result<()> {
    let limits = Limits { connections: args.connections, per_host: args.connections };
    for host in HOSTS {
        let bytes = host.files as f64 * host.size as f64;
        let ideal = bytes / host.pipe;
        println!("{}; {} connections at most", host.name, args.connections);
        let whole = Simulation::run(host, limits)?;
        println!("  {:<44} {:>7.2} s", "the pipe alone would take", ideal);
        println!(
            "  {:<44} {:>7.2} s  {:.2} times that, {} connections at most, {} requests",
            "simulated",
            whole.seconds,
            whole.seconds / ideal,
            whole.connections,
            whole.requests
        );
        let without = |name: &str, host: Host, limits: Limits| -> Result<()> {
            let other = Simulation::run(host, limits)?;
            println!("  {name:<44} {:>7.2} s  {:+.2} s", other.seconds, other.seconds - whole.seconds);
            Ok(())
        };
        without("without round trips", Host { round_trip: Duration::ZERO, ..host }, limits)?;
        without("without a window", Host { window: f64::INFINITY, ..host }, limits)?;
        without("with a hash that costs nothing", Host { hash: f64::INFINITY, ..host }, limits)?;
        let more = Limits { connections: limits.connections * 4, per_host: limits.per_host * 4 };
        without("with four times the connections", host, more)?;
        println!();
    }
    Ok(())
}

/// What a run took.
struct Outcome {
    seconds: f64,
    connections: usize,
    requests: usize,
}

/// A connection that is fetching.
struct Wire {
    claim: Claim,
    flows_at: Duration,
    received: f64,
    reserved: u64,
}

struct Simulation {
    host: Host,
    schedule: Schedule,
    now: Duration,
    wires: Vec<Wire>,
    /// Connections that are open.
    open: HashSet<SlotId>,
    /// Bytes of each file that are there and not hashed.
    unhashed: Vec<f64>,
    connections: usize,
    requests: usize,
}

impl Simulation {
    fn run(host: Host, limits: Limits) -> Result<Outcome> {
        let mut schedule = Schedule::new(limits);
        let at = schedule.add_host();
        for _ in 0..host.files {
            schedule.add_file(at, [ByteRange::new(0, host.size)]);
        }
        let mut simulation = Self {
            host,
            schedule,
            now: Duration::ZERO,
            wires: Vec::new(),
            open: HashSet::new(),
            unhashed: vec![0.0; host.files],
            connections: 0,
            requests: 0,
        };
        while !simulation.is_done() {
            ensure!(simulation.now < LONGEST, "{}: it does not end", host.name);
            simulation.step();
        }
        let (connections, requests) = (simulation.connections, simulation.requests);
        Ok(Outcome { seconds: simulation.now.as_secs_f64(), connections, requests })
    }

    fn is_done(&self) -> bool {
        self.wires.is_empty()
            && self.unhashed.iter().all(|bytes| *bytes < 1.0)
            && (0..self.host.files).all(|file| self.schedule.is_complete(FileId(file)))
    }

    fn step(&mut self) {
        self.now += STEP;
        self.launch();
        self.receive();
        let is_tick = self.now.as_millis().is_multiple_of(TICK.as_millis());
        let told = if is_tick { self.schedule.tick(self.now) } else { Vec::new() };
        for id in told {
            if let Some(at) = self.wires.iter().position(|wire| wire.claim.id == id) {
                let mut wire = self.wires.swap_remove(at);
                if !self.flush(&mut wire, true) {
                    self.wires.push(wire);
                }
            }
        }
        self.hash();
    }

    fn launch(&mut self) {
        while let Some(claim) = self.schedule.next(self.now) {
            let trips = if self.open.insert(claim.slot) { 3 } else { 1 };
            let flows_at = self.now + self.host.round_trip * trips;
            self.wires.push(Wire { claim, flows_at, received: 0.0, reserved: 0 });
            self.requests += 1;
        }
        self.connections = self.connections.max(self.open.len());
    }

    /// What the pipe has for this step, in equal shares; what one connection may not take is the others'.
    fn receive(&mut self) {
        let seconds = STEP.as_secs_f64();
        let round_trip = self.host.round_trip.as_secs_f64();
        let most = if round_trip > 0.0 { self.host.window / round_trip * seconds } else { f64::INFINITY };
        let flowing = self.wires.iter().filter(|wire| wire.flows_at <= self.now).count();
        let share = (self.host.pipe * seconds / flowing.max(1) as f64).min(most);
        for mut wire in std::mem::take(&mut self.wires) {
            if wire.flows_at <= self.now {
                wire.received = (wire.received + share).min(wire.claim.range.len() as f64);
                self.schedule.observe(self.now, wire.claim.id, wire.received as u64);
            }
            if !self.flush(&mut wire, false) {
                self.wires.push(wire);
            }
        }
    }

    /// Reserves what a connection has received. True when its claim is over.
    fn flush(&mut self, wire: &mut Wire, all: bool) -> bool {
        let Some(end) = self.schedule.end_of(wire.claim.id) else {
            self.finish(wire, false);
            return true;
        };
        let rest = end.saturating_sub(wire.claim.range.start + wire.reserved);
        let buffered = (wire.received as u64).saturating_sub(wire.reserved).min(rest);
        if buffered > 0 && (all || buffered == rest || buffered as f64 >= FLUSH) {
            let granted = self.schedule.reserve(wire.claim.id, buffered);
            wire.reserved += granted;
            self.unhashed[wire.claim.file.0] += granted as f64;
        }
        let is_over = wire.claim.range.start + wire.reserved >= end;
        if is_over {
            self.finish(wire, wire.reserved == wire.claim.range.len());
        }
        is_over
    }

    /// A claim that was cut short leaves bytes on their way: its connection is closed.
    fn finish(&mut self, wire: &Wire, is_whole: bool) {
        let connection = if is_whole { Connection::Kept } else { Connection::Closed };
        if !is_whole {
            self.open.remove(&wire.claim.slot);
        }
        self.schedule.finish(wire.claim.id, connection);
    }

    fn hash(&mut self) {
        let mut cores = CORES;
        for bytes in self.unhashed.iter_mut().filter(|bytes| **bytes > 0.0) {
            if cores <= 0.0 {
                return;
            }
            let most = self.host.hash * STEP.as_secs_f64() * cores.min(1.0);
            cores -= (*bytes / most).min(1.0) * cores.min(1.0);
            *bytes = (*bytes - most).max(0.0);
        }
    }
}
