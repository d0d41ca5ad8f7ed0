//! Many machines that start at the same time, imitated by processes of this one.
//!
//! Without a store every one of them takes its own copy from the origin. With a full store the origin must not notice
//! them: no byte, no connection, and no question for its name.

#![expect(clippy::print_stdout, reason = "the table is the command's output")]

use std::fs;
use std::ops::Range;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;

use super::Fixture;
use super::server::{Kind, Server};
use super::trial::{HEADS, Trial};
use crate::tools::files::verify_contents;
use crate::tools::process::Running;

/// The number of machines.
const NODES: usize = 8;

/// The size of the benchmark's file, and the origin's bytes per second for all machines together.
const SIZE: u64 = 482_000_000;
const ORIGIN_RATE: u64 = 100_000_000;

/// The clock ticks of /proc in a second, on every Linux.
const TICKS: f64 = 100.0;

/// The stores of the benchmark. `None` is the origin alone.
const STORES: [Option<Kind>; 5] =
    [None, Some(Kind::Directory), Some(Kind::Nginx), Some(Kind::Registry), Some(Kind::Bucket)];

/// A scenario: several fetches at once from a full store, and the origin gets nothing.
pub(super) fn from_a_full_store(trial: &mut Trial<'_>) -> Result<()> {
    trial.fill()?;
    fetch_at_once(trial, NODES, true)?;
    trial.require_quiet_origin()?;
    asks_for_no_name(trial)
}

/// A lock whose addresses have a name that no server knows: the run must not ask for it.
fn asks_for_no_name(trial: &Trial<'_>) -> Result<()> {
    trial.write_lock(|path| format!("https://origin.example/{path}"))?;
    let Fixture { program, scratch, .. } = trial.server.fixture;
    let (calls, destination, store) = (scratch.fresh("calls"), scratch.fresh("named"), trial.address());
    let strace = ["-f", "-e", "trace=connect,sendto,sendmmsg", "-o", calls.as_str(), program.as_str()];
    let fetch = ["fetch", "--dest", destination.as_str(), "--store", &store];
    trial.run_by("strace", &[&strace[..], &fetch].concat())?.exits(0)?;
    verify_contents(&destination, &trial.files)?;
    let calls = fs::read_to_string(calls)?;
    let port = format!("htons({})", trial.store.port);
    let is_other = |line: &&str| line.contains("sin") && line.contains("htons(") && !line.contains(&port);
    let other = calls.lines().find(is_other);
    ensure!(other.is_none(), "the run spoke to more than the store: {other:?}");
    Ok(())
}

/// Runs the fetches to their end, and returns the seconds until the last was ready.
fn fetch_at_once(trial: &Trial<'_>, nodes: usize, with_store: bool) -> Result<f64> {
    let started = Instant::now();
    let (mut running, mut destinations) = (Vec::new(), Vec::new());
    for _ in 0..nodes {
        let (run, destination) = if with_store { trial.fetch(&[])? } else { trial.fetch_from_origin()? };
        running.push(run.start()?);
        destinations.push(destination);
    }
    for run in running {
        run.end()?.exited(0)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    for destination in destinations {
        for (path, content) in &trial.files {
            let found = fs::metadata(destination.join(path))?.len();
            ensure!(found == content.size(), "{path} has {found} bytes");
        }
        fs::remove_dir_all(destination)?;
    }
    Ok(seconds)
}

/// The benchmark: one machine alone, then all of them, from the origin and from each store.
pub(super) fn bench(program: &Utf8Path, memory: &Utf8Path) -> Result<()> {
    println!(
        "{NODES} fetches of {:.0} MB at once; the origin gives {:.0} MB/s to all together\n",
        SIZE as f64 / 1e6,
        ORIGIN_RATE as f64 / 1e6
    );
    println!(
        "| from | one alone s | last of {NODES} s | ratio | copies from the origin | its connections | the store's CPU s | the machine's CPU |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    for kind in STORES {
        let fixture = Fixture::start(program, memory)?;
        let server = Server::start(&fixture, kind.unwrap_or(Kind::Directory))?;
        let mut trial = Trial::of(&server, &[SIZE])?;
        // A relay before the store would take processor time.
        trial.port = server.port;
        trial.origin.set_rate(Some(ORIGIN_RATE));
        if kind.is_some() {
            trial.push()?.exits(0)?;
        }
        let alone = fetch_at_once(&trial, 1, kind.is_some())?;
        trial.reset();
        let before = cpu_seconds(&server)?;
        let last = fetch_at_once(&trial, NODES, kind.is_some())?;
        let after = cpu_seconds(&server)?;
        let [of_server, busy, idle]: [f64; 3] = std::array::from_fn(|index| after[index] - before[index]);
        let traffic = trial.origin.traffic();
        if kind.is_some() {
            trial.require_quiet_origin()?;
        } else {
            ensure!(traffic.down >= SIZE * NODES as u64, "the origin gave {} bytes", traffic.down);
        }
        println!(
            "| {} | {alone:.1} | {last:.1} | {:.2} | {:.2} | {} | {of_server:.1} | {:.0} % |",
            kind.map_or("the origin", Kind::name),
            last / alone,
            traffic.down.saturating_sub(HEADS) as f64 / SIZE as f64,
            traffic.connections,
            busy / (busy + idle) * 100.0,
        );
    }
    Ok(())
}

/// The seconds that the server and the processes that it started worked, that the machine's processors worked, and that
/// they waited.
fn cpu_seconds(server: &Server<'_>) -> Result<[f64; 3]> {
    let seconds = |text: &str, fields: Range<usize>| {
        let fields = text.split_whitespace().skip(fields.start).take(fields.len());
        fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS
    };
    let mut of_server = 0.0;
    if let Some(pid) = server.process().map(Running::id) {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        for pid in children.split_whitespace().chain([pid.to_string().as_str()]) {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            // The name, in parentheses, may have spaces. User and system time are fields 14 and 15 (proc_pid_stat(5)).
            let (_, rest) = stat.rsplit_once(") ").context("/proc has a line without a name")?;
            of_server += seconds(rest, 11..13);
        }
    }
    // The word cpu, then user, nice, system, idle, iowait, irq, softirq and steal (proc_stat(5)).
    let machine = fs::read_to_string("/proc/stat")?;
    Ok([of_server, seconds(&machine, 1..4) + seconds(&machine, 6..9), seconds(&machine, 4..6)])
}
