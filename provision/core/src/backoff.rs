//! Retry policy: the delay after a failure, and the headers that overrule it.
//!
//! Exponential backoff with full jitter (Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015): the
//! delay after the n-th failure in a row is uniform in `0..min(longest, base × 2ⁿ⁻¹)`. `Retry-After` and `RateLimit`
//! overrule it up to a cap, [`RetryPolicy::longest_asked`]: a header cannot stop a run for ten years.
//!
//! Nothing here sleeps or reads a clock; the caller passes the random number and the wall time.

use std::time::{Duration, SystemTime};

/// Delays between attempts, and the failures and the time that end a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Failures in a row, without progress, that end a source.
    pub retries: u32,
    /// The time without progress that must pass, too, before a source ends. A container starts before its network does.
    pub give_up_after: Duration,
    /// The upper bound of the first delay.
    pub base: Duration,
    /// The upper bound of every delay that no header asked for.
    pub longest: Duration,
    /// The longest wait that `Retry-After` or `RateLimit` can ask for. The Hub's windows are five minutes.
    pub longest_asked: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            retries: 5,
            give_up_after: Duration::ZERO,
            base: Duration::from_millis(500),
            longest: Duration::from_secs(10),
            longest_asked: Duration::from_mins(5),
        }
    }
}

impl RetryPolicy {
    /// The delay after `failures` in a row (1 is the first), of which the first was `row` ago. `random` is uniform in
    /// `0.0..1.0`; `asked` is the wait that the origin asks for. Jitter only lengthens it, by up to a tenth, so that
    /// many clients with the same answer do not return at the same moment. Any other wait ends with
    /// [`Self::give_up_after`], so that the last attempt is made then.
    pub fn delay(&self, failures: u32, row: Duration, random: f64, asked: Option<Duration>) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let bound = self.base.saturating_mul(1 << doublings).min(self.longest);
        let jittered = bound.mul_f64(random);
        let left = Some(self.left(row)).filter(|left| !left.is_zero());
        match asked {
            Some(asked) => asked.min(self.longest_asked).mul_f64(1.0 + random / 10.0).max(jittered),
            None => left.map_or(jittered, |left| jittered.min(left)),
        }
    }

    /// The rest of the time that a source is asked in any case, `row` after the first failure in a row.
    pub fn left(&self, row: Duration) -> Duration {
        self.give_up_after.saturating_sub(row)
    }

    /// Counts a failure at `now` of a request that `began` earlier. Returns the wait before the next attempt; `None` if
    /// the source ends.
    pub fn after(
        &self,
        row: &mut FailureRow,
        (began, now): (Duration, Duration),
        random: f64,
        asked: Option<Duration>,
    ) -> Option<Duration> {
        let lasted = row.add(began, now);
        (!self.is_spent(row.failures, lasted)).then(|| self.delay(row.failures, lasted, random, asked))
    }

    /// Returns true if that many failures in a row, of which the first was `row` ago, end a source.
    pub fn is_spent(&self, failures: u32, row: Duration) -> bool {
        failures >= self.retries.max(1) && row >= self.give_up_after
    }
}

/// Failures in a row of one source, on any clock that the caller reads.
#[derive(Debug, Clone, Copy, Default)]
pub struct FailureRow {
    /// Their number.
    pub failures: u32,
    since: Option<Duration>,
}

impl FailureRow {
    /// Counts a failure at `now` of a request that `began` earlier. Returns the time since the first one began.
    fn add(&mut self, began: Duration, now: Duration) -> Duration {
        self.failures += 1;
        self.since.get_or_insert(began);
        self.lasted(now)
    }

    /// The time since the first one began.
    pub fn lasted(&self, now: Duration) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }
}

/// The longest wait that a header can ask for: a century. A longer one would leave the range of dates and clocks (fault
/// 110).
pub const LONGEST_REQUEST: Duration = Duration::from_hours(36_525 * 24);

/// The wait that a `Retry-After` value asks for (RFC 9110 section 10.2.3): seconds, or an HTTP date that is compared
/// with `now`. `None` for garbage; a date in the past is no wait. At most [`LONGEST_REQUEST`].
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // A number beyond u64 is a very long wait.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)).min(LONGEST_REQUEST));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO).min(LONGEST_REQUEST))
}

