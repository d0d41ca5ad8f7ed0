//! Where a trial takes place: origins of its own on several loopback hosts, one https server for all.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use provision_testbed::{BlockingOrigin, Content, OriginConfig, Recorded};
use xshell::Shell;

use super::PUBLIC;
use crate::tools::certificates::Certificates;
use crate::tools::nginx::{self, Nginx};

/// The file's name, in addresses and below the destination.
pub(super) const FILE: &str = "x.safetensors";
/// The file's path at each origin.
pub(super) const PATH: &str = "/x.safetensors";
/// What must not go anywhere else.
pub(super) const TOKEN: &str = "hf_canary0123456789";

/// What all trials share.
#[derive(Debug)]
pub(super) struct Stage {
    /// An https server that redirects `/to/PORT/NAME` to http.
    https: u16,
    pub(super) authority: Utf8PathBuf,
    pub(super) folder: Utf8PathBuf,
    pub(super) path_variable: String,
    has_public_address: bool,
    _nginx: Nginx,
}

impl Stage {
    pub(super) fn set(sh: &Shell, folder: &Utf8Path, has_public_address: bool) -> Result<Self> {
        let certificates =
            Certificates::make(sh, &folder.join("certificates"), "DNS:localhost, IP:127.0.0.1")?;
        let [https] = nginx::free_ports()?;
        let Certificates { server, server_key, .. } = &certificates;
        let http = format!(
            "server {{
                listen 127.0.0.1:{https} ssl;
                ssl_certificate {server};
                ssl_certificate_key {server_key};
                location ~ ^/to/([0-9]+)/ {{ return 302 http://127.0.0.1:$1{PATH}; }}
            }}"
        );
        let config = nginx::Config { workers: "1", ports: vec![https], http };
        Ok(Self {
            https,
            authority: certificates.authority.clone(),
            folder: folder.to_owned(),
            path_variable: sh.var("PATH")?,
            has_public_address,
            _nginx: Nginx::start(sh, &folder.join("nginx"), &config)?,
        })
    }
}

/// What one trial has to itself.
#[derive(Debug)]
pub(super) struct Scene {
    /// The file's own origin, on 127.0.0.1.
    pub(super) origin: BlockingOrigin,
    /// Another port of the same host.
    pub(super) port: BlockingOrigin,
    /// Another host, 127.0.0.2.
    pub(super) host: BlockingOrigin,
    /// One whose address looks public, where there is such an address.
    pub(super) public: Option<BlockingOrigin>,
    pub(super) ftp: Ftp,
    pub(super) content: Content,
    https: u16,
}

impl Scene {
    /// All origins have the file and behave.
    pub(super) fn set(stage: &Stage, content: &Content) -> Result<Self> {
        let start = |address: IpAddr| {
            let origin = BlockingOrigin::start(OriginConfig {
                addr: SocketAddr::new(address, 0),
                ..OriginConfig::default()
            })
            .with_context(|| format!("an origin on {address}"))?;
            origin.put(PATH, content.clone());
            anyhow::Ok(origin)
        };
        let public = stage.has_public_address.then(|| start(PUBLIC.parse()?)).transpose()?;
        Ok(Self {
            origin: start(Ipv4Addr::LOCALHOST.into())?,
            port: start(Ipv4Addr::LOCALHOST.into())?,
            host: start(Ipv4Addr::new(127, 0, 0, 2).into())?,
            public,
            ftp: Ftp::start()?,
            content: content.clone(),
            https: stage.https,
        })
    }

    /// An https address that leads to `port` over http.
    pub(super) fn https_to_http(&self) -> String {
        format!("https://localhost:{}/to/{}{PATH}", self.https, self.port.addr().port())
    }

    /// Requests that came to somebody else than the file's own origin.
    pub(super) fn foreign(&self) -> Vec<Recorded> {
        [&self.port, &self.host].into_iter().flat_map(|origin| origin.requests()).collect()
    }
}

/// Something that answers as a busy FTP server does, and counts.
#[derive(Debug)]
pub(super) struct Ftp {
    pub(super) port: u16,
    came: Arc<AtomicUsize>,
}

impl Ftp {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let came = Arc::new(AtomicUsize::new(0));
        // It holds nothing but its own counter, and ends when nobody else holds that.
        let counter = Arc::downgrade(&came);
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let Some(counter) = counter.upgrade() else { return };
                counter.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(b"421 busy\r\n");
            }
        });
        Ok(Self { port, came })
    }

    pub(super) fn came(&self) -> usize {
        self.came.load(Ordering::SeqCst)
    }
}

impl Drop for Ftp {
    fn drop(&mut self) {
        self.came = Arc::default();
        // Wakes the thread, which finds its counter gone.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}
