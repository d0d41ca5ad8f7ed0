//! The real-input check: a real model, a real web server over http and https, and what goes wrong with them, against
//! the command as built, from outside. Digests are by `sha256sum`, certificates by `openssl`, what was asked by nginx's
//! access log: nothing that is on trial judges itself.

mod checks;
mod world;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use xshell::Shell;

use crate::project;
use crate::tools::program;
use crate::tools::programs::{self, NGINX, OPENSSL, PIP, PYTHON};
use crate::tools::steps::{Done, Steps};
use checks::CHECKS;
use world::World;

/// Fetches a real model from a real web server, and everything that can go wrong with that
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RealInputArgs {
    /// Only the checks whose names contain this (repeatable)
    #[arg(long, value_name = "PART OF A NAME")]
    pub(crate) only: Vec<String>,

    /// Only list the checks
    #[arg(long)]
    pub(crate) list: bool,
}

/// One thing that has to hold.
struct Check {
    name: &'static str,
    prove: fn(&World) -> Result<Done>,
}

pub(crate) fn run(args: &RealInputArgs) -> Result<()> {
    let chosen: Vec<_> = CHECKS
        .iter()
        .filter(|check| {
            args.only.is_empty() || args.only.iter().any(|part| check.name.contains(part.as_str()))
        })
        .collect();
    ensure!(!chosen.is_empty(), "no check has a name like that; see --list");
    if args.list {
        return list(&chosen);
    }
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    programs::extend_path(&sh);
    programs::require(&sh, "the real-input check", &[NGINX, OPENSSL, PIP, PYTHON])?;
    let program = program::xtask(&sh)?;

    let mut steps = Steps::new("real input");
    let mut world = None;
    steps.run("a real model from a wheel, behind nginx", || {
        world = Some(World::start(sh, &program)?);
        Ok(Done::Passed)
    })?;
    if let Some(world) = &world {
        for check in chosen {
            steps
                .run(check.name, || (check.prove)(world))
                .with_context(|| format!("nginx says:\n{}", world.complaints()))
                .with_context(|| format!("to run it alone: cargo lab real --only '{}'", check.name))?;
        }
    }
    steps.finish();
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a person asked for the list")]
#[expect(clippy::unnecessary_wraps, reason = "the caller returns it")]
fn list(checks: &[&Check]) -> Result<()> {
    for check in checks {
        println!("{}", check.name);
    }
    Ok(())
}
