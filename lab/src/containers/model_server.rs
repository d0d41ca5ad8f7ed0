//! nginx with the models of the checks: four real files in the directories of the project's lock.

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;
use xshell::Shell;

use super::names::{CANARY, MARKER};
use crate::tools::access_log::{self, AccessLog, SYNC};
use crate::tools::lock_text::{Entry, Lock};
use crate::tools::nginx::{self, Nginx};
use crate::tools::wheel::{Asset, Assets};

/// The path on the server for which it requires the token, as the Hub does.
pub(super) const GATED: &str = "gated";

/// The directories of the project's lock, the largest first. The Dockerfile has a layer for each.
const DIRECTORIES: [&str; 4] = ["diffusion_models", "text_encoders", "loras", "vae"];

/// A rate for each response, in nginx's notation. Responses then end often, so that the access log follows a download.
pub(super) const SLOW: &str = "1m";
/// A rate at which the set takes seconds over one connection.
pub(super) const MEDIUM: &str = "20m";

/// The web server. It stops when it is dropped.
#[derive(Debug)]
pub(super) struct ModelServer {
    /// `None` after [`ModelServer::stop`].
    nginx: Option<Nginx>,
    pub(super) log: AccessLog,
    pub(super) lock: Lock,
    /// The directory of the files.
    folder: Utf8PathBuf,
    /// The URL that stands for the Hub's.
    pub(super) hub: String,
    /// A file named like a rate sets it.
    rates: Utf8PathBuf,
}

impl ModelServer {
    pub(super) fn start(sh: &Shell, scratch: &Utf8Path) -> Result<Self> {
        let Assets { folder, files } = Assets::unpack(sh, scratch)?;
        let [port] = nginx::free_ports()?;
        let rates = scratch.join("rates");
        sh.create_dir(&rates)?;
        let limits =
            [SLOW, MEDIUM].map(|rate| format!("if (-f {rates}/{rate}) {{ set $limit_rate {rate}; }}"));
        let http = format!(
            "
    {format}
    access_log logs/access.log seen;
    server {{
        listen 127.0.0.1:{port};
        location = {SYNC} {{ return 204; }}
        location /{GATED}/ {{
            if ($http_authorization != 'Bearer {CANARY}') {{ return 401; }}
            alias {folder}/;
        }}
        location /files/ {{
            {limits}
            alias {folder}/;
        }}
    }}
",
            format = access_log::FORMAT,
            limits = limits.join("\n"),
        );
        let prefix = scratch.join("nginx");
        // The access log is complete and ordered only with one worker.
        let nginx = Nginx::start(sh, &prefix, &nginx::Config { workers: "1", ports: vec![port], http })?;
        let hub = format!("http://127.0.0.1:{port}");
        Ok(Self {
            nginx: Some(nginx),
            log: AccessLog::new(prefix.join("logs/access.log"), port),
            lock: lock(files, &format!("{hub}/files")),
            folder,
            hub,
            rates,
        })
    }

    /// The common start of the URLs in the lock.
    pub(super) fn base(&self) -> String {
        format!("{}/files", self.hub)
    }

    /// The bytes of a file.
    pub(super) fn read(&self, entry: &Entry) -> Result<Vec<u8>> {
        let path = entry.url.strip_prefix(&self.base()).context("a file is at this server")?;
        Ok(std::fs::read(self.folder.join(path.trim_start_matches('/')))?)
    }

    /// A `ComfyUI` workflow with every model of the lock, at the URL `base` instead of [`ModelServer::base`].
    pub(super) fn workflow(&self, base: &str) -> String {
        let node = |entry: &Entry| {
            let (directory, name) = entry.path.split_once('/').unwrap_or_default();
            let url = entry.url.replace(&self.base(), base);
            let model = json!({ "name": name, "url": url, "directory": directory });
            json!({ "type": "Loader", "widgets_values": [name], "properties": { "models": [model] } })
        };
        json!({ "nodes": self.lock.entries.iter().map(node).collect::<Vec<_>>(), "links": [] }).to_string()
    }

    /// Limits the responses until [`ModelServer::unlimit`].
    pub(super) fn limit(&self, rate: &str) -> Result<()> {
        Ok(std::fs::write(self.rates.join(rate), "")?)
    }

    pub(super) fn unlimit(&self, rate: &str) -> Result<()> {
        Ok(std::fs::remove_file(self.rates.join(rate))?)
    }

    pub(super) fn stop(&mut self) {
        self.nginx = None;
    }

    pub(super) fn error_log(&self) -> String {
        self.nginx.as_ref().map(Nginx::log).unwrap_or_default()
    }

    /// The size of all files together.
    pub(super) fn total(&self) -> u64 {
        self.lock.entries.iter().map(|entry| entry.size).sum()
    }
}

/// A lock with one file in each directory, the largest file in the first.
fn lock(mut files: Vec<Asset>, base: &str) -> Lock {
    files.sort_by_key(|file| std::cmp::Reverse(file.size));
    let entry = |(directory, file): (&str, Asset)| Entry {
        path: format!("{directory}/{}", file.path.rsplit('/').next().unwrap_or_default()),
        url: format!("{base}/{}", file.path),
        size: file.size,
        sha256: file.sha256,
        group: "image-edit",
    };
    let entries = DIRECTORIES.into_iter().zip(files).map(entry).collect();
    Lock { marker: Some(MARKER.to_owned()), entries }
}
