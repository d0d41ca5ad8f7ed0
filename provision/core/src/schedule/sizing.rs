//! Speeds of connections, and the claim lengths that follow from them.

use std::time::Duration;

/// The shortest claim in bytes, unless a file has less left. Shorter requests cost more than they carry.
pub const MIN_CLAIM: u64 = 1 << 20;

/// The shortest claim of a lane beside others, in bytes: a longer one would outlast two seconds of a slow connection.
pub(super) const LEAST_BESIDE: u64 = 128 << 10;

/// The least part of a split claim that is worth a request, in bytes.
const MIN_SPLIT: u64 = 128 << 10;

/// A rest of a split claim below which the owner keeps nothing, in bytes.
const SMALL_REST: f64 = 4096.0;

/// The length of a claim in seconds of its connection's time.
pub(super) const CLAIM_SECONDS: f64 = 2.0;

/// The least saving of a split: this time, and this share of the run so far. A split costs a connection and the bytes
/// that the origin had already sent. At the end of a long run a moment is not worth that.
const MIN_SAVING_SECONDS: f64 = 0.05;
const MIN_SAVING_SHARE: f64 = 0.01;

/// The share of the median speed below which a connection is replaced.
const CRAWL: f64 = 1.0 / 6.0;

/// The time before a connection can count as slow.
const CRAWL_AFTER: Duration = Duration::from_millis(1500);

/// The time over which a speed is measured.
const WINDOW: Duration = Duration::from_millis(100);

/// The length of the next claim: `CLAIM_SECONDS` at `rate`, and at least `least`. It is at most half of an even share
/// of the host's unclaimed bytes, so that claims get shorter towards the end.
pub(super) fn claim_len(rate: Option<f64>, gap: u64, unclaimed: u64, connections: usize, least: u64) -> u64 {
    let by_speed = rate.map_or(MIN_CLAIM, |rate| (rate * CLAIM_SECONDS) as u64);
    let fair = unclaimed / (2 * connections.max(1) as u64);
    let len = by_speed.min(fair).max(least);
    // A small rest would cost a request of its own.
    if gap < len + least / 2 { gap } else { len }
}

/// The share of a claim's last `left` bytes for another connection, so that both end together. The owner goes on at
/// `owner` bytes/s; the newcomer starts after `latency` seconds at `newcomer` bytes/s. `None` if the split saves too
/// little, `elapsed` seconds into the run.
pub(super) fn split(left: u64, owner: f64, newcomer: f64, latency: f64, elapsed: f64) -> Option<u64> {
    if newcomer <= 0.0 || left == 0 {
        return None;
    }
    let owner = owner.max(1.0);
    let alone = left as f64 / owner;
    let share = ((alone - latency) / (1.0 / newcomer + 1.0 / owner)).floor();
    if share < 1.0 {
        return None;
    }
    // A small rest goes to the newcomer, too: a stalled owner would never end it.
    let share = if left as f64 - share < SMALL_REST { left } else { share as u64 };
    let saved = alone - (latency + share as f64 / newcomer);
    let worth = share >= MIN_SPLIT || (share == left && alone > 1.0);
    (worth && saved >= MIN_SAVING_SECONDS.max(elapsed * MIN_SAVING_SHARE)).then_some(share)
}

/// Returns true if a connection is so slow that a new one would end the claim sooner.
pub(super) fn is_crawling(rate: f64, median: f64, left: u64, age: Duration, latency: Duration) -> bool {
    age > CRAWL_AFTER.max(latency * 4)
        && rate < median * CRAWL
        && left as f64 / rate.max(1.0) > 1.0 + 2.0 * (latency.as_secs_f64() + left as f64 / median)
}

/// Bytes per second of one connection, smoothed, over the time in which it had something to receive.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter {
    /// The last sample, while a response is being received.
    last: Option<Duration>,
    elapsed: Duration,
    bytes: u64,
    rate: Option<f64>,
}

impl Meter {
    /// A request was made, or its first byte arrived: the wait before it is latency, not speed.
    pub(super) fn start(&mut self, now: Duration) {
        self.last = Some(now);
    }

    /// The response ended.
    pub(super) fn stop(&mut self) {
        self.last = None;
    }

    pub(super) fn add(&mut self, now: Duration, bytes: u64) {
        let Some(last) = self.last.replace(now) else { return };
        self.elapsed += now.saturating_sub(last);
        self.bytes += bytes;
        if self.elapsed >= WINDOW && self.bytes > 0 {
            let seen = self.bytes as f64 / self.elapsed.as_secs_f64();
            self.rate = Some(self.rate.map_or(seen, |rate| rate.midpoint(seen)));
            (self.elapsed, self.bytes) = (Duration::ZERO, 0);
        }
    }

    /// The smoothed speed; before a whole window, the speed over at least a fifth of one.
    pub(super) fn rate(&self) -> Option<f64> {
        let early = || {
            (self.elapsed >= WINDOW / 5 && self.bytes > 0)
                .then(|| self.bytes as f64 / self.elapsed.as_secs_f64())
        };
        self.rate.or_else(early)
    }

    /// The current speed: the smoothed speed, lowered by a silence. A connection without a measurement counts as
    /// `usual`.
    pub(super) fn current_rate(&self, usual: f64) -> f64 {
        let seen = self.bytes as f64 / self.elapsed.as_secs_f64().max(0.001);
        let silent = self.elapsed > WINDOW * 5;
        match self.rate {
            Some(rate) if silent => rate.min(seen),
            Some(rate) => rate,
            None if silent => seen,
            None => usual,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_two_seconds_of_speed_until_the_end_comes_near() {
        assert_eq!(claim_len(None, 1 << 40, 1 << 40, 64, MIN_CLAIM), MIN_CLAIM);
        assert_eq!(claim_len(Some(4e6), 1 << 40, 1 << 40, 64, MIN_CLAIM), 8_000_000);
        assert_eq!(claim_len(Some(4e6), 1 << 40, 256 << 20, 64, MIN_CLAIM), 2 << 20);
        assert_eq!(claim_len(Some(4e6), 1 << 40, 1 << 20, 64, MIN_CLAIM), MIN_CLAIM);
        assert_eq!(claim_len(Some(4e6), 100, 1 << 40, 64, MIN_CLAIM), 100);
    }

    #[test]
    fn a_split_lets_both_end_together() {
        let share = split(10_000_000, 1e6, 1e6, 0.0, 0.0).unwrap();
        assert_eq!(share, 5_000_000);
        let share = split(10_000_000, 1e6, 9e6, 0.0, 0.0).unwrap();
        assert_eq!(share, 9_000_000);
        assert_eq!(split(10_000_000, 1e6, 1e6, 0.0, 600.0), None);
        assert_eq!(split(10_000, 1e6, 1e6, 0.0, 0.0), None);
        assert_eq!(split(1_000_000, 1e6, 1e6, 2.0, 0.0), None);
    }

    #[test]
    fn everything_is_taken_from_a_stalled_claim() {
        let share = split(1000, 0.0, 1e6, 0.1, 0.0).unwrap();
        assert_eq!(share, 1000);
    }
}