/// The wait that a `RateLimit` value asks for (draft-ietf-httpapi-ratelimit-headers, as the Hub sends it):
/// `"resolvers";r=0;t=55` is 55 seconds. `None` while something remains, and for garbage. At most [`LONGEST_REQUEST`].
pub fn rate_limit(value: &str) -> Option<Duration> {
    value.split(',').filter_map(exhausted_for).max()
}

fn exhausted_for(policy: &str) -> Option<Duration> {
    let mut remaining = None;
    let mut seconds = None;
    for parameter in policy.split(';').skip(1) {
        match parameter.trim().split_once('=') {
            Some(("r", value)) => remaining = value.trim().parse::<u64>().ok(),
            Some(("t", value)) => seconds = value.trim().parse::<u64>().ok(),
            _ => {}
        }
    }
    (remaining? == 0).then_some(Duration::from_secs(seconds?).min(LONGEST_REQUEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn delays_double_up_to_the_longest_with_full_jitter() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.delay(1, Duration::ZERO, 0.0, None), Duration::ZERO);
        assert_eq!(policy.delay(1, Duration::ZERO, 1.0, None), SECOND / 2);
        assert_eq!(policy.delay(2, Duration::ZERO, 1.0, None), SECOND);
        assert_eq!(policy.delay(3, Duration::ZERO, 0.5, None), SECOND);
        assert_eq!(policy.delay(1000, Duration::ZERO, 1.0, None), policy.longest);
    }

    #[test]
    fn fault_32_retry_after_is_honoured_and_capped() {
        let policy = RetryPolicy::default();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        assert_eq!(retry_after("120", now), Some(120 * SECOND));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:37 GMT", now), Some(60 * SECOND));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:48:37 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("0", now), Some(Duration::ZERO));
        assert_eq!(policy.delay(1, SECOND, 0.0, Some(Duration::ZERO)), policy.delay(1, SECOND, 0.0, None));
        for garbage in ["", "soon", "-5", "1.5", "Sun, 99 Nov"] {
            assert_eq!(retry_after(garbage, now), None, "{garbage:?}");
        }
        let ten_years = retry_after("315360000", now);
        assert_eq!(policy.delay(1, Duration::ZERO, 0.0, ten_years), policy.longest_asked);
        assert_eq!(
            policy.delay(1, Duration::ZERO, 0.0, retry_after(&"9".repeat(40), now)),
            policy.longest_asked
        );
        assert!(policy.delay(1, Duration::ZERO, 0.0, Some(3 * SECOND)) >= 3 * SECOND);
    }

    #[test]
    fn the_hubs_rate_limit_is_understood() {
        assert_eq!(rate_limit(r#""resolvers";r=0;t=55"#), Some(55 * SECOND));
        assert_eq!(rate_limit(r#""resolvers";r=12;t=55"#), None);
        assert_eq!(rate_limit(r#""api";r=3;t=9, "resolvers";r=0;t=7"#), Some(7 * SECOND));
        assert_eq!(rate_limit("garbage;r=;t"), None);
    }

    #[test]
    fn five_failures_are_enough() {
        let policy = RetryPolicy::default();
        assert!(!policy.is_spent(4, SECOND));
        assert!(policy.is_spent(5, Duration::ZERO));
    }

    #[test]
    fn failures_and_time_both_have_to_pass() {
        let policy = RetryPolicy { give_up_after: 60 * SECOND, ..RetryPolicy::default() };
        assert!(!policy.is_spent(50, 59 * SECOND) && !policy.is_spent(4, 90 * SECOND));
        assert!(policy.is_spent(5, 60 * SECOND));
        let mut row = FailureRow::default();
        assert_eq!(row.add(SECOND, 2 * SECOND), SECOND);
        assert_eq!((row.add(3 * SECOND, 9 * SECOND), row.failures), (8 * SECOND, 2));
    }

    #[test]
    fn the_last_wait_ends_when_the_time_does() {
        let policy = RetryPolicy { give_up_after: 60 * SECOND, ..RetryPolicy::default() };
        assert_eq!(policy.delay(9, 58 * SECOND, 1.0, None), 2 * SECOND);
        assert_eq!(policy.delay(9, 70 * SECOND, 1.0, None), 10 * SECOND);
        assert!(policy.delay(9, 58 * SECOND, 1.0, Some(30 * SECOND)) >= 30 * SECOND);
    }
}
