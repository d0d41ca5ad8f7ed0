//! How many connections a host is worth: found by climbing, not configured.
//!
//! Start with two. While the total speed still grows with their number, double it; where it grows in full measure, each
//! connection is capped, and the next step is two doublings. When it does not grow, go back to the number that the
//! speed needed and stay, looking again now and then. A loopback or a fat pipe ends with a few connections, a
//! CDN that caps each connection ends at the ceiling, within a few round trips. A refusal (429, 503, a reset at
//! connect) is an answer too: that many and no more.
//!
//! Measured over windows that begin only once every allowed connection has received its first byte, and that are
//! at least two first-byte latencies long, so that a far host is not judged by its handshakes.

use std::time::Duration;

/// Connections at the start.
const START: usize = 2;
/// The shortest window.
const WINDOW: Duration = Duration::from_millis(60);
/// The longest window. Some hosts send a connection's share of a second in one lump, and a short window sees a lump or
/// none.
const LONGEST_WINDOW: Duration = Duration::from_secs(1);
/// The relative error of a speed with which it can be judged: well below what it must have grown by.
const ERROR: f64 = 0.12;
/// The longest wait for every connection to flow before measuring with those that do.
const PATIENCE: Duration = Duration::from_secs(2);
/// How much of the growth that more connections could bring must show for the climb to go on.
const WORTH: f64 = 0.35;
/// With this share of it, more connections are worth what they promise.
const IN_FULL: f64 = 0.8;
/// Refusals within this time are one refusal.
const THROTTLE_ONCE_IN: Duration = Duration::from_secs(1);
/// How long a speed is watched before it is said that it does not hold.
const WATCH: Duration = Duration::from_millis(500);
/// A hold rests on a speed; with less than this share of it, it rests on nothing.
const SHARE: f64 = 0.6;
/// The first pause before looking again: the first seconds of a run are the least like the others.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The first pause after a refusal.
const REFUSED: Duration = Duration::from_secs(8);
/// The longest pause.
const LOOK_AGAIN_AT_MOST: Duration = Duration::from_mins(1);

/// The connection count for one host.
#[derive(Debug, Clone)]
pub struct ConnectionRamp {
    ceiling: usize,
    target: usize,
    state: State,
    bytes: u64,
    latency: Duration,
    /// The last number that was measured and the speed that it gave.
    proven: Option<(usize, f64)>,
    pause: Duration,
    /// When it was last halved.
    halved: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Waiting for `target` connections to flow.
    Filling { since: Option<Duration> },
    /// Counting bytes.
    Measuring { since: Duration, connections: usize, samples: Samples },
    /// Staying, until it is time to look again; and watching whether the speed stays as well.
    Holding { until: Duration, since: Duration, bytes: u64 },
}

/// Bytes between ticks.
#[derive(Debug, Clone, Copy)]
struct Samples {
    /// Bytes in all when the last one was taken.
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

    /// The standard error of their mean, as a share of it.
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
    /// A climb that never goes above `ceiling`.
    pub fn new(ceiling: usize) -> Self {
        let ceiling = ceiling.max(1);
        Self {
            ceiling,
            target: START.min(ceiling),
            state: State::Filling { since: None },
            bytes: 0,
            latency: Duration::ZERO,
            proven: None,
            pause: LOOK_AGAIN,
            halved: None,
        }
    }

    /// How many connections are allowed now.
    pub fn target(&self) -> usize {
        self.target
    }

    /// How long this host takes from request to first byte, smoothed.
    pub fn latency(&self) -> Duration {
        self.latency
    }

    /// Bytes that have arrived.
    pub(super) fn received(&self) -> u64 {
        self.bytes
    }

    /// Bytes arrived.
    pub(super) fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// An answer's first byte arrived this long after its request.
    pub(super) fn first_byte(&mut self, after: Duration) {
        self.latency = if self.latency.is_zero() { after } else { (self.latency * 3 + after) / 4 };
    }

    /// The host asks for quiet: half the connections. Many refusals in a moment are one.
    pub(super) fn throttle(&mut self, now: Duration) {
        let moment = THROTTLE_ONCE_IN.max(self.latency * 4);
        if self.halved.is_none_or(|halved| now.saturating_sub(halved) >= moment) {
            self.halved = Some(now);
            self.back_off(now, self.target / 2);
        }
    }

    /// The host allows no more than `connections`: stay there for a while, the longer the oftener it happens.
    pub(super) fn back_off(&mut self, now: Duration, connections: usize) {
        let backed_off =
            matches!(self.state, State::Holding { until, .. } if until > now) && connections >= self.target;
        if backed_off {
            return;
        }
        self.target = connections.clamp(1, self.target);
        self.proven = None;
        self.pause = (self.pause * 2).clamp(REFUSED, LOOK_AGAIN_AT_MOST);
        self.stay(now);
    }

    fn stay(&mut self, now: Duration) {
        self.state = State::Holding { until: now + self.pause, since: now, bytes: self.bytes };
    }

