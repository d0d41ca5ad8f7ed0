//! `cargo lab real`: the built command downloads a real model from a real web server.
//!
//! Independent tools judge the result: `sha256sum` the digests, openssl the certificates, nginx's access log the
//! requests. Each check uses its own destinations and leaves nothing to the next.

mod downloads;
mod fixture;
mod interruptions;
mod local;
mod updates;

use anyhow::{Context as _, Result};
use xshell::Shell;

use crate::project;
use crate::tools::program;
use crate::tools::programs::{self, NGINX, OPENSSL, PIP, PYTHON};
use crate::tools::steps::{Steps, with_log};
pub(crate) use fixture::{RealFixture, TOKEN};

/// A check and its name.
type Check = (&'static str, fn(&RealFixture) -> Result<()>);

const CHECKS: [Check; 9] = [
    ("http: every file is right, and later runs ask for nothing", downloads::http),
    ("https with a CA of its own", downloads::https),
    ("https without the CA", downloads::unknown_authority),
    ("a wrong digest in the lock costs no installed file", downloads::wrong_digest),
    ("the token goes to the hub and nowhere else", downloads::token),
    ("one group at a limited rate, then the rest", downloads::group),
    ("killed, terminated, interrupted: the next run continues", interruptions::resume),
    ("two runs on one destination", interruptions::two_at_once),
    ("an update fetches the header that has grown", updates::grown_header),
];

pub(crate) fn run() -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    programs::extend_path(&sh);
    programs::require(&sh, "cargo lab real", &[NGINX, OPENSSL, PIP, PYTHON])?;
    let program = program::xtask(&sh)?;

    let mut steps = Steps::new("real input");
    let start = || RealFixture::start(sh, program);
    let fixture = steps.prepare("a real model from a wheel, behind nginx", start)?;
    let log = || format!("nginx's log:\n{}", fixture.server_log());
    for (name, check) in CHECKS {
        with_log(steps.run(name, || check(&fixture)), log)?;
    }
    with_log(steps.run("a baked copy on XFS shares its blocks", || local::reflink(&fixture)), log)?;
    steps.finish();
    Ok(())
}

/// Runs the check whose name contains `part`.
pub(crate) fn run_check(part: &str, fixture: &RealFixture) -> Result<()> {
    let check = CHECKS.iter().find(|(name, _)| name.contains(part));
    let (_, check) = check.with_context(|| format!("no check's name contains {part}"))?;
    check(fixture)
}
