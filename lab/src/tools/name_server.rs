//! A name server for the checks: dnsmasq with fixed names, which denies every other name.

use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use xshell::Shell;

use crate::tools::wait;

/// A running dnsmasq, on port 53.
#[derive(Debug)]
pub(crate) struct NameServer {
    child: Child,
    log: Utf8PathBuf,
}

impl NameServer {
    /// Serves at `address` and resolves each of `names` to 127.0.0.1.
    pub(crate) fn start(sh: &Shell, folder: &Utf8Path, address: &str, names: &[&str]) -> Result<Self> {
        let log = folder.join("dnsmasq.log");
        // The kernel kills the server if this process is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "dnsmasq", "--keep-in-foreground"]);
        command.args(["--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file=", "--user=root"]);
        command.args(["--bind-interfaces", "--local=/#/", "--log-queries"]);
        command.arg(format!("--listen-address={address}"));
        command.arg(format!("--log-facility={log}"));
        command.args(names.iter().map(|name| format!("--host-record={name},127.0.0.1")));
        let child = command
            .env("PATH", sh.var("PATH")?)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("dnsmasq.err"))?)
            .spawn()
            .context("starting dnsmasq with setpriv (package util-linux)")?;
        let mut server = Self { child, log };
        wait::until("dnsmasq to listen", Duration::from_secs(10), || {
            if let Some(status) = server.child.try_wait()? {
                let errors = sh.read_file(folder.join("dnsmasq.err"))?;
                bail!("dnsmasq could not start ({status}): {errors}");
            }
            // dnsmasq has bound the port when another bind fails.
            Ok(UdpSocket::bind((address, 53)).is_err().then_some(()))
        })?;
        Ok(server)
    }

    /// The number of queries for `name` so far.
    pub(crate) fn queries(&self, name: &str) -> Result<usize> {
        let log = std::fs::read_to_string(&self.log)?;
        let patterns = ["A", "AAAA"].map(|kind| format!("query[{kind}] {name} from"));
        Ok(log.lines().filter(|line| patterns.iter().any(|pattern| line.contains(pattern))).count())
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
