//! What can be measured, by name.

use clap::ValueEnum;

/// A question that the benchmark answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// nginx without a limit, memory to memory: what the program itself costs
    Loopback,
    /// The same over https
    Tls,
    /// The same onto a real disk
    Disk,
    /// 4 MB/s for each connection, as a CDN does: what the schedule is worth
    Capped,
    /// The same with 50 ms before each answer, and every eighth connection ten times slower
    Stragglers,
    /// 5,000 files of 20 to 200 KB
    Small,
    /// One file of 2 GB onto a real disk
    Single,
    /// Killed at half: how much is fetched again
    Resume,
    /// Everything is there: 4 and 10,000 files, by the marker alone
    Noop,
    /// Four files of 400 MB, hashed where they are
    Verify,
    /// Peak memory for 1 GB and for 20 GB
    Memory,
    /// 1 to 10,000 files of equal total size, and 1 to 256 connections
    Growth,
}

impl Scenario {
    /// As it is typed, and as it stands in every output.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Tls => "tls",
            Self::Disk => "disk",
            Self::Capped => "capped",
            Self::Stragglers => "stragglers",
            Self::Small => "small",
            Self::Single => "single",
            Self::Resume => "resume",
            Self::Noop => "noop",
            Self::Verify => "verify",
            Self::Memory => "memory",
            Self::Growth => "growth",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::builder::PossibleValue;

    use super::*;

    #[test]
    fn every_scenario_is_typed_as_it_is_printed() {
        for scenario in Scenario::value_variants() {
            let typed = scenario.to_possible_value();
            assert_eq!(typed.as_ref().map(PossibleValue::get_name), Some(scenario.name()));
        }
    }
}
