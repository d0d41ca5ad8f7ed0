//! The project's own commands and real registries that require a login: a password, or a token of another service.
//!
//! The testbed emulates this exchange, but then both sides are the project's. Here the registry decides.

#![expect(clippy::print_stdout, reason = "the checks are the command's output")]

use anyhow::{Result, ensure};
use camino::Utf8PathBuf;
use provision_testbed::Content;
use xshell::Shell;

use super::REPOSITORY;
use crate::tools::process::{Ended, Run};
use crate::tools::program;
use crate::tools::scratch::Scratch;
use crate::tools::token_service::TokenService;

/// The login as a netrc file.
const NETRC: &str = "machine 127.0.0.1 login someone password registry-password\n";

/// Checks the registries at the ports `password` and `token`.
pub(super) fn check(
    sh: &Shell,
    scratch: &Scratch,
    password: u16,
    token: u16,
    service: &TokenService,
    blob: &Content,
) -> Result<()> {
    let (program, path) = (program::xtask(sh)?, sh.var("PATH")?);
    let netrc = super::script(scratch, "netrc", NETRC)?;
    let empty = super::script(scratch, "empty", "")?;
    let run = |netrc: &Utf8PathBuf, arguments: &[&str]| -> Result<Ended> {
        Run::new(&program, &path, scratch.fresh("run"))?.env("NETRC", netrc).args(arguments).start()?.end()
    };
    let add = |netrc, port: u16, lock: &str| {
        let source = format!("oci:127.0.0.1:{port}/{REPOSITORY}@sha256:{}", blob.sha256_hex());
        run(netrc, &["lock", "add", &source, "--path", "blob", "--lock", lock])
    };
    // Adds the blob to a lock and downloads it, in two processes.
    let download = |port| {
        let (lock, models) = (scratch.fresh("lock"), scratch.fresh("models"));
        add(&netrc, port, lock.as_str())?.exited(0)?;
        let arguments = ["fetch-models", "--lock", lock.as_str(), "--dest", models.as_str()];
        run(&netrc, &arguments)?.exited(0)?;
        ensure!(std::fs::read(models.join("blob"))? == blob.to_vec(), "the downloaded blob has other bytes");
        Ok(())
    };

    add(&empty, password, scratch.fresh("lock").as_str())?.exited(6)?.complains(&["netrc"])?;
    println!("    without a login: refused, and the message names the netrc file");
    download(password)?;
    println!("    Basic: a login of the netrc file opens the blob");
    download(token)?;
    println!("    Bearer: the registry takes the token that its service signed");
    let requests = service.requests()?;
    ensure!(requests.len() == 2, "each process must request one token: {requests:?}");
    for request in &requests {
        ensure!(request.service == "testbed", "{request:?}");
        ensure!(request.scope == "repository:models/vae:pull", "{request:?}");
        ensure!(request.is_login_right, "the service did not get the login of its host");
    }
    println!(
        "    the service gets one request a process, to pull from this repository, with the login of its host"
    );
    Ok(())
}
