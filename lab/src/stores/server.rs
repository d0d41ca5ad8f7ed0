//! The servers that take part: a process, the place of its files, and what a client needs to speak to it.

use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use xshell::{Cmd, cmd};

use super::Fixture;
use crate::tools::nginx::{self, Config, Nginx};
use crate::tools::process::Running;
use crate::tools::programs;
use crate::tools::registry::{self, Registry};
use crate::tools::token_service::TokenService;

/// The emulated S3 in a version that works. Without its extras: those are the services besides S3.
const MOTO: &str = "moto[s3]==5.2.1";
const MOTO_NEEDS: &[&str] = &["flask==3.1.3", "flask-cors==6.0.5"];

/// The keys of the bucket servers.
pub(super) const ACCESS_KEY: &str = "storesaccesskey";
pub(super) const SECRET_KEY: &str = "stores-secret-key-canary";
const BUCKET: &str = "models";

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// docker-registry without a login.
    Registry,
    /// docker-registry with a password.
    Password,
    /// docker-registry with a token service.
    Token,
    /// s3s-fs, which checks signatures.
    Bucket,
    /// moto, which checks none, and answers as AWS does.
    Moto,
    /// nginx as a directory that takes PUT.
    Nginx,
    /// A directory of this machine.
    Directory,
}

impl Kind {
    /// Those with the most waits first, so that the others run beside them.
    pub(super) const ALL: &[Self] = &[
        Self::Bucket,
        Self::Nginx,
        Self::Registry,
        Self::Password,
        Self::Token,
        Self::Moto,
        Self::Directory,
    ];

    pub(super) fn is_registry(self) -> bool {
        matches!(self, Self::Registry | Self::Password | Self::Token)
    }

    pub(super) fn is_bucket(self) -> bool {
        matches!(self, Self::Bucket | Self::Moto)
    }

    /// The server's name in the output.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Registry => "docker-registry",
            Self::Password => "docker-registry with a password",
            Self::Token => "docker-registry with a token service",
            Self::Bucket => "s3s-fs",
            Self::Moto => "moto",
            Self::Nginx => "nginx",
            Self::Directory => "a directory",
        }
    }
}

/// A running server. Its drop ends it.
#[derive(Debug)]
pub(super) struct Server<'f> {
    pub(super) fixture: &'f Fixture,
    pub(super) kind: Kind,
    pub(super) port: u16,
    /// The root of its files.
    pub(super) data: Utf8PathBuf,
    /// The service of a registry with tokens.
    pub(super) service: Option<TokenService>,
    process: Process,
}

/// What serves.
#[derive(Debug)]
enum Process {
    Registry(Registry),
    Nginx(Nginx),
    Other(Running),
    None,
}

impl<'f> Server<'f> {
    pub(super) fn start(fixture: &'f Fixture, kind: Kind) -> Result<Self> {
        Self::start_with(fixture, kind, &[])
    }

