//! The fixture of the checks: a web server and a name server in this network namespace, two files, and roots to run in.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use provision_core::digest::Sha256;
use provision_testbed::Content;
use xshell::Shell;

use super::root::{self, Kind};
use super::trace;
use crate::tools::certificates::Certificates;
use crate::tools::files::verify_sums;
use crate::tools::lock_text::Lock;
use crate::tools::name_server::NameServer;
use crate::tools::nginx::{self, Nginx};
use crate::tools::process::{Ended, Run};
use crate::tools::scratch::Scratch;
use crate::tools::wheel::{Asset, MODEL};

/// The web server's name. Only the name server has it.
pub(super) const HOST: &str = "models.lan.test";
/// Its first label: a search domain completes it.
pub(super) const HOST_IN_DOMAIN: &str = "models";
/// A name of the web server that only /etc/hosts has.
pub(super) const HOSTS_FILE_HOST: &str = "files.lan.test";
/// The address of a name server that receives queries and answers none.
pub(super) const SILENT_SERVER: &str = "127.0.0.2";
/// The lock in a root.
const LOCK: &str = "/models.lock";
/// The resolv.conf that names the working name server.
pub(super) const RESOLV_CONF: &str = "nameserver 127.0.0.1\n";

/// The files: one that many connections share, and a small one.
const FILES: [(&str, u64); 2] = [(MODEL, 24_000_000), ("config.json", 1000)];

/// The servers, their files and the binary. The servers stop and the files are removed when it is dropped.
#[derive(Debug)]
pub(super) struct StaticFixture {
    // Dropped in this order: the servers before their directory.
    nginx: Nginx,
    pub(super) name_server: NameServer,
    _silent_server: UdpSocket,
    authority: Utf8PathBuf,
    files: Vec<Asset>,
    binary: Utf8PathBuf,
    sh: Shell,
    scratch: Scratch,
}

impl StaticFixture {
    pub(super) fn start(sh: Shell, binary: Utf8PathBuf) -> Result<Self> {
        let scratch = Scratch::create(std::env::temp_dir(), "provision-static-")?;
        let folder = scratch.path().join("files");
        let mut files = Vec::new();
        for (seed, (path, size)) in (1..).zip(FILES) {
            let content = Content::generated(seed, size);
            sh.write_file(folder.join(path), content.to_vec())?;
            files.push(Asset { path: path.to_owned(), size, sha256: content.sha256_hex() });
        }
        let names = format!("DNS:{HOST}, DNS:{HOST_IN_DOMAIN}, DNS:{HOSTS_FILE_HOST}");
        let Certificates { authority, directives } =
            Certificates::make(&sh, &scratch.path().join("certificates"), &names)?;
        let config = nginx::Config {
            workers: "1",
            ports: vec![443],
            http: format!(
                "access_log off; server {{ listen 127.0.0.1:443 ssl; {directives} root {folder}; }}"
            ),
        };
        let nginx = Nginx::start(&sh, &scratch.path().join("nginx"), &config)?;
        let name_server = NameServer::start(&sh, scratch.path(), "127.0.0.1", &[HOST])?;
        let silent_server = UdpSocket::bind((SILENT_SERVER, 53))?;
        let fixture =
            Self { nginx, name_server, _silent_server: silent_server, authority, files, binary, sh, scratch };
        fixture.sh.write_file(folder.join("models.lock"), fixture.lock(HOST).text())?;
        Ok(fixture)
    }

    /// The servers' messages, for a check that failed.
    pub(super) fn server_logs(&self) -> String {
        format!("nginx's log:\n{}\ndnsmasq's log:\n{}", self.nginx.log(), self.name_server.log())
    }

    /// A root of this kind with the binary, a lock for `host`, the authority, and the files `etc` in /etc.
    pub(super) fn root(&self, kind: Kind, host: &str, etc: &[(&str, &str)]) -> Result<Utf8PathBuf> {
        let root = self.scratch.fresh("root");
        root::make(&self.sh, &root, kind)?;
        self.sh.copy_file(&self.binary, root.join("provision"))?;
        self.sh.copy_file(&self.authority, root.join("ca.pem"))?;
        self.sh.write_file(root.join("models.lock"), self.lock(host).text())?;
        for (name, text) in etc {
            self.sh.write_file(root.join("etc").join(name), text)?;
        }
        Ok(root)
    }

    fn lock(&self, host: &str) -> Lock {
        Lock::new(&self.files, &format!("https://{host}"))
    }

    /// Runs `/provision COMMAND` in `root` with the lock there, and requires that it opened no library.
    pub(super) fn run(&self, root: &Utf8Path, command: &str, args: &[&str], code: i32) -> Result<Ended> {
        self.run_with_lock(root, LOCK, command, args, code)
    }

    /// The same with another lock.
    pub(super) fn run_with_lock(
        &self,
        root: &Utf8Path,
        lock: &str,
        command: &str,
        args: &[&str],
        code: i32,
    ) -> Result<Ended> {
        let trace = self.scratch.fresh("trace");
        let text = self.lock(HOST).text();
        let pin: &[&str] = &["--lock-sha256", &Sha256::of(text.as_bytes()).to_string()];
        let ended = Run::new("strace".into(), &self.sh.var("PATH")?, self.scratch.fresh("run"))?
            .args(&["-f", "-e", "trace=openat,execve", "-o", trace.as_str(), "--"])
            .args(&["chroot", root.as_str(), "/provision", command])
            .args(&["--lock", lock, "--dest", "/models"])
            .args(if lock == LOCK { &[] } else { pin })
            .args(args)
            .env("SSL_CERT_FILE", "/ca.pem")
            .exits(code)?;
        trace::opens_no_library(&self.sh.read_file(&trace)?).with_context(|| ended.to_string())?;
        Ok(ended)
    }

    /// Runs `fetch` and verifies every file with `sha256sum`.
    pub(super) fn fetch(&self, root: &Utf8Path) -> Result<()> {
        let ended = self.run(root, "fetch", &[], 0)?;
        verify_sums(&self.sh, &root.join("models"), &self.lock(HOST).sums())
            .with_context(|| ended.to_string())
    }

    /// Runs `fetch` from `host` in an empty root. Requires that it fails within `limit` with `words`, without a marker.
    pub(super) fn fetch_fails(
        &self,
        host: &str,
        resolv_conf: &str,
        args: &[&str],
        words: &[&str],
        limit: Duration,
    ) -> Result<()> {
        let root = self.root(Kind::Empty, host, &[("resolv.conf", resolv_conf)])?;
        // Model bodies have a client of their own, and a lock at an address is a document.
        for lock in [LOCK, &format!("https://{host}/models.lock")] {
            let ended = self.run_with_lock(&root, lock, "fetch", args, 4)?.complains(words)?;
            ensure!(
                !root.join("models/.models-installed").exists(),
                "a failed fetch left a marker:\n{ended}"
            );
            ensure!(ended.took < limit, "the fetch should fail within {} s:\n{ended}", limit.as_secs());
        }
        Ok(())
    }
}
