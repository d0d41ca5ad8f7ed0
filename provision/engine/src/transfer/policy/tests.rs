use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn policy(sources: usize, resumed: bool) -> FilePolicy {
    let sources = (0..sources).map(|n| format!("http://source{n}.example/x").parse().unwrap()).collect();
    FilePolicy::new(sources, RetryPolicy::default(), resumed, false)
}

fn broken() -> RequestError {
    RequestError::Transport { host: "h".into(), proxy: None, kind: TransportError::Broken }
}

fn stalled() -> RequestError {
    RequestError::Transport { host: "h".into(), proxy: None, kind: TransportError::Stalled(SECOND) }
}

fn expired() -> RequestError {
    RequestError::Refused {
        url: "http://cdn.example/x".parse().unwrap(),
        status: 403,
        code: None,
        message: None,
        advice: String::new(),
        with_login: false,
        resolved_earlier: true,
    }
}

/// A failure at `now` of a request made just before, when the file had gained `gained` bytes.
fn at(now: u32, gained: u64) -> Circumstances {
    let now = SECOND * now;
    Circumstances {
        now,
        began: now.saturating_sub(SECOND / 2),
        gained,
        served: false,
        answered: false,
        from_host: gained,
        row: None,
        random: 0.5,
    }
}

fn wrong(policy: &mut FilePolicy) -> Decision {
    policy.wrong_digest((Sha256::of(b"lock"), Sha256::of(b"came"), None), (false, false), SECOND)
}

/// The word for a decision.
fn next(decision: &Decision) -> &'static str {
    match decision {
        Decision::GoOn => "go on",
        Decision::Resolve => "resolve",
        Decision::Wait { .. } => "wait",
        Decision::Drain(Step::Restart) => "restart",
        Decision::Drain(Step::StartOver { .. }) => "start over",
        Decision::Drain(Step::NextSource(_)) => "next source",
        Decision::Drain(Step::Fail(_)) => "fail",
        Decision::Drain(Step::FailOnDisk(_)) => "fail at the disk",
    }
}

fn moved(decision: Decision) -> Box<Move> {
    let Decision::Drain(Step::NextSource(moved)) = decision else { panic!("{decision:?}") };
    moved
}

fn failed(decision: Decision) -> Box<FileError> {
    let Decision::Drain(Step::Fail(error)) = decision else { panic!("{decision:?}") };
    error
}

#[test]
fn fault_42_five_failures_in_a_row_end_the_only_source() {
    let mut policy = policy(1, false);
    for n in 1..5 {
        let decision = policy.request_failed(broken(), &at(n, 0));
        assert!(matches!(decision, Decision::Wait { failures, .. } if failures == n), "{decision:?}");
    }
    let error = failed(policy.request_failed(broken(), &at(5, 0)));
    assert_eq!(error.attempts.len(), 1);
}

#[test]
fn bytes_gained_start_the_count_again_but_not_a_trickle() {
    let mut policy = policy(1, false);
    for n in 1..20 {
        assert!(matches!(
            policy.request_failed(broken(), &at(n, u64::from(n) * LEAST_GAIN)),
            Decision::Wait { failures: 1, .. }
        ));
    }
    let mut policy = self::policy(1, false);
    let mut last = Decision::GoOn;
    for n in 1..=5 {
        last = policy.request_failed(stalled(), &at(n, u64::from(n)));
    }
    assert_eq!(next(&last), "fail");
}

#[test]
fn connections_that_fail_together_fail_once() {
    let mut policy = policy(1, false);
    for _ in 0..64 {
        assert!(matches!(policy.request_failed(broken(), &at(1, 0)), Decision::Wait { failures: 1, .. }));
    }
}

