//! Wrong pieces against simulated sources: who is blamed, and how much is fetched again.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::transfer::provenance::Senders;
use provision_core::byte_range::ByteRange;
use provision_disk::WrongPiece;

/// A piece that came as `found`.
fn came(index: usize, found: &str) -> WrongPiece {
    let range = ByteRange::new(4 << 20, 8 << 20);
    WrongPiece { index, range, expected: Sha256::of(b"list"), found: Sha256::of(found.as_bytes()) }
}

/// The step after `senders` sent a piece, each in its own way.
fn judge(policy: &mut FilePolicy, piece: usize, senders: &Senders) -> PieceStep {
    policy.wrong_piece(&came(piece, &format!("{senders:?}")), None, senders, SECOND).1
}

fn from(sources: &[usize]) -> Senders {
    Senders { sources: sources.iter().map(|source| (*source, 1)).collect(), unknown: 0 }
}

fn with_pieces(sources: usize) -> FilePolicy {
    let mut policy = policy(sources, false);
    policy.with_pieces();
    policy
}

#[test]
fn the_only_source_may_send_a_piece_wrong_once() {
    let mut policy = with_pieces(1);
    for piece in 0..100 {
        assert!(matches!(judge(&mut policy, piece, &from(&[0])), PieceStep::Again));
    }
    let step = judge(&mut policy, 7, &from(&[0]));
    let PieceStep::Decide(Decision::Drain(Step::Fail(error))) = step else { panic!("{step:?}") };
    assert!(error.is_integrity() && !error.condemns_bytes());
    let text = error.to_string();
    assert!(text.contains("http://source0.example/x: bytes 4194304 to 8388607 have SHA-256 "), "{text}");
    assert!(text.contains(", the piece list says "), "{text}");
}

#[test]
fn bytes_from_before_the_run_are_no_sources_fault_and_come_to_an_end() {
    let mut policy = with_pieces(2);
    let senders = Senders { unknown: 5, ..from(&[0]) };
    assert!(matches!(judge(&mut policy, 0, &senders), PieceStep::Again));
    assert!(!policy.has_ended(0));
    let is_end = |step| matches!(step, PieceStep::Decide(Decision::Drain(Step::Fail(_))));
    assert!((0..10).any(|_| is_end(judge(&mut policy, 0, &senders))), "it never ends");
}

#[test]
fn the_bytes_of_a_source_that_is_out_come_to_an_end() {
    let mut policy = with_pieces(2);
    assert!(matches!(judge(&mut policy, 0, &from(&[1])), PieceStep::EndCompanion(1)));
    let is_end = |step| matches!(step, PieceStep::Decide(Decision::Drain(Step::Fail(_))));
    assert!((0..10).any(|_| is_end(judge(&mut policy, 0, &from(&[1])))), "it never ends");
}

#[test]
fn two_sources_that_both_lie_are_both_named_once() {
    // Each its own way, or both with the same bytes: then the list may be wrong, and nobody is asked twice.
    for (founds, agree) in [(["b", "a", "c"], false), (["b", "b", ""], true)] {
        let mut policy = with_pieces(2);
        let mut sent = |at: usize, from_source| {
            policy.wrong_piece(&came(0, founds[at]), None, &from(&[from_source]), SECOND).1
        };
        let step = sent(0, 1);
        assert!(matches!(step, PieceStep::EndCompanion(1)), "{step:?}");
        assert!(agree || matches!(sent(1, 0), PieceStep::Again));
        let step = sent(if agree { 1 } else { 2 }, 0);
        let PieceStep::Decide(Decision::Drain(Step::Fail(error))) = step else { panic!("{step:?}") };
        assert_eq!(error.attempts.len(), 2);
        let text = error.to_string();
        assert_eq!(text.matches("source0").count(), 1, "{text}");
        assert_eq!(text.matches("`provision lock check --pieces`").count(), usize::from(agree), "{text}");
        assert!(error.is_integrity());
    }
}

