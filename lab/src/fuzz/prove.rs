//! That a search can find something: a target with planted bugs must turn red.

#![expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::engine::{Engine, artifact, logged, read};

const NAME: &str = "planted";

/// Fails unless a bug behind four branches is found from nothing within `time`, and an input that hangs and one that
/// takes too much memory are reported.
pub(super) fn red(engine: &Engine, time: Duration) -> Result<()> {
    let at = Engine::directory(NAME);
    let empty = at.join("corpus");
    let _ = fs::remove_dir_all(&at);
    fs::create_dir_all(&empty).with_context(|| format!("making {empty}"))?;
    let log = at.join("log");
    let started = Instant::now();
    let mut search = engine.command(NAME)?;
    search.arg(format!("-max_total_time={}", time.as_secs())).arg("-max_len=64").arg(&empty);
    let status = logged(&mut search, &log)?;
    let said = read(&log)?;
    let input = artifact(&said).and_then(|input| fs::read(input).ok()).unwrap_or_default();
    ensure!(
        !status.success() && input.starts_with(b"bug!"),
        "the planted bug was NOT found within {} s; all that was said: {log}",
        time.as_secs()
    );
    println!("    a bug behind four branches: found after {:.1} s", started.elapsed().as_secs_f64());
    for (input, sign) in [("hang", "timeout"), ("memory", "bytes of memory")] {
        let path = at.join(input);
        fs::write(&path, input).with_context(|| format!("writing {path}"))?;
        let status = logged(engine.command(NAME)?.arg(&path), &log)?;
        let said = read(&log)?;
        ensure!(
            !status.success() && said.contains(sign),
            "{input:?} was NOT reported; all that was said: {log}"
        );
        println!("    {input}: reported");
    }
    Ok(())
}
