//! `memory`: the peak memory of ours for a small and a large file. It must not depend on the size.
//!
//! The testbed generates the bytes while it sends them, so a file of 20 GB takes no room at the origin. The capped
//! origin gives more to each connection than in the other scenarios: at 4 MB/s, 64 connections would take 80 seconds.

use anyhow::Result;
use provision_testbed::Shape;

use super::file_set::FileSet;
use super::machine;
use super::origin::testbed;
use super::report::{Check, Metric, Outcome, Row};
use super::rounds::{Bench, Lane, alternate};

/// Bytes per second for each connection.
const CAP: u64 = 12_000_000;

pub(super) fn run(bench: &Bench<'_>, outcome: &mut Outcome) -> Result<()> {
    outcome.metric = Metric::PeakMemory;
    let cap = CAP / 1_000_000;
    outcome.setting = format!(
        "testbed, one file, onto a disk; capped: {cap} MB/s for each of 64 connections; one round each"
    );
    let room = machine::disk_room(bench.disk)?;
    for wanted in [1_000_000_000, 20_000_000_000].map(|usual| bench.scale.of(usual)) {
        let size = wanted.min(room);
        if size < wanted {
            let sizes = format!("{} instead of {}", gigabytes(size), gigabytes(wanted));
            outcome.notes.push(format!("{sizes}: the disk has no room for more"));
        }
        let set = FileSet::equal(1, size);
        for (shape, connections) in [(Shape::default(), "no cap"), (Shape::rate(CAP), "capped")] {
            let origin = testbed(shape, &set)?;
            let (base, destination) = (format!("http://{}", origin.addr()), bench.disk.join("destination"));
            let transfer = bench.transfer(&set, &base, &destination);
            let lanes = bench.own_programs().map(|program| {
                let case = format!("{}, {connections}", gigabytes(size));
                let row = Row { case: Some(case), ..Row::new(program.tool.name(), Check::Itself, &set) };
                Lane::new(row, move || {
                    let cost = bench.download(&transfer, program, true);
                    bench.sh.remove_path(transfer.destination)?;
                    cost
                })
            });
            alternate(1..=1, lanes.collect(), outcome)?;
        }
    }
    Ok(())
}

fn gigabytes(bytes: u64) -> String {
    format!("{} GB", (bytes as f64 / 1e7).round() / 100.0)
}
