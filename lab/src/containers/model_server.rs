//! The models of the checks: four real files in the directories of the project's own lock, behind nginx.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use provision_core::lockfile::Lockfile;
use xshell::Shell;

use super::names::CANARY;
use crate::project;
use crate::tools::access_log::{self, AccessLog, SYNC};
use crate::tools::lock_text::{Entry, Lock};
use crate::tools::nginx::{self, Nginx};
use crate::tools::wheel::{self, Asset, Assets};

/// A path on the Hub that wants the token.
pub(super) const GATED: &str = "gated";

/// The web server and what it has. It stops when this is dropped.
#[derive(Debug)]
pub(super) struct ModelServer {
    /// `None` once it has been taken away.
    nginx: Option<Nginx>,
    pub(super) log: AccessLog,
    pub(super) lock: Lock,
    /// The address of what stands for the Hub.
    pub(super) hub: String,
    /// What the lock's addresses begin with.
    pub(super) base: String,
    /// What lies there.
    pub(super) folder: Utf8PathBuf,
    /// Has a file for each [`Pace`] that is kept.
    paces: Utf8PathBuf,
}

/// How slow an answer is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// 1 MB/s: requests are small and end often, so that the log follows the fetch.
    Crawl,
    /// 20 MB/s: seconds for the set over one connection.
    Walk,
}

impl Pace {
    fn name(self) -> &'static str {
        match self {
            Self::Crawl => "crawl",
            Self::Walk => "walk",
        }
    }
}

impl ModelServer {
    pub(super) fn start(sh: &Shell, scratch: &Utf8Path) -> Result<Self> {
        let assets = Assets::unpack(sh, scratch)?;
        let [port] = nginx::free_ports()?;
        let prefix = scratch.join("nginx");
        let paces = scratch.join("paces");
        sh.create_dir(&paces)?;
        let config = nginx::Config {
            // One, so that the order of the log says something.
            workers: "1",
            ports: vec![port],
            http: format!(
                "
    {format}
    access_log logs/access.log seen;
    server {{
        listen 127.0.0.1:{port};
        location = {SYNC} {{ return 204; }}
        # The Hub, as far as a token goes.
        location /{GATED}/ {{
            if ($http_authorization != 'Bearer {CANARY}') {{ return 401; }}
            alias {folder}/;
        }}
        location /files/ {{
            if (-f {paces}/crawl) {{ set $limit_rate 1m; }}
            if (-f {paces}/walk) {{ set $limit_rate 20m; }}
            alias {folder}/;
        }}
    }}
",
                format = access_log::FORMAT,
                folder = assets.folder,
            ),
        };
        let nginx = Nginx::start(sh, &prefix, &config)?;
        let base = format!("http://127.0.0.1:{port}/files");
        Ok(Self {
            nginx: Some(nginx),
            hub: format!("http://127.0.0.1:{port}"),
            log: AccessLog::new(prefix.join("logs/access.log"), port),
            lock: lock(&assets, &base)?,
            base,
            folder: assets.folder.clone(),
            paces,
        })
    }

    /// From now on answers keep this pace, until [`ModelServer::speed_up`].
    pub(super) fn slow_down(&self, pace: Pace) -> Result<()> {
        Ok(std::fs::write(self.paces.join(pace.name()), "")?)
    }

    pub(super) fn speed_up(&self, pace: Pace) -> Result<()> {
        Ok(std::fs::remove_file(self.paces.join(pace.name()))?)
    }

    /// Takes the server away.
    pub(super) fn stop(&mut self) {
        self.nginx = None;
    }

    pub(super) fn complaints(&self) -> String {
        self.nginx.as_ref().map(Nginx::log).unwrap_or_default()
    }

    /// Bytes of all the files.
    pub(super) fn total(&self) -> u64 {
        self.lock.entries.iter().map(|entry| entry.size).sum()
    }
}

/// A file for each directory of the project's lock: the largest file where that has most.
fn lock(assets: &Assets, base: &str) -> Result<Lock> {
    let path = project::lock();
    let project = Lockfile::parse("models.lock", &std::fs::read_to_string(&path).context(path)?)?;
    let mut sizes = BTreeMap::<_, u64>::new();
    for model in project.models() {
        *sizes.entry(model.path.components().next().unwrap_or_default()).or_default() += model.size;
    }
    let mut directories: Vec<_> = sizes.into_iter().collect();
    directories.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let mut files: Vec<&Asset> = assets.files.iter().collect();
    files.sort_by_key(|file| std::cmp::Reverse(file.size));
    ensure!(files.len() >= directories.len(), "the wheel has {} files only", files.len());
    let entry = |((directory, _), file): ((&str, u64), &&Asset)| Entry {
        path: format!("{directory}/{}", Utf8Path::new(&file.path).file_name().unwrap_or_default()),
        url: format!("{base}/{}", file.path),
        size: file.size,
        sha256: file.sha256.clone(),
        group: "image-edit",
    };
    let entries = directories.into_iter().zip(&files).map(entry).collect();
    Ok(Lock { marker: Some(project.marker().to_owned()), entries })
}

/// Where the wheel is kept and where the scratch directory is made.
pub(super) fn cache() -> Utf8PathBuf {
    wheel::cache()
}
