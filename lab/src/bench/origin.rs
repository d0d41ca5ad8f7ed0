//! The origins that serve a file set: nginx without a limit, or the testbed with a limited rate.

use std::any::Any;
use std::time::Duration;

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use provision_testbed::{BlockingOrigin, OriginConfig, Shape};
use xshell::Shell;

use super::file_set::FileSet;
use crate::tools::certificates::Certificates;
use crate::tools::nginx::{self, Config, Nginx};

/// The default number of connections of ours, and that of aria2c for four files.
pub(super) const CONNECTIONS: u64 = 64;

/// Bytes per second for each capped connection: about what a CDN gives.
pub(super) const CAP: u64 = 4_000_000;
/// Every connection of this number …
const SLOW_EVERY: u64 = 8;
/// … gets only so many bytes per second.
const SLOW: u64 = CAP / 10;

/// The kind of an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OriginKind {
    /// nginx without a limit, the files in memory.
    Nginx,
    /// The same over https.
    NginxTls,
    /// The testbed with [`CAP`] for each connection.
    Capped,
    /// The same, 50 ms before each response, and some connections ten times slower.
    Stragglers,
}

impl OriginKind {
    /// Bytes per second over this number of connections, if the origin limits them.
    pub(super) fn rate(self, connections: u64) -> Option<f64> {
        let slow = connections / SLOW_EVERY;
        match self {
            Self::Nginx | Self::NginxTls => None,
            Self::Capped => Some((connections * CAP) as f64),
            Self::Stragglers => Some(((connections - slow) * CAP + slow * SLOW) as f64),
        }
    }

    pub(super) fn description(self) -> String {
        let cap = CAP / 1_000_000;
        match self {
            Self::Nginx => "nginx without a limit, http".to_owned(),
            Self::NginxTls => "nginx without a limit, https".to_owned(),
            Self::Capped => format!("testbed, {cap} MB/s for each connection"),
            Self::Stragglers => format!(
                "testbed, {cap} MB/s for each connection but {} MB/s for every {SLOW_EVERY}th, 50 ms before each response",
                SLOW as f64 / 1e6
            ),
        }
    }
}

/// A running origin. Its drop stops it and removes its files.
#[derive(Debug)]
pub(super) struct Origin {
    /// Kept for its drop.
    _server: Box<dyn Any>,
    pub(super) base: String,
    /// The certificate authority that clients must trust.
    pub(super) authority: Option<Utf8PathBuf>,
}

impl Origin {
    /// Starts an origin that keeps its files below `folder`.
    pub(super) fn start(sh: &Shell, kind: OriginKind, set: &FileSet, folder: &Utf8Path) -> Result<Self> {
        let shape = match kind {
            OriginKind::Nginx | OriginKind::NginxTls => return Self::nginx(sh, kind, set, folder),
            OriginKind::Capped => Shape::rate(CAP),
            OriginKind::Stragglers => Shape {
                first_byte_delay: Duration::from_millis(50),
                every_nth_slow: Some((SLOW_EVERY as usize, SLOW)),
                ..Shape::rate(CAP)
            },
        };
        let origin = testbed(shape, set)?;
        let base = format!("http://{}", origin.addr());
        Ok(Self { _server: Box::new(origin), base, authority: None })
    }

    fn nginx(sh: &Shell, kind: OriginKind, set: &FileSet, folder: &Utf8Path) -> Result<Self> {
        // It is in memory, which the next scenario may need: it goes with the server.
        let source = tempfile::tempdir_in(folder)?;
        let root = Utf8Path::from_path(source.path()).context("the path of --dir is not UTF-8")?;
        set.write(root)?;
        let [port] = nginx::free_ports()?;
        let (base, tls, authority) = if kind == OriginKind::NginxTls {
            let names = "DNS:localhost, IP:127.0.0.1";
            let Certificates { authority, server, server_key } =
                Certificates::make(sh, &folder.join("certificates"), names)?;
            let tls = format!(" ssl; ssl_certificate {server}; ssl_certificate_key {server_key}");
            // A name, as of a real origin: not every tool compares an address with the certificate.
            (format!("https://localhost:{port}"), tls, Some(authority))
        } else {
            (format!("http://127.0.0.1:{port}"), String::new(), None)
        };
        let http = format!("access_log off;\nserver {{ listen 127.0.0.1:{port}{tls}; root {root}; }}");
        let config = Config { workers: "auto", ports: vec![port], http };
        let nginx = Nginx::start(sh, &folder.join("nginx"), &config)?;
        Ok(Self { _server: Box::new((nginx, source)), base, authority })
    }
}

/// A testbed origin in this process.
pub(super) fn testbed(shape: Shape, set: &FileSet) -> Result<BlockingOrigin> {
    let origin = BlockingOrigin::start(OriginConfig { shape, threads: 2, ..OriginConfig::default() })?;
    for file in &set.0 {
        origin.put(&format!("/{}", file.path), file.content.clone());
    }
    Ok(origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_an_origin_is_the_sum_of_its_connections() {
        assert_eq!(OriginKind::Nginx.rate(64), None);
        assert_eq!(OriginKind::Capped.rate(64), Some(256e6));
        assert_eq!(OriginKind::Stragglers.rate(64), Some(56.0 * 4e6 + 8.0 * 0.4e6));
    }
}
