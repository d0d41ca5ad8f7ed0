//! What every check works with: the real files, a web server that has them, and the command on trial.

use std::cell::Cell;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;
use xshell::{Shell, cmd};

use crate::tools::access_log::{self, AccessLog, SYNC};
use crate::tools::certificates::Certificates;
use crate::tools::files::files_below;
use crate::tools::lock_text::{FOLDER, Lock};
use crate::tools::nginx::{self, Nginx};
use crate::tools::process::{self, Run};
use crate::tools::wheel::{self, Assets};

/// The signature in the redirects of the imitated hub: a secret, as a token is.
pub(crate) const SIGNATURE: &str = "sig_canary_0123456789abcdef";

/// The repository of the imitated hub.
pub(crate) const REPOSITORY: &str = "canary/minilm";

/// The stage. Its server stops and its files go when it is dropped.
#[derive(Debug)]
pub(crate) struct World {
    // Dropped in this order: the server before its directory.
    nginx: Nginx,
    pub(crate) log: AccessLog,
    pub(crate) assets: Assets,
    pub(crate) certificates: Certificates,
    pub(crate) ports: Ports,
    program: Utf8PathBuf,
    path_variable: String,
    pub(crate) sh: Shell,
    /// Runs and destinations so far: each has a directory of its own.
    made: Cell<u32>,
    root: Utf8PathBuf,
    _scratch: TempDir,
}

/// The server's ports, all of 127.0.0.1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) http: u16,
    /// Another server as far as credentials are concerned: the imitated hub redirects there.
    pub(crate) cdn: u16,
    pub(crate) https: u16,
}

/// How the server serves: below which path. All are on the http port.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Route {
    /// As fast as it can.
    Plain,
    /// 1 MB/s for each request.
    Slow,
    /// Without ranges: always the whole file.
    NoRanges,
    /// Two requests at a time, 503 to the others.
    Two,
}

impl World {
    pub(crate) fn start(sh: Shell, program: &Utf8Path) -> Result<Self> {
        sh.create_dir(wheel::cache())?;
        let scratch = tempfile::Builder::new().prefix("run-").tempdir_in(wheel::cache())?;
        let root = Utf8PathBuf::from_path_buf(scratch.path().to_owned())
            .ok()
            .context("the project's path is not UTF-8")?;
        let assets = Assets::unpack(&sh, &root)?;
        let certificates =
            Certificates::make(&sh, &root.join("certificates"), "DNS:localhost, IP:127.0.0.1")?;
        let [http, cdn, https] = nginx::free_ports()?;
        let ports = Ports { http, cdn, https };
        let prefix = root.join("nginx");
        let config = nginx::Config {
            // One, so that the order of the log says something.
            workers: "1",
            ports: vec![http, cdn, https],
            http: configuration(&assets, &certificates, ports),
        };
        let nginx = Nginx::start(&sh, &prefix, &config)?;
        let log = AccessLog::new(prefix.join("logs/access.log"), http);
        let path_variable = sh.var("PATH")?;
        Ok(Self {
            nginx,
            log,
            assets,
            certificates,
            ports,
            program: program.to_owned(),
            path_variable,
            sh,
            made: Cell::new(0),
            root,
            _scratch: scratch,
        })
    }

    /// What nginx has to say when a check fails.
    pub(crate) fn complaints(&self) -> String {
        self.nginx.complaints()
    }

    /// All the real files, over http, served like this.
    pub(crate) fn lock(&self, route: Route) -> Lock {
        let path = match route {
            Route::Plain => "files",
            Route::Slow => "slow",
            Route::NoRanges => "no-ranges",
            Route::Two => "two",
        };
        Lock::new(&self.assets.files, &format!("http://127.0.0.1:{}/{path}", self.ports.http))
    }

    /// All the real files, over https; with `path` a redirect.
    pub(crate) fn https_lock(&self, path: &str) -> Lock {
        Lock::new(&self.assets.files, &format!("https://localhost:{}/{path}", self.ports.https))
    }

    /// A directory that nothing else uses. It is there unless it is to be a destination.
    fn fresh(&self, kind: &str) -> Utf8PathBuf {
        let number = self.made.get() + 1;
        self.made.set(number);
        self.root.join(format!("{kind}-{number}"))
    }

    /// A destination that does not exist yet.
    pub(crate) fn destination(&self) -> Utf8PathBuf {
        self.fresh("dest")
    }

