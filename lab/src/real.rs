//! `cargo lab real`: the built command downloads a real model from a real web server.
//!
//! Independent tools judge the result: `sha256sum` the digests, openssl the certificates, nginx's access log the
//! requests.

mod checks;
mod fixture;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use xshell::Shell;

use crate::project;
use crate::tools::program;
use crate::tools::programs::{self, NGINX, OPENSSL, PIP, PYTHON};
use crate::tools::steps::{Done, Steps};
use checks::CHECKS;
pub(crate) use fixture::RealFixture;

/// Downloads a real model from nginx, with kills, resumes and failures
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RealArgs {
    /// Run only the checks whose names contain this (repeatable)
    #[arg(long, value_name = "PART OF A NAME")]
    pub(crate) only: Vec<String>,

    /// List the checks and exit
    #[arg(long)]
    pub(crate) list: bool,
}

/// A check and its name.
struct Check {
    name: &'static str,
    run: fn(&RealFixture) -> Result<Done>,
}

#[expect(clippy::print_stdout, reason = "--list prints the names")]
pub(crate) fn run(args: &RealArgs) -> Result<()> {
    let is_chosen =
        |name: &str| args.only.is_empty() || args.only.iter().any(|part| name.contains(part.as_str()));
    let chosen: Vec<_> = CHECKS.iter().filter(|check| is_chosen(check.name)).collect();
    ensure!(!chosen.is_empty(), "no check's name contains what --only asks for; --list prints the names");
    if args.list {
        for check in chosen {
            println!("{}", check.name);
        }
        return Ok(());
    }
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    programs::extend_path(&sh);
    programs::require(&sh, "cargo lab real", &[NGINX, OPENSSL, PIP, PYTHON])?;
    let program = program::xtask(&sh)?;

    let mut steps = Steps::new("real input");
    let start = || RealFixture::start(sh, program);
    let fixture = steps.prepare("a real model from a wheel, behind nginx", start)?;
    for check in chosen {
        steps
            .run(check.name, || (check.run)(&fixture))
            .with_context(|| format!("nginx's log:\n{}", fixture.server_log()))
            .with_context(|| format!("to repeat this check: cargo lab real --only '{}'", check.name))?;
    }
    steps.finish();
    Ok(())
}

/// Runs the check whose name contains `part`.
pub(crate) fn run_check(part: &str, fixture: &RealFixture) -> Result<Done> {
    let check = CHECKS.iter().find(|check| check.name.contains(part));
    (check.with_context(|| format!("no check's name contains {part}"))?.run)(fixture)
}
