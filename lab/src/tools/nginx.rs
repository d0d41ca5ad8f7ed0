//! A real web server for checks and benchmarks: nginx on loopback, below its own prefix.
//!
//! The server is independent of the system's nginx: it uses other configuration, directories and ports. It always ends
//! with this process: by [`Nginx`]'s drop, by a terminal's signal to both, or by `setpriv --pdeathsig` after a kill.

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

/// The part of the configuration that differs by check.
#[derive(Debug)]
pub(crate) struct Config {
    /// `worker_processes`.
    pub(crate) workers: &'static str,
    /// The ports that `http` listens on. The server has started when all of them accept connections.
    pub(crate) ports: Vec<u16>,
    /// The content of the `http` block. Relative paths are below the prefix.
    pub(crate) http: String,
}

/// `N` free ports of 127.0.0.1.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    // All listeners are open at once, so no port is given twice.
    let listeners: Vec<_> =
        (0..N).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

impl Nginx {
    /// Starts the server below `prefix` and waits until it accepts connections.
    pub(crate) fn start(sh: &Shell, prefix: &Utf8Path, config: &Config) -> Result<Self> {
        sh.create_dir(prefix.join("logs"))?;
        let path = prefix.join("nginx.conf");
        sh.write_file(&path, configuration(sh, config)?)?;
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
            .context("starting nginx with setpriv (package util-linux)")?;
        let mut nginx = Self { master, prefix: prefix.to_owned() };
        for &port in &config.ports {
            nginx.wait_for(port)?;
        }
        Ok(nginx)
    }

    fn wait_for(&mut self, port: u16) -> Result<()> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        wait::until("nginx to listen", Duration::from_secs(20), || {
            if let Some(status) = self.master.try_wait()? {
                bail!("nginx could not start ({status}):\n{}", self.log());
            }
            Ok(TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok())
        })?;
        Ok(())
    }

    /// Its standard error and its error log.
    pub(crate) fn log(&self) -> String {
        ["logs/stderr.log", "logs/error.log"].into_iter().fold(String::new(), |mut text, name| {
            let log = std::fs::read_to_string(self.prefix.join(name)).unwrap_or_default();
            let _ = write!(text, "{log}");
            text
        })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM lets the master end its workers. After SIGKILL they would go on.
        let pid = self.master.id().to_string();
        let terminated =
            Command::new("kill").args(["-TERM", &pid]).status().is_ok_and(|status| status.success());
        if !terminated {
            let _ = self.master.kill();
        }
        let _ = self.master.wait();
    }
}

fn configuration(sh: &Shell, config: &Config) -> Result<String> {
    // As root, nginx runs its workers as another user, who cannot read the scratch directory.
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
