//! A polling wait for another process.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// Calls `probe` every 10 ms until it returns a value. `what` completes "timed out after N s waiting for …".
#[expect(clippy::disallowed_methods, reason = "another process sends no event that this one could wait for")]
pub(crate) fn until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        ensure!(started.elapsed() <= limit, "timed out after {} s waiting for {what}", limit.as_secs());
        std::thread::sleep(Duration::from_millis(10));
    }
}
