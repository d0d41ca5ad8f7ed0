//! Races: every program fetches one set from one origin. Most scenarios are races.

use anyhow::Result;

use super::file_set::FileSet;
use super::machine;
use super::origin::{CONNECTIONS, Origin, OriginKind};
use super::report::Outcome;
use super::rounds::{Bench, alternate};

/// The medium of the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Medium {
    Memory,
    Disk,
}

pub(super) fn run(
    bench: &Bench<'_>,
    kind: OriginKind,
    set: &FileSet,
    medium: Medium,
    outcome: &mut Outcome,
) -> Result<()> {
    let total = set.total();
    let (folder, copies, path) = match medium {
        Medium::Memory => (bench.memory, 2, "memory to memory"),
        Medium::Disk => {
            machine::require_disk(bench.disk, total)?;
            (bench.disk, 1, "from memory onto a disk (ours makes it durable with fsync, the peers do not)")
        }
    };
    machine::require_memory(bench.memory, copies * total)?;
    let rate = kind.rate(CONNECTIONS);
    outcome.ideal_seconds = rate.map(|rate| total as f64 / rate);
    outcome.setting = format!("{}; {}; {path}", kind.description(), set.description());
    // With one connection a file, the cap alone would decide the time.
    let (left_out, programs): (Vec<_>, Vec<_>) =
        bench.programs.iter().partition(|program| rate.is_some() && program.tool.is_unsegmented());
    for program in left_out {
        let name = program.tool.name();
        outcome
            .notes
            .push(format!("{name} did not take part: it has one connection a file, and each is capped"));
    }
    let origin = Origin::start(bench.sh, kind, set, bench.memory)?;
    let destination = folder.join("destination");
    let mut transfer = bench.transfer(set, &origin.base, &destination);
    transfer.authority = origin.authority.as_deref();
    alternate(bench.rounds.clone(), bench.lanes(transfer, programs), outcome)
}
