//! The origins that serve a file set: nginx without a limit, or the testbed with a limited rate.

use std::time::Duration;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use provision_testbed::{BlockingOrigin, OriginConfig, Shape};
use xshell::Shell;

use super::file_set::FileSet;
use crate::tools::certificates::Certificates;
use crate::tools::nginx::{self, Config, Nginx};
use crate::tools::scratch::Scratch;

/// The default number of connections of ours, and that of aria2c for four files.
pub(super) const CONNECTIONS: u64 = 64;

/// Bytes per second for each capped connection: about what a CDN gives.
pub(super) const CAP: u64 = 4_000_000;

/// The kind of an origin.
#[derive(Debug, Clone, Copy)]
pub(super) struct OriginKind {
    /// In a report.
    pub(super) words: &'static str,
    is_tls: bool,
    /// That of the testbed, which generates the bytes while it sends them. nginx has none, and the files in memory.
    pub(super) shape: Option<Shape>,
}

pub(super) const NGINX: OriginKind =
    OriginKind { words: "nginx without a limit, http", is_tls: false, shape: None };

pub(super) const NGINX_TLS: OriginKind =
    OriginKind { words: "nginx without a limit, https", is_tls: true, shape: None };

/// [`CAP`] for each connection.
pub(super) fn capped() -> OriginKind {
    OriginKind::testbed("testbed, 4 MB/s for each connection", Shape::rate(CAP))
}

/// [`CAP`] for each connection, 50 ms before each response, and some connections ten times slower.
pub(super) fn stragglers() -> OriginKind {
    let shape = Shape {
        first_byte_delay: Duration::from_millis(50),
        every_nth_slow: Some((8, CAP / 10)),
        ..Shape::rate(CAP)
    };
    let words = "testbed, 4 MB/s for each connection but 0.4 MB/s for every 8th, 50 ms before each response";
    OriginKind::testbed(words, shape)
}

impl OriginKind {
    pub(super) fn testbed(words: &'static str, shape: Shape) -> Self {
        Self { words, is_tls: false, shape: Some(shape) }
    }

    /// Bytes per second over this number of connections, if the origin limits them.
    pub(super) fn rate(self, connections: u64) -> Option<f64> {
        let Shape { rate_per_connection, every_nth_slow, .. } = self.shape?;
        let (slow, slow_rate) = every_nth_slow.map_or((0, 0), |(n, slow)| (connections / n as u64, slow));
        Some(((connections - slow) * rate_per_connection? + slow * slow_rate) as f64)
    }
}

/// A running origin. Its drop stops it and removes its files.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) base: String,
    /// The certificate authority that clients must trust.
    pub(super) authority: Option<Utf8PathBuf>,
    /// The origin in this process, with its counters.
    pub(super) testbed: Option<BlockingOrigin>,
    /// nginx and its files, kept for their drop: the next scenario may need the memory.
    _nginx: Option<(Nginx, Scratch)>,
}

impl Origin {
    /// Starts an origin that keeps its files below `folder`.
    pub(super) fn start(sh: &Shell, kind: OriginKind, set: &FileSet, folder: &Utf8Path) -> Result<Self> {
        if let Some(shape) = kind.shape {
            let testbed =
                BlockingOrigin::start(OriginConfig { shape, threads: 2, ..OriginConfig::default() })?;
            for file in &set.0 {
                testbed.put(&format!("/{}", file.path), file.content.clone());
            }
            let base = testbed.url("");
            return Ok(Self { base, authority: None, testbed: Some(testbed), _nginx: None });
        }
        let source = Scratch::create(folder, "source-")?;
        set.write(source.path())?;
        let [port] = nginx::free_ports()?;
        let (mut base, mut tls, mut authority) = (format!("http://127.0.0.1:{port}"), ";".to_owned(), None);
        if kind.is_tls {
            let certificates =
                Certificates::make(sh, &folder.join("certificates"), "DNS:localhost, IP:127.0.0.1")?;
            // A name, as of a real origin: not every tool compares an address with the certificate.
            base = format!("https://localhost:{port}");
            tls = format!(" ssl; {}", certificates.directives);
            authority = Some(certificates.authority);
        }
        let root = source.path();
        let http = format!("access_log off;\nserver {{ listen 127.0.0.1:{port}{tls} root {root}; }}");
        let config = Config { workers: "auto", ports: vec![port], http };
        let nginx = Nginx::start(sh, &folder.join("nginx"), &config)?;
        Ok(Self { base, authority, testbed: None, _nginx: Some((nginx, source)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_an_origin_is_the_sum_of_its_connections() {
        assert_eq!(NGINX.rate(64), None);
        assert_eq!(capped().rate(64), Some(256e6));
        assert_eq!(stragglers().rate(64), Some(56.0 * 4e6 + 8.0 * 0.4e6));
    }
}
