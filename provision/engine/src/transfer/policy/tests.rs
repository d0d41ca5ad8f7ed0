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
        random: 0.5,
    }
}

fn wrong(policy: &mut FilePolicy) -> Decision {
    policy.wrong_digest(Sha256::of(b"lock"), Sha256::of(b"came"), None)
}

#[test]
fn fault_42_five_failures_in_a_row_end_the_only_source() {
    let mut policy = policy(1, false);
    for n in 1..5 {
        let decision = policy.request_failed(broken(), &at(n, 0));
        assert!(matches!(decision, Decision::Wait { failures, .. } if failures == n), "{decision:?}");
    }
    let decision = policy.request_failed(broken(), &at(5, 0));
    let Decision::Drain(Step::Fail(error)) = decision else { panic!("{decision:?}") };
    assert_eq!(error.attempts.len(), 1);
}

#[test]
fn a_byte_gained_starts_the_count_again_but_not_for_a_trickle() {
    let mut policy = policy(1, false);
    for n in 1..20 {
        assert!(matches!(
            policy.request_failed(broken(), &at(n, u64::from(n))),
            Decision::Wait { failures: 1, .. }
        ));
    }
    let mut policy = self::policy(1, false);
    let mut last = Decision::GoOn;
    for n in 1..=5 {
        last = policy.request_failed(stalled(), &at(n, u64::from(n)));
    }
    assert!(matches!(last, Decision::Drain(Step::Fail(_))), "{last:?}");
}

#[test]
fn connections_that_fail_together_fail_once() {
    let mut policy = policy(1, false);
    for _ in 0..64 {
        assert!(matches!(policy.request_failed(broken(), &at(1, 0)), Decision::Wait { failures: 1, .. }));
    }
}

#[test]
fn a_refusal_by_a_busy_host_is_excused_but_not_for_ever() {
    let mut policy = policy(1, false);
    let mut decide =
        |n: u32| policy.request_failed(broken(), &Circumstances { gained: 0, ..at(n, u64::from(n)) });
    assert!((1..=20).all(|n| matches!(decide(n), Decision::Wait { .. })));
    assert!((21..=30).any(|n| matches!(decide(n), Decision::Drain(Step::Fail(_)))));
}

#[test]
fn fault_39_a_kept_connection_that_closes_is_no_failure() {
    let served = Circumstances { served: true, ..at(1, 0) };
    assert!(matches!(policy(1, false).request_failed(broken(), &served), Decision::GoOn));
}

#[test]
fn fault_35_an_expired_signature_is_resolved_once() {
    let mut policy = policy(1, false);
    assert!(matches!(policy.request_failed(expired(), &at(2, 0)), Decision::Resolve));
    let earlier = Circumstances { began: SECOND, ..at(3, 0) };
    assert!(matches!(policy.request_failed(expired(), &earlier), Decision::GoOn));
    let decision = policy.request_failed(expired(), &at(4, 0));
    let Decision::Drain(Step::Fail(error)) = decision else { panic!("{decision:?}") };
    assert!(error.is_refusal());
}

#[test]
fn fault_25_mixed_bytes_are_fetched_again_before_any_blame() {
    let mut policy = policy(1, true);
    assert!(
        matches!(wrong(&mut policy), Decision::Drain(Step::StartOver { .. })),
        "resumed bytes may be to blame"
    );
    assert!(
        matches!(wrong(&mut policy), Decision::Drain(Step::StartOver { .. })),
        "one bit may flip on the way"
    );
    assert!(matches!(wrong(&mut policy), Decision::Drain(Step::Fail(_))));
}

#[test]
fn fault_26_all_sources_are_tried_and_named_in_the_failure() {
    let mut policy = policy(2, false);
    assert!(matches!(wrong(&mut policy), Decision::Drain(Step::NextSource { start_over: true, .. })));
    assert_eq!(policy.source().host(), "source1.example");
    assert!(matches!(wrong(&mut policy), Decision::Drain(Step::StartOver { .. })));
    let decision = wrong(&mut policy);
    let Decision::Drain(Step::Fail(error)) = decision else { panic!("{decision:?}") };
    assert!(error.is_integrity());
    assert!(error.reason().contains("source0.example") && error.reason().contains("source1.example"));
}

#[test]
fn fault_15_the_second_validator_change_leads_to_one_stream() {
    let changed = || RequestError::Response {
        url: "http://h/x".parse().unwrap(),
        error: ResponseError::Changed,
        prefix: provision_http::BodyPrefix::default(),
    };
    let mut policy = policy(1, false);
    assert!(matches!(policy.request_failed(changed(), &at(1, 0)), Decision::Drain(Step::StartOver { .. })));
    assert!(!policy.is_plain());
    assert!(matches!(policy.request_failed(changed(), &at(2, 0)), Decision::Drain(Step::StartOver { .. })));
    assert!(policy.is_plain());
}
