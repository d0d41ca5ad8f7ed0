//! A token service of registries, which opens exactly the repositories and actions that it is asked for.
//!
//! The registry verifies the signature, so this exchange is judged by a program that is not the project's.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use camino::Utf8PathBuf;
use serde::Deserialize;
use xshell::{Shell, cmd};

use crate::tools::nginx;
use crate::tools::process::Running;
use crate::tools::registry::LOGIN;
use crate::tools::scratch::Scratch;

/// A running service, which requires [`LOGIN`].
#[derive(Debug)]
pub(crate) struct TokenService {
    port: u16,
    certificate: Utf8PathBuf,
    server: Running,
}

/// A request for a token.
#[derive(Debug, Deserialize)]
pub(crate) struct TokenRequest {
    pub(crate) service: String,
    pub(crate) scope: String,
    pub(crate) is_login_right: bool,
}

impl TokenService {
    /// Starts the service with a new key.
    pub(crate) fn start(sh: &Shell, scratch: &Scratch) -> Result<Self> {
        let (key, certificate) = (scratch.fresh("key"), scratch.fresh("certificate"));
        let options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=testbed", "-days", "2"];
        cmd!(sh, "openssl req {options...} -keyout {key} -out {certificate}")
            .quiet()
            .ignore_stderr()
            .run()?;
        let script = scratch.file("token-service", include_str!("token_service.py"))?;
        let [port] = nginx::free_ports()?;
        let number = port.to_string();
        let arguments =
            [script.as_str(), key.as_str(), certificate.as_str(), "testbed", &number, LOGIN.0, LOGIN.1];
        let server = scratch.run(sh, "python3")?.args(&arguments).start()?;
        Ok(Self { port, certificate, server: server.listens((Ipv4Addr::LOCALHOST, port))? })
    }

    /// The configuration of a registry that accepts this service's tokens.
    pub(crate) fn configuration(&self) -> String {
        let Self { port, certificate, .. } = self;
        format!(
            "auth:\n  token:\n    realm: http://127.0.0.1:{port}/token\n    service: testbed\n    issuer: testbed\n    \
             rootcertbundle: {certificate}\n"
        )
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Result<Vec<TokenRequest>> {
        let parse =
            |line| serde_json::from_str(line).with_context(|| format!("the token service wrote {line}"));
        self.server.output().lines().map(parse).collect()
    }
}
