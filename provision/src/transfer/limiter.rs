//! One bandwidth for the whole run.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How far ahead of the rate a run may be: small enough to be smooth, large enough for a read.
const BURST: Duration = Duration::from_millis(100);

/// A token bucket that runs into debt: bytes are taken after they came, and the next reader waits until the rate has
/// caught up. So no read is ever split, and the average is exact.
#[derive(Debug)]
pub(super) struct Limiter {
    rate: Option<f64>,
    /// When everything taken so far will have been allowed.
    paid: Mutex<Instant>,
}

impl Limiter {
    pub(super) fn new(rate: Option<u64>) -> Self {
        Self { rate: rate.map(|rate| rate.max(1) as f64), paid: Mutex::new(Instant::now()) }
    }

    /// Takes `bytes` and returns how long to wait before reading on.
    pub(super) fn take(&self, bytes: usize) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        self.take_at(Instant::now(), rate, bytes)
    }

    fn take_at(&self, now: Instant, rate: f64, bytes: usize) -> Duration {
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        *paid = (*paid).max(earliest) + Duration::from_secs_f64(bytes as f64 / rate);
        paid.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_is_the_rate() {
        let limiter = Limiter::new(Some(1000));
        let start = Instant::now();
        let mut now = start;
        for _ in 0..100 {
            now += limiter.take_at(now, 1000.0, 500);
        }
        let seconds = (now - start).as_secs_f64();
        assert!((49.8..=50.1).contains(&seconds), "{seconds}");
    }

    #[test]
    fn without_a_rate_nobody_waits() {
        assert_eq!(Limiter::new(None).take(1 << 30), Duration::ZERO);
    }
}
