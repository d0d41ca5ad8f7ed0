//! A real web server for checks and benchmarks: nginx with a prefix of its own, on loopback, gone with its guard.
//!
//! Nothing of the system's nginx takes part: neither its configuration nor its directories nor its ports. However this
//! process ends, the server ends: by the guard's drop; by the signal that a terminal sends to both; and by the kernel
//! (`setpriv --pdeathsig`) when this process is killed.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use xshell::{Shell, cmd};

use crate::tools::wait;

/// A running nginx.
#[derive(Debug)]
pub(crate) struct Nginx {
    master: Child,
    prefix: Utf8PathBuf,
}

/// What to serve, and how.
#[derive(Debug)]
pub(crate) struct Config {
    /// `worker_processes`.
    pub(crate) workers: &'static str,
    /// The ports that `http` listens on: it is up when all of them answer.
    pub(crate) ports: Vec<u16>,
    /// The inside of the `http` block. Relative paths are below the prefix.
    pub(crate) http: String,
}

/// That many ports of 127.0.0.1 that are free now.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    // All are held before the first is let go: no port comes twice.
    let listeners: Vec<_> =
        (0..N).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

impl Nginx {
    /// Starts in the foreground below `prefix`, which must exist, and waits until it answers.
    pub(crate) fn start(sh: &Shell, prefix: &Utf8Path, config: &Config) -> Result<Self> {
        sh.create_dir(prefix.join("logs"))?;
        let path = prefix.join("nginx.conf");
        sh.write_file(&path, whole(sh, config)?)?;
        let path_variable = sh.var("PATH")?;
        let master = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--", "nginx", "-e", "logs/error.log", "-p"])
            .arg(prefix)
            .arg("-c")
            .arg(&path)
            .env("PATH", path_variable)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(prefix.join("logs/stderr.log"))?)
            .spawn()
            .context("starting nginx by setpriv (of util-linux)")?;
        let mut nginx = Self { master, prefix: prefix.to_owned() };
        for &port in &config.ports {
            nginx.wait_for(port)?;
        }
        Ok(nginx)
    }

    fn wait_for(&mut self, port: u16) -> Result<()> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        wait::until("nginx to answer", Duration::from_secs(20), || {
            if let Some(status) = self.master.try_wait()? {
                bail!("nginx ended at once ({status}):\n{}", self.complaints());
            }
            Ok(TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok())
        })?;
        Ok(())
    }

    /// What it has written about its troubles.
    pub(crate) fn complaints(&self) -> String {
        ["logs/stderr.log", "logs/error.log"].into_iter().fold(String::new(), |mut text, name| {
            let log = std::fs::read_to_string(self.prefix.join(name)).unwrap_or_default();
            let _ = write!(text, "{log}");
            text
        })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master has to be asked: killed, it would leave its workers behind.
        let pid = self.master.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status().is_ok_and(|status| status.success());
        if !asked {
            let _ = self.master.kill();
        }
        let _ = self.master.wait();
    }
}

fn whole(sh: &Shell, config: &Config) -> Result<String> {
    // As root, nginx would give its workers another user, who may not read a private scratch directory.
    let user = if cmd!(sh, "id -u").quiet().read()? == "0" { "user root;" } else { "" };
    Ok(format!(
        "\
daemon off;
{user}
worker_processes {workers};
pid nginx.pid;
error_log logs/error.log notice;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    default_type application/octet-stream;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000;
{http}
}}
",
        workers = config.workers,
        http = config.http,
    ))
}
