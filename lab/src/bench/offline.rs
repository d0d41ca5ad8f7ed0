//! Scenarios without an origin: `noop`, where the marker says that everything is there, and `verify`, where files are
//! hashed in place.

use std::fs;
use std::process::Command;

use anyhow::Result;

use super::checksum;
use super::file_set::{FileSet, counted};
use super::meter::Measurement;
use super::report::{Outcome, Row};
use super::rounds::{Bench, Lane, alternate};
use super::space;
use super::tool::{Check, write_lock};
use crate::tools::programs::STRACE;

/// Nothing listens there: a program that asked would fail.
const NO_ORIGIN: &str = "http://127.0.0.1:9";

/// Rounds of `noop` for one of the others: a median of a few milliseconds needs many.
const NOOP_ROUNDS: u32 = 5;

/// The cost of every start of a container.
pub(super) fn noop(bench: &Bench<'_>, outcome: &mut Outcome) -> Result<()> {
    outcome.setting = String::from("everything is there and the marker says so; wall: from exec to exit");
    let has_strace = STRACE.is_there(bench.sh);
    if !has_strace {
        outcome.notes.push("sockets were not counted: apt-get install strace".to_owned());
    }
    for count in [4, 10_000] {
        let set = FileSet::equal(count, 1_000);
        let lock = bench.meter.folder.join("models.lock");
        write_lock(&lock, &set, NO_ORIGIN)?;
        let mut lanes = Vec::new();
        for program in bench.own_programs() {
            // Each has a marker of its own.
            let destination = bench.memory.join("noop").join(program.name);
            set.write(&destination)?;
            let fetch = program.fetch(&lock, &destination);
            bench.meter.run(program.fetch(&lock, &destination).arg("--offline"))?;
            let cost = bench.meter.run(&fetch)?;
            let mut row = Row::new(program.name, Check::Itself, set.total());
            row.case = Some(counted(set.0.len(), "file"));
            row.sockets = if has_strace { Some(count_sockets(bench, &fetch)?) } else { None };
            lanes.push(Lane::new(row, move |_| {
                Ok(Measurement { wall_seconds: bench.meter.wall_seconds(&[], &fetch)?, ..cost })
            }));
        }
        alternate(1..=NOOP_ROUNDS * bench.rounds.end(), lanes, outcome)?;
        bench.sh.remove_path(bench.memory.join("noop"))?;
    }
    Ok(())
}

fn count_sockets(bench: &Bench<'_>, command: &Command) -> Result<usize> {
    let calls = bench.meter.folder.join("strace");
    let strace = ["strace", "-f", "-e", "trace=network", "-o", calls.as_str()];
    bench.meter.wall_seconds(&strace, command)?;
    Ok(socket_calls(&fs::read_to_string(&calls)?))
}

fn socket_calls(strace: &str) -> usize {
    strace.lines().filter(|line| line.contains(" socket(")).count()
}

/// Four files in memory, hashed by each tool on all cores.
pub(super) fn verify(bench: &Bench<'_>, outcome: &mut Outcome) -> Result<()> {
    let size = bench.scale.of(400_000_000);
    let set = FileSet::equal(4, size);
    space::require(bench.memory, true, set.total())?;
    let place = bench.memory.join("verify");
    outcome.setting =
        format!("4 files of {:.0} MB in memory; each tool on {} cores", size as f64 / 1e6, bench.cores);
    set.write(&place)?;
    let lock = bench.meter.folder.join("models.lock");
    write_lock(&lock, &set, NO_ORIGIN)?;
    let own =
        bench.own_programs().map(|program| (program.name, program.own_command("verify", &lock, &place)));
    let others = [
        ("sha256sum", checksum::sha256sum(bench, &set, &place)?),
        ("openssl dgst", checksum::openssl(bench, &set, &place)?),
    ];
    let lanes = own.chain(others).map(|(name, command)| {
        let row = Row::new(name, Check::Itself, set.total());
        Lane::new(row, move |_| bench.meter.run(&command))
    });
    alternate(bench.rounds.clone(), lanes.collect(), outcome)?;
    bench.sh.remove_path(&place)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_socket_calls_are_counted() {
        let text = "7 socket(AF_INET, SOCK_STREAM, 0) = 3\n7 connect(3, {}) = 0\n8 socketpair(AF_UNIX) = 0\n7 +++ exited\n";
        assert_eq!(super::socket_calls(text), 1);
        assert_eq!(super::socket_calls("7 +++ exited with 0 +++\n"), 0);
    }
}
