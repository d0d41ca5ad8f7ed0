//! The servers of one run: origins on several addresses of the network namespace, each with the file.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result};
use provision_testbed::{BlockingOrigin, OriginConfig, Tls};

/// The file's name below the destination.
pub(super) const FILE: &str = "x.safetensors";
/// The file's path at each origin.
pub(super) const PATH: &str = "/x.safetensors";
/// The credential that no other host may receive.
pub(super) const TOKEN: &str = "hf_canary0123456789";
/// An address outside the private ranges, for case 47.
pub(super) const PUBLIC: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 1);

/// The servers.
#[derive(Debug)]
pub(super) struct Origins {
    /// The file's own origin, on 127.0.0.1.
    pub(super) origin: BlockingOrigin,
    /// Another port of the same host.
    pub(super) other_port: BlockingOrigin,
    /// Another host, 127.0.0.2.
    pub(super) other_host: BlockingOrigin,
    /// `https://localhost`.
    pub(super) https: BlockingOrigin,
    /// An origin on [`PUBLIC`].
    pub(super) public: BlockingOrigin,
}

impl Origins {
    pub(super) fn start() -> Result<Self> {
        let start = |ip: Ipv4Addr, tls| {
            let config = OriginConfig { addr: (IpAddr::V4(ip), 0).into(), tls, ..OriginConfig::default() };
            BlockingOrigin::start(config).with_context(|| format!("starting an origin on {ip}"))
        };
        Ok(Self {
            origin: start(Ipv4Addr::LOCALHOST, None)?,
            other_port: start(Ipv4Addr::LOCALHOST, None)?,
            other_host: start(Ipv4Addr::new(127, 0, 0, 2), None)?,
            https: start(Ipv4Addr::LOCALHOST, Some(Tls::default()))?,
            public: start(PUBLIC, None)?,
        })
    }
}