    /// s3s-fs whose clock is the system's, moved as the file `clock` says in libfaketime's notation.
    pub(super) fn start_bucket_with_clock(fixture: &'f Fixture, clock: &Utf8Path) -> Result<Self> {
        let sh = &fixture.sh;
        let library = cmd!(sh, "sh -c 'ls /usr/lib/*/faketime/libfaketimeMT.so.1'").quiet().read()?;
        let variables = [
            ("LD_PRELOAD", library.trim()),
            ("FAKETIME_TIMESTAMP_FILE", clock.as_str()),
            ("FAKETIME_NO_CACHE", "1"),
            // Timers go on as they are.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        Self::start_with(fixture, Kind::Bucket, &variables)
    }

    /// A server; `variables` are for s3s-fs.
    fn start_with(fixture: &'f Fixture, kind: Kind, variables: &[(&str, &str)]) -> Result<Self> {
        let Fixture { sh, scratch, .. } = fixture;
        let ([port], data) = (nginx::free_ports()?, scratch.fresh("data"));
        sh.create_dir(data.join(BUCKET))?;
        let (mut service, number) = (None, port.to_string());
        let at = ["--host", "127.0.0.1", "--port", &number];
        let registry = |auth: &str| Ok(Process::Registry(Registry::start(sh, scratch, &data, port, auth)?));
        let process = match kind {
            Kind::Registry => registry(""),
            Kind::Password => registry(&registry::htpasswd(scratch)?),
            Kind::Token => registry(&service.insert(TokenService::start(sh, scratch)?).configuration()),
            Kind::Bucket => {
                let keys = ["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY];
                let run = scratch.run(sh, "s3s-fs")?.args(&at).args(&keys).args(&[&data]);
                let run = run.env("RUST_LOG", "warn").envs(variables);
                run.start()?.listens((Ipv4Addr::LOCALHOST, port)).map(Process::Other)
            }
            Kind::Moto => {
                let library = programs::python_package(sh, &fixture.libraries, MOTO, MOTO_NEEDS)?;
                let run = scratch.run(sh, "python3")?.args(&["-m", "moto.server"]).args(&at);
                let run = run.env("PYTHONPATH", &library).start()?.listens((Ipv4Addr::LOCALHOST, port))?;
                let url = format!("http://127.0.0.1:{port}/{BUCKET}");
                cmd!(sh, "curl -fsS --max-time 30 -X PUT {url}").quiet().run()?;
                Ok(Process::Other(run))
            }
            Kind::Nginx => {
                let location = "location / { dav_methods PUT; create_full_put_path on; }";
                let server =
                    format!("listen 127.0.0.1:{port}; root {data}; client_max_body_size 0; {location}");
                let http = format!("access_log off; server {{ {server} }}");
                let config = Config { workers: "auto", ports: vec![port], http };
                Nginx::start(sh, &scratch.fresh("nginx"), &config).map(Process::Nginx)
            }
            Kind::Directory => Ok(Process::None),
        };
        let process = process.with_context(|| format!("starting {}", kind.name()))?;
        Ok(Self { fixture, kind, port, data, service, process })
    }

    /// The address of the store `name` for a client that reaches the server at `port`, and the beginning of its files'
    /// addresses, as a report shows them.
    pub(super) fn addresses(&self, name: &str, port: u16) -> (String, String) {
        let host = format!("127.0.0.1:{port}");
        match self.kind {
            Kind::Registry | Kind::Password | Kind::Token => {
                (format!("oci://{host}/{name}"), format!("http://{host}/v2/{name}/"))
            }
            Kind::Bucket | Kind::Moto => (
                format!("s3://{BUCKET}/{name}?endpoint=http://{host}&region=us-east-1"),
                format!("s3://{BUCKET}/{name}/"),
            ),
            Kind::Nginx => (format!("http://{host}/{name}/{{sha256}}"), format!("http://{host}/{name}/")),
            Kind::Directory => (format!("file://{}/{name}", self.data), format!("{}/{name}/", self.data)),
        }
    }

    /// The variables that open the store at `port`. A `secret` is in the place of the right password or secret key.
    pub(super) fn access(&self, port: u16, secret: Option<&str>) -> Result<Vec<(&'static str, String)>> {
        Ok(match self.kind {
            Kind::Password | Kind::Token => {
                vec![("DOCKER_CONFIG", self.docker_config(port, secret.unwrap_or(registry::LOGIN.1))?)]
            }
            Kind::Bucket | Kind::Moto => vec![
                ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
                ("AWS_SECRET_ACCESS_KEY", secret.unwrap_or(SECRET_KEY).to_owned()),
            ],
            Kind::Registry | Kind::Nginx | Kind::Directory => Vec::new(),
        })
    }

    /// Writes a docker configuration with a login, and returns its directory.
    fn docker_config(&self, port: u16, password: &str) -> Result<String> {
        let (sh, directory) = (&self.fixture.sh, self.fixture.scratch.fresh("docker"));
        fs::create_dir(&directory)?;
        let login = format!("{}:{password}", registry::LOGIN.0);
        let auth = cmd!(sh, "base64 -w 0").quiet().stdin(login).read()?;
        let host = format!("127.0.0.1:{port}");
        let config = serde_json::json!({ "auths": { host: { "auth": auth } } });
        fs::write(directory.join("config.json"), config.to_string())?;
        Ok(directory.into_string())
    }

    /// The bytes that the store `name` has for a digest; `None` if it has none.
    pub(super) fn read(&self, name: &str, sha256: &str) -> Result<Option<Vec<u8>>> {
        if self.kind != Kind::Moto {
            return Ok(fs::read(self.path(name, sha256)).ok());
        }
        let output = self.curl(name, sha256).ignore_status().ignore_stderr().output()?;
        Ok(output.status.success().then_some(output.stdout))
    }

    /// Puts other bytes in the place of a file that the store `name` has, behind the server's back.
    pub(super) fn replace(&self, name: &str, sha256: &str, bytes: &[u8]) -> Result<()> {
        if self.kind != Kind::Moto {
            let path = self.path(name, sha256);
            ensure!(path.is_file(), "the store has no {path}");
            return Ok(fs::write(path, bytes)?);
        }
        // A form would be parsed, and not stored.
        let put = ["-X", "PUT", "-H", "Content-Type: application/octet-stream", "--data-binary", "@-"];
        Ok(self.curl(name, sha256).args(put).stdin(bytes).run()?)
    }

    /// The path of a file, of any server but moto.
    pub(super) fn path(&self, name: &str, sha256: &str) -> Utf8PathBuf {
        match self.kind {
            Kind::Registry | Kind::Password | Kind::Token => {
                let blobs = self.data.join("docker/registry/v2/blobs/sha256");
                blobs.join(&sha256[..2]).join(sha256).join("data")
            }
            Kind::Bucket => self.data.join(BUCKET).join(name).join(sha256),
            Kind::Moto | Kind::Nginx | Kind::Directory => self.data.join(name).join(sha256),
        }
    }

    /// A request for an object of moto, with the keys: an object that was one PUT is private.
    fn curl(&self, name: &str, sha256: &str) -> Cmd<'f> {
        let sh = &self.fixture.sh;
        let url = format!("http://127.0.0.1:{}/{BUCKET}/{name}/{sha256}", self.port);
        let keys = format!("{ACCESS_KEY}:{SECRET_KEY}");
        let signed = ["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", &keys];
        cmd!(sh, "curl -fsS --max-time 30 {signed...} {url}").quiet()
    }

    /// Removes what no manifest of a registry names, while it runs on. Other servers keep everything.
    pub(super) fn collect_garbage(&self) -> Result<()> {
        match &self.process {
            Process::Registry(registry) => registry.collect_garbage(&self.fixture.sh),
            _ => Ok(()),
        }
    }

    /// The process whose time the service takes.
    pub(super) fn process(&self) -> Option<&Running> {
        match &self.process {
            Process::Registry(registry) => Some(registry.server()),
            Process::Nginx(nginx) => Some(nginx.server()),
            Process::Other(running) => Some(running),
            Process::None => None,
        }
    }

    /// What the server wrote, for a scenario that failed.
    pub(super) fn log(&self) -> String {
        self.process().map(Running::output).unwrap_or_default()
    }
}
