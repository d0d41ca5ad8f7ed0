//! The servers that take part: a process, the place of its files, and what a client needs to speak to it.

use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use xshell::{Cmd, Shell, cmd};

use super::S3S;
use crate::project;
use crate::tools::nginx::{self, Config, Nginx};
use crate::tools::process::{Run, Running};
use crate::tools::registry::{self, Registry};
use crate::tools::scratch::Scratch;
use crate::tools::token_service::TokenService;

/// The emulated S3 in a version that works. Without its extras: those are the services besides S3.
const MOTO: [&str; 3] = ["moto[s3]==5.2.1", "flask==3.1.3", "flask-cors==6.0.5"];

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
    pub(super) const ALL: &[Self] = &[
        Self::Registry,
        Self::Password,
        Self::Token,
        Self::Bucket,
        Self::Moto,
        Self::Nginx,
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
pub(super) struct Server {
    pub(super) kind: Kind,
    /// 0 for a directory.
    pub(super) port: u16,
    /// The root of its files.
    data: Utf8PathBuf,
    pub(super) process: Process,
}

/// What serves.
#[derive(Debug)]
pub(super) enum Process {
    Registry(Registry),
    TokenRegistry(Registry, TokenService),
    Nginx(Nginx),
    Other(Running),
    None,
}

impl Server {
    pub(super) fn start(sh: &Shell, scratch: &Scratch, kind: Kind) -> Result<Self> {
        let ([port], data) = (nginx::free_ports()?, scratch.fresh("data"));
        sh.create_dir(data.join(BUCKET))?;
        let docker_registry = |auth: &str| Registry::start(sh, scratch, &data, port, auth);
        let process = match kind {
            Kind::Registry => Process::Registry(docker_registry("")?),
            Kind::Password => Process::Registry(docker_registry(&registry::htpasswd(scratch)?)?),
            Kind::Token => {
                let service = TokenService::start(sh, scratch)?;
                Process::TokenRegistry(docker_registry(&service.configuration())?, service)
            }
            Kind::Bucket => Process::Other(s3s(sh, scratch, &data, port, &[])?),
            Kind::Moto => Process::Other(moto(sh, scratch, port)?),
            Kind::Nginx => Process::Nginx(directory(sh, scratch, &data, port)?),
            Kind::Directory => Process::None,
        };
        Ok(Self { kind, port, data, process })
    }

    /// s3s-fs whose clock is the system's, moved as the file `clock` says in libfaketime's notation.
    pub(super) fn start_bucket_with_clock(sh: &Shell, scratch: &Scratch, clock: &Utf8Path) -> Result<Self> {
        let ([port], data) = (nginx::free_ports()?, scratch.fresh("data"));
        sh.create_dir(data.join(BUCKET))?;
        let library = cmd!(sh, "sh -c 'ls /usr/lib/*/faketime/libfaketimeMT.so.1'").quiet().read()?;
        let variables = [
            ("LD_PRELOAD", library.trim()),
            ("FAKETIME_TIMESTAMP_FILE", clock.as_str()),
            ("FAKETIME_NO_CACHE", "1"),
            // Timers go on as they are.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        let process = Process::Other(s3s(sh, scratch, &data, port, &variables)?);
        Ok(Self { kind: Kind::Bucket, port, data, process })
    }

    /// The address of the store `name` for a client that reaches the server at `port`.
    pub(super) fn address(&self, name: &str, port: u16) -> String {
        match self.kind {
            Kind::Registry | Kind::Password | Kind::Token => format!("oci://127.0.0.1:{port}/{name}"),
            Kind::Bucket | Kind::Moto => {
                format!("s3://{BUCKET}/{name}?endpoint=http://127.0.0.1:{port}&region=us-east-1")
            }
            Kind::Nginx => format!("http://127.0.0.1:{port}/{name}/{{sha256}}"),
            Kind::Directory => format!("file://{}/{name}", self.data),
        }
    }

    /// The beginning of the addresses of its files, as a report shows them.
    pub(super) fn shown(&self, name: &str, port: u16) -> String {
        match self.kind {
            Kind::Registry | Kind::Password | Kind::Token => format!("http://127.0.0.1:{port}/v2/{name}/"),
            Kind::Bucket | Kind::Moto => format!("s3://{BUCKET}/{name}/"),
            Kind::Nginx => format!("http://127.0.0.1:{port}/{name}/"),
            Kind::Directory => format!("{}/{name}/", self.data),
        }
    }

    /// The variables that open the store at `port`. `folder` is for their files.
    pub(super) fn access(&self, folder: &Utf8Path, port: u16) -> Result<Vec<(&'static str, String)>> {
        self.access_as(folder, port, registry::LOGIN.1, SECRET_KEY)
    }

    /// As [`Server::access`], with another password or secret key.
    pub(super) fn access_as(
        &self,
        folder: &Utf8Path,
        port: u16,
        password: &str,
        secret_key: &str,
    ) -> Result<Vec<(&'static str, String)>> {
        Ok(match self.kind {
            Kind::Password | Kind::Token => vec![("DOCKER_CONFIG", docker_config(folder, port, password)?)],
            Kind::Bucket | Kind::Moto => vec![
                ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
                ("AWS_SECRET_ACCESS_KEY", secret_key.to_owned()),
            ],
            Kind::Registry | Kind::Nginx | Kind::Directory => Vec::new(),
        })
    }

    /// Makes the store `name` ready for a push, where a server does not do it itself.
    pub(super) fn create(&self, name: &str) -> Result<()> {
        if self.kind == Kind::Directory {
            fs::create_dir_all(self.data.join(name))?;
        }
        Ok(())
    }

    /// The bytes that the store `name` has for a digest; `None` if it has none.
    pub(super) fn read(&self, sh: &Shell, name: &str, sha256: &str) -> Result<Option<Vec<u8>>> {
        if self.kind != Kind::Moto {
            return Ok(fs::read(self.path(name, sha256)).ok());
        }
        let output = self.curl(sh, name, sha256).ignore_status().ignore_stderr().output()?;
        Ok(output.status.success().then_some(output.stdout))
    }

    /// Puts other bytes in the place of a file that the store `name` has, behind the server's back.
    pub(super) fn replace(&self, sh: &Shell, name: &str, sha256: &str, bytes: &[u8]) -> Result<()> {
        if self.kind != Kind::Moto {
            let path = self.path(name, sha256);
            ensure!(path.is_file(), "the store has no {path}");
            return Ok(fs::write(path, bytes)?);
        }
        // A form would be parsed, and not stored.
        let put = ["-X", "PUT", "-H", "Content-Type: application/octet-stream", "--data-binary", "@-"];
        Ok(self.curl(sh, name, sha256).args(put).stdin(bytes).run()?)
    }

    /// Removes a file of the store `name`, behind the server's back.
    pub(super) fn remove(&self, sh: &Shell, name: &str, sha256: &str) -> Result<()> {
        if self.kind != Kind::Moto {
            return Ok(fs::remove_file(self.path(name, sha256))?);
        }
        Ok(self.curl(sh, name, sha256).args(["-X", "DELETE"]).run()?)
    }

    /// The registry of this server.
    pub(super) fn registry(&self) -> Result<&Registry> {
        match &self.process {
            Process::Registry(registry) | Process::TokenRegistry(registry, _) => Ok(registry),
            _ => bail!("{} is no registry", self.kind.name()),
        }
    }

    /// The number of the process whose time the service takes.
    pub(super) fn pid(&self) -> Option<u32> {
        match &self.process {
            Process::Registry(registry) | Process::TokenRegistry(registry, _) => Some(registry.server().id()),
            Process::Nginx(nginx) => Some(nginx.id()),
            Process::Other(running) => Some(running.id()),
            Process::None => None,
        }
    }

    /// What the server wrote, for a scenario that failed.
    pub(super) fn log(&self) -> String {
        match &self.process {
            Process::Registry(registry) | Process::TokenRegistry(registry, _) => registry.server().output(),
            Process::Nginx(nginx) => nginx.log(),
            Process::Other(running) => running.output(),
            Process::None => String::new(),
        }
    }

    fn path(&self, name: &str, sha256: &str) -> Utf8PathBuf {
        match self.kind {
            kind if kind.is_registry() => {
                let blobs = self.data.join("docker/registry/v2/blobs/sha256");
                blobs.join(&sha256[..2]).join(sha256).join("data")
            }
            Kind::Bucket => self.data.join(BUCKET).join(name).join(sha256),
            _ => self.data.join(name).join(sha256),
        }
    }

    /// A request for an object of moto, with the keys: an object that was one PUT is private.
    fn curl<'s>(&self, sh: &'s Shell, name: &str, sha256: &str) -> Cmd<'s> {
        let url = format!("http://127.0.0.1:{}/{BUCKET}/{name}/{sha256}", self.port);
        let keys = format!("{ACCESS_KEY}:{SECRET_KEY}");
        let signed = ["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", &keys];
        cmd!(sh, "curl -fsS --max-time 30 {signed...} {url}").quiet()
    }
}

