//! The speed of an origin: rate, latency, connection limit.
//!
//! The rate is an allowance over a connection's life, `rate × time since accept`. It does not start again with each
//! request, as a real bottleneck would not. The arithmetic is pure; the connection sleeps.

use std::time::{Duration, Instant};

/// The speed and the limits of an origin. The default has no limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Body bytes per second for each connection, over its whole life.
    pub rate_per_connection: Option<u64>,
    /// The wait before the first byte of each answer.
    pub first_byte_delay: Duration,
    /// `(n, rate)`: every `n`-th connection (numbers `n - 1`, `2n - 1`, …) has this rate instead.
    pub every_nth_slow: Option<(usize, u64)>,
    /// The most connections that are served at once (fault 40).
    pub max_connections: Option<usize>,
    /// The treatment of connections above [`Shape::max_connections`].
    pub over_limit: OverLimit,
}

/// The treatment of a connection above the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverLimit {
    /// A reset on accept.
    #[default]
    Refuse,
    /// 503 to its first request, then FIN.
    Unavailable,
}

impl Shape {
    /// Only a rate for each connection.
    pub fn rate(bytes_per_second: u64) -> Self {
        Self { rate_per_connection: Some(bytes_per_second), ..Self::default() }
    }

    /// Only a limit of connections.
    pub fn at_most(connections: usize, over_limit: OverLimit) -> Self {
        Self { max_connections: Some(connections), over_limit, ..Self::default() }
    }

    /// The rate of connection number `connection`.
    pub(crate) fn rate_of(&self, connection: u64) -> Option<u64> {
        match self.every_nth_slow {
            Some((n, rate)) if n > 0 && (connection + 1).is_multiple_of(n as u64) => Some(rate),
            _ => self.rate_per_connection,
        }
    }
}

/// One connection's allowance.
#[derive(Debug)]
pub(crate) struct Pacer {
    rate: Option<u64>,
    since: Instant,
    sent: u64,
}

impl Pacer {
    pub(crate) fn new(rate: Option<u64>, accepted: Instant) -> Self {
        Self { rate, since: accepted, sent: 0 }
    }

    /// Sets the rate. A changed one counts from now.
    pub(crate) fn set_rate(&mut self, rate: Option<u64>, now: Instant) {
        if self.rate != rate {
            *self = Self::new(rate, now);
        }
    }

    /// The part of `wanted` that may be sent now, or the wait before the next call.
    ///
    /// A piece has the bytes of 20 ms at this rate, and at least 4 KiB. So the speed is smooth, and system calls stay
    /// few.
    pub(crate) fn allow(&self, wanted: usize, now: Instant) -> Result<usize, Duration> {
        let Some(rate) = self.rate else { return Ok(wanted) };
        let earned = (rate as f64 * (now - self.since).as_secs_f64()) as u64;
        let allowed = earned.saturating_sub(self.sent);
        let piece = (rate / 50).max(4096).min(wanted as u64);
        if allowed >= piece {
            return Ok(allowed.min(wanted as u64) as usize);
        }
        let longest = Duration::from_hours(1);
        if rate == 0 {
            return Err(longest);
        }
        let due = Duration::from_secs_f64(((self.sent + piece) as f64 / rate as f64).min(1e9));
        // A millisecond is the timer's grain.
        Err((self.since + due).saturating_duration_since(now).clamp(Duration::from_millis(1), longest))
    }

    pub(crate) fn sent(&mut self, bytes: u64) {
        self.sent += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allowance_grows_over_the_connections_life() {
        let start = Instant::now();
        let mut pacer = Pacer::new(Some(1_000_000), start);
        assert_eq!(pacer.allow(100_000, start), Err(Duration::from_millis(20)));
        assert_eq!(pacer.allow(100_000, start + Duration::from_millis(30)), Ok(30_000));
        pacer.sent(30_000);
        assert_eq!(pacer.allow(100_000, start + Duration::from_millis(30)), Err(Duration::from_millis(20)));
        assert_eq!(pacer.allow(10, start + Duration::from_millis(31)), Ok(10));
    }

    #[test]
    fn no_rate_means_no_wait_and_a_new_rate_counts_from_now() {
        let start = Instant::now();
        let mut pacer = Pacer::new(None, start);
        assert_eq!(pacer.allow(usize::MAX, start), Ok(usize::MAX));
        pacer.sent(u64::from(u32::MAX));
        pacer.set_rate(Some(5_000_000), start + Duration::from_secs(1));
        assert_eq!(pacer.allow(1 << 20, start + Duration::from_millis(1100)), Ok(500_000));
    }

    #[test]
    fn a_rate_of_zero_waits() {
        let start = Instant::now();
        assert_eq!(Pacer::new(Some(0), start).allow(1, start), Err(Duration::from_hours(1)));
    }

    #[test]
    fn every_nth_connection_is_slow() {
        let shape = Shape { every_nth_slow: Some((3, 10)), ..Shape::rate(100) };
        let rates: Vec<_> = (0..6).filter_map(|id| shape.rate_of(id)).collect();
        assert_eq!(rates, [100, 100, 10, 100, 100, 10]);
    }
}
