//! A model check: two processes, three claims of one file, and every order of their steps, faults and losses.
//!
//! # Real and modelled
//! - [`search`] walks a *model*. [`disk`] is a disk in memory with a page cache, and [`model`] makes the system calls
//!   of `fetch`, `PartFile` and `Verified` one at a time. The real [`Schedule`](provision_core::schedule::Schedule)
//!   makes the claims, the real `journal` and `CrcRanges` keep the records, the real SHA-256 decides. The order of the
//!   calls is written a second time: the search checks that order, not the program's code.
//! - [`real`] runs the real [`PartFile`](crate::PartFile) in a real directory, so the order is the program's own. It
//!   tries fewer schedules: two owners, one fault, stopped between calls of `PartFile` and not within them. `cargo lab
//!   crash` tries a kill at each system call, and power cuts on real file systems.
//!
//! The model has no time: claims are not split for speed (the schedule's own tests do that), and a stalled claim is
//! one that is delivered last. The file has three claims. A claim is a page of four bytes on the model's disk and
//! [`MIN_CLAIM`](provision_core::schedule::MIN_CLAIM) bytes for the schedule.
//!
//! # The size of the search
//! Faults are counted, so the search is finite. Two reductions change no outcome: before either process has started,
//! the first one starts; and once no fault can happen, no journal is written. Without a lock, both processes work at
//! once, which squares the states: there a run has one checkpoint in one step, and no power cut. The searches with a
//! lock try those.
//!
//! # What holds in every state
//! - I1: the final name leads to the right bytes or to none. I2: no marker without its file. I3: the journal's durable
//!   ranges are in the part, after a power cut at any moment, too.
//! - No two claims overlap, no byte is written twice in a run, and with a lock no file is installed twice.
//! - Once faults end, every order of steps ends with file and marker in place.
//!
//! One test breaks each rule on purpose, and the search must find the violation.

mod disk;
mod memory;
mod model;
mod real;
mod rules;
mod search;

use self::rules::{Broken, LOCKED, Rules, SMALL, UNLOCKED};
use self::search::search;

/// Searches all states and expects no violation.
fn holds(name: &str, rules: Rules) {
    let started = std::time::Instant::now();
    let seen = search(rules, None).unwrap_or_else(|violation| panic!("{name}: {violation:#?}"));
    println!(
        "{name}: {} states, {} steps, {} disks after a power cut, in {:.1} s",
        seen.states,
        seen.steps,
        seen.cuts,
        started.elapsed().as_secs_f64()
    );
}

#[test]
fn fault_67_a_power_cut_at_any_step_loses_no_durable_record() {
    holds("a power cut", Rules { faults: 1, ..LOCKED });
}

#[test]
fn fault_67_a_power_cut_after_another_fault_loses_none_either() {
    holds("two faults", Rules { torn: false, journals_written: false, ..LOCKED });
}

#[test]
fn fault_66_kills_short_bodies_and_lies_never_stop_progress() {
    holds("no power cut", Rules { power_cuts: false, checkpoints: false, ..LOCKED });
}

#[test]
fn fault_80_two_processes_without_a_lock_install_right_bytes() {
    holds("no lock", Rules { faults: 1, ..UNLOCKED });
}

#[test]
fn the_search_finds_each_broken_rule() {
    let broken = |rule| Rules { broken: Some(rule), ..SMALL };
    let without_checkpoints = |rule| Rules { checkpoints: false, ..broken(rule) };
    // One process overwrites what the other has verified, or removes what has no journal yet.
    let unlocked = Rules { lock_works: false, power_cuts: false, ..SMALL };
    let wrong_bytes = "I1: wrong bytes under the final name";
    let no_file = "I2: a marker without its file";
    for (rules, what) in [
        (broken(Broken::JournalsBeforeSync), "I3: bytes that the journal calls durable are lost"),
        (broken(Broken::SkipsVerify), wrong_bytes),
        (broken(Broken::LosesClaims), "a claim is lost: it is complete, and bytes are missing"),
        (without_checkpoints(Broken::MarksBeforeSync), no_file),
        (Rules { faults: 2, ..without_checkpoints(Broken::TrustsExisting) }, no_file),
        (unlocked, wrong_bytes),
        (Rules { checkpoints: false, ..unlocked }, "a part was replaced under its owner"),
    ] {
        match search(rules, Some(what)) {
            Ok(seen) => panic!("{what}: not found in {seen:?}, {rules:?}"),
            Err(found) => assert_eq!(found.what, what, "{rules:?}: {:?}", found.path),
        }
    }
}
