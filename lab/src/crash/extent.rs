//! The parts, and how much each of them does. Too few hits fail the command, so that a count in CI is real.

use anyhow::{Result, ensure};
use clap::ValueEnum;

/// The parts, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// SIGKILL at a call
    Kills,
    /// A call that fails, or writes half
    Errors,
    /// Clones of the disk at every call
    Power,
    /// Eight processes at once, locks that do nothing, a process that sleeps
    Writers,
}

impl Part {
    /// The things that it counts. For a sample, then for a full run: how many are tried, and how many have to hit. Some
    /// hit nothing, since runs differ in their calls.
    const fn numbers(self) -> (&'static str, [(usize, usize); 2]) {
        match self {
            Self::Kills => ("kills", [(340, 300), (1500, 300)]),
            Self::Errors => ("errors", [(240, 200), (1500, 200)]),
            // On ext4. The other file systems come on top.
            Self::Power => ("clones of the disk", [(28, 20), (270, 200)]),
            Self::Writers => ("rounds", [(12, 12), (200, 200)]),
        }
    }
}

/// The extent of a part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    part: Part,
    /// The number of injections, clones or rounds to try.
    pub(super) count: usize,
    /// Every call is tried instead.
    pub(super) is_exhaustive: bool,
    pub(super) is_sample: bool,
    /// The number that has to hit.
    pub(super) least: usize,
}

impl Extent {
    /// A `count` from the command line replaces the part's own number, and has no least.
    pub(super) fn new(part: Part, is_exhaustive: bool, is_sample: bool, count: Option<usize>) -> Self {
        let (own_count, own_least) = part.numbers().1[usize::from(!is_sample)];
        let (count, least) = count.map_or((own_count, own_least), |count| (count, 0));
        Self { part, count, is_exhaustive: is_exhaustive && least > 0, is_sample, least }
    }

    pub(super) fn ensure_enough(&self, hits: usize) -> Result<()> {
        let (what, least) = (self.part.numbers().0, self.least);
        ensure!(hits >= least, "{hits} {what} are too few: {least} are the least");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_hits_fail_the_command() {
        for (is_sample, part, what, least) in [
            (true, Part::Kills, "kills", 300),
            (false, Part::Kills, "kills", 300),
            (true, Part::Errors, "errors", 200),
            (true, Part::Power, "clones of the disk", 20),
            (false, Part::Power, "clones of the disk", 200),
            (false, Part::Writers, "rounds", 200),
        ] {
            for is_exhaustive in [false, !is_sample] {
                let extent = Extent::new(part, is_exhaustive, is_sample, None);
                let error = extent.ensure_enough(least - 1).unwrap_err().to_string();
                assert_eq!(error, format!("{} {what} are too few: {least} are the least", least - 1));
                extent.ensure_enough(least).unwrap();
            }
        }
        Extent::new(Part::Kills, false, true, Some(3)).ensure_enough(2).unwrap();
    }

    #[test]
    fn more_is_tried_than_has_to_hit() {
        for &part in Part::value_variants() {
            for (is_exhaustive, is_sample) in [(false, true), (false, false), (true, false)] {
                let extent = Extent::new(part, is_exhaustive, is_sample, None);
                assert!(extent.count >= extent.least, "{extent:?}");
                assert_eq!(extent.is_exhaustive, is_exhaustive);
                let given = Extent::new(part, is_exhaustive, is_sample, Some(7));
                assert_eq!((given.count, given.is_exhaustive, given.least), (7, false, 0));
            }
        }
    }
}
