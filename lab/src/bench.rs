//! `cargo lab bench`: this program beside the tools that people would take instead, on the same set from the same
//! origin, in one run.
//!
//! All verify SHA-256, by themselves or by `sha256sum` on all cores afterwards, and what they take unverified is said as
//! well. Rounds alternate, so that a machine that gets slower gets slower for all; the first round of each warms up, is
//! checked by `sha256sum`, and does not count. Quote the ratios of one run, not times of several.
//!
//! Code map: `scenario` names the questions; `race`, `resume`, `noop`, `verify`, `memory` and `growth` answer them on a
//! `stage`; `tool` knows the programs, `origin` and `set` what they fetch; `measure` runs commands; `report` is the
//! result, `table` and `draw` show it. Nothing here sleeps, and nothing but `measure` decides what a cost is.

#![expect(clippy::print_stdout, reason = "the result is what it is run for")]

mod checksum;
mod draw;
mod growth;
mod invocation;
mod machine;
mod measure;
mod memory;
mod noop;
mod origin;
mod quick;
mod race;
mod report;
mod resume;
mod scale;
mod scenario;
mod set;
mod stage;
mod statistics;
mod table;
mod tool;
mod tree;
mod verify;

use std::cell::OnceCell;
use std::time::Duration;

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, ValueEnum as _};
use xshell::{Shell, cmd};

use crate::project;
use crate::tools::programs::{self, NGINX, OPENSSL, TIME};
use measure::Meter;
use race::Race;
use report::{Machine, Missing, Outcome, Report, Version};
use scale::Scale;
use scenario::Scenario;
use stage::Stage;
use tool::{Found, Tool};

/// Measures this program beside aria2c, curl and others: time, processor time, peak memory
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct BenchArgs {
    /// Only this scenario (repeatable)
    #[arg(long, value_enum, value_name = "NAME")]
    pub(crate) scenario: Vec<Scenario>,

    /// Only this peer (repeatable)
    #[arg(long, value_enum, value_name = "NAME")]
    pub(crate) peer: Vec<Tool>,

    /// How often each program runs, after one round that does not count [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: Option<u32>,

    /// The files are this many times smaller than the real ones [default: 20]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) scale: Option<u64>,

    /// A minute's check for CI: loopback and capped against aria2c, small, one round; fails on a gross loss
    #[arg(long, conflicts_with_all = ["scenario", "peer", "rounds"])]
    pub(crate) quick: bool,

    /// A `provision` binary to measure instead of this very program
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) ours: Option<Utf8PathBuf>,

    /// A directory in memory, for sources and destinations [default: /dev/shm]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<Utf8PathBuf>,

    /// A directory on a disk [default: target/bench]
    #[arg(long, value_name = "DIR")]
    pub(crate) disk: Option<Utf8PathBuf>,
}

const ROUNDS: u32 = 5;

/// Longer than the slowest tool takes for anything here.
const LIMIT: Duration = Duration::from_mins(5);

/// Where results go, below the workspace's root.
const RESULTS: &str = "target/bench";

pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    programs::extend_path(&sh);
    programs::require(&sh, "the benchmark", &[NGINX, OPENSSL, TIME])?;
    let results = project::root().join(RESULTS);
    sh.create_dir(&results)?;
    let memory = scratch(args.dir.as_deref().unwrap_or(Utf8Path::new("/dev/shm")))?;
    let disk = scratch(args.disk.as_deref().unwrap_or(&results))?;
    let (memory, disk) = (path(&memory)?, path(&disk)?);
    let lists = memory.join("lists");
    sh.create_dir(&lists)?;

    let mut machine = Machine::look(&sh);
    let (peers, missing) = find(args, &sh);
    let ours = Found::ours(&sh, args.ours.as_deref(), commit(&sh))?;
    let stage = Stage {
        sh: &sh,
        memory,
        disk,
        meter: Meter { path: sh.var("PATH")?, folder: lists, limit: LIMIT },
        scale: Scale(args.scale.unwrap_or(if args.quick { quick::SCALE } else { Scale::USUAL })),
        rounds: args.rounds.unwrap_or(if args.quick { 1 } else { ROUNDS }),
        warm_up: !args.quick,
        cores: machine::cores(),
        ours,
        peers,
        qwen: OnceCell::new(),
    };
    let mut report = Report::new(command(), machine.clone(), versions(&stage), missing);
    for missing in &report.missing {
        println!("{} was not found, and does not take part: {}", missing.tool, missing.hint);
    }
    if args.quick {
        report.outcomes = quick::run(&stage)?;
    } else {
        for &scenario in Scenario::value_variants() {
            if !args.scenario.is_empty() && !args.scenario.contains(&scenario) {
                continue;
            }
            println!("\n--- bench: {}", scenario.name());
            for outcome in
                measure_one(&stage, scenario).with_context(|| format!("bench: {}", scenario.name()))?
            {
                println!("\n{}", table::outcome(&outcome));
                report.outcomes.push(outcome);
            }
        }
    }
    machine.look_again(&sh);
    report.machine = machine;
    save(&sh, &results, &report)
}

