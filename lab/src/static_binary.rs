//! The static binary in roots where nothing of its own world is: empty, with another C library, and with name service
//! modules that must not be loaded. It fetches over https by a name that only a name server here knows.
//!
//! All of it happens in a network namespace of its own: port 53 is free there, and what is asked of anybody else goes
//! nowhere. This process enters it by starting itself again.

mod checks;
mod root;
mod trace;
mod world;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use xshell::{Shell, cmd};

use crate::project;
use crate::tools::program;
use crate::tools::programs::{self, BUSYBOX, DNSMASQ, MUSL, NGINX, OPENSSL, STRACE};
use crate::tools::steps::{Done, Steps};
use checks::CHECKS;
use world::World;

/// Builds the static binary and proves it in roots without a C library
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct StaticBinaryArgs {
    /// The binary on trial, in this process's own network: how it starts itself
    #[arg(long, value_name = "PATH", hide = true)]
    pub(crate) inside: Option<Utf8PathBuf>,
}

/// One thing that has to hold.
struct Check {
    name: &'static str,
    prove: fn(&World) -> Result<()>,
}

pub(crate) fn run(args: &StaticBinaryArgs) -> Result<Done> {
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    programs::extend_path(&sh);
    if let Some(binary) = &args.inside {
        prove(sh, binary)?;
        return Ok(Done::Passed);
    }
    programs::require(&sh, "the static binary's check", &[NGINX, OPENSSL, DNSMASQ, BUSYBOX, MUSL, STRACE])?;
    let binary = program::dist(&sh)?;
    if cmd!(sh, "unshare --net chroot / true").quiet().ignore_stderr().run().is_err() {
        return Ok(Done::Skipped(
            "built, not proved: no network namespace or chroot here (not root?)".to_owned(),
        ));
    }
    let this = std::env::current_exe()?;
    cmd!(sh, "unshare --net {this} static --inside {binary}").quiet().run()?;
    Ok(Done::Passed)
}

fn prove(sh: Shell, binary: &Utf8Path) -> Result<()> {
    // Also the guard against a call by hand: in the machine's own network there would be other names.
    let addresses = sh.read_file("/proc/net/fib_trie")?;
    ensure!(!addresses.contains("LOCAL"), "--inside is for a network namespace that is empty");
    cmd!(sh, "busybox ip link set lo up").quiet().run()?;
    let mut steps = Steps::new("static binary");
    let world = World::start(sh, binary)?;
    for check in CHECKS {
        steps
            .run(check.name, || (check.prove)(&world).map(|()| Done::Passed))
            .with_context(|| world.complaints())?;
    }
    steps.finish();
    Ok(())
}
