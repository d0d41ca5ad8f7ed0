//! The fixture of the checks: a web server and a name server in this network namespace, two files, and roots to run in.

use std::net::UdpSocket;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use provision_core::digest::Sha256;
use provision_testbed::Content;
use xshell::{Shell, cmd};

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

    /// A root with the binary, a lock for `host`, and the authority. The shell commands of `setup` run in it.
    pub(super) fn root(&self, setup: &str, host: &str, resolv_conf: Option<&str>) -> Result<Utf8PathBuf> {
        let root = self.scratch.fresh("root");
        self.sh.create_dir(root.join("etc"))?;
        self.sh.copy_file(&self.binary, root.join("provision"))?;
        self.sh.copy_file(&self.authority, root.join("ca.pem"))?;
        self.sh.write_file(root.join("models.lock"), self.lock(host).text())?;
        if let Some(text) = resolv_conf {
            self.sh.write_file(root.join("etc/resolv.conf"), text)?;
        }
        let _pushed = self.sh.push_dir(&root);
        cmd!(self.sh, "sh -e -c {setup}").quiet().run()?;
        Ok(root)
    }

    fn lock(&self, host: &str) -> Lock {
        Lock::new(&self.files, &format!("https://{host}"))
    }

    /// The options for the lock at the web server, by its name `host`.
    pub(super) fn remote_lock(&self, host: &str) -> Vec<String> {
        let pin = Sha256::of(self.lock(HOST).text().as_bytes());
        ["--lock", &format!("https://{host}/models.lock"), "--lock-sha256", &pin.to_string()]
            .map(str::to_owned)
            .into()
    }

    /// Runs `/provision COMMAND` in `root`, with the lock there unless the options name one. Requires that it opened no
    /// library.
    pub(super) fn run(&self, root: &Utf8Path, command: &str, options: &[String], code: i32) -> Result<Ended> {
        let trace = self.scratch.fresh("trace");
        let ended = Run::new("strace".into(), &self.sh.var("PATH")?, self.scratch.fresh("run"))?
            .args(&["-f", "-e", "trace=openat,execve", "-o", trace.as_str(), "--"])
            .args(&["chroot", root.as_str(), "/provision", command, "--dest", "/models"])
            .args(options)
            .env("SSL_CERT_FILE", "/ca.pem")
            .exits(code)?;
        opens_no_library(&self.sh.read_file(&trace)?).with_context(|| ended.to_string())?;
        Ok(ended)
    }

    /// Runs `fetch` and verifies every file with `sha256sum`.
    pub(super) fn fetch(&self, root: &Utf8Path) -> Result<()> {
        let ended = self.run(root, "fetch", &[], 0)?;
        verify_sums(&self.sh, &root.join("models"), &self.lock(HOST).sums())
            .with_context(|| ended.to_string())
    }
}

/// Requires that `/provision` opened or looked for no shared object, and started no other program, by the system calls
/// as `strace -f -e trace=openat,execve` prints them.
fn opens_no_library(trace: &str) -> Result<()> {
    // The lines before it belong to chroot, which is dynamic.
    let (_, own) =
        trace.split_once("execve(\"/provision\"").context("the trace has no start of /provision")?;
    ensure!(own.contains("openat("), "the trace has no opened file:\n{trace}");
    for (call, sign) in [("openat(", ".so"), ("openat(", "nsswitch"), ("execve(", "")] {
        let found = own.lines().find(|line| line.contains(call) && line.contains(sign));
        ensure!(found.is_none(), "the binary loads a library or starts a program: {found:?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHROOT: &str =
        "7 execve(\"/usr/sbin/chroot\", …) = 0\n7 openat(AT_FDCWD, \"/lib/libc.so.6\", …) = 3\n";

    fn passes(own: &str) -> bool {
        opens_no_library(&format!("{CHROOT}7 execve(\"/provision\", …) = 0\n{own}")).is_ok()
    }

    #[test]
    fn only_calls_after_the_start_of_the_binary_count() {
        assert!(passes("7 openat(AT_FDCWD, \"/etc/hosts\", …) = 3\n"));
        assert!(!passes("8 openat(AT_FDCWD, \"/lib/libnss_resolve.so.2\", …) = -1 ENOENT\n"));
        assert!(!passes("8 openat(AT_FDCWD, \"/etc/nsswitch.conf\", …) = 3\n"));
        assert!(!passes("8 openat(AT_FDCWD, \"/x\", …) = 3\n9 execve(\"/bin/sh\", …) = 0\n"));
        assert!(!passes(""), "an empty trace shows nothing");
        assert!(opens_no_library(CHROOT).is_err());
    }
}
