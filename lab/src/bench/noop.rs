//! `noop`: everything is there, and the marker says so. What a container pays at every start.

use anyhow::Result;
use camino::Utf8Path;
use xshell::cmd;

use super::measure::Measurement;
use super::report::{Check, Outcome, Row};
use super::scenario::Scenario;
use super::set::Set;
use super::stage::Stage;
use super::tool::{again, write_lock};
use crate::tools::programs::STRACE;

/// Of a few milliseconds, many are needed for a median worth its name.
const ROUNDS_FOR_ONE: u32 = 5;

/// Nobody listens there: a fetch that thinks it has to ask would fail.
const NOWHERE: &str = "http://127.0.0.1:9";

pub(super) fn run(stage: &Stage<'_>) -> Result<Outcome> {
    let mut notes = Vec::new();
    let mut rows = Vec::new();
    for (count, case) in [(4, "4 files"), (10_000, "10,000 files")] {
        let set = Set::equal(count, 1_000);
        let destination = stage.memory.join("noop");
        set.write(&destination)?;
        let lock = stage.meter.folder.join("models.lock");
        write_lock(&lock, &set, NOWHERE)?;
        let fetch = |options: &[&str]| again(&stage.ours.program, &lock, &destination, options);
        // The first one hashes, and leaves the marker; it may not ask anybody either.
        stage.meter.run(&fetch(&["--offline"]))?;
        let fetch = fetch(&[]);
        let Measurement { cpu_seconds, peak_bytes, .. } = stage.meter.run(&fetch)?;
        let mut rounds = Vec::new();
        for _ in 0..stage.rounds * ROUNDS_FOR_ONE {
            // Without GNU time between: starting that costs as much as what is measured.
            let wall_seconds = stage.meter.wall(&fetch)?;
            rounds.push(Measurement { wall_seconds, cpu_seconds, peak_bytes });
        }
        let size = (set.files.len(), set.total());
        let mut row = Row::new(stage.ours.tool.name(), Check::Itself, size, rounds);
        row.case = Some(case.to_owned());
        if STRACE.is_there(stage.sh) {
            row.sockets = Some(sockets(stage, &lock, &destination)?);
        }
        rows.push(row);
        stage.sh.remove_path(&destination)?;
    }
    if !STRACE.is_there(stage.sh) {
        notes.push("sockets were not counted: apt-get install strace".to_owned());
    }
    let setting = "everything is there and the marker says so; wall: from exec to exit".to_owned();
    Ok(Outcome::new(Scenario::Noop, setting, rows, notes))
}

/// How many sockets it opens.
fn sockets(stage: &Stage<'_>, lock: &Utf8Path, destination: &Utf8Path) -> Result<usize> {
    let calls = stage.meter.folder.join("strace");
    let fetch = again(&stage.ours.program, lock, destination, &[]);
    let (program, arguments) = (&fetch.program, &fetch.arguments);
    let command = cmd!(stage.sh, "strace -f -e trace=network -o {calls} {program} {arguments...}");
    command.quiet().ignore_stdout().ignore_stderr().env_clear().env("PATH", &stage.meter.path).run()?;
    Ok(count(&stage.sh.read_file(&calls)?))
}

fn count(calls: &str) -> usize {
    calls.lines().filter(|line| line.contains(" socket(")).count()
}

#[cfg(test)]
mod tests {
    #[test]
    fn sockets_are_counted_and_nothing_else() {
        let text = "7 socket(AF_INET, SOCK_STREAM, 0) = 3\n7 connect(3, {}) = 0\n8 socketpair(AF_UNIX) = 0\n7 +++ exited\n";
        assert_eq!(super::count(text), 1);
        assert_eq!(super::count("7 +++ exited with 0 +++\n"), 0);
    }
}
