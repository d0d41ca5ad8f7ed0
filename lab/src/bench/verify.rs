//! `verify`: four files hashed where they are, in memory, against the tools that everybody has, on all cores.

use anyhow::Result;

use super::checksum;
use super::measure::Measurement;
use super::report::{Check, Outcome, Row};
use super::scenario::Scenario;
use super::set::Set;
use super::stage::Stage;
use super::tool::{verify, write_lock};
use crate::tools::programs::OPENSSL;

pub(super) fn run(stage: &Stage<'_>) -> Result<Outcome> {
    let set = Set::equal(4, stage.scale.of(400_000_000));
    stage.require_memory(set.total())?;
    let place = stage.memory.join("verify");
    set.write(&place)?;
    let folder = &stage.meter.folder;
    let lock = folder.join("models.lock");
    write_lock(&lock, &set, "http://127.0.0.1:9")?;
    let mut lanes = vec![
        (stage.ours.tool.name(), verify(&stage.ours.program, &lock, &place), Vec::<Measurement>::new()),
        ("sha256sum", checksum::sha256sum(&set, &place, folder, stage.cores)?, Vec::new()),
    ];
    let mut notes = Vec::new();
    if OPENSSL.is_there(stage.sh) {
        lanes.push(("openssl dgst", checksum::openssl(&set, &place, folder, stage.cores)?, Vec::new()));
    } else {
        notes.push("openssl did not take part: apt-get install openssl".to_owned());
    }
    for round in u32::from(!stage.warm_up)..=stage.rounds {
        for (_, invocation, rounds) in &mut lanes {
            let cost = stage.meter.run(invocation)?;
            if round > 0 {
                rounds.push(cost);
            }
        }
    }
    stage.sh.remove_path(&place)?;
    let size = (set.files.len(), set.total());
    let rows =
        lanes.into_iter().map(|(name, _, rounds)| Row::new(name, Check::Itself, size, rounds)).collect();
    let setting = format!(
        "4 files of {:.0} MB in memory, hashed; each tool on {} cores",
        set.largest() as f64 / 1e6,
        stage.cores
    );
    Ok(Outcome::new(Scenario::Verify, setting, rows, notes))
}
