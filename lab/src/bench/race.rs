//! A race: programs fetch one set from one origin, by turns. Most scenarios are races.

use std::fs::File;
use std::ops::RangeInclusive;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;
use provision_testbed::BlockingOrigin;

use super::checksum;
use super::file_set::FileSet;
use super::meter::Measurement;
use super::origin::{CONNECTIONS, Origin, OriginKind};
use super::report::{Metric, Outcome, Row};
use super::rounds::{Bench, Lane, alternate};
use super::space;
use super::tool::{Check, Program, Tool};

/// The limit for each step of a run that is killed.
const PATIENCE: Duration = Duration::from_mins(5);

/// One set, one origin and the programs that fetch it.
#[derive(Debug)]
pub(super) struct Race {
    pub(super) origin: OriginKind,
    pub(super) set: FileSet,
    /// The destination is on a disk, not in memory.
    pub(super) onto_disk: bool,
    pub(super) programs: Vec<Program>,
    /// Only downloads that the program verifies: the only ones whose kept bytes mean something after a kill.
    pub(super) is_verified: bool,
    pub(super) rounds: RangeInclusive<u32>,
    /// Distinguishes the races of a scenario.
    pub(super) case: Option<String>,
    /// The number of connections that ours may use, instead of its default. The peers have no such option.
    pub(super) connections: Option<u16>,
    /// `kill -9` when half of the set was sent, then a second run. The share that was sent twice is measured, too.
    pub(super) is_killed_at_half: bool,
}

impl Race {
    /// A race of all programs, memory to memory.
    pub(super) fn new(bench: &Bench<'_>, origin: OriginKind, set: FileSet) -> Self {
        Self {
            origin,
            set,
            onto_disk: false,
            programs: bench.programs.clone(),
            is_verified: false,
            rounds: bench.rounds.clone(),
            case: None,
            connections: None,
            is_killed_at_half: false,
        }
    }

    /// Runs all rounds and adds a row for each program and verification.
    pub(super) fn run(&self, bench: &Bench<'_>, outcome: &mut Outcome) -> Result<()> {
        let (set, total) = (&self.set, self.set.total());
        let copies = u64::from(self.origin.shape.is_none()) + u64::from(!self.onto_disk);
        space::require(bench.memory, true, copies * total)?;
        if self.onto_disk {
            space::require(bench.disk, false, total)?;
        }
        if outcome.setting.is_empty() {
            outcome.setting = self.setting();
        }
        let origin = &Origin::start(bench.sh, self.origin, set, bench.memory)?;
        let destination = &if self.onto_disk { bench.disk } else { bench.memory }.join("destination");
        let rate = self.origin.rate(self.connections.map_or(CONNECTIONS, u64::from));
        let ideal_seconds =
            rate.map(|rate| total as f64 / rate).filter(|_| outcome.metric == Metric::WallTime);
        let mut lanes: Vec<Lane<'_>> = Vec::new();
        for program in &self.programs {
            // With curl's one connection a file, the cap alone would decide the time.
            if rate.is_some() && program.tool == Tool::Curl && !self.is_verified {
                let reason = "it has one connection a file, and each is capped";
                outcome.notes.push(format!("{} did not take part: {reason}", program.name));
                continue;
            }
            let admits = |check: &&Check| !self.is_verified || **check == Check::Itself;
            for &check in program.checks().iter().filter(admits) {
                let folder = bench.meter.folder.join(format!("{} {check:?}", program.name));
                let mut command = program.download(bench.sh, origin, set, destination, check, &folder)?;
                if let Some(number) = self.connections.map(|number| number.to_string()) {
                    command.args(["--connections", &number, "--connections-per-host", &number]);
                }
                let row = Row::new(program.name, check, total);
                let row = Row { ideal_seconds, case: self.case.clone(), ..row };
                let turn = move |is_first| {
                    let cost = self.turn(bench, origin, destination, &command, check, is_first);
                    bench.sh.remove_path(destination)?;
                    cost
                };
                lanes.push((row, Box::new(turn)));
            }
        }
        alternate(self.rounds.clone(), lanes, outcome)
    }

    fn setting(&self) -> String {
        let path = if self.is_killed_at_half {
            "kill -9 at half, then the rest (wall: both runs, CPU and memory: the second)"
        } else if self.onto_disk {
            "from memory onto a disk (ours makes it durable with fsync, the peers do not)"
        } else {
            "memory to memory"
        };
        format!("{}; {}; {path}", self.origin.words, self.set.description())
    }

    /// One download. `sha256sum` checks the files of the first round, and those of a tool that is charged for it.
    fn turn(
        &self,
        bench: &Bench<'_>,
        origin: &Origin,
        destination: &Utf8Path,
        command: &Command,
        check: Check,
        is_first: bool,
    ) -> Result<Measurement> {
        self.set.create_directories(destination)?;
        // No round pays for what the one before it left to be written.
        rustix::fs::syncfs(File::open(destination)?)?;
        let cost = match origin.testbed.as_ref().filter(|_| self.is_killed_at_half) {
            Some(testbed) => interrupt_and_resume(bench, &self.set, command, testbed)?,
            None => bench.meter.run(command)?,
        };
        self.set.check_sizes(destination)?;
        if !is_first && check != Check::Afterwards {
            return Ok(cost);
        }
        let sums = checksum::sha256sum(bench, &self.set, destination)?;
        let sums = bench.meter.run(&sums).context("a downloaded file is wrong")?;
        Ok(if check == Check::Afterwards { cost.then(sums) } else { cost })
    }
}

/// Kills a run at half and starts it again. The origin counts what it sends in both runs; all beyond the size of the
/// set counts, also the bytes in flight at the kill.
fn interrupt_and_resume(
    bench: &Bench<'_>,
    set: &FileSet,
    command: &Command,
    testbed: &BlockingOrigin,
) -> Result<Measurement> {
    let quiet = || testbed.wait_for(PATIENCE, |counters| counters.connections_open == 0);
    let before = quiet()?.body_bytes_sent;
    let started = Instant::now();
    let mut child = bench.meter.spawn(&[], command)?;
    let half = testbed.wait_for(PATIENCE, |counters| counters.body_bytes_sent - before >= set.total() / 2);
    // In any case: a program that hangs must not stay.
    child.kill()?;
    let status = child.wait()?;
    half.context("the first run did not fetch half of the set")?;
    ensure!(!status.success(), "the first run ended before it was killed");
    let first = Measurement { wall_seconds: started.elapsed().as_secs_f64(), ..Measurement::default() };
    quiet()?;
    let cost = first.then(bench.meter.run(command)?);
    let again = (quiet()?.body_bytes_sent - before).saturating_sub(set.total());
    Ok(Measurement { fetched_again: Some(again as f64 / set.total() as f64), ..cost })
}
