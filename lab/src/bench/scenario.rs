//! The scenarios: a table of races, and two measurements without an origin.

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use provision_testbed::Shape;

use super::file_set::{FileSet, counted};
use super::offline;
use super::origin::{self, NGINX, NGINX_TLS, OriginKind};
use super::race::Race;
use super::report::{Metric, Outcome};
use super::rounds::Bench;
use super::tool::LISTLESS;

/// A question that the benchmark answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// nginx without a limit, memory to memory: the cost of the program itself
    Loopback,
    /// The same over https
    Tls,
    /// The same onto a disk
    Disk,
    /// 4 MB/s for each connection, as from a CDN: the worth of the schedule
    Capped,
    /// The same with 50 ms before each response, and every eighth connection ten times slower
    Stragglers,
    /// 5,000 files of 20 to 200 KB
    Small,
    /// One file of 2 GB onto a disk
    Single,
    /// Killed at half: the share that is fetched again
    Resume,
    /// Everything is there: 4 and 10,000 files, by the marker alone
    Noop,
    /// Four files of 400 MB, hashed in place
    Verify,
    /// One file of 2 GB, hashed in place with a piece list and without
    Proof,
    /// One file of 2 GB and the four files, fetched with piece lists and without
    Lists,
    /// Peak memory for 1 GB and for 20 GB
    Memory,
    /// 1 to 10,000 files of equal total size, and 1 to 256 connections
    Growth,
}

impl Scenario {
    /// The name that is typed.
    pub(super) fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// The row that ours must not be slower than with `--quick`.
    pub(super) fn bound(self) -> &'static str {
        if self == Self::Proof { LISTLESS } else { "aria2c" }
    }

    /// Measures every program that takes part, and prints the progress.
    pub(super) fn run(self, bench: &Bench<'_>) -> Result<Outcome> {
        let mut outcome = Outcome { scenario: self.name(), ..Outcome::default() };
        self.measure(bench, &mut outcome).with_context(|| format!("bench: {}", self.name()))?;
        outcome.summarize();
        Ok(outcome)
    }

    fn measure(self, bench: &Bench<'_>, outcome: &mut Outcome) -> Result<()> {
        let race = |origin, set| Race::new(bench, origin, set);
        let (qwen, single) = (bench.qwen.clone(), FileSet::equal(1, bench.scale.of(2_000_000_000)));
        let races = match self {
            Self::Loopback => vec![race(NGINX, qwen)],
            Self::Tls => vec![race(NGINX_TLS, qwen)],
            Self::Disk => vec![Race { onto_disk: true, ..race(NGINX, qwen) }],
            Self::Capped => vec![race(origin::capped(), qwen)],
            Self::Stragglers => vec![race(origin::stragglers(), qwen)],
            Self::Small => vec![race(NGINX, FileSet::small(bench.scale))],
            Self::Single => vec![Race { onto_disk: true, ..race(NGINX, single) }],
            Self::Resume => {
                outcome.metric = Metric::FetchedAgain;
                vec![Race {
                    is_verified: true,
                    is_killed_at_half: true,
                    rounds: 1..=*bench.rounds.end(),
                    ..race(origin::capped(), qwen)
                }]
            }
            Self::Memory => memory(bench, outcome),
            Self::Growth => growth(bench, outcome),
            Self::Noop => return offline::noop(bench, outcome),
            Self::Verify => {
                let set = FileSet::equal(4, bench.scale.of(400_000_000));
                return offline::verify(bench, outcome, &set, &bench.own_programs());
            }
            Self::Proof => return offline::verify(bench, outcome, &single, &bench.with_and_without_lists()),
            Self::Lists => {
                outcome.setting = format!("{}; memory to memory", NGINX.words);
                let race = |set: FileSet| Race {
                    case: Some(counted(set.0.len(), "file")),
                    programs: bench.with_and_without_lists().into(),
                    ..race(NGINX, set)
                };
                vec![race(single), race(qwen)]
            }
        };
        races.into_iter().try_for_each(|race| race.run(bench, outcome))
    }
}

/// The peak memory of ours for a small and a large file, which must not depend on the size.
///
/// The testbed generates the bytes while it sends them, so a file of 20 GB takes no room at the origin. The capped
/// origin gives more to each connection than in the other scenarios: at 4 MB/s, 64 connections would take 80 seconds.
fn memory(bench: &Bench<'_>, outcome: &mut Outcome) -> Vec<Race> {
    outcome.setting = String::from(
        "testbed, one file, onto a disk; capped: 12 MB/s for each of 64 connections; one round each",
    );
    outcome.metric = Metric::PeakMemory;
    let shapes = [(Shape::default(), "no cap"), (Shape::rate(12_000_000), "capped")];
    let sizes = [1_000_000_000, 20_000_000_000].map(|usual| FileSet::equal(1, bench.scale.of(usual)));
    let race = |set: &FileSet, (shape, connections): (Shape, &'static str)| Race {
        programs: bench.own_programs(),
        onto_disk: true,
        rounds: 1..=1,
        case: Some(format!("{} GB, {connections}", (set.total() as f64 / 1e7).round() / 100.0)),
        ..Race::new(bench, OriginKind::testbed(connections, shape), set.clone())
    };
    sizes.iter().flat_map(|set| shapes.map(|shape| race(set, shape))).collect()
}

/// Equal bytes in ever more files, then equal time over ever more capped connections of ours.
///
/// Each connection gets bytes for three seconds at the usual scale. A set of a fixed size would take minutes over one
/// connection, and be over before 256 are open. The peers have no option for all their connections.
fn growth(bench: &Bench<'_>, outcome: &mut Outcome) -> Vec<Race> {
    let (total, for_each) = (bench.scale.of(500_000_000), bench.scale.of(3 * origin::CAP));
    outcome.setting = format!(
        "{:.0} MB in files of equal size, {}; {:.0} MB for each allowed connection, {}; memory to memory",
        total as f64 / 1e6,
        NGINX.words,
        for_each as f64 / 1e6,
        origin::capped().words
    );
    let by_files = [1_u16, 10, 100, 1_000, 10_000].map(|count| Race {
        is_verified: true,
        case: Some(counted(count.into(), "file")),
        ..Race::new(bench, NGINX, FileSet::equal(count.into(), (total / u64::from(count)).max(1)))
    });
    let by_connections = (0..=8).map(|exponent| 1_u16 << exponent).map(|number| Race {
        programs: bench.own_programs(),
        connections: Some(number),
        case: Some(counted(number.into(), "connection")),
        ..Race::new(bench, origin::capped(), FileSet::equal(4, for_each * u64::from(number) / 4))
    });
    by_files.into_iter().chain(by_connections).collect()
}
