//! The limiter: one bandwidth for the whole run.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The backlog that a run may catch up after a pause: small for a smooth rate, large enough for one read.
const BURST: Duration = Duration::from_millis(100);

/// The expected bytes of a read before the first one.
const FIRST_GUESS: f64 = (64 << 10) as f64;

/// A queue of reads. Each read takes a turn *before* it starts and pays for the average read. Afterwards the difference
/// to its real bytes moves the next turn. So no read is split and the average rate is exact. Connections that start
/// together do not all read at once, and a file of a single read is not free.
#[derive(Debug)]
pub(super) struct Limiter {
    rate: Option<f64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The time at which the rate has covered every turn so far.
    paid: Instant,
    /// The smoothed bytes of a read.
    usual: f64,
}

/// A read's place in the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    /// The time from which it may read.
    pub(super) at: Instant,
    /// The bytes that it has paid for.
    bytes: f64,
}

impl Limiter {
    pub(super) fn new(rate: Option<u64>) -> Self {
        let state = State { paid: Instant::now(), usual: FIRST_GUESS };
        Self { rate: rate.map(|rate| rate.max(1) as f64), state: Mutex::new(state) }
    }

    /// The next place in the queue; `None` without a rate.
    pub(super) fn turn(&self) -> Option<Turn> {
        self.rate.map(|rate| self.turn_at(Instant::now(), rate))
    }

    /// Accounts for the real bytes of a read; 0 if it failed.
    pub(super) fn account_for(&self, turn: Turn, bytes: usize) {
        let Some(rate) = self.rate else { return };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = bytes as f64;
        let more = (bytes - turn.bytes) / rate;
        let difference = Duration::from_secs_f64(more.abs());
        state.paid = if more >= 0.0 {
            state.paid + difference
        } else {
            state.paid.checked_sub(difference).unwrap_or(state.paid)
        };
        if bytes > 0.0 {
            state.usual = (state.usual * 7.0 + bytes) / 8.0;
        }
    }

    fn turn_at(&self, now: Instant, rate: f64) -> Turn {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let bytes = state.usual;
        // The turn comes when the rate has covered this read, too.
        state.paid = state.paid.max(earliest) + Duration::from_secs_f64(bytes / rate);
        Turn { at: state.paid, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `reads` times on each of several connections, and returns how long that took.
    fn simulate(connections: usize, reads: usize, bytes: usize, rate: f64) -> f64 {
        let limiter = Limiter::new(Some(rate as u64));
        let start = Instant::now();
        let mut waiting: Vec<(Turn, usize)> =
            (0..connections).map(|_| (limiter.turn_at(start, rate), reads)).collect();
        let mut now = start;
        while let Some(next) = (0..waiting.len()).min_by_key(|at| waiting[*at].0.at) {
            let (turn, left) = waiting[next];
            now = now.max(turn.at);
            limiter.account_for(turn, bytes);
            if left == 1 {
                waiting.swap_remove(next);
            } else {
                waiting[next] = (limiter.turn_at(now, rate), left - 1);
            }
        }
        (now - start).as_secs_f64()
    }

    #[test]
    fn the_average_is_the_rate_for_any_read_size() {
        for (connections, reads, bytes) in
            [(1, 100, 500_000), (16, 50, 100_000), (64, 20, 400_000), (8, 400, 1000)]
        {
            let rate = 10e6;
            let expected = (connections * reads * bytes) as f64 / rate;
            let seconds = simulate(connections, reads, bytes, rate);
            // One round may have guessed wrong.
            let slack = connections as f64 * 400_000.0 / rate;
            assert!(
                (seconds - expected).abs() < 0.15 + slack,
                "{seconds} for {expected}: {connections}×{bytes}"
            );
        }
    }

    #[test]
    fn without_a_rate_no_read_waits() {
        assert!(Limiter::new(None).turn().is_none());
    }
}
