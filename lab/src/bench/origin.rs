//! Where a set is fetched from.

use std::time::Duration;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use provision_testbed::{BlockingOrigin, OriginConfig, Shape};
use xshell::Shell;

use super::set::Set;
use crate::tools::certificates::Certificates;
use crate::tools::nginx::{self, Config, Nginx};

/// How many connections ours has by default, and four files of aria2c's.
pub(super) const CONNECTIONS: u64 = 64;

/// What each connection gets where it is capped, in bytes per second: about what a CDN gives.
pub(super) const CAP: u64 = 4_000_000;
/// Every so many connections …
const SLOW_EVERY: u64 = 8;
/// … get only this.
const SLOW: u64 = CAP / 10;

/// What an origin is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// nginx without a limit, the files in memory.
    Nginx,
    /// The same over https.
    NginxTls,
    /// Each connection has [`CAP`].
    Capped,
    /// [`CAP`], 50 ms before each answer, and some are ten times slower.
    Stragglers,
}

impl Kind {
    fn shape(self) -> Option<Shape> {
        match self {
            Self::Nginx | Self::NginxTls => None,
            Self::Capped => Some(Shape::rate(CAP)),
            Self::Stragglers => Some(Shape {
                first_byte_delay: Duration::from_millis(50),
                every_nth_slow: Some((SLOW_EVERY as usize, SLOW)),
                ..Shape::rate(CAP)
            }),
        }
    }

    /// Bytes per second over so many connections, where that is limited.
    pub(super) fn speed(self, connections: u64) -> Option<f64> {
        let slow = connections / SLOW_EVERY;
        match self {
            Self::Nginx | Self::NginxTls => None,
            Self::Capped => Some((connections * CAP) as f64),
            Self::Stragglers => Some(((connections - slow) * CAP + slow * SLOW) as f64),
        }
    }

    /// Bytes per second of the slowest connection, where there is a limit.
    pub(super) fn slowest(self) -> Option<u64> {
        match self {
            Self::Nginx | Self::NginxTls => None,
            Self::Capped => Some(CAP),
            Self::Stragglers => Some(SLOW),
        }
    }

    pub(super) fn words(self) -> String {
        let cap = CAP / 1_000_000;
        match self {
            Self::Nginx => "nginx without a limit, http".to_owned(),
            Self::NginxTls => "nginx without a limit, https".to_owned(),
            Self::Capped => format!("testbed, {cap} MB/s for each connection"),
            Self::Stragglers => format!(
                "testbed, {cap} MB/s for each connection but {} MB/s for every {SLOW_EVERY}th, 50 ms before each answer",
                SLOW as f64 / 1e6
            ),
        }
    }
}

/// An origin that serves a set. It stops, and its files go, when it is dropped.
#[derive(Debug)]
pub(super) struct Origin {
    server: Server,
    pub(super) base: String,
    pub(super) authority: Option<Utf8PathBuf>,
}

#[derive(Debug)]
enum Server {
    /// With the directory that it serves.
    Nginx(#[expect(dead_code, reason = "kept for its drop")] Nginx, Utf8PathBuf),
    Testbed(#[expect(dead_code, reason = "kept for its drop")] BlockingOrigin),
}

impl Origin {
    /// Starts one; what it needs goes below `folder`, which is in memory.
    pub(super) fn start(sh: &Shell, kind: Kind, set: &Set, folder: &Utf8Path) -> Result<Self> {
        match kind.shape() {
            Some(shape) => {
                let origin = testbed(shape, set)?;
                let base = format!("http://{}", origin.addr());
                Ok(Self { server: Server::Testbed(origin), base, authority: None })
            }
            None => Self::nginx(sh, kind == Kind::NginxTls, set, folder),
        }
    }

    fn nginx(sh: &Shell, tls: bool, set: &Set, folder: &Utf8Path) -> Result<Self> {
        let source = folder.join("source");
        sh.create_dir(&source)?;
        set.write(&source)?;
        let [port] = nginx::free_ports()?;
        let (scheme, host, listen, authority) = if tls {
            let Certificates { authority, server, server_key } =
                Certificates::make(sh, &folder.join("certificates"), "DNS:localhost, IP:127.0.0.1")?;
            let listen = format!(
                "listen 127.0.0.1:{port} ssl; ssl_certificate {server}; ssl_certificate_key {server_key};"
            );
            // A name, as a real origin has: not every tool compares an address with the certificate.
            ("https", "localhost", listen, Some(authority))
        } else {
            ("http", "127.0.0.1", format!("listen 127.0.0.1:{port};"), None)
        };
        let http = format!("access_log off;\nserver {{ {listen} root {source}; }}");
        let config = Config { workers: "auto", ports: vec![port], http };
        let nginx = Nginx::start(sh, &folder.join("nginx"), &config)?;
        Ok(Self {
            server: Server::Nginx(nginx, source),
            base: format!("{scheme}://{host}:{port}"),
            authority,
        })
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Server::Nginx(_, source) = &self.server {
            // Memory that the next scenario may want; the folder as a whole goes in the end.
            let _ = std::fs::remove_dir_all(source);
        }
    }
}

/// An origin in this process that serves a set.
pub(super) fn testbed(shape: Shape, set: &Set) -> Result<BlockingOrigin> {
    let origin = BlockingOrigin::start(OriginConfig { shape, threads: 2, ..OriginConfig::default() })?;
    for file in &set.files {
        origin.put(&format!("/{}", file.path), file.content.clone());
    }
    Ok(origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_of_all_connections_is_the_sum_of_theirs() {
        assert_eq!(Kind::Nginx.speed(64), None);
        assert_eq!(Kind::Capped.speed(64), Some(256e6));
        assert_eq!(Kind::Stragglers.speed(64), Some(56.0 * 4e6 + 8.0 * 0.4e6));
    }
}