#[test]
fn a_refusal_is_excused_while_the_host_sends_other_files() {
    let mut policy = policy(1, false);
    let mut decide = |n: u32, from_host: u64| {
        policy.request_failed(broken(), &Circumstances { gained: 0, from_host, ..at(n, 0) })
    };
    assert!((1..=40).all(|n| matches!(decide(n, u64::from(n) * LEAST_GAIN), Decision::Wait { .. })));
    // Next to nothing does not count.
    assert!(
        (41..=45)
            .any(|n| matches!(decide(n, 40 * LEAST_GAIN + u64::from(n)), Decision::Drain(Step::Fail(_))))
    );
}

/// The policy of a fetch without options.
fn patient(sources: usize) -> FilePolicy {
    let retry = RetryPolicy { give_up_after: 60 * SECOND, ..RetryPolicy::default() };
    let sources = (0..sources).map(|n| format!("http://source{n}.example/x").parse().unwrap()).collect();
    FilePolicy::new(sources, retry, false, false)
}

fn busy(wait: Option<Duration>) -> RequestError {
    RequestError::Busy { url: "http://h/x".parse().unwrap(), status: 503, message: None, wait }
}

#[test]
fn fault_96_the_last_source_ends_by_failures_and_time() {
    let mut policy = patient(1);
    let mut last = 0;
    for second in 1..120 {
        match policy.request_failed(busy(None), &at(second, 0)) {
            Decision::Wait { wait, left, .. } => {
                assert!(wait <= 10 * SECOND && (left.is_zero() || wait <= left), "{wait:?} of {left:?}");
            }
            decision => {
                assert_eq!(next(&decision), "fail");
                last = second;
                break;
            }
        }
    }
    assert!((60..=61).contains(&last), "{last}");
}

#[test]
fn fault_96_another_source_is_asked_at_once_and_the_first_again() {
    let mut policy = patient(2);
    let first = moved(policy.request_failed(busy(None), &at(1, 0)));
    assert!(first.for_now && first.wait.is_zero() && !first.start_over, "{first:?}");
    assert_eq!(policy.source().host(), "source1.example");
    let second = moved(policy.request_failed(broken(), &at(2, 0)));
    assert!(second.for_now, "{second:?}");
    assert_eq!(policy.source().host(), "source0.example");
    // Bytes come, and then no more: the count begins again, and the source is asked once more before it is left.
    policy.progress(SECOND);
    let decision = policy.request_failed(broken(), &at(50, 1 << 20));
    assert!(matches!(decision, Decision::Wait { failures: 1, .. }), "{decision:?}");
    moved(policy.request_failed(broken(), &at(51, 1 << 20)));
    let end = (52..200).find_map(|second| match policy.request_failed(broken(), &at(second, 1 << 20)) {
        Decision::Drain(Step::Fail(error)) => Some((second, error.attempts.len())),
        _ => None,
    });
    assert!(matches!(end, Some((110..=112, 2))), "{end:?}");
}

#[test]
fn fault_97_a_source_that_asks_for_a_long_wait_is_asked_after_it() {
    let mut policy = patient(2);
    let moved = moved(policy.request_failed(busy(Some(100 * SECOND)), &at(1, 1 << 20)));
    assert!(moved.throttled.is_some_and(|wait| wait >= 100 * SECOND) && moved.wait.is_zero(), "{moved:?}");
    // The second one fails, too: it is the only one to ask until the first one's time comes.
    for second in (2..90).step_by(8) {
        assert_eq!(next(&policy.request_failed(broken(), &at(second, 1 << 20))), "wait");
    }
    assert_eq!(next(&policy.request_failed(broken(), &at(112, 1 << 20))), "next source");
    assert_eq!(policy.source().host(), "source0.example");
}

#[test]
fn a_source_that_has_ended_is_not_asked_again() {
    let mut policy = patient(2);
    let missing = RequestError::Missing {
        url: "http://h/x".parse().unwrap(),
        status: 404,
        code: None,
        message: None,
        advice: String::new(),
    };
    assert_eq!(next(&policy.request_failed(busy(None), &at(1, 0))), "next source");
    let moved = moved(policy.request_failed(missing, &at(2, 0)));
    assert!(!moved.for_now && policy.source().host() == "source0.example", "{moved:?}");
    let end = (3..100).find_map(|second| match policy.request_failed(busy(None), &at(second, 0)) {
        Decision::Drain(Step::Fail(error)) => Some(error),
        decision => {
            assert_eq!(next(&decision), "wait");
            None
        }
    });
    assert_eq!(end.unwrap().attempts.len(), 2);
}