/// Writes a docker configuration with a login, and returns its directory.
pub(super) fn docker_config(folder: &Utf8Path, port: u16, password: &str) -> Result<String> {
    let directory = folder.join(format!("docker-{port}"));
    fs::create_dir_all(&directory)?;
    let sh = Shell::new()?;
    let login = format!("{}:{password}", registry::LOGIN.0);
    let auth = cmd!(sh, "base64 -w 0").quiet().stdin(login).read()?;
    let host = format!("127.0.0.1:{port}");
    let config = serde_json::json!({ "auths": { host: { "auth": auth } } });
    fs::write(directory.join("config.json"), config.to_string())?;
    Ok(directory.into_string())
}

fn s3s(
    sh: &Shell,
    scratch: &Scratch,
    data: &Utf8Path,
    port: u16,
    variables: &[(&str, &str)],
) -> Result<Running> {
    let number = port.to_string();
    let run = Run::new(S3S.into(), &sh.var("PATH")?, scratch.fresh("s3s"))?
        .args(&["--host", "127.0.0.1", "--port", &number])
        .args(&["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY, data.as_str()])
        .env("RUST_LOG", "warn");
    let run = variables.iter().fold(run, |run, (name, value)| run.env(name, value));
    run.start()?.listens((Ipv4Addr::LOCALHOST, port))
}

fn moto(sh: &Shell, scratch: &Scratch, port: u16) -> Result<Running> {
    // The version is a part of the path, so another version is installed beside this one.
    let folder = project::root().join("target/stores").join(MOTO[0]);
    if !folder.join("flask_cors").is_dir() {
        let options = ["--quiet", "--disable-pip-version-check", "--root-user-action", "ignore", "--target"];
        cmd!(sh, "pip install {options...} {folder}")
            .args(MOTO)
            .ignore_stderr()
            .run()
            .with_context(|| format!("pip could not install {}", MOTO[0]))?;
    }
    let number = port.to_string();
    let run = Run::new("python3".into(), &sh.var("PATH")?, scratch.fresh("moto"))?
        .args(&["-m", "moto.server", "--host", "127.0.0.1", "--port", &number])
        .env("PYTHONPATH", &folder);
    let running = run.start()?.listens((Ipv4Addr::LOCALHOST, port))?;
    let url = format!("http://127.0.0.1:{port}/{BUCKET}");
    cmd!(sh, "curl -fsS --max-time 30 -X PUT {url}").quiet().run().context("making moto's bucket")?;
    Ok(running)
}

fn directory(sh: &Shell, scratch: &Scratch, data: &Utf8Path, port: u16) -> Result<Nginx> {
    let http = format!(
        "access_log off;
    server {{
        listen 127.0.0.1:{port};
        root {data};
        client_max_body_size 0;
        location / {{ dav_methods PUT; create_full_put_path on; }}
    }}"
    );
    Nginx::start(sh, &scratch.fresh("nginx"), &Config { workers: "auto", ports: vec![port], http })
}
