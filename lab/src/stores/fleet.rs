//! Many machines that start at the same time, imitated by processes of this one.
//!
//! Without a store every one of them takes its own copy from the origin. With a full store the origin must not notice
//! them: no byte, no connection, and no question for its name.

#![expect(clippy::print_stdout, reason = "the table is the command's output")]

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;
use provision_testbed::{BlockingOrigin, OriginConfig};
use xshell::{Shell, cmd};

use super::server::{Kind, Server};
use super::trial::{Fixture, HEADS, Trial};
use crate::tools::lock_text::{VERSION, model};
use crate::tools::programs;
use crate::tools::scratch::Scratch;

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
pub(super) fn from_a_full_store(trial: &Trial<'_>) -> Result<()> {
    trial.push()?.exits(0)?;
    trial.reset();
    fetch_at_once(trial, NODES, true)?;
    trial.require_quiet_origin()?;
    asks_for_no_name(trial)
}

/// A lock whose addresses have a name that no server knows: the run must not ask for it.
fn asks_for_no_name(trial: &Trial<'_>) -> Result<()> {
    let fixture = trial.fixture;
    let (folder, calls) = (fixture.scratch.fresh("named"), fixture.scratch.fresh("calls"));
    fs::create_dir_all(&folder)?;
    let (lock, destination) = (folder.join("models.lock"), folder.join("models"));
    let entry = |file: &super::trial::File| {
        let url = format!("https://origin.example/{}", file.path);
        model(&file.path, &url, file.content.size(), &file.sha256)
    };
    fs::write(&lock, VERSION.to_owned() + &trial.files.iter().map(entry).collect::<String>())?;
    let (program, store) = (fixture.program.as_str(), trial.address());
    let strace = ["-f", "-e", "trace=connect,sendto,sendmmsg", "-o", calls.as_str(), program];
    let fetch = ["fetch", "--lock", lock.as_str(), "--dest", destination.as_str(), "--store", &store];
    trial.run_program("strace", &[&strace[..], &fetch].concat())?.exits(0)?;
    trial.require_files(&destination)?;
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
        for file in &trial.files {
            let found = fs::metadata(destination.join(&file.path))?.len();
            ensure!(found == file.content.size(), "{} has {found} bytes", file.path);
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
        let sh = Shell::new()?;
        programs::extend_path(&sh);
        let scratch = Scratch::create(memory, "provision-fleet-")?;
        let origin = BlockingOrigin::start(OriginConfig::default())?;
        let fixture = Fixture { sh, program: program.to_owned(), scratch, origin };
        let server = Server::start(&fixture.sh, &fixture.scratch, kind.unwrap_or(Kind::Directory))?;
        let trial = Trial::direct(&fixture, &server, SIZE)?;
        trial.origin.set_rate(Some(ORIGIN_RATE));
        if kind.is_some() {
            trial.push()?.exits(0)?;
        }
        let alone = fetch_at_once(&trial, 1, kind.is_some())?;
        trial.reset();
        let before = (cpu_seconds(&server)?, busy_and_idle(&fixture.sh)?);
        let last = fetch_at_once(&trial, NODES, kind.is_some())?;
        let after = (cpu_seconds(&server)?, busy_and_idle(&fixture.sh)?);
        let traffic = trial.origin.traffic();
        if kind.is_some() {
            trial.require_quiet_origin()?;
        } else {
            ensure!(traffic.down >= SIZE * NODES as u64, "the origin gave {} bytes", traffic.down);
        }
        let (busy, idle) = (after.1.0 - before.1.0, after.1.1 - before.1.1);
        println!(
            "| {} | {alone:.1} | {last:.1} | {:.2} | {:.2} | {} | {:.1} | {:.0} % |",
            kind.map_or("the origin", Kind::name),
            last / alone,
            traffic.down.saturating_sub(HEADS) as f64 / SIZE as f64,
            traffic.connections,
            after.0 - before.0,
            busy / (busy + idle) * 100.0,
        );
    }
    Ok(())
}

/// The processor time of a server and of the processes that it started.
fn cpu_seconds(server: &Server) -> Result<f64> {
    let Some(pid) = server.pid() else { return Ok(0.0) };
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let pids = children.split_whitespace().map(str::to_owned).chain([pid.to_string()]);
    pids.map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name, in parentheses, may have spaces. User and system time are fields 14 and 15.
        let (_, rest) = stat.rsplit_once(") ").context("/proc has a line without a name")?;
        let ticks: f64 = rest.split(' ').skip(11).take(2).filter_map(|word| word.parse::<f64>().ok()).sum();
        Ok(ticks / TICKS)
    })
    .sum()
}

/// The seconds that the machine's processors worked, and that they waited.
fn busy_and_idle(sh: &Shell) -> Result<(f64, f64)> {
    let line = cmd!(sh, "head -n 1 /proc/stat").quiet().read()?;
    let numbers: Vec<f64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    let idle: f64 = numbers.iter().skip(3).take(2).sum();
    Ok(((numbers.iter().take(8).sum::<f64>() - idle) / TICKS, idle / TICKS))
}
