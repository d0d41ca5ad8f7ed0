//! The emulated registry beside Debian's, by the same checks; and the project's own commands at real registries that
//! require a login.
//!
//! The testbed emulates the exchange of tokens, but then both sides are the project's. Here the registry decides.

#![expect(clippy::print_stdout, reason = "the checks are the command's output")]

use anyhow::{Result, ensure};
use camino::Utf8Path;
use provision_testbed::Content;
use provision_testbed::hosts::oci::Registry;
use xshell::cmd;

use super::{Fixture, start_origin};
use crate::tools::files;
use crate::tools::nginx;
use crate::tools::process::Ended;
use crate::tools::registry::{self, Registry as DockerRegistry};
use crate::tools::token_service::TokenService;

/// The repository of the blob in each registry.
const REPOSITORY: &str = "models/vae";

/// The login as a netrc file.
const NETRC: &str = "machine 127.0.0.1 login someone password registry-password\n";

pub(super) fn check(fixture: &Fixture) -> Result<()> {
    let Fixture { sh, scratch, .. } = fixture;
    let blob = Content::generated(8, 300_001);
    println!("--- the emulated registry");
    let (open, guarded) = (start_origin()?, start_origin()?);
    Registry::mount(&open, None).push(REPOSITORY, &blob);
    let emulated = Registry::mount(&guarded, None);
    emulated.push(REPOSITORY, &blob);
    emulated.guard(REPOSITORY);
    pass_for_a_registry(fixture, &open.url(""), &guarded.url(""), &blob)?;

    println!("--- a real registry, by the same checks");
    let [open, token, password] = nginx::free_ports()?;
    let service = TokenService::start(sh, scratch)?;
    // All of them share one store.
    let data = scratch.path().join("data");
    let start = |port, auth: &str| DockerRegistry::start(sh, scratch, &data, port, auth);
    let _open = start(open, "")?;
    let _token = start(token, &service.configuration())?;
    let _password = start(password, &registry::htpasswd(scratch)?)?;
    let path = scratch.file("blob", blob.to_vec())?;
    registry::push_blob(sh, open, REPOSITORY, &path, &blob.sha256_hex())?;
    let [open, guarded] = [open, token].map(|port| format!("http://127.0.0.1:{port}"));
    pass_for_a_registry(fixture, &open, &guarded, &blob)?;
    println!("--- real registries that require a login, by the project's own commands");
    logins(fixture, password, token, &service, &blob)
}

/// Runs the checks that hold for every registry: `guarded` requires a token.
fn pass_for_a_registry(fixture: &Fixture, open: &str, guarded: &str, blob: &Content) -> Result<()> {
    let (sh, script) = (&fixture.sh, fixture.scratch.file("oci.py", include_str!("oci.py"))?);
    let (sha256, size) = (blob.sha256_hex(), blob.size().to_string());
    Ok(cmd!(sh, "python3 {script} {open} {REPOSITORY} {sha256} {size} {guarded}").quiet().run()?)
}

/// Checks the registries at the ports `password` and `token`.
fn logins(
    fixture: &Fixture,
    password: u16,
    token: u16,
    service: &TokenService,
    blob: &Content,
) -> Result<()> {
    let scratch = &fixture.scratch;
    let (netrc, empty) = (scratch.file("netrc", NETRC)?, scratch.file("netrc", "")?);
    let add = |netrc: &Utf8Path, port: u16, lock: &Utf8Path, code| -> Result<Ended> {
        let source = format!("oci:127.0.0.1:{port}/{REPOSITORY}@sha256:{}", blob.sha256_hex());
        let arguments = ["lock", "add", &source, "--path", "blob", "--lock", lock.as_str()];
        fixture.run(&arguments)?.env("NETRC", netrc).exits(code)
    };
    add(&empty, password, &scratch.fresh("lock"), 6)?.complains(&["netrc"])?;
    println!("    without a login: refused, and the message names the netrc file");
    let outcomes = [
        (password, "Basic: a login of the netrc file opens the blob"),
        (token, "Bearer: the registry takes the token that its service signed"),
    ];
    for (port, outcome) in outcomes {
        // Adds the blob to a lock and downloads it, in two processes.
        let (lock, models) = (scratch.fresh("lock"), scratch.fresh("models"));
        add(&netrc, port, &lock, 0)?;
        let arguments = ["fetch-models", "--lock", lock.as_str(), "--dest", models.as_str()];
        fixture.run(&arguments)?.env("NETRC", &netrc).exits(0)?;
        files::verify_contents(&models, &[("blob", blob.clone())])?;
        println!("    {outcome}");
    }
    let requests = service.requests()?;
    ensure!(requests.len() == 2, "each process must request one token: {requests:?}");
    for request in &requests {
        ensure!(request.service == "testbed", "{request:?}");
        ensure!(request.scope == "repository:models/vae:pull", "{request:?}");
        ensure!(request.is_login_right, "the service did not get the login of its host");
    }
    println!("    the service gets one request a process, to pull from there, with the login of its host");
    Ok(())
}
