//! A model check: two processes, three claims of one file, and every order in which what they do, what fails and what
//! is lost can happen.
//!
//! # What is real here, and what is a model
//! - [`search`] walks a *model*: [`disk`] is a disk in memory with a page cache, and [`process`] does, one system call at
//!   a time, what `fetch`, `PartFile` and `Verified` do. In it the real [`Schedule`](provision_core::schedule::Schedule) hands out
//!   the claims, the real `journal` writes and reads the records, the real `CrcRanges` join them, the real SHA-256 decides.
//!   The order of the calls around them is written down a second time: it is checked, not proven to be the program's.
//! - [`real`] has the real [`PartFile`](crate::PartFile) in a real directory, so that the order is the program's own, for
//!   fewer schedules: two owners, one fault, stopped between calls of `PartFile` and not within them. What a kill does at
//!   each system call of the program, and what a power cut leaves on a real file system, `cargo lab crash` tries.
//!
//! Time stands still in the model: claims are not split for speed here (the schedule's own tests do that), and a stalled
//! claim is one that is delivered last. One file of three claims; a claim is four bytes on the model's disk, which are a
//! page of it, and [`MIN_CLAIM`] for the schedule.
//!
//! The searches are finite because faults are counted, and small because of two things that change no outcome: while
//! neither process has begun, the first is the one that begins; and where no fault can come any more, no journal is
//! written. Where the lock does nothing both processes work at once, which squares the states: there a run has one checkpoint, which
//! is one step, and no power is cut. What can come between its steps, and what a power cut leaves, is tried where the lock
//! works.
//!
//! # What holds of every state
//! - I1: under the final name are the right bytes or none. I2: no marker without its file. I3: what the journal calls
//!   durable is there, also after a power cut at any moment, whatever of the rest was lost.
//! - No two claims overlap, no byte is written twice in a run, and where the lock works no file is installed twice.
//! - Once faults end, everything ends, whatever order the steps come in, with the file and the marker in place.
//!
//! Each rule is also broken on purpose, and the search has to find what comes of it.

mod disk;
mod memory;
mod process;
mod real;
mod search;
mod world;

use std::ops::Range;

use self::disk::{Disk, Inode, Name};
use self::search::{Violation, search};
use provision_core::byte_range::ByteRange;
use provision_core::digest::Sha256;
use provision_core::journal::{self, Reach};
use provision_core::schedule::MIN_CLAIM;

/// The bytes of a claim on the model's disk, and what a power cut takes or leaves whole.
const PAGE: usize = 4;
/// What the origin should send.
const CONTENT: [u8; 3 * PAGE] = *b"abcdefghijkl";
/// What it sends when it lies.
const WRONG: [u8; 3 * PAGE] = *b"ABCDEFGHIJKL";
/// Bytes of the schedule for one of the model's disk.
const SCALE: u64 = MIN_CLAIM / PAGE as u64;

/// What may happen, and which rule is broken on purpose.
#[expect(clippy::struct_excessive_bools, reason = "independent rules, each broken by one test")]
#[derive(Debug, Clone)]
struct Rules {
    /// How many faults there are at most: kills, power cuts, short reads, lies.
    faults: u8,
    power_cuts: bool,
    /// After a power cut any page and any change of a directory may be there or not; else all of them or none.
    torn: bool,
    notes: bool,
    checkpoints: bool,
    lock_works: bool,
    /// One name for the part of all processes. Right only where the lock works.
    shares_names: bool,
    /// The lock's owner makes a file durable that it found in its place, before it vouches for it.
    makes_present_durable: bool,
    // Broken rules.
    journal_first: bool,
    believes: bool,
    loses_claims: bool,
    marks_early: bool,
}

impl Rules {
    /// A volume whose lock works.
    fn locked() -> Self {
        Self {
            faults: 2,
            power_cuts: true,
            torn: true,
            notes: true,
            checkpoints: true,
            lock_works: true,
            shares_names: true,
            makes_present_durable: true,
            journal_first: false,
            believes: false,
            loses_claims: false,
            marks_early: false,
        }
    }

    /// As little as shows what comes of a broken rule.
    fn small() -> Self {
        Self { faults: 1, torn: false, notes: false, ..Self::locked() }
    }

