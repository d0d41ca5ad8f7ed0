//! `Retry-After` and `RateLimit`: no header delays a retry without bound, and none makes it earlier than the backoff.
#![no_main]

use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use provision_core::backoff::{RetryPolicy, rate_limit, retry_after};
use provision_fuzz::{bounded, text};

fuzz_target!(|data: &[u8]| bounded(data, check));

/// An input is one byte for the random number, one for the failures, and then the header's value.
fn check(data: &[u8]) {
    let Some((&[random, failures], value)) = data.split_first_chunk::<2>() else { return };
    let value = text(value);
    let random = f64::from(random) / 256.0;
    let policy = RetryPolicy::default();
    let unasked = policy.delay(u32::from(failures), Duration::ZERO, random, None);
    assert!(unasked <= policy.longest);
    for now in [0, 784_111_777, u64::from(u32::MAX)] {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
        for asked in [retry_after(value, now), rate_limit(value)] {
            let delay = policy.delay(u32::from(failures), Duration::ZERO, random, asked);
            // Up to a tenth more, so that clients with the same header do not retry together.
            assert!(delay <= policy.longest_asked.mul_f64(1.1), "{delay:?}");
            assert!(
                delay >= unasked.min(delay) && delay >= asked.unwrap_or_default().min(policy.longest_asked)
            );
            assert!(asked.is_some() || delay == unasked, "garbage changes the delay");
        }
    }
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        let asked = retry_after(value, SystemTime::UNIX_EPOCH).expect("digits are seconds");
        // A number beyond 64 bits is very long, never short.
        let digits = value.trim_start_matches('0');
        assert_eq!(digits.len() > 9, asked >= Duration::from_secs(1_000_000_000), "{asked:?}");
    }
}
