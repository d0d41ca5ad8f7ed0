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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OriginKind {
    /// nginx without a limit, the files in memory.
    Nginx,
    /// The same over https.
    NginxTls,
    /// The testbed, which generates the bytes while it sends them, and its shape in words.
    Testbed(Shape, &'static str),
}

/// [`CAP`] for each connection.
pub(super) fn capped() -> OriginKind {
    OriginKind::Testbed(Shape::rate(CAP), "testbed, 4 MB/s for each connection")
}

/// [`CAP`] for each connection, 50 ms before each response, and some connections ten times slower.
pub(super) fn stragglers() -> OriginKind {
    let shape = Shape {
        first_byte_delay: Duration::from_millis(50),
        every_nth_slow: Some((8, CAP / 10)),
        ..Shape::rate(CAP)
    };
    let words = "testbed, 4 MB/s for each connection but 0.4 MB/s for every 8th, 50 ms before each response";
    OriginKind::Testbed(shape, words)
}

impl OriginKind {
    /// The source files take memory.
    pub(super) fn keeps_files(self) -> bool {
        !matches!(self, Self::Testbed(..))
    }

    /// Bytes per second over this number of connections, if the origin limits them.
    pub(super) fn rate(self, connections: u64) -> Option<f64> {
        let Self::Testbed(shape, _) = self else { return None };
        let (rate, every_nth_slow) = (shape.rate_per_connection?, shape.every_nth_slow);
        let (slow, slow_rate) = every_nth_slow.map_or((0, 0), |(n, slow)| (connections / n as u64, slow));
        Some(((connections - slow) * rate + slow * slow_rate) as f64)
    }

    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Nginx => "nginx without a limit, http",
            Self::NginxTls => "nginx without a limit, https",
            Self::Testbed(_, words) => words,
        }
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
        let OriginKind::Testbed(shape, _) = kind else {
            return Self::nginx(sh, kind == OriginKind::NginxTls, set, folder);
        };
        let origin = BlockingOrigin::start(OriginConfig { shape, threads: 2, ..OriginConfig::default() })?;
        for file in &set.0 {
            origin.put(&format!("/{}", file.path), file.content.clone());
        }
        let base = format!("http://{}", origin.addr());
        Ok(Self { base, authority: None, testbed: Some(origin), _nginx: None })
    }

    fn nginx(sh: &Shell, is_tls: bool, set: &FileSet, folder: &Utf8Path) -> Result<Self> {
        let source = Scratch::create(folder, "source-")?;
        let root = source.path();
        set.write(root)?;
        let [port] = nginx::free_ports()?;
        let (base, tls, authority) = if is_tls {
            let names = "DNS:localhost, IP:127.0.0.1";
            let certificates = Certificates::make(sh, &folder.join("certificates"), names)?;
            let tls = format!(" ssl; {}", certificates.directives);
            // A name, as of a real origin: not every tool compares an address with the certificate.
            (format!("https://localhost:{port}"), tls, Some(certificates.authority))
        } else {
            (format!("http://127.0.0.1:{port}"), ";".to_owned(), None)
        };
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
        assert_eq!(OriginKind::Nginx.rate(64), None);
        assert_eq!(capped().rate(64), Some(256e6));
        assert_eq!(stragglers().rate(64), Some(56.0 * 4e6 + 8.0 * 0.4e6));
    }
}
