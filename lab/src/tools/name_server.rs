//! A name server for the checks: dnsmasq with fixed names, which denies every other name.

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use xshell::Shell;

use crate::tools::process::{Run, Running};

/// A running dnsmasq, on port 53.
#[derive(Debug)]
pub(crate) struct NameServer {
    log: Utf8PathBuf,
    /// Kept for its drop, which ends the server.
    _server: Running,
}

impl NameServer {
    /// Serves at `address` and resolves each of `names` to 127.0.0.1.
    pub(crate) fn start(sh: &Shell, folder: &Utf8Path, address: &str, names: &[&str]) -> Result<Self> {
        let folder = folder.join("dnsmasq");
        let log = folder.join("log");
        let records: Vec<_> = names.iter().map(|name| format!("--host-record={name},127.0.0.1")).collect();
        let server = Run::new("dnsmasq".into(), &sh.var("PATH")?, folder)?
            .args(&["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root"])
            .args(&["--no-resolv", "--no-hosts", "--bind-interfaces", "--local=/#/", "--log-queries"])
            .args(&[format!("--listen-address={address}"), format!("--log-facility={log}")])
            .args(&records)
            .start()?
            .listens((address, 53))?;
        Ok(Self { log, _server: server })
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
