//! `cargo lab stores`: stores by digest, with the servers that people run for it.
//!
//! A registry with and without logins, two S3 servers, nginx and a directory. Every scenario takes place at each store
//! for which it means something, through relays that count, slow and cut the traffic. The testbed is only the lock's
//! origin.

mod fleet;
mod scenarios;
mod server;
mod trial;

use std::time::Instant;

use anyhow::{Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use provision_testbed::{BlockingOrigin, OriginConfig};
use xshell::Shell;

use crate::project;
use crate::tools::parallel;
use crate::tools::program;
use crate::tools::programs::{
    self, ARIA2, CURL, DOCKER_REGISTRY, FAKETIME, NGINX, OPENSSL, PIP, PYTHON, S3S_FS, STRACE,
};
use crate::tools::scratch::Scratch;
use scenarios::{SCENARIOS, Scenario};
use server::{Kind, Server};
use trial::Trial;

/// The stores that take part at the same time: their scenarios wait for processes and for time limits.
const JOBS: usize = 2;

/// Pushes to real stores, breaks them, and fetches from them
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct StoresArgs {
    /// Run only the scenarios whose names contain this (repeatable)
    #[arg(long, value_name = "PART OF A NAME")]
    only: Vec<String>,

    /// List the scenarios and exit
    #[arg(long)]
    list: bool,

    /// Instead of the scenarios: measure eight fetches at once from the origin and from each store, in memory
    #[arg(long, conflicts_with_all = ["only", "list"])]
    fleet: bool,
}

/// What the trials of one server share.
#[derive(Debug)]
struct Fixture {
    sh: Shell,
    program: Utf8PathBuf,
    /// Keeps the packages of Python's index between the runs.
    libraries: Utf8PathBuf,
    scratch: Scratch,
    /// An origin that has the files of every trial.
    origin: BlockingOrigin,
}

impl Fixture {
    /// A fixture with its files in `folder`.
    fn start(program: &Utf8Path, folder: &Utf8Path) -> Result<Self> {
        let (sh, libraries) = (Shell::new()?, project::root().join("target/stores"));
        programs::extend_path(&sh);
        sh.create_dir(&libraries)?;
        let scratch = Scratch::create(folder, "provision-stores-")?;
        let origin = BlockingOrigin::start(OriginConfig::default())?;
        Ok(Self { sh, program: program.to_owned(), libraries, scratch, origin })
    }
}

#[expect(clippy::print_stdout, reason = "the names and the results are the command's output")]
pub(crate) fn run(args: &StoresArgs) -> Result<()> {
    let is_chosen = |name: &str| args.only.is_empty() || args.only.iter().any(|part| name.contains(part));
    let chosen = |kind: &Kind| {
        let here = SCENARIOS.iter().filter(|scenario| scenario.kinds.contains(kind));
        (*kind, here.filter(|scenario| is_chosen(&scenario.name_at(*kind))).collect::<Vec<_>>())
    };
    let lanes: Vec<_> = Kind::ALL.iter().map(chosen).filter(|(_, scenarios)| !scenarios.is_empty()).collect();
    let total = lanes.iter().map(|(_, scenarios)| scenarios.len()).sum::<usize>();
    ensure!(total > 0, "no scenario's name contains what --only asks for; --list prints the names");
    if args.list {
        for (kind, scenarios) in lanes {
            for scenario in scenarios {
                println!("{}", scenario.name_at(kind));
            }
        }
        return Ok(());
    }
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    programs::extend_path(&sh);
    let needed = [ARIA2, CURL, DOCKER_REGISTRY, FAKETIME, NGINX, OPENSSL, PIP, PYTHON, STRACE];
    programs::require(&sh, "cargo lab stores", &needed)?;
    let install = "cargo install s3s-fs --locked --version 0.14.1 --features binary";
    ensure!(S3S_FS.is_there(&sh), "cargo lab stores needs s3s-fs, not found on PATH: {install}");
    let program = program::dist(&sh, &[])?;
    if args.fleet {
        return fleet::bench(&program, Utf8Path::new("/dev/shm"));
    }
    let folder = project::root().join("target/stores");
    sh.create_dir(&folder)?;

    let started = Instant::now();
    let failures = parallel::map(&lanes, JOBS, |(kind, scenarios)| {
        let run = || -> Result<_> {
            let fixture = Fixture::start(&program, &folder)?;
            Ok(run_scenarios(&Server::start(&fixture, *kind)?, scenarios))
        };
        run().unwrap_or_else(|error| vec![format!("--- {}\n{error:#}", kind.name())])
    })
    .concat();
    for failure in &failures {
        println!("\n{failure}");
    }
    ensure!(failures.is_empty(), "stores: {} of {total} scenarios failed; see above", failures.len());
    println!("=== stores: {total} passed, 0 failed, {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Runs the scenarios at one server, one after the other, and returns what failed.
#[expect(clippy::print_stdout, reason = "a line for each scenario")]
fn run_scenarios(server: &Server<'_>, scenarios: &[&Scenario]) -> Vec<String> {
    let mut failures = Vec::new();
    for scenario in scenarios {
        let (name, started) = (scenario.name_at(server.kind), Instant::now());
        let result = Trial::new(server).and_then(|mut trial| (scenario.run)(&mut trial));
        let seconds = started.elapsed().as_secs_f64();
        println!("    {}, {seconds:5.1} s  {name}", if result.is_ok() { "ok" } else { "FAILED" });
        if let Err(error) = result {
            let log = server.log();
            let end = &log[log.floor_char_boundary(log.len().saturating_sub(2_000))..];
            failures.push(format!(
                "--- {name}\nto repeat it alone: cargo lab stores --only '{name}'\n{error:#}\n--- the server's log\n{end}"
            ));
        }
    }
    failures
}
