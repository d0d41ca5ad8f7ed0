//! Debian's registry on loopback. Its drop kills it. All registries of a run share one store.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use provision_testbed::Content;
use xshell::{Shell, cmd};

use super::REPOSITORY;
use crate::tools::process::{Run, Running};
use crate::tools::scratch::Scratch;

/// Starts a registry with `auth`, the part of its configuration that requires a login.
pub(super) fn start(sh: &Shell, scratch: &Scratch, port: u16, auth: &str) -> Result<Running> {
    let (config, folder) = (scratch.fresh("config"), scratch.fresh("registry"));
    let data = scratch.path().join("data");
    let text = format!(
        "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {data}\nhttp:\n  addr: \
         127.0.0.1:{port}\n{auth}"
    );
    std::fs::write(&config, text)?;
    let run = Run::new("docker-registry".into(), &sh.var("PATH")?, folder)?;
    let run = run.args(&["serve", config.as_str()]).env("OTEL_TRACES_EXPORTER", "none");
    run.start()?.listens((Ipv4Addr::LOCALHOST, port))
}

/// Pushes a blob to the registry at `port`, which requires no login.
pub(super) fn push(sh: &Shell, scratch: &Scratch, port: u16, blob: &Content) -> Result<()> {
    let (path, digest) = (scratch.fresh("blob"), blob.sha256_hex());
    std::fs::write(&path, blob.to_vec())?;
    let uploads = format!("http://127.0.0.1:{port}/v2/{REPOSITORY}/blobs/uploads/");
    let headers = cmd!(sh, "curl -fsS -X POST -D - -o /dev/null {uploads}").quiet().read()?;
    let location = headers.lines().find_map(|line| line.strip_prefix("Location: ")).map(str::trim);
    let target = format!("{}&digest=sha256:{digest}", location.context("the upload has no Location")?);
    let put = ["-X", "PUT", "-H", "Content-Type:application/octet-stream"];
    cmd!(sh, "curl -fsS {put...} --data-binary @{path} {target}").quiet().run().context("pushing the blob")
}
