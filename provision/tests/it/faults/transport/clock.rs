//! A wall clock that jumps by years during a fetch (fault 41).
//!
//! The system's clock is shared, so a child process gets a false one: this test program runs itself again, with a
//! library before the C library. At each call its wall clock is ten years ahead or behind, in turn; the monotonic
//! clock stays right.

use std::time::SystemTime;

use super::{SIZE, alone, fixture};
use crate::prelude::*;

const FALSE_CLOCK: &str = r"
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long jump(void) {
    static _Atomic unsigned asked;
    return asked++ % 2 ? 315360000L : -315360000L;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += jump();
    return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
    int failed = syscall(SYS_gettimeofday, now, zone);
    if (!failed && now) now->tv_sec += jump();
    return failed;
}
";

/// Compiles the false clock; `None` without a compiler.
fn build(directory: &Path) -> Option<PathBuf> {
    let (source, library) = (directory.join("clock.c"), directory.join("clock.so"));
    std::fs::write(&source, FALSE_CLOCK).unwrap();
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(&source)
        .output()
        .ok()?;
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some(library)
}

#[test]
fn fault_41_a_wall_clock_jump_changes_no_wait() {
    let directory = tempfile::tempdir().unwrap();
    let library = build(directory.path());
    if !needs("a C compiler", library.is_some()) {
        return;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "faults::transport::clock::under_a_clock_that_jumps",
        "--ignored",
        "--nocapture",
    ]);
    run(command.env("LD_PRELOAD", library.unwrap())).exits(0).out_has(&["1 passed"]);
}

#[test]
#[ignore = "run by fault_41 with a false clock"]
fn under_a_clock_that_jumps() {
    #[expect(clippy::disallowed_methods, reason = "whether it jumps is to be seen")]
    let looks = [SystemTime::now(), SystemTime::now()];
    let jumped = looks[1].duration_since(looks[0]).unwrap_or_else(|error| error.duration());
    assert!(jumped > Duration::from_hours(24 * 365), "the clock is not false: {jumped:?}");
    a_slow_body_is_no_stall();
    a_stall_ends_at_its_limit();
    a_retry_after_date_is_capped();
}

/// A slow origin: no limit strikes because the wall clock says that years have passed.
fn a_slow_body_is_no_stall() {
    let fixture = Fixture::with(&[("x", 1, SIZE)]);
    fixture.origin.shape(Shape { first_byte_delay: Duration::from_millis(400), ..Shape::rate(500_000) });
    let report = fixture.fetch_all();
    assert_eq!(report.files[0].retries, 0, "{}", fixture.events.text());
}

/// A stall ends at its limit: no wait is longer because the wall clock went back.
fn a_stall_ends_at_its_limit() {
    for fault in [Fault::Stall(100_000), Fault::NoAnswer] {
        let fixture = fixture(fault, When::First(2));
        within(8, || fixture.fetch_all());
    }
}

/// Retry-After may be a date, which only the wall clock can be compared with: the wait is capped even if that is wrong.
fn a_retry_after_date_is_capped() {
    for value in
        ["Fri, 01 Jan 2038 00:00:00 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", "Wed, 25 Nov 2026 12:00:00 GMT"]
    {
        let fault = Fault::RetryAfter { status: 503, value: value.to_owned() };
        let fixture = alone(fixture(fault, When::First(2)));
        let started = Instant::now();
        let report = fixture.fetch_all();
        assert_eq!(report.files[0].retries, 2);
        assert!(started.elapsed() < Duration::from_secs(5), "{value}: {:?}", started.elapsed());
    }
}