#[test]
fn fault_39_a_kept_connection_that_closes_is_no_failure() {
    let served = Circumstances { served: true, ..at(1, 0) };
    assert_eq!(next(&policy(1, false).request_failed(broken(), &served)), "go on");
}

#[test]
fn fault_35_an_expired_signature_is_resolved_once() {
    let mut policy = policy(1, false);
    assert_eq!(next(&policy.request_failed(expired(), &at(2, 0))), "resolve");
    let earlier = Circumstances { began: SECOND, ..at(3, 0) };
    assert_eq!(next(&policy.request_failed(expired(), &earlier)), "go on");
    let error = failed(policy.request_failed(expired(), &at(4, 0)));
    assert!(error.is_refusal());
}

#[test]
fn fault_25_mixed_bytes_are_fetched_again_before_any_blame() {
    let mut policy = policy(1, true);
    assert_eq!(next(&wrong(&mut policy)), "start over", "resumed bytes may be to blame");
    assert_eq!(next(&wrong(&mut policy)), "start over", "one bit may flip on the way");
    assert_eq!(next(&wrong(&mut policy)), "fail");
}

#[test]
fn fault_26_all_sources_are_tried_and_named_in_the_failure() {
    let mut policy = policy(2, false);
    assert!(matches!(wrong(&mut policy), Decision::Drain(Step::NextSource(moved)) if moved.start_over));
    assert_eq!(policy.source().host(), "source1.example");
    assert_eq!(next(&wrong(&mut policy)), "start over");
    let error = failed(wrong(&mut policy));
    assert!(error.is_integrity());
    assert!(error.reason().contains("source0.example") && error.reason().contains("source1.example"));
}

#[test]
fn fault_95_wrong_bytes_under_two_validators_lead_to_one_stream() {
    let mut policy = policy(1, false);
    assert_eq!(
        next(&policy.wrong_digest((Sha256::of(b"lock"), Sha256::of(b"came"), None), (true, false), SECOND)),
        "start over"
    );
    assert!(policy.is_plain() && !policy.may_ask_ranges());
}

#[test]
fn fault_94_ranges_that_are_always_exceeded_lead_to_one_stream() {
    let mut policy = policy(1, false);
    assert_eq!(next(&policy.range_exceeded()), "go on");
    assert_eq!(next(&policy.range_exceeded()), "restart");
    assert!(policy.is_plain() && policy.may_ask_ranges());
}

#[test]
fn fault_98_a_silent_host_ends_files_that_only_wait_by_its_row() {
    let mut policy = patient(1);
    // One failure an hour, and answers in between.
    for hour in 1..20 {
        let now = 3600 * hour;
        let row = Some((1, SECOND * (now - 1)));
        let decision = policy.host_failed(stalled(), &Circumstances { row, ..at(now, 0) });
        assert!(matches!(decision, Decision::Wait { failures: 1, .. }), "{decision:?}");
    }
    let row = |failures, since| Some((failures, SECOND * since));
    let decision = policy.host_failed(stalled(), &Circumstances { row: row(5, 100_000), ..at(100_059, 0) });
    assert!(matches!(decision, Decision::Wait { failures: 5, .. }), "{decision:?}");
    assert_eq!(
        next(&policy.host_failed(stalled(), &Circumstances { row: row(6, 100_000), ..at(100_060, 0) })),
        "fail"
    );
}

