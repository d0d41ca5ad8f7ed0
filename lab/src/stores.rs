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
use crate::torrents;
use scenarios::{SCENARIOS, Scenario};
use server::{Kind, Server};
use trial::{Fixture, Trial};

/// The program of the S3 server that checks signatures.
const S3S: &str = "s3s-fs";

/// The check of torrents, as `--only` names it.
const TORRENTS: &str = "torrents";

/// The stores that take part at the same time.
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

    /// Go on after a failure, and fail at the end
    #[arg(long)]
    keep_going: bool,

    /// Instead of the scenarios: measure eight fetches at once from the origin and from each store, in memory
    #[arg(long, conflicts_with_all = ["only", "list", "keep_going"])]
    fleet: bool,

    /// A `provision` binary to check instead of this checkout's static one
    #[arg(long, value_name = "PROGRAM")]
    program: Option<Utf8PathBuf>,
}

#[expect(clippy::print_stdout, reason = "the names and the results are the command's output")]
pub(crate) fn run(args: &StoresArgs) -> Result<()> {
    let chosen: Vec<_> = Kind::ALL.iter().map(|kind| Lane::of(args, *kind)).collect();
    let mut names: Vec<_> = chosen.iter().flat_map(Lane::names).collect();
    names.extend(is_chosen(args, TORRENTS).then(|| TORRENTS.to_owned()));
    ensure!(!names.is_empty(), "no scenario's name contains what --only asks for; --list prints the names");
    if args.list {
        println!("{}", names.join("\n"));
        return Ok(());
    }
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    programs::extend_path(&sh);
    let needed = [ARIA2, CURL, DOCKER_REGISTRY, FAKETIME, NGINX, OPENSSL, PIP, PYTHON, STRACE];
    programs::require(&sh, "cargo lab stores", &needed)?;
    let install = "cargo install s3s-fs --locked --version 0.14.1 --features binary";
    ensure!(S3S_FS.is_there(&sh), "cargo lab stores needs s3s-fs, not found on PATH: {install}");
    let given = args.program.as_deref().map(camino::absolute_utf8).transpose()?;
    let program = given.map_or_else(|| program::dist(&sh, &[]), Ok)?;
    if args.fleet {
        return fleet::bench(&program, Utf8Path::new("/dev/shm"));
    }
    let folder = project::root().join("target/stores");
    sh.create_dir(&folder)?;

    let started = Instant::now();
    // Each lane waits for its processes most of the time.
    let mut failures = parallel::map(&chosen, JOBS, |lane| lane.run(&program, &folder)).concat();
    if is_chosen(args, TORRENTS) {
        let scratch = Scratch::create(&folder, "run-")?;
        if let Err(error) = torrents::check(&sh, &program, &folder, &scratch) {
            failures.push(format!("{TORRENTS}: {error:#}"));
        }
    }
    for failure in &failures {
        println!("\n{failure}");
    }
    ensure!(failures.is_empty(), "stores: {} of {} scenarios failed; see above", failures.len(), names.len());
    println!("=== stores: {} passed, 0 failed, {:.0} s", names.len(), started.elapsed().as_secs_f64());
    Ok(())
}

fn is_chosen(args: &StoresArgs, name: &str) -> bool {
    args.only.is_empty() || args.only.iter().any(|part| name.contains(part))
}

/// The scenarios of one kind of store, one after the other, with a server and an origin of their own.
struct Lane {
    kind: Kind,
    scenarios: Vec<&'static Scenario>,
    keep_going: bool,
}

impl Lane {
    fn of(args: &StoresArgs, kind: Kind) -> Self {
        let here = SCENARIOS.iter().filter(|scenario| scenario.kinds.contains(&kind));
        let scenarios = here.filter(|scenario| is_chosen(args, &name(scenario, kind))).collect();
        Self { kind, scenarios, keep_going: args.keep_going }
    }

    fn names(&self) -> Vec<String> {
        self.scenarios.iter().map(|scenario| name(scenario, self.kind)).collect()
    }

    /// Runs the scenarios and returns what failed.
    fn run(&self, program: &Utf8Path, folder: &Utf8Path) -> Vec<String> {
        let mut failures = Vec::new();
        if self.scenarios.is_empty() {
            return failures;
        }
        if let Err(error) = self.run_on_server(program, folder, &mut failures) {
            failures.push(format!("{}: {error:#}", self.kind.name()));
        }
        failures
    }

    #[expect(clippy::print_stdout, reason = "a line for each scenario")]
    fn run_on_server(&self, program: &Utf8Path, folder: &Utf8Path, failures: &mut Vec<String>) -> Result<()> {
        let sh = Shell::new()?;
        programs::extend_path(&sh);
        let scratch = Scratch::create(folder, "run-")?;
        let origin = BlockingOrigin::start(OriginConfig::default())?;
        let fixture = Fixture { sh, program: program.to_owned(), scratch, origin };
        let server = Server::start(&fixture.sh, &fixture.scratch, self.kind)?;
        for scenario in &self.scenarios {
            let (name, started) = (name(scenario, self.kind), Instant::now());
            let result = Trial::new(&fixture, &server).and_then(|trial| (scenario.run)(&trial));
            let seconds = started.elapsed().as_secs_f64();
            println!("    {}, {seconds:5.1} s  {name}", if result.is_ok() { "ok" } else { "FAILED" });
            if let Err(error) = result {
                let log = server.log();
                let end = &log[log.floor_char_boundary(log.len().saturating_sub(2_000))..];
                failures.push(format!(
                    "--- {name}\nto repeat it alone: cargo lab stores --only '{name}'\n{error:#}\n--- the server's log\n{end}"
                ));
                if !self.keep_going {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// A scenario's name with its store.
fn name(scenario: &Scenario, kind: Kind) -> String {
    format!("{}: {}", kind.name(), scenario.name)
}
