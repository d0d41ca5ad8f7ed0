//! [`ConnectionRamp`]: finds the number of connections that a host rewards.
//!
//! It starts with two. While the total speed grows with the number, the ramp doubles it. Where the speed grows in full
//! measure, the host caps each connection, and the next step is two doublings. When the speed does not grow, the ramp
//! returns to the number that the speed needed, and measures again from time to time. A loopback or a fast line ends
//! with a few connections; a CDN that caps each connection ends at the ceiling within a few round trips. A refusal
//! (429, 503, a reset at connect) sets the number that the host allows.
//!
//! A measurement begins once every allowed connection has received its first byte. It lasts at least two first-byte
//! latencies, so that handshakes do not count against a distant host.

use std::time::Duration;

/// Connections at the start.
const START: usize = 2;
/// The shortest window.
const WINDOW: Duration = Duration::from_millis(60);
/// The longest window. Some hosts send a connection's share of a second in one burst, which a short window misses.
const LONGEST_WINDOW: Duration = Duration::from_secs(1);
/// The relative error at which a speed is precise enough: well below the growth that counts.
const ERROR: f64 = 0.12;
/// The longest wait for every connection's first byte; then the ramp measures with those that have it.
const PATIENCE: Duration = Duration::from_secs(2);
/// The share of the possible growth that must show for a further step.
const WORTH: f64 = 0.35;
/// The share of the possible growth that counts as full.
const IN_FULL: f64 = 0.8;
/// Refusals within this time count as one.
const THROTTLE_ONCE_IN: Duration = Duration::from_secs(1);
/// The time over which a held speed is checked.
const WATCH: Duration = Duration::from_millis(500);
/// The share of a held speed below which the hold ends.
const SHARE: f64 = 0.6;
/// The first pause before a new measurement: the first seconds of a run are not typical.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The first pause after a refusal.
const REFUSED: Duration = Duration::from_secs(8);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// The connection count for one host.
#[derive(Debug, Clone)]
pub struct ConnectionRamp {
    ceiling: usize,
    target: usize,
    state: State,
    bytes: u64,
    latency: Duration,
    /// The last measured number and its speed.
    measured: Option<(usize, f64)>,
    pause: Duration,
    /// The time of the last halving.
    halved: Option<Duration>,
    /// It has found a number before.
    settled: bool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Waits for the first byte of `target` connections.
    Filling { since: Option<Duration> },
    /// Counts bytes.
    Measuring { since: Duration, connections: usize, samples: Samples },
    /// Keeps the number until `until`, and checks that the speed holds.
    Holding { until: Duration, since: Duration, bytes: u64 },
}

/// Bytes between ticks.
#[derive(Debug, Clone, Copy)]
struct Samples {
    /// The total of bytes at the last sample.
    seen: u64,
    count: f64,
    sum: f64,
    squares: f64,
}

impl Samples {
    fn from(seen: u64) -> Self {
        Self { seen, count: 0.0, sum: 0.0, squares: 0.0 }
    }

    fn take(&mut self, bytes: u64) {
        let sample = (bytes - self.seen) as f64;
        (self.seen, self.count) = (bytes, self.count + 1.0);
        (self.sum, self.squares) = (self.sum + sample, self.squares + sample * sample);
    }

    /// The standard error of the samples' mean, as a share of the mean.
    fn error(&self) -> f64 {
        let mean = self.sum / self.count;
        if mean <= 0.0 {
            return f64::INFINITY;
        }
        let variance = (self.squares / self.count - mean * mean).max(0.0);
        (variance / self.count).sqrt() / mean
    }
}

impl ConnectionRamp {
    /// A ramp that never exceeds `ceiling`.
    pub fn new(ceiling: usize) -> Self {
        let ceiling = ceiling.max(1);
        Self {
            ceiling,
            target: START.min(ceiling),
            state: State::Filling { since: None },
            bytes: 0,
            latency: Duration::ZERO,
            measured: None,
            pause: FIRST_PAUSE,
            halved: None,
            settled: false,
        }
    }

    /// The number of connections allowed now.
    pub fn target(&self) -> usize {
        self.target
    }

    /// The smoothed time from request to first byte.
    pub fn latency(&self) -> Duration {
        self.latency
    }

    /// The total of bytes received.
    pub(super) fn received(&self) -> u64 {
        self.bytes
    }

