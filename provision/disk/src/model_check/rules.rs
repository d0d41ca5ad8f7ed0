//! The rules of a search: the model's file, the possible faults, and the rules that it can break on purpose.

use provision_core::schedule::MIN_CLAIM;

/// The size of a claim on the model's disk. A power cut keeps or loses whole pages.
pub(super) const PAGE: usize = 4;
/// The right bytes.
pub(super) const CONTENT: [u8; 3 * PAGE] = *b"abcdefghijkl";
/// The bytes of a lying origin.
pub(super) const WRONG: [u8; 3 * PAGE] = *b"ABCDEFGHIJKL";
/// The model's file size.
pub(super) const SIZE: u64 = CONTENT.len() as u64;
/// Bytes of the schedule for one byte of the model's disk.
pub(super) const SCALE: u64 = MIN_CLAIM / PAGE as u64;

/// The faults that a search may inject, and the rule that it breaks on purpose.
#[expect(clippy::struct_excessive_bools, reason = "independent switches of a search")]
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// The maximum number of faults: kills, power cuts, short bodies, lies.
    pub(super) faults: u8,
    pub(super) power_cuts: bool,
    /// A power cut keeps any subset of the unsynced pages and directory changes; otherwise all or none.
    pub(super) torn: bool,
    pub(super) journals_written: bool,
    pub(super) checkpoints: bool,
    pub(super) lock_works: bool,
    /// All processes use one part name. Right only if the lock works.
    pub(super) shares_names: bool,
    pub(super) broken: Option<Broken>,
}

/// A rule that a search breaks on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// Appends `durable` records before the sync of the data.
    JournalsBeforeSync,
    /// Installs without a verified digest.
    SkipsVerify,
    /// Finishes a claim whose connection ended early as if it were complete.
    LosesClaims,
    /// Writes the marker before the sync of the file's directory.
    MarksBeforeSync,
    /// Lists a file in the marker that it found in place and did not sync.
    TrustsExisting,
}

/// A volume with working locks.
pub(super) const LOCKED: Rules = Rules {
    faults: 2,
    power_cuts: true,
    torn: true,
    journals_written: true,
    checkpoints: true,
    lock_works: true,
    shares_names: true,
    broken: None,
};
/// The smallest search that finds a broken rule.
pub(super) const SMALL: Rules = Rules { faults: 1, torn: false, journals_written: false, ..LOCKED };
/// A volume whose locks do nothing: each process has part names of its own, and both work at the same time.
pub(super) const UNLOCKED: Rules =
    Rules { lock_works: false, shares_names: false, power_cuts: false, journals_written: false, ..LOCKED };
