//! A real web server for checks and benchmarks: nginx on loopback, below its own prefix.
//!
//! The server is independent of the system's nginx: it uses other configuration, directories and ports. SIGTERM ends
//! it, on which the master ends its workers; after SIGKILL they would go on.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::Result;
use camino::Utf8Path;
use xshell::Shell;

use crate::tools::process::{Run, Running};

/// A running nginx. Its drop ends it.
#[derive(Debug)]
pub(crate) struct Nginx(Running);

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
        sh.write_file(&path, configuration(config))?;
        let run = Run::new_ended_by("TERM", "nginx".into(), &sh.var("PATH")?, prefix.to_owned())?;
        let options = ["-e", "stderr", "-p", prefix.as_str(), "-c", path.as_str()];
        let mut master = run.args(&options).start()?;
        for &port in &config.ports {
            master = master.listens((Ipv4Addr::LOCALHOST, port))?;
        }
        Ok(Self(master))
    }

    /// Its first process.
    pub(crate) fn server(&self) -> &Running {
        &self.0
    }

    /// Its log, which is its output.
    pub(crate) fn log(&self) -> String {
        self.0.output()
    }
}

fn configuration(Config { workers, http, .. }: &Config) -> String {
    // As root, nginx runs its workers as another user, who cannot read the scratch directory.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    format!(
        "\
daemon off;
{user}
worker_processes {workers};
pid nginx.pid;
error_log stderr warn;
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
"
    )
}