    /// A volume whose lock does nothing: each process has names of its own, and both work at the same time.
    fn unlocked() -> Self {
        Self { lock_works: false, shares_names: false, power_cuts: false, notes: false, ..Self::locked() }
    }
}

fn digest(bytes: &[u8]) -> Sha256 {
    Sha256::of(bytes)
}

/// What of a part its journal can prove, and all that is in it.
fn prove(disk: &Disk, part: Inode, own: u8) -> (Vec<(ByteRange, u32)>, Vec<u8>) {
    let bytes = disk.read(part).to_vec();
    let text = disk.find(Name::Journal(own)).map(|journal| disk.read(journal)).unwrap_or_default();
    let mut records = journal::parse(text, &digest(&CONTENT), CONTENT.len() as u64);
    records.sort_by_key(|record| record.range);
    let is_so = |record: &journal::Record| {
        let there = bytes.get(record.range.start as usize..record.range.end as usize);
        there.is_some_and(|bytes| crc32fast::hash(bytes) == record.crc)
    };
    (records.iter().filter(|record| is_so(record)).map(|record| (record.range, record.crc)).collect(), bytes)
}

/// What a journal calls durable.
fn durable_claims(text: &[u8]) -> Vec<(Range<usize>, u32)> {
    let records = journal::parse(text, &digest(&CONTENT), CONTENT.len() as u64);
    let durable = records.iter().filter(|record| record.reach == Reach::Durable);
    durable.map(|record| (record.range.start as usize..record.range.end as usize, record.crc)).collect()
}

fn holds(name: &str, rules: &Rules) {
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

/// The broken rule leads to exactly this.
fn breaks(rules: &Rules, what: &str) {
    match search(rules, Some(what)) {
        Ok(seen) => panic!("{what}: not found in {} states", seen.states),
        Err(Violation { what: found, way }) => {
            assert_eq!(found, what, "{way:?}");
            println!("{found}, after {} steps", way.len());
        }
    }
}

const WRONG_BYTES: &str = "I1: wrong bytes under the final name";
const NO_FILE: &str = "I2: a marker without its file";

#[test]
fn fault_67_a_power_cut_at_any_step_loses_nothing_that_the_journal_calls_durable() {
    holds("a power cut", &Rules { faults: 1, ..Rules::locked() });
}

#[test]
fn fault_67_a_power_cut_after_another_fault_loses_nothing_either() {
    holds("two faults", &Rules { faults: 2, torn: false, notes: false, ..Rules::locked() });
}

#[test]
fn fault_66_kills_short_reads_and_lies_in_any_order_lose_nothing_and_it_always_ends() {
    holds("no power cut", &Rules { faults: 2, power_cuts: false, checkpoints: false, ..Rules::locked() });
}

#[test]
fn fault_80_two_processes_whose_lock_does_nothing_install_nothing_wrong_and_always_end() {
    holds("no lock", &Rules { faults: 1, ..Rules::unlocked() });
}

#[test]
fn a_journal_that_is_written_before_its_bytes_is_found_out() {
    breaks(
        &Rules { journal_first: true, ..Rules::small() },
        "I3: bytes that the journal calls durable are lost",
    );
}

#[test]
fn an_install_without_a_proof_is_found_out() {
    breaks(&Rules { believes: true, ..Rules::small() }, WRONG_BYTES);
}

#[test]
fn one_part_for_two_processes_without_a_lock_is_found_out() {
    let rules = Rules { lock_works: false, power_cuts: false, ..Rules::small() };
    // What one has proven, the other writes over; and what has no journal yet, the other removes.
    breaks(&rules, WRONG_BYTES);
    breaks(&Rules { checkpoints: false, ..rules }, "a part was replaced under its owner");
}

#[test]
fn a_claim_that_is_lost_with_its_connection_is_found_out() {
    breaks(
        &Rules { loses_claims: true, ..Rules::small() },
        "a claim is lost: it is complete, and bytes are missing",
    );
}

#[test]
fn a_marker_before_its_file_is_durable_is_found_out() {
    breaks(&Rules { marks_early: true, checkpoints: false, ..Rules::small() }, NO_FILE);
}

#[test]
fn a_marker_for_a_file_that_was_found_and_not_made_durable_is_found_out() {
    breaks(&Rules { makes_present_durable: false, checkpoints: false, faults: 2, ..Rules::small() }, NO_FILE);
}
