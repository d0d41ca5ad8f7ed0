//! Scenarios without an origin: `noop`, where the marker says that everything is there, and files that are hashed in
//! place.

use anyhow::Result;

use super::checksum;
use super::file_set::{FileSet, counted};
use super::meter::Measurement;
use super::report::{Outcome, Row};
use super::rounds::{Bench, Lane, alternate};
use super::space;
use super::tool::{Check, Program};

/// Nothing listens there: a program that asked would fail.
const NO_ORIGIN: &str = "http://127.0.0.1:9";

/// Rounds of `noop` for one of the others: a median of a few milliseconds needs many.
const NOOP_ROUNDS: u32 = 5;

/// The cost of every start of a container.
pub(super) fn noop(bench: &Bench<'_>, outcome: &mut Outcome) -> Result<()> {
    outcome.setting = String::from("everything is there and the marker says so; wall: from exec to exit");
    let place = bench.memory.join("noop");
    for count in [4, 10_000] {
        let set = FileSet::equal(count, 1_000);
        let mut lanes: Vec<Lane<'_>> = Vec::new();
        for program in bench.own_programs() {
            let lock = program.write_lock(&bench.meter.folder, &set, NO_ORIGIN)?;
            // Each has a marker of its own.
            let destination = place.join(program.name);
            set.write(&destination)?;
            let fetch = program.fetch(&lock, &destination);
            bench.meter.run(program.fetch(&lock, &destination).arg("--offline"))?;
            let cost = bench.meter.run(&fetch)?;
            let mut row = Row::new(program.name, Check::Itself, set.total());
            row.case = Some(counted(set.0.len(), "file"));
            let turn =
                move |_| Ok(Measurement { wall_seconds: bench.meter.wall_seconds(&[], &fetch)?, ..cost });
            lanes.push((row, Box::new(turn)));
        }
        alternate(1..=NOOP_ROUNDS * bench.rounds.end(), lanes, outcome)?;
        bench.sh.remove_path(&place)?;
    }
    Ok(())
}

/// A set in memory, hashed by programs of ours and by common tools, each on all cores.
pub(super) fn verify(
    bench: &Bench<'_>,
    outcome: &mut Outcome,
    set: &FileSet,
    programs: &[Program],
) -> Result<()> {
    space::require(bench.memory, true, set.total())?;
    let place = bench.memory.join("verify");
    outcome.setting = format!("{} in memory; each tool on {} cores", set.description(), bench.cores);
    set.write(&place)?;
    let mut commands = Vec::new();
    for program in programs {
        let lock = program.write_lock(&bench.meter.folder.join(program.name), set, NO_ORIGIN)?;
        commands.push((program.name, program.own_command("verify", &lock, &place)));
    }
    commands.push(("sha256sum", checksum::sha256sum(bench, set, &place)?));
    commands.push(("openssl dgst", checksum::openssl(bench, set, &place)?));
    let lanes = commands.into_iter().map(|(name, command)| -> Lane<'_> {
        let row = Row::new(name, Check::Itself, set.total());
        (row, Box::new(move |_| bench.meter.run(&command)))
    });
    alternate(bench.rounds.clone(), lanes.collect(), outcome)?;
    Ok(bench.sh.remove_path(&place)?)
}
