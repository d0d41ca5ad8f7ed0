//! `cargo lab static`: the static binary runs in roots that lack everything a dynamic one needs.
//!
//! The roots are empty, have another C library, or name name-service modules that must not be loaded. The binary
//! downloads over https, from a host that only a name server of this check knows.
//!
//! The check runs in an empty network namespace: port 53 is free there, and queries to other servers go nowhere. This
//! process enters the namespace by starting itself again with `--inside`.

mod checks;
mod fixture;

use anyhow::{Result, ensure};
use camino::Utf8PathBuf;
use clap::Args;
use xshell::{Shell, cmd};

use crate::project;
use crate::tools::program;
use crate::tools::programs::{self, BUSYBOX, DNSMASQ, MUSL, NGINX, OPENSSL, STRACE};
use crate::tools::steps::{Done, Steps, with_log};
use checks::CHECKS;
use fixture::StaticFixture;

/// Builds the static binary and runs it in roots without a C library
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct StaticArgs {
    /// Check this binary in this process's network namespace, which must be empty
    #[arg(long, value_name = "PATH", hide = true)]
    pub(crate) inside: Option<Utf8PathBuf>,
}

pub(crate) fn run(args: &StaticArgs) -> Result<Done> {
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    programs::extend_path(&sh);
    if let Some(binary) = &args.inside {
        return run_checks(sh, binary.clone());
    }
    programs::require(&sh, "cargo lab static", &[NGINX, OPENSSL, DNSMASQ, BUSYBOX, MUSL, STRACE])?;
    let binary = program::dist(&sh, &[])?;
    if cmd!(sh, "unshare --net chroot / true").quiet().ignore_stderr().run().is_err() {
        let reason = "built, but not checked: no network namespace or chroot here (not root?)";
        return Ok(Done::Skipped(reason.to_owned()));
    }
    let this = std::env::current_exe()?;
    cmd!(sh, "unshare --net {this} static --inside {binary}").quiet().run()?;
    Ok(Done::Passed)
}

fn run_checks(sh: Shell, binary: Utf8PathBuf) -> Result<Done> {
    // In the machine's own network the names would resolve differently.
    let addresses = sh.read_file("/proc/net/fib_trie")?;
    ensure!(
        !addresses.contains("LOCAL"),
        "--inside needs an empty network namespace; run `cargo lab static`"
    );
    cmd!(sh, "busybox ip link set lo up").quiet().run()?;
    let mut steps = Steps::new("static binary");
    let fixture = StaticFixture::start(sh, binary)?;
    for (name, check) in CHECKS {
        with_log(steps.run(name, || check(&fixture)), || fixture.server_logs())?;
    }
    steps.finish();
    Ok(Done::Passed)
}
