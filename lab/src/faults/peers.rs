//! `cargo lab faults --peer`: the origin cases of the catalogue (1 to 35 and 43 to 51) on the tools that people would
//! take instead, by the command line that they use, and on this program, by the same judge.
//!
//! What is asked is what a script sees: the exit code, and what is then under the final name. A tool that says that it
//! failed has not deceived anybody, nor has one that leaves a control file beside its part. What counts is wrong bytes
//! under the final name with exit 0, and a credential that went to another host.
//!
//! Everything runs in a network namespace that has a loopback and nothing else, so that no tool can reach the outside,
//! and an address that looks public can be had for case 47. Where a namespace is not allowed, that case is not run.
//!
//! Code map: `tool` knows the command lines, `case` what goes wrong in each case, `sandbox` has the origins, `run`
//! runs one, `verdict` says what it was, `report` is the table. `verdict` and `report` are pure.

#![expect(clippy::print_stdout, reason = "the result is what it is run for")]

mod case;
mod report;
mod run;
mod sandbox;
mod tool;
mod verdict;

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;
use xshell::Shell;

use self::case::Trial;
use self::report::Line;
use self::sandbox::Stage;
use self::tool::Found;
use super::catalogue::Case;
use super::{FaultsArgs, PAGE, page};
use crate::project;
use crate::tools::programs::{self, NGINX, OPENSSL};

pub(crate) use tool::Peer;

/// Trials at once: most of them wait for a timeout.
const AT_ONCE: usize = 8;

/// Where everything that was seen goes, below the workspace's root.
const DETAILS: &str = "target/faults/peers.md";

pub(super) fn run(sh: &Shell, args: &FaultsArgs, cases: &[Case]) -> Result<()> {
    programs::extend_path(sh);
    if !args.in_namespace && re_run_in_a_namespace(sh)? {
        return Ok(());
    }
    programs::require(sh, "the catalogue on other tools", &[NGINX, OPENSSL])?;
    let mut tools = vec![Found::ours(sh)?];
    let mut missing = Vec::new();
    for &peer in &args.peer {
        match peer.find(sh) {
            Some(found) => tools.push(found),
            None => missing.push(peer),
        }
    }
    let scratch = tempfile::Builder::new().prefix("provision-faults-").tempdir()?;
    let folder =
        Utf8Path::from_path(scratch.path()).context("the temporary directory's path is not UTF-8")?;
    let stage = Stage::set(sh, folder, args.in_namespace)?;
    let trials: Vec<Trial> = case::all(args.in_namespace)
        .into_iter()
        .filter(|trial| args.case.is_empty() || args.case.contains(&trial.case))
        .collect();
    ensure!(!trials.is_empty(), "none of these cases is an origin case: 1-35 and 43-51 are");
    let lines = run_all(&stage, &trials, &tools, Duration::from_secs(args.limit))?;

    let table = report::table(cases, &tools, &missing, &lines, args.limit);
    sh.create_dir("target/faults")?;
    sh.write_file(DETAILS, report::details(&lines) + "\n" + &table)?;
    println!("{table}\n{DETAILS} written");
    if args.write {
        ensure!(missing.is_empty(), "a tool is missing: the page would lose its column");
        let text = page::replace(&sh.read_file(PAGE)?, page::PEERS, &table)?;
        sh.write_file(PAGE, text)?;
        println!("{PAGE} written");
    }
    Ok(())
}

/// Runs every trial with every tool, several at once, in no order; the lines are in the trials' order.
fn run_all(stage: &Stage, trials: &[Trial], tools: &[Found], limit: Duration) -> Result<Vec<Line>> {
    let jobs: Vec<(&Trial, &Found)> =
        trials.iter().flat_map(|trial| tools.iter().map(move |tool| (trial, tool))).collect();
    let next = AtomicUsize::new(0);
    let lines = Mutex::new(Vec::new());
    let work = || -> Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((trial, tool)) = jobs.get(number) else { return Ok(()) };
            let seen = run::run(stage, trial, tool, number, limit)
                .with_context(|| format!("case {}, {}, {}", trial.case, trial.label, tool.name()))?;
            let line = Line::new(trial.case, &trial.label, tool.tool, seen);
            println!("{line}");
            if let Ok(mut lines) = lines.lock() {
                lines.push((number, line));
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or(Ok(())))
    })?;
    let mut lines = lines.into_inner().unwrap_or_default();
    ensure!(lines.len() == jobs.len(), "a trial panicked");
    lines.sort_by_key(|(number, _)| *number);
    Ok(lines.into_iter().map(|(_, line)| line).collect())
}

/// The address that looks public, for case 47. It is nobody's but the namespace's.
const PUBLIC: &str = "11.0.0.1";

/// Runs this very command in a network namespace of its own. False: not allowed here.
fn re_run_in_a_namespace(sh: &Shell) -> Result<bool> {
    let path = sh.var("PATH")?;
    let mut unshare = Command::new("unshare");
    unshare.env("PATH", &path).arg("--net").arg("--");
    let set_up = format!("ip link set lo up && ip address add {PUBLIC}/32 dev lo");
    let probe =
        Command::new("unshare").env("PATH", &path).args(["--net", "--", "sh", "-c", &set_up]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        println!("no network namespace can be made here (unshare, ip): case 47 is not run");
        return Ok(false);
    }
    let script = format!("{set_up} && exec \"$0\" \"$@\" --in-namespace");
    let status = unshare
        .args(["sh", "-c", &script])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .current_dir(project::root())
        .status()?;
    ensure!(status.success(), "the run in the namespace failed ({status})");
    Ok(true)
}
