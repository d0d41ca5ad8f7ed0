//! An origin that gives each connection 4 MB/s, as a CDN does: the one scenario where what counts is how many
//! connections are busy, and until when.

use anyhow::Result;
use provision_testbed::{BlockingOrigin, OriginConfig, Shape};

use super::result::Outcome;
use super::{Scenario, Stage};

/// Bytes per second for each connection.
const RATE: u64 = 4_000_000;
/// Both programs are allowed that many.
const CONNECTIONS: u64 = 64;

pub(super) fn run(stage: &Stage<'_>) -> Result<Outcome> {
    let config = OriginConfig { shape: Shape::rate(RATE), threads: 2, ..OriginConfig::default() };
    let origin = BlockingOrigin::start(config)?;
    for (path, content) in &stage.set.files {
        origin.put(&format!("/{path}"), content.clone());
    }
    let measurements = stage.compete(&format!("http://{}", origin.addr()))?;
    origin.stop();
    let ideal = stage.set.total() as f64 / (RATE * CONNECTIONS) as f64;
    let setting = format!("{} MB/s for each connection, {CONNECTIONS} connections allowed", RATE / 1_000_000);
    Ok(Outcome::new(Scenario::Capped, stage, setting, Some(ideal), measurements))
}
