//! `cargo lab bench`: this program beside other downloaders, on the same set from the same origin, in one run.
//!
//! All programs verify SHA-256, by themselves or by `sha256sum` on all cores afterwards; a peer's unverified time is a
//! row of its own. Rounds are interleaved, and the first one warms up. Quote the ratios of one run, not times of
//! several. `--against` lets an older binary of ours take part, for a comparison before and after a change.
//!
//! Code map, downwards: `scenario` names the questions; `race` and `offline` answer them; `rounds` interleaves;
//! `tool` knows the programs, `origin` and `file_set` what they fetch; `meter` measures. `report` holds
//! the results, `table` and `chart` render them. Only `meter` decides what a cost is.

#![expect(clippy::print_stdout, reason = "the command's result")]

mod chart;
mod checksum;
mod file_set;
mod meter;
mod offline;
mod origin;
mod race;
mod report;
mod rounds;
mod scenario;
mod space;
mod table;
mod tool;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, ValueEnum as _};
use xshell::{Shell, cmd};

use crate::project;
use crate::tools::programs::{self, NGINX, OPENSSL, TIME};
use crate::tools::scratch::Scratch;
use crate::tools::{parallel, program};
use file_set::{FileSet, Scale};
use meter::Meter;
use report::{Outcome, Report};
use rounds::Bench;
use scenario::Scenario;
use tool::{BEFORE, OURS, PEERS, Program, Tool};

/// Measures this program beside aria2c, curl and others: time, processor time, peak memory
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct BenchArgs {
    /// Only this scenario (repeatable)
    #[arg(long, value_enum, value_name = "NAME")]
    pub(crate) scenario: Vec<Scenario>,

    /// Only this peer (repeatable)
    #[arg(long, value_enum, value_name = "NAME")]
    pub(crate) peer: Vec<Tool>,

    /// Rounds of each program, after one that does not count
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,

    /// The factor by which the files are smaller than the real ones [default: 20]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) scale: Option<u64>,

    /// A minute's check for CI: loopback and capped against aria2c, verify with a list, small files, one round; fails
    /// on a gross loss
    #[arg(long, conflicts_with_all = ["scenario", "peer", "rounds"])]
    pub(crate) quick: bool,

    /// A `provision` or `xtask` binary to measure instead of this checkout's
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) ours: Option<Utf8PathBuf>,

    /// An older `provision` or `xtask` binary that takes turns with ours, as "before"; other peers only as --peer says
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) against: Option<Utf8PathBuf>,

    /// A directory in memory, for sources and destinations
    #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
    pub(crate) dir: Utf8PathBuf,

    /// A directory on a disk
    #[arg(long, value_name = "DIR", default_value = RESULTS)]
    pub(crate) disk: Utf8PathBuf,
}

/// 0.3 GB: a second or two for each fetch.
const QUICK_SCALE: u64 = 100;

/// A single loss of `--quick` can be the fault of another process; three in a row are ours.
const TRIES: u32 = 3;

/// Facts of the report: a name, and the shell command whose first line is the fact.
const FACTS: [(&str, &str); 7] = [
    ("cores", "nproc"),
    ("processor", "lscpu | sed -n 's/^Model name: *//p'"),
    ("memory", "sed -n 's/^MemTotal: *//p' /proc/meminfo"),
    ("kernel", "uname -r"),
    // nginx prints it on standard error.
    ("nginx", "nginx -v 2>&1"),
    ("rustc", "rustc --version"),
    ("sha256sum", "sha256sum --version"),
];

/// Load averages over 1, 5 and 15 minutes.
const LOAD: &str = "cut -d ' ' -f 1-3 /proc/loadavg";

/// The folder of the results, below the workspace's root.
const RESULTS: &str = "target/bench";

pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    programs::extend_path(&sh);
    programs::require(&sh, "the benchmark", &[NGINX, OPENSSL, TIME])?;
    let results = project::root().join(RESULTS);
    sh.create_dir(&results)?;
    let scratch = |parent: &Utf8Path| {
        Scratch::create(project::root().join(parent), "provision-bench-")
            .with_context(|| format!("creating a directory in {parent}; choose another --dir or --disk"))
    };
    let (memory, disk) = (scratch(&args.dir)?, scratch(&args.disk)?);
    let folder = memory.path().join("lists");
    sh.create_dir(&folder)?;

    let facts = FACTS.iter().map(|(name, command)| (*name, first_line(&sh, command)));
    let mut environment: BTreeMap<_, _> = facts.collect();
    environment.insert("load before", first_line(&sh, LOAD));
    let programs = find_programs(args, &sh, &mut environment)?;
    let scale = Scale(args.scale.unwrap_or(if args.quick { QUICK_SCALE } else { Scale::USUAL }));
    let bench = Bench {
        sh: &sh,
        memory: memory.path(),
        disk: disk.path(),
        meter: Meter { path: sh.var("PATH")?, folder },
        scale,
        rounds: if args.quick { 1..=1 } else { 0..=args.rounds },
        cores: parallel::processors(),
        programs,
        qwen: FileSet::qwen(scale),
    };
    let scenarios = match args.scenario.as_slice() {
        _ if args.quick => &[Scenario::Loopback, Scenario::Capped, Scenario::Proof],
        [] => Scenario::value_variants(),
        chosen => chosen,
    };
    let outcomes = scenarios.iter().map(|scenario| measure(&bench, *scenario, args.quick));
    let outcomes = outcomes.collect::<Result<_>>()?;
    environment.insert("load after", first_line(&sh, LOAD));
    let command = ["cargo", "lab"].into_iter().map(str::to_owned).chain(std::env::args().skip(1));
    save(&sh, &results, &Report { command: command.collect::<Vec<_>>().join(" "), environment, outcomes })
}

/// Runs a scenario and prints its table. With `quick`, ours must not be slower than its bound in all of the tries.
fn measure(bench: &Bench<'_>, scenario: Scenario, quick: bool) -> Result<Outcome> {
    for _ in 0..TRIES {
        println!("\n--- bench: {}", scenario.name());
        let outcome = scenario.run(bench)?;
        println!("\n{}", table::outcome(&outcome));
        if !quick || !outcome.is_slower_than(scenario.bound()) {
            return Ok(outcome);
        }
    }
    bail!(
        "{}: slower than {} {TRIES} times in a row; see that nothing else uses the machine, then profile this \
         scenario",
        scenario.name(),
        scenario.bound()
    )
}

/// Ours, the one of `--against`, and the chosen peers that are installed. `environment` gets their versions, and how to
/// install the others.
fn find_programs(
    args: &BenchArgs,
    sh: &Shell,
    environment: &mut BTreeMap<&str, String>,
) -> Result<Vec<Program>> {
    let commit = || format!("commit {}", first_line(sh, "git describe --always --dirty"));
    let (ours, version) = match &args.ours {
        Some(path) => (path.clone(), path.to_string()),
        // The checks before have built the static binary, and a build with link-time optimisation takes minutes.
        None if args.quick => (program::dist(sh, &[])?, commit()),
        None => (program::release(sh)?, commit()),
    };
    environment.insert(OURS, version);
    let mut programs = vec![Program::new(Tool::Ours, OURS, ours)];
    if let Some(path) = &args.against {
        environment.insert(BEFORE, path.to_string());
        programs.push(Program::new(Tool::Ours, BEFORE, path));
    }
    for (tool, name, version, install) in PEERS.into_iter().filter(|(tool, ..)| is_chosen(args, *tool)) {
        let mut version = first_line(sh, version);
        if version.is_empty() {
            version = format!("not found; to install it: {install}");
            println!("{name}: {version}");
        } else {
            programs.push(Program::new(tool, name, name));
        }
        environment.insert(name, version);
    }
    Ok(programs)
}

fn is_chosen(args: &BenchArgs, tool: Tool) -> bool {
    match args.peer.as_slice() {
        _ if args.quick => tool == Tool::Aria2c,
        [] => args.against.is_none(),
        peers => peers.contains(&tool),
    }
}

/// The first line that a shell command prints, or nothing.
fn first_line(sh: &Shell, command: &str) -> String {
    let printed = cmd!(sh, "sh -c {command}").quiet().ignore_stderr().read().unwrap_or_default();
    printed.lines().next().unwrap_or_default().to_owned()
}

/// Writes the report in all its forms.
fn save(sh: &Shell, results: &Utf8Path, report: &Report) -> Result<()> {
    let json = serde_json::to_string_pretty(report)? + "\n";
    let mut files = vec![("report.json", json), ("report.md", table::report(report))];
    files.extend(chart::draw(report).map(|picture| ("chart.svg", picture)));
    for (name, text) in files {
        sh.write_file(results.join(name), text)?;
        println!("{RESULTS}/{name} written");
    }
    Ok(())
}
