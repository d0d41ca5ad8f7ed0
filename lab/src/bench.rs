//! `cargo lab bench`: this program beside other downloaders, on the same set from the same origin, in one run.
//!
//! All programs verify SHA-256, by themselves or by `sha256sum` on all cores afterwards; a peer's unverified time is a
//! row of its own. Rounds are interleaved, and the first one warms up. Quote the ratios of one run, not times of several.
//! `--against` lets an older binary of ours take part, for a comparison before and after a change.
//!
//! Code map, downwards: `quick`; `scenario` names the questions; `races`, `growth`, `resume`, `memory` and `local` answer
//! them; `rounds` interleaves; `tool` knows the programs, `origin` and `file_set` what they fetch; `meter` measures.
//! `report` holds the results, `table` and `bars` render them. Only `meter` decides what a cost is.

#![expect(clippy::print_stdout, reason = "the command's result")]

mod bars;
mod chart;
mod checksum;
mod file_set;
mod growth;
mod local;
mod machine;
mod memory;
mod meter;
mod origin;
mod quick;
mod races;
mod report;
mod resume;
mod rounds;
mod scenario;
mod table;
mod tool;

use std::cell::OnceCell;

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, ValueEnum as _};
use tempfile::TempDir;
use xshell::{Shell, cmd};

use crate::project;
use crate::tools::program;
use crate::tools::programs::{self, NGINX, OPENSSL, TIME};
use file_set::Scale;
use machine::Machine;
use meter::Meter;
use report::{Missing, Report, Version};
use rounds::Bench;
use scenario::Scenario;
use tool::{Program, Tool};

/// Measures this program beside aria2c, curl and others: time, processor time, peak memory
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct BenchArgs {
    /// Only this scenario (repeatable)
    #[arg(long, value_enum, value_name = "NAME")]
    pub(crate) scenario: Vec<Scenario>,

    /// Only this peer (repeatable)
    #[arg(long, value_enum, value_name = "NAME")]
    pub(crate) peer: Vec<Tool>,

    /// Rounds of each program, after one that does not count [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: Option<u32>,

    /// The factor by which the files are smaller than the real ones [default: 20]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) scale: Option<u64>,

    /// A minute's check for CI: loopback and capped against aria2c, small files, one round; fails on a gross loss
    #[arg(long, conflicts_with_all = ["scenario", "peer", "rounds"])]
    pub(crate) quick: bool,

    /// A `provision` or `xtask` binary to measure instead of this checkout's
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) ours: Option<Utf8PathBuf>,

    /// An older `provision` or `xtask` binary that takes turns with ours, as "before"; other peers only as --peer says
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) against: Option<Utf8PathBuf>,

    /// A directory in memory, for sources and destinations [default: /dev/shm]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<Utf8PathBuf>,

    /// A directory on a disk [default: target/bench]
    #[arg(long, value_name = "DIR")]
    pub(crate) disk: Option<Utf8PathBuf>,
}

const ROUNDS: u32 = 5;

