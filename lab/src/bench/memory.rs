//! `memory`: the peak of ours for a small and a large set: it must not depend on the size.
//!
//! The origin makes the bytes when it sends them, so a file of 20 GB takes no room on its side. The capped one gives
//! each of its connections more than the other scenarios do: what is asked is what 64 connections at once hold in
//! memory, and at 4 MB/s the answer would take a minute and a half.

use anyhow::Result;
use provision_testbed::Shape;

use super::machine;
use super::origin::{self, CONNECTIONS};
use super::report::{Check, Outcome, Row};
use super::scenario::Scenario;
use super::set::Set;
use super::stage::Stage;
use super::tool::Job;

/// Bytes per second for each connection.
const CAP: u64 = 12_000_000;

pub(super) fn run(stage: &Stage<'_>) -> Result<Outcome> {
    let room = machine::room(stage.sh, stage.disk)?;
    let mut notes = Vec::new();
    let mut rows = Vec::new();
    for bytes in [stage.scale.of(1_000_000_000), stage.scale.of(20_000_000_000)] {
        let size = bytes.min(room);
        if size < bytes {
            notes.push(format!("{} GB instead of {}: the disk has no room for more", gb(size), gb(bytes)));
        }
        let set = Set::equal(1, size);
        for (shape, words) in [
            (Shape::default(), "no cap".to_owned()),
            (Shape::rate(CAP), format!("{CONNECTIONS} capped connections")),
        ] {
            let origin = origin::testbed(shape, &set)?;
            let destination = stage.disk.join("memory");
            let job = Job {
                set: &set,
                base: &format!("http://{}", origin.addr()),
                destination: &destination,
                folder: &stage.meter.folder,
                authority: None,
                connections: None,
            };
            let cost = stage.meter.run(&stage.ours.prepare(&job, true)?)?;
            set.check_sizes(&destination)?;
            stage.sh.remove_path(&destination)?;
            let mut row = Row::new(stage.ours.tool.name(), Check::Itself, (1, size), vec![cost]);
            row.case = Some(format!("{} GB, {words}", gb(size)));
            rows.push(row);
        }
    }
    let setting = "testbed, one file, onto a real disk; one round each".to_owned();
    Ok(Outcome::new(Scenario::Memory, setting, rows, notes))
}

fn gb(bytes: u64) -> String {
    format!("{}", (bytes as f64 / 1e7).round() / 100.0)
}