    /// Records received bytes.
    pub(super) fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Records the time from a request to its first byte.
    pub(super) fn first_byte(&mut self, after: Duration) {
        self.latency = if self.latency.is_zero() { after } else { (self.latency * 3 + after) / 4 };
    }

    /// The host asked for a pause: half the connections. Refusals within a moment count as one.
    pub(super) fn throttle(&mut self, now: Duration) {
        let moment = THROTTLE_ONCE_IN.max(self.latency * 4);
        if self.halved.is_none_or(|halved| now.saturating_sub(halved) >= moment) {
            self.halved = Some(now);
            self.back_off(now, self.target / 2);
        }
    }

    /// The host allows no more than `connections`: the ramp stays there, longer with each refusal.
    pub(super) fn back_off(&mut self, now: Duration, connections: usize) {
        let backed_off =
            matches!(self.state, State::Holding { until, .. } if until > now) && connections >= self.target;
        if backed_off {
            return;
        }
        self.target = connections.clamp(1, self.target);
        self.measured = None;
        self.pause = (self.pause * 2).clamp(REFUSED, LONGEST_PAUSE);
        self.stay(now);
    }

    /// True once it has found a number, from which it may depart again.
    pub(super) fn has_settled(&self) -> bool {
        self.settled
    }

    fn stay(&mut self, now: Duration) {
        self.settled = true;
        self.state = State::Holding { until: now + self.pause, since: now, bytes: self.bytes };
    }

    /// Advances the time. `active` connections are open and `flowing` of them have received bytes. `starved` is true if
    /// no unclaimed byte is left for more connections.
    pub(super) fn tick(&mut self, now: Duration, active: usize, flowing: usize, starved: bool) {
        match self.state {
            State::Filling { .. } if starved => self.state = State::Filling { since: None },
            State::Filling { since: None } if active > 0 => self.state = State::Filling { since: Some(now) },
            State::Filling { since: Some(since) } => {
                let waited = now.saturating_sub(since);
                if flowing >= self.target || (flowing > 0 && waited > PATIENCE.max(self.latency * 4)) {
                    let samples = Samples::from(self.bytes);
                    self.state = State::Measuring { since: now, connections: flowing, samples };
                }
            }
            State::Measuring { since, connections, mut samples } => {
                samples.take(self.bytes);
                self.state = State::Measuring { since, connections, samples };
                let elapsed = now.saturating_sub(since);
                let shortest = WINDOW.max((self.latency * 2).min(PATIENCE));
                if elapsed >= shortest
                    && (samples.error() <= ERROR || elapsed >= LONGEST_WINDOW.max(shortest))
                {
                    self.judge(now, connections, samples.sum / elapsed.as_secs_f64());
                }
            }
            State::Holding { until, .. } if now >= until && !starved => self.measure_again(),
            State::Holding { until, since, bytes } if now.saturating_sub(since) >= WATCH => {
                let speed = (self.bytes - bytes) as f64 / now.saturating_sub(since).as_secs_f64();
                if !starved && self.measured.is_some_and(|(_, measured)| speed < measured * SHARE) {
                    // Some hosts send the first seconds of a response at once and then keep to a rate, most likely one
                    // for each connection. The measurement saw the burst; this is the rate.
                    self.measured = Some((self.target, speed));
                    self.target = (self.target * 4).min(self.ceiling);
                    self.state = State::Filling { since: None };
                } else {
                    self.state = State::Holding { until, since: now, bytes: self.bytes };
                }
            }
            State::Filling { .. } | State::Holding { .. } => {}
        }
    }

    fn judge(&mut self, now: Duration, connections: usize, speed: f64) {
        let mut step = 2;
        if let Some((fewer, before)) = self.measured.filter(|(fewer, _)| *fewer < connections) {
            let possible = connections as f64 / fewer as f64 - 1.0;
            let growth = if before > 0.0 { speed / before - 1.0 } else { possible };
            if growth < WORTH * possible {
                // One doubling for each growth step that the speed showed.
                let doublings = ((1.0 + growth.max(0.0)).log2() + 1.0 - (1.0 + WORTH).log2()).floor() as u32;
                self.target = (fewer << doublings).min(connections);
                return self.hold(now);
            }
            step = if growth >= IN_FULL * possible { 4 } else { 2 };
        }
        self.measured = Some((connections, speed));
        if self.target >= self.ceiling || connections < self.target {
            return self.hold(now);
        }
        self.target = (self.target * step).min(self.ceiling);
        self.state = State::Filling { since: None };
    }

