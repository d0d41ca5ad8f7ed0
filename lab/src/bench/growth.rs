//! `growth`: the cost of more files with the same bytes, and the gain from more connections.

use anyhow::Result;

use super::file_set::{FileSet, counted};
use super::machine;
use super::origin::{CAP, Origin, OriginKind};
use super::report::{Check, Outcome};
use super::rounds::{Bench, alternate};

/// Bytes of each set of files, at the usual scale.
const TOTAL: u64 = 500_000_000;

/// The shortest time of a capped run, at the usual scale: each connection gets bytes for so long. A set of a fixed size
/// would take minutes over one connection, and be over before 256 are open.
const SECONDS: u64 = 3;

/// Fetches equal bytes in ever more files by the programs that verify, then takes equal time over ever more capped
/// connections by ours. The peers have no option for all their connections.
pub(super) fn run(bench: &Bench<'_>, outcome: &mut Outcome) -> Result<()> {
    let (total, for_each) = (bench.scale.of(TOTAL), bench.scale.of(SECONDS * CAP));
    machine::require_memory(bench.memory, (2 * total).max(256 * for_each))?;
    outcome.setting = format!(
        "{:.0} MB in files of equal size, {}; {:.0} MB for each allowed connection, {}; memory to memory",
        total as f64 / 1e6,
        OriginKind::Nginx.description(),
        for_each as f64 / 1e6,
        OriginKind::Capped.description()
    );
    for count in [1_u16, 10, 100, 1_000, 10_000] {
        let set = FileSet::equal(count.into(), (total / u64::from(count)).max(1));
        case(bench, &set, "file", count, None, outcome)?;
    }
    for number in (0..=8).map(|exponent| 1_u16 << exponent) {
        let set = FileSet::equal(4, for_each * u64::from(number) / 4);
        case(bench, &set, "connection", number, Some(number), outcome)?;
    }
    Ok(())
}

fn case(
    bench: &Bench<'_>,
    set: &FileSet,
    unit: &str,
    x: u16,
    connections: Option<u16>,
    outcome: &mut Outcome,
) -> Result<()> {
    let kind = if connections.is_some() { OriginKind::Capped } else { OriginKind::Nginx };
    let origin = Origin::start(bench.sh, kind, set, bench.memory)?;
    let destination = bench.memory.join("destination");
    let mut transfer = bench.transfer(set, &origin.base, &destination);
    transfer.connections = connections;
    let programs = bench.programs.iter().filter(|program| connections.is_none() || program.tool.is_own());
    let mut lanes = bench.lanes(transfer, programs);
    lanes.retain(|lane| lane.rows[0].check == Check::Itself);
    for row in lanes.iter_mut().flat_map(|lane| &mut lane.rows) {
        row.case = Some(counted(x.into(), unit));
        row.ideal_seconds = kind.rate(x.into()).map(|rate| set.total() as f64 / rate);
    }
    alternate(bench.rounds.clone(), lanes, outcome)
}