    /// The command on trial, with these arguments.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Run> {
        Ok(Run::new(&self.program, &self.path_variable, self.fresh("run"))?.args(arguments))
    }

    /// `command --lock … --dest …`.
    pub(crate) fn with_lock(&self, command: &str, lock: &Lock, destination: &Utf8Path) -> Result<Run> {
        let path = self.fresh("lock").with_extension("lock");
        fs::write(&path, lock.text())?;
        self.run(&[command, "--lock", path.as_str(), "--dest", destination.as_str()])
    }

    pub(crate) fn fetch(&self, lock: &Lock, destination: &Utf8Path) -> Result<Run> {
        self.with_lock("fetch-models", lock, destination)
    }

    /// A destination with everything in it, by a run without trouble.
    pub(crate) fn installed(&self) -> Result<Utf8PathBuf> {
        let destination = self.destination();
        self.fetch(&self.lock(Route::Plain), &destination)?.exits(0)?;
        Ok(destination)
    }

    /// Wants every file of the lock, by `sha256sum -c`, and nothing besides but the marker.
    pub(crate) fn complete(&self, lock: &Lock, destination: &Utf8Path) -> Result<()> {
        self.right(lock, destination)?;
        let mut names: Vec<_> = lock.entries.iter().map(|entry| entry.path.clone()).collect();
        names.push(MARKER.to_owned());
        names.sort();
        let found = files_below(&self.sh, destination)?;
        ensure!(found == names, "expected in {destination}:\n{names:#?}\nfound:\n{found:#?}");
        Ok(())
    }

    /// Wants every file of the lock, by `sha256sum -c`.
    pub(crate) fn right(&self, lock: &Lock, destination: &Utf8Path) -> Result<()> {
        let _there = self.sh.push_dir(destination);
        let sums = cmd!(self.sh, "sha256sum --check --strict --quiet -").quiet().stdin(lock.sums());
        process::succeeded("sha256sum --check", &sums.ignore_status().output()?)
    }

    /// Wants of every file of the lock that it is right or not there.
    pub(crate) fn right_or_absent(&self, lock: &Lock, destination: &Utf8Path) -> Result<()> {
        let mut there = lock.clone();
        there.entries.retain(|entry| destination.join(&entry.path).exists());
        if there.entries.is_empty() { Ok(()) } else { self.right(&there, destination) }
    }

    /// Wants nothing under a final name, and no marker.
    pub(crate) fn nothing_installed(&self, destination: &Utf8Path) -> Result<()> {
        if !destination.exists() {
            return Ok(());
        }
        let found = files_below(&self.sh, destination)?;
        let visible: Vec<_> = found.iter().filter(|path| !is_hidden(path) || *path == MARKER).collect();
        ensure!(
            visible.is_empty(),
            "nothing should be installed in {destination}, and there are {visible:?}"
        );
        Ok(())
    }

    /// The text of every file below, for a search.
    pub(crate) fn texts_below(&self, directory: &Utf8Path) -> Result<Vec<(String, Vec<u8>)>> {
        let read = |path: String| Ok((path.clone(), fs::read(directory.join(path))?));
        files_below(&self.sh, directory)?.into_iter().map(read).collect()
    }
}

/// The marker's default name.
pub(crate) const MARKER: &str = ".models-installed";

/// Whether the file's own name begins with a dot, and it is none of the model's.
fn is_hidden(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.starts_with('.') && path != format!("{FOLDER}/.gitattributes")
}

fn configuration(assets: &Assets, certificates: &Certificates, ports: Ports) -> String {
    let Ports { http, cdn, https } = ports;
    let folder = &assets.folder;
    let Certificates { server, server_key, .. } = certificates;
    let sync = format!("location = {SYNC} {{ return 204; }}");
    let plain = format!("location /files/ {{ alias {folder}/; }}");
    format!(
        r"
    {format}
    access_log logs/access.log seen;
    absolute_redirect off;
    limit_conn_zone $server_port zone=two:1m;

    server {{
        listen 127.0.0.1:{http};
        {sync}
        {plain}
        location /slow/ {{ alias {folder}/; limit_rate 1m; }}
        location /no-ranges/ {{ alias {folder}/; max_ranges 0; }}
        location /two/ {{ alias {folder}/; limit_conn two 2; limit_conn_status 503; limit_rate 20m; }}

        # The hub: large files by a signed redirect to another server, small ones by a relative one whose query counts.
        location = /{REPOSITORY}/resolve/main/model.safetensors {{
            return 302 http://127.0.0.1:{cdn}/files/model.safetensors?X-Amz-Signature={SIGNATURE};
        }}
        location ~ ^/{REPOSITORY}/resolve/main/(?<name>.+)$ {{
            return 307 /api/resolve-cache/$name?etag={SIGNATURE};
        }}
        location /api/resolve-cache/ {{
            if ($arg_etag != {SIGNATURE}) {{ return 403; }}
            alias {folder}/;
        }}
    }}
    server {{
        listen 127.0.0.1:{cdn};
        {plain}
    }}
    server {{
        listen 127.0.0.1:{https} ssl;
        ssl_certificate {server};
        ssl_certificate_key {server_key};
        {plain}
        location ~ ^/down/(?<name>.+)$ {{ return 302 http://127.0.0.1:{http}/files/$name; }}
    }}
",
        format = access_log::FORMAT,
    )
}