#[test]
fn fault_97_the_file_returns_when_the_time_of_its_first_source_comes() {
    let mut policy = patient(2);
    policy.progress(SECOND);
    policy.request_failed(busy(Some(20 * SECOND)), &at(1, 1 << 20));
    policy.progress(SECOND);
    assert_eq!(next(&policy.range_was_exact(20 * SECOND)), "go on");
    let decision = policy.range_was_exact(30 * SECOND);
    assert_eq!(next(&decision), "next source");
    assert_eq!(policy.source().host(), "source0.example");
    // It fails at once: the next return takes longer.
    assert_eq!(next(&policy.request_failed(busy(None), &at(31, 9 << 20))), "next source");
    policy.progress(SECOND);
    assert_eq!(next(&policy.range_was_exact(45 * SECOND)), "go on");
    assert_eq!(next(&policy.range_was_exact(52 * SECOND)), "next source");
}

#[test]
fn wrong_bytes_end_a_file_whose_sources_take_turns() {
    let mut policy = patient(2);
    let passes = (0..100).find(|pass| {
        policy.request_failed(busy(Some(5 * SECOND)), &at(10 * pass + 1, 1 << 20));
        matches!(wrong(&mut policy), Decision::Drain(Step::Fail(_)))
    });
    assert!(passes.is_some_and(|passes| passes < 8), "{passes:?}");
}

#[test]
fn a_failure_after_wrong_bytes_does_not_mix_sources() {
    let mut policy = patient(2);
    policy.request_failed(busy(None), &at(1, 0));
    assert_eq!(next(&wrong(&mut policy)), "start over");
    assert_eq!(next(&policy.request_failed(busy(Some(5 * SECOND)), &at(9, 1 << 20))), "wait");
}

#[test]
fn fault_97_a_long_wait_counts_beside_another_failure() {
    let mut policy = patient(2);
    policy.progress(SECOND);
    assert_eq!(next(&policy.request_failed(broken(), &at(2, 1 << 20))), "wait");
    assert_eq!(next(&policy.request_failed(busy(Some(100 * SECOND)), &at(2, 1 << 20))), "next source");
}

#[test]
fn fault_94_a_range_that_is_exact_forgives_one_that_was_exceeded() {
    let mut policy = policy(1, false);
    for _ in 0..9 {
        assert_eq!(next(&policy.range_exceeded()), "go on");
        assert_eq!(next(&policy.range_was_exact(SECOND)), "go on");
    }
}

#[test]
fn sources_that_cut_each_range_after_many_bytes_are_not_given_up() {
    let mut policy = patient(2);
    for n in 1..100 {
        let decision = policy.request_failed(broken(), &at(10 * n, u64::from(n) << 24));
        assert!(!matches!(decision, Decision::Drain(Step::Fail(_))), "{n}: {decision:?}");
    }
}

#[test]
fn a_mirror_that_failed_long_ago_does_not_shorten_the_time() {
    let mut policy = patient(2);
    // The mirror fails once; then the first source works for 40 minutes.
    policy.request_failed(broken(), &at(1, 0));
    policy.request_failed(stalled(), &Circumstances { row: Some((1, SECOND)), ..at(2, 0) });
    policy.progress(SECOND * 2400);
    let end = (2401..2600).find(|second| {
        let row = Some((second - 2400, SECOND));
        let at = Circumstances { row, ..at(*second, 1 << 20) };
        matches!(policy.request_failed(stalled(), &at), Decision::Drain(Step::Fail(_)))
    });
    assert!(end.is_some_and(|second| second >= 2460), "{end:?}");
}

#[test]
fn the_best_of_three_sources_is_next() {
    let mut policy = patient(3);
    for second in [1, 2] {
        policy.request_failed(broken(), &at(second, 0));
    }
    assert_eq!(policy.source().host(), "source2.example");
    policy.request_failed(broken(), &at(3, 0));
    policy.progress(SECOND * 3);
    // The first source has failed twice, the second one once.
    policy.request_failed(broken(), &at(4, 0));
    let at_second = policy.source().host();
    assert_ne!(at_second, "source2.example");
}

mod pieces;