fn measure_one(stage: &Stage<'_>, scenario: Scenario) -> Result<Vec<Outcome>> {
    if let Some(race) = Race::of(scenario) {
        return Ok(vec![race.run(stage)?]);
    }
    match scenario {
        Scenario::Resume => Ok(vec![resume::run(stage)?]),
        Scenario::Noop => Ok(vec![noop::run(stage)?]),
        Scenario::Verify => Ok(vec![verify::run(stage)?]),
        Scenario::Memory => Ok(vec![memory::run(stage)?]),
        Scenario::Growth => Ok(vec![growth::files(stage)?, growth::connections(stage)?]),
        // Those that are races, as above.
        _ => Ok(Vec::new()),
    }
}

fn scratch(below: &Utf8Path) -> Result<tempfile::TempDir> {
    let made = tempfile::Builder::new().prefix("provision-bench-").tempdir_in(below);
    made.with_context(|| format!("making a directory below {below}"))
}

fn path(directory: &tempfile::TempDir) -> Result<&Utf8Path> {
    Utf8Path::from_path(directory.path()).context("the path of --dir or --disk is not UTF-8")
}

/// The peers that are there, and those that are not.
fn find(args: &BenchArgs, sh: &Shell) -> (Vec<Found>, Vec<Missing>) {
    let mut peers = Vec::new();
    let mut missing = Vec::new();
    for &tool in Tool::value_variants() {
        let is_wanted =
            if args.quick { tool == Tool::Aria2c } else { args.peer.is_empty() || args.peer.contains(&tool) };
        if is_wanted {
            match tool.find(sh, project::root()) {
                Some(found) => peers.push(found),
                None => missing.push(Missing { tool: tool.name(), hint: tool.hint() }),
            }
        }
    }
    (peers, missing)
}

/// What was typed.
fn command() -> String {
    let words = ["cargo".to_owned(), "lab".to_owned()].into_iter().chain(std::env::args().skip(1));
    words.collect::<Vec<_>>().join(" ")
}

/// The commit that ours is of.
fn commit(sh: &Shell) -> String {
    let described = cmd!(sh, "git describe --always --dirty").quiet().ignore_stderr().read();
    described.map_or_else(|_| "unknown".to_owned(), |commit| format!("commit {commit}"))
}

fn versions(stage: &Stage<'_>) -> Vec<Version> {
    let of = |found: &Found| Version { tool: found.tool.name(), version: found.version.clone() };
    let mut versions: Vec<_> = [&stage.ours].into_iter().chain(&stage.peers).map(of).collect();
    let sh = stage.sh;
    // nginx says it on standard error.
    let nginx = cmd!(sh, "nginx -v").quiet().output().map(|output| output.stderr).unwrap_or_default();
    let nginx = String::from_utf8_lossy(&nginx).trim().trim_start_matches("nginx version: ").to_owned();
    versions.push(Version { tool: "nginx", version: nginx });
    let rustc = cmd!(sh, "rustc --version").quiet().read().unwrap_or_default();
    versions.push(Version { tool: "rustc", version: rustc });
    let sha256sum = cmd!(sh, "sha256sum --version").quiet().read().unwrap_or_default();
    versions.push(Version {
        tool: "sha256sum",
        version: sha256sum.lines().next().unwrap_or_default().to_owned(),
    });
    versions
}

/// Writes the report in all its forms.
fn save(sh: &Shell, results: &Utf8Path, report: &Report) -> Result<()> {
    let json = serde_json::to_string_pretty(report)? + "\n";
    let mut files = vec![("report.json", json), ("report.md", table::report(report))];
    files.extend(draw::bars(report).map(|picture| ("chart.svg", picture)));
    files.extend(draw::curves(report).map(|picture| ("growth.svg", picture)));
    for (name, text) in files {
        sh.write_file(results.join(name), text)?;
        println!("{RESULTS}/{name} written");
    }
    Ok(())
}
