//! The project's own commands and real registries that require a login: a password, or a token of another service.
//!
//! The testbed emulates this exchange, but then both sides are the project's. Here the registry decides.

#![expect(clippy::print_stdout, reason = "the checks are the command's output")]

use anyhow::{Result, ensure};
use camino::Utf8PathBuf;
use provision_testbed::{BlockingOrigin, Content};
use xshell::{Shell, cmd};

use super::REPOSITORY;
use crate::tools::process::{Ended, Run};
use crate::tools::program;
use crate::tools::scratch::Scratch;

/// The login as a netrc file.
const NETRC: &str = "machine 127.0.0.1 login someone password registry-password\n";
/// The login as the registry's password file, in bcrypt, which is the only hash that the registry supports.
const HTPASSWD: &str = "someone:$2y$05$abcdefghijklmnopqrstuux7DVfxfgfXTmp/9Tsk6HzX2QQGjxePG\n";

/// A token service that gives every client the same token, and records the requests.
pub(super) struct TokenService {
    origin: BlockingOrigin,
    certificate: Utf8PathBuf,
}

impl TokenService {
    /// Starts the service with a new key and a token for [`REPOSITORY`].
    pub(super) fn start(sh: &Shell, scratch: &Scratch) -> Result<Self> {
        let (key, certificate) = (scratch.fresh("key"), scratch.fresh("certificate"));
        let options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=testbed", "-days", "2"];
        cmd!(sh, "openssl req {options...} -keyout {key} -out {certificate}")
            .quiet()
            .ignore_stderr()
            .run()?;
        let script = super::script(scratch, "token.py", include_str!("token.py"))?;
        let token =
            cmd!(sh, "python3 {script} {key} {certificate} testbed testbed {REPOSITORY}").quiet().read()?;
        let origin = super::start_origin()?;
        origin.put("/token", Content::bytes(serde_json::json!({ "token": token }).to_string()));
        Ok(Self { origin, certificate })
    }

    /// The configuration of a registry that accepts this service's tokens.
    pub(super) fn configuration(&self) -> String {
        let (realm, certificate) = (self.origin.url("/token"), &self.certificate);
        format!(
            "auth:\n  token:\n    realm: {realm}\n    service: testbed\n    issuer: testbed\n    rootcertbundle: \
             {certificate}\n"
        )
    }
}

/// The configuration of a registry that requires the password.
pub(super) fn htpasswd(scratch: &Scratch) -> Result<String> {
    let path = super::script(scratch, "htpasswd", HTPASSWD)?;
    Ok(format!("auth:\n  htpasswd:\n    realm: testbed\n    path: {path}\n"))
}

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
    let requests = service.origin.requests();
    ensure!(requests.len() == 2, "each process must request one token: {requests:?}");
    for request in &requests {
        ensure!(request.query_value("service") == Some("testbed"), "{request:?}");
        ensure!(request.query_value("scope") == Some("repository%3Amodels%2Fvae%3Apull"), "{request:?}");
        let login = request.header("authorization").unwrap_or_default();
        ensure!(login.starts_with("Basic "), "the service did not get the login of its host");
    }
    println!(
        "    the service gets one request a process, to pull from this repository, with the login of its host"
    );
    Ok(())
}
