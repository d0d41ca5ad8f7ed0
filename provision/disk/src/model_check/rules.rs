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
#[expect(clippy::struct_excessive_bools, reason = "independent rules, each broken by one test")]
#[derive(Debug, Clone)]
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
    /// A run syncs a file that it found in place before a marker lists it.
    pub(super) syncs_existing: bool,
    // Broken rules.
    /// Appends `durable` records before the sync of the data.
    pub(super) journals_before_sync: bool,
    /// Installs without a verified digest.
    pub(super) skips_verify: bool,
    /// Finishes a claim whose connection ended early as if it were complete.
    pub(super) loses_claims: bool,
    /// Writes the marker before the sync of the file's directory.
    pub(super) marks_before_sync: bool,
}

impl Rules {
    /// A volume with working locks.
    pub(super) fn locked() -> Self {
        Self {
            faults: 2,
            power_cuts: true,
            torn: true,
            journals_written: true,
            checkpoints: true,
            lock_works: true,
            shares_names: true,
            syncs_existing: true,
            journals_before_sync: false,
            skips_verify: false,
            loses_claims: false,
            marks_before_sync: false,
        }
    }

    /// The smallest search that finds a broken rule.
    pub(super) fn small() -> Self {
        Self { faults: 1, torn: false, journals_written: false, ..Self::locked() }
    }

    /// A volume whose locks do nothing: each process has part names of its own, and both work at the same time.
    pub(super) fn unlocked() -> Self {
        Self {
            lock_works: false,
            shares_names: false,
            power_cuts: false,
            journals_written: false,
            ..Self::locked()
        }
    }
}
