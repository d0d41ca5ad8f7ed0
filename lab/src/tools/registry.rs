//! Debian's registry on loopback. Its drop kills it.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use xshell::{Shell, cmd};

use crate::tools::process::Running;
use crate::tools::scratch::Scratch;

/// The login of every registry with [`htpasswd`], and of the token service.
pub(crate) const LOGIN: (&str, &str) = ("someone", "registry-password");
/// The login as the registry's password file, in bcrypt, which is the only hash that the registry supports.
const HTPASSWD: &str = "someone:$2y$05$abcdefghijklmnopqrstuux7DVfxfgfXTmp/9Tsk6HzX2QQGjxePG\n";

/// A running registry.
#[derive(Debug)]
pub(crate) struct Registry {
    config: Utf8PathBuf,
    server: Running,
}

impl Registry {
    /// Starts a registry that keeps its blobs in `data`. `auth` is the part of its configuration that requires a login.
    pub(crate) fn start(
        sh: &Shell,
        scratch: &Scratch,
        data: &Utf8Path,
        port: u16,
        auth: &str,
    ) -> Result<Self> {
        // The cache is that of Debian's own configuration: with it a collected blob keeps its size and has no byte.
        let text = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {data}\n  cache:\n    \
             blobdescriptor: inmemory\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:{port}\n{auth}"
        );
        let config = scratch.file("config", text)?;
        let run = scratch.run(sh, "docker-registry")?.args(&["serve", config.as_str()]);
        let run = run.env("OTEL_TRACES_EXPORTER", "none");
        Ok(Self { config, server: run.start()?.listens((Ipv4Addr::LOCALHOST, port))? })
    }

    /// Removes every blob that no manifest names, while the registry runs on.
    pub(crate) fn collect_garbage(&self, sh: &Shell) -> Result<()> {
        let config = &self.config;
        let collect =
            cmd!(sh, "docker-registry garbage-collect {config}").env("OTEL_TRACES_EXPORTER", "none");
        collect.quiet().ignore_stdout().ignore_stderr().run().context("collecting a registry's garbage")
    }

    /// The process and its output.
    pub(crate) fn server(&self) -> &Running {
        &self.server
    }
}

/// The configuration of a registry that requires [`LOGIN`].
pub(crate) fn htpasswd(scratch: &Scratch) -> Result<String> {
    let path = scratch.file("htpasswd", HTPASSWD)?;
    Ok(format!("auth:\n  htpasswd:\n    realm: testbed\n    path: {path}\n"))
}

/// Pushes a blob, which no manifest names, to the registry at `port`, which requires no login.
pub(crate) fn push_blob(
    sh: &Shell,
    port: u16,
    repository: &str,
    file: &Utf8Path,
    sha256: &str,
) -> Result<()> {
    let uploads = format!("http://127.0.0.1:{port}/v2/{repository}/blobs/uploads/");
    let headers = cmd!(sh, "curl -fsS --max-time 60 -X POST -D - -o /dev/null {uploads}").quiet().read()?;
    let location = headers.lines().find_map(|line| line.strip_prefix("Location: ")).map(str::trim);
    let target = format!("{}&digest=sha256:{sha256}", location.context("the upload has no Location")?);
    let put = ["-X", "PUT", "-H", "Content-Type:application/octet-stream"];
    cmd!(sh, "curl -fsS --max-time 60 {put...} --data-binary @{file} {target}")
        .quiet()
        .run()
        .context("pushing the blob")
}