    /// Lets time pass. `active` connections are open, `flowing` of them have received something; `starved` where
    /// there is nothing unclaimed to give to more of them.
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
            State::Holding { until, .. } if now >= until && !starved => self.look_again(),
            State::Holding { until, since, bytes } if now.saturating_sub(since) >= WATCH => {
                let speed = (self.bytes - bytes) as f64 / now.saturating_sub(since).as_secs_f64();
                if !starved && self.proven.is_some_and(|(_, proven)| speed < proven * SHARE) {
                    // Hosts send the first seconds' worth of an answer at once and then keep to their rate: what was
                    // measured was that, and this is the rate, of each connection most likely.
                    self.proven = Some((self.target, speed));
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
        if let Some((fewer, before)) = self.proven.filter(|(fewer, _)| *fewer < connections) {
            let possible = connections as f64 / fewer as f64 - 1.0;
            let growth = if before > 0.0 { speed / before - 1.0 } else { possible };
            if growth < WORTH * possible {
                // A doubling for each time that the speed grew by what one has to bring.
                let doublings = ((1.0 + growth.max(0.0)).log2() + 1.0 - (1.0 + WORTH).log2()).floor() as u32;
                self.target = (fewer << doublings).min(connections);
                return self.hold(now);
            }
            step = if growth >= IN_FULL * possible { 4 } else { 2 };
        }
        self.proven = Some((connections, speed));
        if self.target >= self.ceiling || connections < self.target {
            return self.hold(now);
        }
        self.target = (self.target * step).min(self.ceiling);
        self.state = State::Filling { since: None };
    }

    fn look_again(&mut self) {
        self.proven = None;
        self.state = State::Filling { since: None };
    }

    fn hold(&mut self, now: Duration) {
        self.stay(now);
        self.pause = (self.pause * 2).min(LOOK_AGAIN_AT_MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(10);

    /// Runs a climb against a host whose total speed is `total(connections)`; returns the counts after each second.
    fn climb(seconds: u64, latency: Duration, total: impl Fn(usize) -> f64) -> Vec<usize> {
        let mut climb = ConnectionRamp::new(64);
        climb.first_byte(latency);
        let mut counts = Vec::new();
        let mut now = Duration::ZERO;
        for step in 1..=seconds * 100 {
            now += STEP;
            let target = climb.target();
            climb.add((total(target) * STEP.as_secs_f64()) as u64);
            climb.tick(now, target, target, false);
            if step % 100 == 0 {
                counts.push(climb.target());
            }
        }
        counts
    }

    #[test]
    fn a_cap_for_each_connection_ends_at_the_ceiling_within_a_second() {
        let counts = climb(1, Duration::from_millis(5), |n| 4e6 * n as f64);
        assert_eq!(counts, [64]);
    }

    #[test]
    fn a_full_pipe_keeps_few_connections() {
        let counts = climb(60, Duration::from_millis(1), |_| 1e9);
        let few = counts.iter().filter(|n| **n <= 8).count();
        assert!(few >= 59, "{counts:?}");
    }

    #[test]
    fn a_host_that_begins_with_a_burst_is_looked_at_again_when_it_is_over() {
        let mut climb = ConnectionRamp::new(64);
        climb.first_byte(Duration::from_millis(2));
        let mut now = Duration::ZERO;
        let mut counts = Vec::new();
        for step in 1..=500 {
            now += STEP;
            let target = climb.target();
            // For a third of a second every answer is as fast as the wire.
            let total = if step < 33 { 9e8 } else { 4e6 * target as f64 };
            climb.add((total * STEP.as_secs_f64()) as u64);
            climb.tick(now, target, target, false);
            counts.push(climb.target());
        }
        assert!(counts[30] <= 8, "{}", counts[30]);
        assert!(counts[200..].iter().all(|n| *n == 64), "{counts:?}");
    }

    #[test]
    fn a_cap_that_comes_in_lumps_ends_at_the_ceiling_too() {
        for offset in 0..10 {
            let mut climb = ConnectionRamp::new(64);
            climb.first_byte(Duration::from_millis(2));
            let mut now = Duration::ZERO;
            for step in 1..=1200u64 {
                now += STEP;
                let target = climb.target();
                // Each connection gets 2 MB every half second, each at a moment of its own.
                let lumps = (0..target as u64).filter(|n| (step + n * 7 + offset) % 50 == 0).count();
                climb.add(lumps as u64 * 2_000_000);
                climb.tick(now, target, target, false);
            }
            assert_eq!(climb.target(), 64, "{offset}");
        }
    }

    #[test]
    fn a_pipe_that_fills_midway_ends_near_where_it_fills() {
        let counts = climb(20, Duration::from_millis(40), |n| (1e7 * n as f64).min(2.2e8));
        assert!(counts.iter().skip(2).all(|n| (16..=64).contains(n)), "{counts:?}");
    }

    #[test]
    fn fault_40_a_refusal_shrinks_and_is_remembered() {
        let mut climb = ConnectionRamp::new(64);
        climb.back_off(STEP, 2);
        assert_eq!(climb.target(), 2);
        climb.tick(STEP * 2, 2, 2, false);
        assert_eq!(climb.target(), 2);
        climb.back_off(STEP * 3, 0);
        assert_eq!(climb.target(), 1);
    }

    #[test]
    fn the_ceiling_is_never_passed() {
        for ceiling in [1, 2, 3, 5, 64] {
            let mut climb = ConnectionRamp::new(ceiling);
            let mut now = Duration::ZERO;
            for _ in 0..1000 {
                now += STEP;
                assert!(climb.target() <= ceiling);
                climb.add((climb.target() * 10_000) as u64);
                climb.tick(now, climb.target(), climb.target(), false);
            }
            assert_eq!(climb.target(), ceiling);
        }
    }
}