    fn measure_again(&mut self) {
        self.measured = None;
        self.state = State::Filling { since: None };
    }

    fn hold(&mut self, now: Duration) {
        self.stay(now);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(10);

    /// Runs a ramp against a host of total speed `total(connections)`; returns the count after each second.
    fn ramp(seconds: u64, latency: Duration, total: impl Fn(usize) -> f64) -> Vec<usize> {
        let mut ramp = ConnectionRamp::new(64);
        ramp.first_byte(latency);
        let mut counts = Vec::new();
        let mut now = Duration::ZERO;
        for step in 1..=seconds * 100 {
            now += STEP;
            let target = ramp.target();
            ramp.add((total(target) * STEP.as_secs_f64()) as u64);
            ramp.tick(now, target, target, false);
            if step % 100 == 0 {
                counts.push(ramp.target());
            }
        }
        counts
    }

    #[test]
    fn a_cap_on_each_connection_ends_at_the_ceiling_in_a_second() {
        let counts = ramp(1, Duration::from_millis(5), |n| 4e6 * n as f64);
        assert_eq!(counts, [64]);
    }

    #[test]
    fn a_full_pipe_keeps_few_connections() {
        let counts = ramp(60, Duration::from_millis(1), |_| 1e9);
        let few = counts.iter().filter(|n| **n <= 8).count();
        assert!(few >= 59, "{counts:?}");
    }

    #[test]
    fn a_host_with_an_initial_burst_is_measured_again_after_it() {
        let mut ramp = ConnectionRamp::new(64);
        ramp.first_byte(Duration::from_millis(2));
        let mut now = Duration::ZERO;
        let mut counts = Vec::new();
        for step in 1..=500 {
            now += STEP;
            let target = ramp.target();
            // For a third of a second every answer is as fast as the wire.
            let total = if step < 33 { 9e8 } else { 4e6 * target as f64 };
            ramp.add((total * STEP.as_secs_f64()) as u64);
            ramp.tick(now, target, target, false);
            counts.push(ramp.target());
        }
        assert!(counts[30] <= 8, "{}", counts[30]);
        assert!(counts[200..].iter().all(|n| *n == 64), "{counts:?}");
    }

    #[test]
    fn a_cap_sent_in_bursts_ends_at_the_ceiling() {
        for offset in 0..10 {
            let mut ramp = ConnectionRamp::new(64);
            ramp.first_byte(Duration::from_millis(2));
            let mut now = Duration::ZERO;
            for step in 1..=1200u64 {
                now += STEP;
                let target = ramp.target();
                // Each connection gets 2 MB every half second, each at a moment of its own.
                let lumps = (0..target as u64).filter(|n| (step + n * 7 + offset) % 50 == 0).count();
                ramp.add(lumps as u64 * 2_000_000);
                ramp.tick(now, target, target, false);
            }
            assert_eq!(ramp.target(), 64, "{offset}");
        }
    }

    #[test]
    fn a_pipe_that_fills_midway_ends_near_where_it_fills() {
        let counts = ramp(20, Duration::from_millis(40), |n| (1e7 * n as f64).min(2.2e8));
        assert!(counts.iter().skip(2).all(|n| (16..=64).contains(n)), "{counts:?}");
    }

    #[test]
    fn fault_40_a_refusal_shrinks_and_is_remembered() {
        let mut ramp = ConnectionRamp::new(64);
        ramp.back_off(STEP, 2);
        assert_eq!(ramp.target(), 2);
        ramp.tick(STEP * 2, 2, 2, false);
        assert_eq!(ramp.target(), 2);
        ramp.back_off(STEP * 3, 0);
        assert_eq!(ramp.target(), 1);
    }

    #[test]
    fn the_ceiling_is_never_passed() {
        for ceiling in [1, 2, 3, 5, 64] {
            let mut ramp = ConnectionRamp::new(ceiling);
            let mut now = Duration::ZERO;
            for _ in 0..1000 {
                now += STEP;
                assert!(ramp.target() <= ceiling);
                ramp.add((ramp.target() * 10_000) as u64);
                ramp.tick(now, ramp.target(), ramp.target(), false);
            }
            assert_eq!(ramp.target(), ceiling);
        }
    }
}
