//! `growth`: what more files cost when the bytes stay the same, and what more connections bring.

use anyhow::Result;

use super::origin::{CAP, Kind, Origin};
use super::report::{Outcome, Row};
use super::scenario::Scenario;
use super::set::Set;
use super::stage::{Contender, Course, Stage};
use super::tool::Tool;

/// Bytes of each set of files, at the usual scale.
const TOTAL: u64 = 500_000_000;

/// For how long a capped run lasts at best, at the usual scale: each connection gets so much to do. A set of a fixed
/// size would take minutes on one connection and be over before 256 are open.
const SECONDS: u64 = 3;

pub(super) fn files(stage: &Stage<'_>) -> Result<Outcome> {
    let mut rows = Vec::new();
    let mut notes = Vec::new();
    let total = stage.scale.of(TOTAL);
    stage.require_memory(2 * total)?;
    for (count, case) in [
        (1, "1 file"),
        (10, "10 files"),
        (100, "100 files"),
        (1_000, "1,000 files"),
        (10_000, "10,000 files"),
    ] {
        let set = Set::equal(count, (total / count).max(1));
        let origin = Origin::start(stage.sh, Kind::Nginx, &set, stage.memory)?;
        let of_case = run(stage, &set, &origin, None, with_aria2(stage), &mut notes)?;
        rows.extend(of_case.into_iter().map(|row| Row {
            case: Some(case.to_owned()),
            x: Some(count as f64),
            ..row
        }));
    }
    let setting = format!(
        "{}; files of equal total size, {:.0} MB, by their number; memory to memory",
        Kind::Nginx.words(),
        total as f64 / 1e6
    );
    Ok(Outcome::new(Scenario::Growth, setting, rows, notes))
}

pub(super) fn connections(stage: &Stage<'_>) -> Result<Outcome> {
    let mut rows = Vec::new();
    let mut notes = Vec::new();
    let for_each = stage.scale.of(SECONDS * CAP);
    stage.require_memory(for_each * 256)?;
    for exponent in 0..=8 {
        let number = 1_u16 << exponent;
        let set = Set::equal(4, for_each * u64::from(number) / 4);
        let origin = Origin::start(stage.sh, Kind::Capped, &set, stage.memory)?;
        let ours = vec![Contender { found: &stage.ours, check: true }];
        let of_case = run(stage, &set, &origin, Some(number), ours, &mut notes)?;
        let ideal_seconds = Kind::Capped.speed(number.into()).map(|speed| set.total() as f64 / speed);
        let case = if number == 1 { "1 connection".to_owned() } else { format!("{number} connections") };
        rows.extend(of_case.into_iter().map(|row| Row {
            case: Some(case.clone()),
            x: Some(number.into()),
            ideal_seconds,
            ..row
        }));
    }
    let setting = format!(
        "{}; {:.0} MB for each connection that is allowed, by their number; memory to memory",
        Kind::Capped.words(),
        for_each as f64 / 1e6
    );
    Ok(Outcome::new(Scenario::Growth, setting, rows, notes))
}

fn run(
    stage: &Stage<'_>,
    set: &Set,
    origin: &Origin,
    connections: Option<u16>,
    contenders: Vec<Contender<'_>>,
    notes: &mut Vec<String>,
) -> Result<Vec<Row>> {
    let destination = stage.memory.join("destination");
    let course =
        Course { set, base: &origin.base, authority: origin.authority.as_deref(), destination, connections };
    let (rows, failures) = stage.compete(&course, contenders)?;
    notes.extend(failures);
    Ok(rows)
}

/// Ours and the most used of those that verify: curves of everybody would hide each other.
fn with_aria2<'a>(stage: &'a Stage<'_>) -> Vec<Contender<'a>> {
    let mut contenders = stage.verifiers();
    contenders.retain(|contender| matches!(contender.found.tool, Tool::Ours | Tool::Aria2c));
    contenders
}
