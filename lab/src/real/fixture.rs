//! The fixture of the checks: the real files, an nginx that serves them over http and https, and the command under
//! test.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use xshell::Shell;

use crate::tools::access_log::{self, AccessLog, Mark, SYNC};
use crate::tools::certificates::Certificates;
use crate::tools::files::{files_below, verify_sums};
use crate::tools::lock_text::Lock;
use crate::tools::nginx::{self, Nginx};
use crate::tools::process::Run;
use crate::tools::scratch::Scratch;
use crate::tools::wait;
use crate::tools::wheel::{self, Assets};

/// The repository on the imitated hub.
pub(super) const REPOSITORY: &str = "canary/minilm";

/// The hub's token. Its text may occur in no output, file, image or request to another host.
pub(crate) const TOKEN: &str = "hf_canary_4e1f7a90b2c35d68";

/// The signature in the hub's redirects: a secret, as a token is.
pub(super) const SIGNATURE: &str = "sig_canary_0123456789abcdef";

/// The marker's default name.
pub(super) const MARKER: &str = ".models-installed";

/// The server, its files and the command. The server stops and its files are removed when it is dropped.
#[derive(Debug)]
pub(crate) struct RealFixture {
    // Dropped in this order: the server before its directory.
    nginx: Nginx,
    pub(crate) log: AccessLog,
    pub(crate) assets: Assets,
    /// The value of `SSL_CERT_FILE` with which the client trusts the https server.
    pub(super) authority: Utf8PathBuf,
    pub(super) ports: Ports,
    /// The command under test, `cargo xtask` or one that is called like it.
    pub(crate) program: Utf8PathBuf,
    pub(crate) sh: Shell,
    pub(crate) scratch: Scratch,
}

/// The server's ports on 127.0.0.1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) http: u16,
    /// The target of the hub's redirects: another origin, which must not see the token.
    pub(super) cdn: u16,
    pub(super) https: u16,
}

impl RealFixture {
    pub(crate) fn start(sh: Shell, program: Utf8PathBuf) -> Result<Self> {
        sh.create_dir(wheel::cache())?;
        let scratch = Scratch::create(wheel::cache(), "run-")?;
        let assets = Assets::unpack(&sh, scratch.path())?;
        let names = "DNS:localhost, IP:127.0.0.1";
        let certificates = Certificates::make(&sh, &scratch.path().join("certificates"), names)?;
        let [http, cdn, https] = nginx::free_ports()?;
        let ports = Ports { http, cdn, https };
        let config = nginx::Config {
            // Several workers would write the log in any order.
            workers: "1",
            ports: vec![http, cdn, https],
            http: configuration(&assets.folder, &certificates, ports),
        };
        let prefix = scratch.path().join("nginx");
        let nginx = Nginx::start(&sh, &prefix, &config)?;
        let log = AccessLog::new(prefix.join("logs/access.log"), http);
        let authority = certificates.authority;
        Ok(Self { nginx, log, assets, authority, ports, program, sh, scratch })
    }

    /// nginx's log, for a check that failed.
    pub(crate) fn server_log(&self) -> String {
        self.nginx.log()
    }

    /// Ends the server. The next check finds its ports closed.
    pub(crate) fn stop_server(&self) -> Result<()> {
        self.nginx.server().signal("TERM")?;
        let address = (Ipv4Addr::LOCALHOST, self.ports.http);
        let is_closed = || Ok(TcpStream::connect(address).is_err().then_some(()));
        wait::until("nginx's end", Duration::from_secs(30), is_closed)
    }

    /// The address of the hub and, below it, of the files: in `files`; in `rate/RATE`, by nginx's notation of a rate
    /// for each response; in `gated`, for requests with the token.
    pub(crate) fn hub(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.http)
    }

    /// A lock of all files, over http.
    pub(crate) fn lock(&self) -> Lock {
        self.lock_at(&format!("{}/files", self.hub()))
    }

    /// A lock of all files, over http with 1 MB/s for each request.
    pub(super) fn slow_lock(&self) -> Lock {
        self.lock_at(&format!("{}/rate/1m", self.hub()))
    }

    /// A lock of all files, over https.
    pub(super) fn https_lock(&self) -> Lock {
        self.lock_at(&format!("https://localhost:{}/files", self.ports.https))
    }

    /// A lock of all files at the URL `base`.
    pub(super) fn lock_at(&self, base: &str) -> Lock {
        Lock::new(&self.assets.files, base)
    }

    /// The path of a directory that does not exist.
    pub(crate) fn destination(&self) -> Utf8PathBuf {
        self.scratch.fresh("dest")
    }

    /// `cargo xtask COMMAND… --lock … --dest …`.
    pub(super) fn run(&self, command: &[&str], lock: &Utf8Path, destination: &Utf8Path) -> Result<Run> {
        let run = Run::new(&self.program, &self.sh.var("PATH")?, self.scratch.fresh("run"))?;
        Ok(run.args(command).args(&["--lock", lock.as_str(), "--dest", destination.as_str()]))
    }

    /// `cargo xtask COMMAND --lock … --dest …` with a file of this lock.
    pub(super) fn run_on(&self, command: &str, lock: &Lock, destination: &Utf8Path) -> Result<Run> {
        let path = self.scratch.fresh("lock");
        fs::write(&path, lock.text())?;
        self.run(&[command], &path, destination)
    }

    /// `cargo xtask fetch-models --lock … --dest …`.
    pub(crate) fn fetch(&self, lock: &Lock, destination: &Utf8Path) -> Result<Run> {
        self.run_on("fetch-models", lock, destination)
    }

    /// Requires every file of the lock with its digest, the marker, and no other file.
    pub(super) fn assert_complete(&self, lock: &Lock, destination: &Utf8Path) -> Result<()> {
        verify_sums(&self.sh, destination, &lock.sums())?;
        let mut expected: Vec<_> = lock.entries.iter().map(|entry| entry.path.clone()).collect();
        expected.push(MARKER.to_owned());
        expected.sort();
        let found = files_below(&self.sh, destination)?;
        ensure!(found == expected, "expected in {destination}:\n{expected:#?}\nfound:\n{found:#?}");
        Ok(())
    }

    /// Requires that the server got no request after `mark`.
    pub(crate) fn assert_no_request(&self, mark: Mark) -> Result<()> {
        let requests = self.log.since(mark)?;
        ensure!(requests.is_empty(), "the server should get no request, and got: {requests:#?}");
        Ok(())
    }
}

fn configuration(folder: &Utf8Path, certificates: &Certificates, ports: Ports) -> String {
    let Ports { http, cdn, https } = ports;
    let directives = &certificates.directives;
    let format = access_log::FORMAT;
    let files = format!("location /files/ {{ alias {folder}/; }}");
    format!(
        r"
    {format}
    access_log logs/access.log seen;
    absolute_redirect off;

    server {{
        listen 127.0.0.1:{http};
        location = {SYNC} {{ return 204; }}
        {files}
        location ~ ^/rate/(?<rate>\w+)/(?<name>.+)$ {{ alias {folder}/$name; limit_rate $rate; }}
        location /gated/ {{
            if ($http_authorization != 'Bearer {TOKEN}') {{ return 401; }}
            alias {folder}/;
        }}

        # The hub redirects large files to a signed URL on another server, small files to a relative URL with a query.
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
        {files}
    }}
    server {{
        listen 127.0.0.1:{https} ssl;
        {directives}
        {files}
    }}
"
    )
}
