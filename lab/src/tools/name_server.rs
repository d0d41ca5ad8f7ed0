//! A name server: dnsmasq, which knows the names that it is told and denies all others.

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
    /// Answers at `address` for `names`, all by 127.0.0.1.
    pub(crate) fn start(sh: &Shell, folder: &Utf8Path, address: &str, names: &[&str]) -> Result<Self> {
        let log = folder.join("dnsmasq.log");
        // Should this process be killed, the kernel ends the server, too.
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
            .context("starting dnsmasq by setpriv (of util-linux)")?;
        let mut server = Self { child, log };
        wait::until("dnsmasq to listen", Duration::from_secs(10), || {
            if let Some(status) = server.child.try_wait()? {
                bail!("dnsmasq ended at once ({status}): {}", sh.read_file(folder.join("dnsmasq.err"))?);
            }
            // It has the port when nobody else can have it.
            Ok(UdpSocket::bind((address, 53)).is_err().then_some(()))
        })?;
        Ok(server)
    }

    /// How often it was asked for this name so far.
    pub(crate) fn asked(&self, name: &str) -> Result<usize> {
        let log = std::fs::read_to_string(&self.log)?;
        let (v4, v6) = (format!("query[A] {name} from"), format!("query[AAAA] {name} from"));
        Ok(log.lines().filter(|line| line.contains(&v4) || line.contains(&v6)).count())
    }

    /// What it has written.
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
