//! Our own client and a real registry that wants a login: a password, or a token that another service signs.
//!
//! The registry's face imitates the exchange, but both sides of it are ours. Here the registry decides.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use camino::Utf8Path;
use provision_core::backoff::RetryPolicy;
use provision_core::digest::Sha256;
use provision_http::{BodyKind, ClientConfig, Credential, ExpectedBody, HttpClient};
use provision_lock::resolve::{Kind, ResolveError, Resolver};
use provision_lock::source::Source;
use provision_testbed::{BlockingOrigin, Content};
use xshell::{Shell, cmd};

/// Who may read.
pub(super) const LOGIN: &str = "someone";
/// By this.
pub(super) const PASSWORD: &str = "registry-password";
/// The registry's file of both: bcrypt, the one kind that it reads.
pub(super) const HTPASSWD: &str = "someone:$2y$05$abcdefghijklmnopqrstuux7DVfxfgfXTmp/9Tsk6HzX2QQGjxePG\n";

/// A service that hands out one token, to whoever comes; what it was asked is checked afterwards.
pub(super) struct TokenService(BlockingOrigin);

impl TokenService {
    pub(super) fn start() -> Result<Self> {
        Ok(Self(super::start()?))
    }

    /// The registry's configuration that sends clients here.
    pub(super) fn auth(&self, certificate: &Utf8Path) -> String {
        let realm = self.0.url("/token");
        format!(
            "auth:\n  token:\n    realm: {realm}\n    service: testbed\n    issuer: testbed\n    rootcertbundle: \
             {certificate}\n"
        )
    }

    /// From now on it has a token for `repository`.
    pub(super) fn sign(
        &self,
        sh: &Shell,
        scratch: &Utf8Path,
        repository: &str,
        key: &Utf8Path,
        certificate: &Utf8Path,
    ) -> Result<()> {
        let script = super::script(scratch, "token.py", include_str!("token.py"))?;
        let token =
            cmd!(sh, "python3 {script} {key} {certificate} testbed testbed {repository}").quiet().read()?;
        self.0.put("/token", Content::bytes(serde_json::json!({ "token": token }).to_string()));
        Ok(())
    }
}

/// The blob by our client, with the login or without.
fn blob(port: u16, content: &Content, with_login: bool) -> Result<Result<Vec<u8>, ResolveError>> {
    let mut config = ClientConfig::default();
    if with_login {
        config.credentials.add(Credential::basic("127.0.0.1", LOGIN, PASSWORD));
    }
    let origin = HttpClient::new(config)?;
    let hex = content.sha256_hex();
    let source: Source = format!("oci:127.0.0.1:{port}/models/vae@sha256:{hex}").parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let retry = RetryPolicy { retries: 1, ..RetryPolicy::default() };
        let mut resolver = Resolver::new(&origin, retry, Arc::new(|_| {}));
        let found = match resolver.resolve(&source).await {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        let [found] = &found[..] else { bail!("a blob is one file") };
        let mut connection = origin.connection();
        let asked = ExpectedBody { range: None, size: found.size, sha256: found.sha256 };
        let mut answer = connection.get(&found.url, None, asked).await?;
        ensure!(answer.kind == BodyKind::Whole, "a whole blob was asked for");
        let (mut bytes, mut block) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            match answer.read(&mut block).await? {
                0 => return Ok(Ok(bytes)),
                read => bytes.extend_from_slice(&block[..read]),
            }
        }
    })
}

/// Checks both: `password` is the port of a registry with [`HTPASSWD`], `token` of one with [`TokenService::auth`].
pub(super) fn check(password: u16, token: u16, service: &TokenService, content: &Content) -> Result<()> {
    let sha256: Sha256 = content.sha256_hex().parse()?;
    let is_right = |bytes: &[u8]| Sha256::of(bytes) == sha256;
    match blob(password, content, false)? {
        Err(error) => {
            ensure!(error.kind() == Kind::Refused, "{error}");
            ensure!(error.to_string().contains("netrc"), "the way out is not said: {error}");
        }
        Ok(_) => bail!("the registry wants a password and gave the blob without one"),
    }
    super::holds("without a login: refused, and the netrc file is named");
    let bytes = blob(password, content, true)?.context("with the password")?;
    ensure!(is_right(&bytes), "other bytes came");
    super::holds("Basic: a login of the netrc file opens the blob");

    let bytes = blob(token, content, true)?.context("with a token")?;
    ensure!(is_right(&bytes), "other bytes came");
    super::holds("Bearer: the registry takes the token that its service signed");
    let asked = service.0.requests();
    ensure!(asked.len() == 1, "one token is for all of a repository: {asked:?}");
    let value = |name| asked[0].query_value(name);
    ensure!(value("service") == Some("testbed"), "{asked:?}");
    ensure!(value("scope") == Some("repository%3Amodels%2Fvae%3Apull"), "{asked:?}");
    let login = asked[0].header("authorization").unwrap_or_default();
    ensure!(login.starts_with("Basic "), "the service was not told the login of its host");
    super::holds("the service is asked once, for this repository, to pull, with the login of its host");
    Ok(())
}