/// The folder of the results, below the workspace's root.
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
    let memory = Utf8Path::from_path(memory.path()).context("the path of --dir is not UTF-8")?;
    let disk = Utf8Path::from_path(disk.path()).context("the path of --disk is not UTF-8")?;
    let folder = memory.join("lists");
    sh.create_dir(&folder)?;

    let machine = Machine::describe();
    let (programs, missing) = find_programs(args, &sh)?;
    for Missing { tool, hint } in &missing {
        println!("{tool} was not found and does not take part; to install it: {hint}");
    }
    let bench = Bench {
        sh: &sh,
        memory,
        disk,
        meter: Meter { path: sh.var("PATH")?, folder },
        scale: Scale(args.scale.unwrap_or(if args.quick { quick::SCALE } else { Scale::USUAL })),
        rounds: if args.quick { 1..=1 } else { 0..=args.rounds.unwrap_or(ROUNDS) },
        cores: machine.cores,
        programs,
        qwen: OnceCell::new(),
    };
    let command = ["cargo", "lab"].into_iter().map(str::to_owned).chain(std::env::args().skip(1));
    let versions = versions(&sh, &bench.programs);
    let mut report = Report {
        schema: 1,
        command: command.collect::<Vec<_>>().join(" "),
        machine,
        versions,
        missing,
        outcomes: Vec::new(),
    };
    if args.quick {
        report.outcomes = quick::run(&bench)?;
    } else {
        let is_chosen = |scenario: &&Scenario| args.scenario.is_empty() || args.scenario.contains(scenario);
        for scenario in Scenario::value_variants().iter().filter(is_chosen) {
            println!("\n--- bench: {scenario}");
            let outcome = scenario.run(&bench)?;
            println!("\n{}", table::outcome(&outcome));
            report.outcomes.push(outcome);
        }
    }
    report.machine.load_after = machine::load();
    save(&sh, &results, &report)
}

fn scratch(parent: &Utf8Path) -> Result<TempDir> {
    let made = tempfile::Builder::new().prefix("provision-bench-").tempdir_in(parent);
    made.with_context(|| format!("creating a directory in {parent}; choose another --dir or --disk"))
}

/// Ours, the one of `--against`, and the peers that are installed; and the peers that are not.
fn find_programs(args: &BenchArgs, sh: &Shell) -> Result<(Vec<Program>, Vec<Missing>)> {
    let given = |tool, path: &Utf8PathBuf| Program { tool, path: path.clone(), version: path.to_string() };
    let ours = match &args.ours {
        Some(path) => given(Tool::Ours, path),
        None => Program { tool: Tool::Ours, path: program::release(sh)?, version: commit(sh) },
    };
    let mut programs = vec![ours];
    programs.extend(args.against.iter().map(|path| given(Tool::Before, path)));
    let mut missing = Vec::new();
    for &tool in Tool::value_variants() {
        let is_chosen = match args.peer.as_slice() {
            _ if args.quick => tool == Tool::Aria2c,
            [] => args.against.is_none(),
            peers => peers.contains(&tool),
        };
        match Program::find(sh, tool) {
            _ if !is_chosen => {}
            Some(program) => programs.push(program),
            None => missing.push(Missing { tool: tool.name(), hint: tool.install_hint() }),
        }
    }
    Ok((programs, missing))
}

/// The commit of this checkout.
fn commit(sh: &Shell) -> String {
    let described = cmd!(sh, "git describe --always --dirty").quiet().ignore_stderr().read();
    described.map_or_else(|_| "unknown".to_owned(), |commit| format!("commit {commit}"))
}

fn versions(sh: &Shell, programs: &[Program]) -> Vec<Version> {
    let of = |program: &Program| Version { tool: program.tool.name(), version: program.version.clone() };
    let helpers = [
        // nginx prints it on standard error.
        ("nginx", cmd!(sh, "nginx -v").quiet().ignore_stdout().read_stderr()),
        ("rustc", cmd!(sh, "rustc --version").quiet().read()),
        ("sha256sum", cmd!(sh, "sha256sum --version").quiet().read()),
    ];
    let first_line = |text: String| text.lines().next().unwrap_or_default().to_owned();
    let helpers = helpers.map(|(tool, said)| Version { tool, version: first_line(said.unwrap_or_default()) });
    programs.iter().map(of).chain(helpers).collect()
}

/// Writes the report in all its forms.
fn save(sh: &Shell, results: &Utf8Path, report: &Report) -> Result<()> {
    let json = serde_json::to_string_pretty(report)? + "\n";
    let mut files = vec![("report.json", json), ("report.md", table::report(report))];
    files.extend(bars::draw(report).map(|picture| ("chart.svg", picture)));
    for (name, text) in files {
        sh.write_file(results.join(name), text)?;
        println!("{RESULTS}/{name} written");
    }
    Ok(())
}
