//! What every check works with: a web server and a name server in this network, two files, and roots to run in.

use std::cell::Cell;
use std::fmt::Write as _;
use std::net::UdpSocket;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use provision_testbed::Content;
use tempfile::TempDir;
use xshell::{Shell, cmd};

use super::root::{Kind, Root};
use super::trace;
use crate::tools::certificates::Certificates;
use crate::tools::name_server::NameServer;
use crate::tools::nginx::{self, Nginx};
use crate::tools::process::{Ended, Run};

/// The web server's name, which only the name server knows.
pub(super) const HOST: &str = "models.lan.test";
/// Its first part, for a search domain.
pub(super) const HOST_IN_DOMAIN: &str = "models";
/// In no name server; for /etc/hosts.
pub(super) const HOST_BY_FILE: &str = "files.lan.test";
/// An address of this machine where a name server seems to be: it takes every question and answers none.
pub(super) const SILENT: &str = "127.0.0.2";
/// The right resolv.conf.
pub(super) const RESOLV: &str = "nameserver 127.0.0.1\n";

/// The paths in the lock: one worth many connections, one small.
const FILES: [(&str, u64); 2] = [("vae/large.safetensors", 24_000_000), ("text/small.json", 1000)];

/// The stage. Its servers stop and its files go when it is dropped.
#[derive(Debug)]
pub(super) struct World {
    // Dropped in this order: the servers before their directory.
    nginx: Nginx,
    pub(super) name_server: NameServer,
    _silent: UdpSocket,
    authority: String,
    sums: String,
    contents: Vec<(&'static str, Content)>,
    binary: Utf8PathBuf,
    path_variable: String,
    pub(super) sh: Shell,
    made: Cell<u32>,
    folder: Utf8PathBuf,
    _scratch: TempDir,
}

impl World {
    pub(super) fn start(sh: Shell, binary: &Utf8Path) -> Result<Self> {
        let scratch = tempfile::Builder::new().prefix("provision-static-").tempdir()?;
        let folder = Utf8PathBuf::from_path_buf(scratch.path().to_owned())
            .ok()
            .context("the path of the temporary directory is not UTF-8")?;
        let contents: Vec<_> =
            (1..).zip(FILES).map(|(seed, (path, size))| (path, Content::generated(seed, size))).collect();
        let files = folder.join("files");
        let mut sums = String::new();
        for (path, content) in &contents {
            let mut bytes = vec![0; content.size() as usize];
            content.fill(0, &mut bytes);
            sh.write_file(files.join(path), bytes)?;
            writeln!(sums, "{}  {path}", content.sha256_hex())?;
        }
        let names = format!("DNS:{HOST}, DNS:{HOST_IN_DOMAIN}, DNS:{HOST_BY_FILE}");
        let certificates = Certificates::make(&sh, &folder.join("certificates"), &names)?;
        let Certificates { authority, server, server_key } = certificates;
        let config = nginx::Config {
            workers: "1",
            ports: vec![443],
            http: format!(
                "access_log off; server {{ listen 127.0.0.1:443 ssl; ssl_certificate {server}; \
                 ssl_certificate_key {server_key}; root {files}; }}"
            ),
        };
        let prefix = folder.join("nginx");
        sh.create_dir(&prefix)?;
        Ok(Self {
            nginx: Nginx::start(&sh, &prefix, &config)?,
            name_server: NameServer::start(&sh, &folder, "127.0.0.1", &[HOST])?,
            _silent: UdpSocket::bind((SILENT, 53))?,
            authority: sh.read_file(authority)?,
            sums,
            contents,
            binary: binary.to_owned(),
            path_variable: sh.var("PATH")?,
            sh,
            made: Cell::new(0),
            folder,
            _scratch: scratch,
        })
    }

    /// What the servers have to say when a check fails.
    pub(super) fn complaints(&self) -> String {
        format!("nginx says:\n{}\ndnsmasq says:\n{}", self.nginx.complaints(), self.name_server.log())
    }

    /// A root of this kind, with a lock for `host`, the throw-away authority and these files in /etc.
    pub(super) fn root(&self, kind: Kind, host: &str, etc: &[(&str, &str)]) -> Result<Root> {
        let root = Root::make(&self.sh, self.fresh("root"), kind, &self.binary, etc)?;
        let mut lock = "version = 1\n".to_owned();
        for (path, content) in &self.contents {
            let (size, sha256) = (content.size(), content.sha256_hex());
            writeln!(lock, "\n[[model]]\npath = \"{path}\"\nurl = \"https://{host}/{path}\"")?;
            writeln!(lock, "size = {size}\nsha256 = \"{sha256}\"")?;
        }
        self.sh.write_file(root.path.join("models.lock"), lock)?;
        self.sh.write_file(root.path.join("ca.pem"), &self.authority)?;
        Ok(root)
    }

    fn fresh(&self, kind: &str) -> Utf8PathBuf {
        let number = self.made.get() + 1;
        self.made.set(number);
        self.folder.join(format!("{kind}-{number}"))
    }

    /// `/provision COMMAND` in the root, seen by strace: no run may open a library.
    pub(super) fn run(&self, root: &Root, command: &str, args: &[&str], code: i32) -> Result<Ended> {
        let trace = self.fresh("trace");
        let strace = ["-f", "-e", "trace=openat,execve", "-o", trace.as_str(), "--"];
        let ended = Run::new("strace".into(), &self.path_variable, self.fresh("run"))?
            .args(&strace)
            .args(&["chroot", root.path.as_str(), "/provision", command])
            .args(&["--lock", "/models.lock", "--dest", "/models"])
            .args(args)
            .env("SSL_CERT_FILE", "/ca.pem")
            .exits(code)?;
        trace::opens_no_library(&self.sh.read_file(&trace)?).with_context(|| ended.to_string())?;
        Ok(ended)
    }

    /// Fetches, and wants every byte, by `sha256sum`.
    pub(super) fn fetches(&self, root: &Root) -> Result<()> {
        let ended = self.run(root, "fetch", &[], 0)?;
        let _there = self.sh.push_dir(root.path.join("models"));
        let sums = cmd!(self.sh, "sha256sum --check --strict --quiet -").quiet().stdin(&self.sums);
        sums.run().with_context(|| ended.to_string())
    }

    /// Wants a fetch to fail for want of a name, with these words, and to leave nothing.
    pub(super) fn fails(&self, root: &Root, args: &[&str], words: &[&str]) -> Result<Ended> {
        let ended = self.run(root, "fetch", args, 4)?.complains(words)?;
        let marker = root.path.join("models/.models-installed");
        ensure!(!marker.exists(), "there is a marker although nothing was fetched:\n{ended}");
        Ok(ended)
    }
}