#[test]
fn a_wrong_lead_hands_over_without_starting_over() {
    let mut policy = with_pieces(2);
    let step = judge(&mut policy, 0, &from(&[0]));
    let PieceStep::Decide(Decision::Drain(Step::NextSource(moved))) = step else { panic!("{step:?}") };
    assert!(!moved.start_over && !moved.for_now);
    assert_eq!(policy.position(), 1);
    // What it had sent before is fetched again, and is nobody else's fault.
    assert!(matches!(judge(&mut policy, 1, &from(&[0])), PieceStep::Again));
}

#[test]
fn a_mixture_that_is_wrong_twice_is_read_by_the_lead_alone() {
    let mut policy = with_pieces(2);
    assert!(matches!(judge(&mut policy, 0, &from(&[0, 1])), PieceStep::Again));
    let step = judge(&mut policy, 0, &from(&[0, 1]));
    assert!(matches!(step, PieceStep::Decide(Decision::Drain(Step::Restart))), "{step:?}");
    assert!(policy.companions(SECOND, true).is_empty());
    let mut times = 2;
    loop {
        times += 1;
        match judge(&mut policy, 0, &from(&[0, 1])) {
            PieceStep::Again => assert!(times < 10, "it never ends"),
            step => {
                assert!(matches!(step, PieceStep::Decide(Decision::Drain(Step::Fail(_)))), "{step:?}");
                break;
            }
        }
    }
}

/// The pieces that a source sends wrong.
#[derive(Debug, Clone, Copy)]
enum Lie {
    None,
    One(usize),
    EverySecond(usize),
    /// Once, in transit.
    Flip(usize),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn an_honest_source_ends_the_file_and_only_wrong_pieces_are_fetched_again(
        lies in prop::collection::vec(
            prop_oneof![
                Just(Lie::None),
                (0usize..40).prop_map(Lie::One),
                (0usize..2).prop_map(Lie::EverySecond),
                (0usize..40).prop_map(Lie::Flip),
            ],
            1..5,
        ),
        pieces in 1usize..40,
        seed in any::<u64>(),
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut policy = with_pieces(lies.len());
        let (mut left, mut flips): (Vec<usize>, Vec<bool>) = ((0..pieces).collect(), vec![true; lies.len()]);
        let (mut wrong, mut fetched, mut is_failed) = (0, 0, false);
        let mut times: BTreeMap<usize, usize> = BTreeMap::new();
        while !left.is_empty() && !is_failed {
            let piece = left.swap_remove(random.usize(0..left.len()));
            // A piece that was wrong is fetched by one claim, which fails midway now and then.
            let is_again = times.contains_key(&piece);
            let mut free = policy.companions(SECOND * 100, true);
            random.shuffle(&mut free);
            let beside = if random.u32(0..if is_again { 10 } else { 2 }) == 0 { free.len().min(2) } else { 0 };
            let mut senders: Vec<usize> = free[..beside].to_vec();
            if senders.is_empty() || random.bool() {
                senders.push(if random.bool() { policy.position() } else { *free.last().unwrap_or(&policy.position()) });
            }
            senders.sort_unstable();
            senders.dedup();
            fetched += 1;
            let lie = |source: &usize| match lies[*source] {
                Lie::None => false,
                Lie::One(at) => piece == at,
                Lie::EverySecond(odd) => piece % 2 == odd,
                Lie::Flip(at) => piece == at && flips[*source],
            };
            let liars: Vec<usize> = senders.iter().copied().filter(lie).collect();
            for source in &liars {
                flips[*source] = false;
            }
            if liars.is_empty() {
                continue;
            }
            wrong += 1;
            left.push(piece);
            *times.entry(piece).or_default() += 1;
            if let PieceStep::Decide(Decision::Drain(Step::Fail(error))) =
                judge(&mut policy, piece, &from(&senders))
            {
                prop_assert!(error.is_integrity());
                is_failed = true;
            }
            prop_assert!(times[&piece] <= 4 + 4 * lies.len(), "it never ends");
        }
        // A piece is fetched again only if it was wrong.
        prop_assert!(is_failed || fetched == pieces + wrong);
        for (source, lie) in lies.iter().enumerate() {
            if matches!(lie, Lie::None) {
                prop_assert!(!is_failed && !policy.has_ended(source), "an honest source is blamed for nothing");
            }
        }
    }
}
