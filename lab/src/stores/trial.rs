//! A trial: files of its own, a lock of them, an origin and a store, with a relay before each of the two.
//!
//! Every trial takes another name at the server and other bytes, so no trial meets what another one left.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use provision_testbed::{BlockingOrigin, Content};
use serde_json::Value;
use xshell::Shell;

use super::server::{Kind, Server};
use crate::tools::lock_text::{VERSION, model};
use crate::tools::process::{Ended, Run};
use crate::tools::relay::Relay;
use crate::tools::scratch::Scratch;

/// The path of the large file, which a store does not know.
pub(super) const LARGE_PATH: &str = "large.safetensors";
/// The path of the small file.
pub(super) const SMALL_PATH: &str = "sub/small.safetensors";
/// The size of the large file: some parts of an upload, and many claims.
pub(super) const LARGE: u64 = 48_000_007;
/// The size of the small file.
pub(super) const SMALL: u64 = 300_001;
/// What a push or a fetch that has nothing to send may cost in heads.
pub(super) const HEADS: u64 = 40_000;

/// What all trials share.
#[derive(Debug)]
pub(super) struct Fixture {
    pub(super) sh: Shell,
    pub(super) program: Utf8PathBuf,
    pub(super) scratch: Scratch,
    /// An origin that has the files of every trial.
    pub(super) origin: BlockingOrigin,
}

/// A file of a trial.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) content: Content,
    pub(super) sha256: String,
}

/// A trial at one store.
#[derive(Debug)]
pub(super) struct Trial<'f> {
    pub(super) fixture: &'f Fixture,
    pub(super) server: &'f Server,
    /// The store's name at the server, and the folder of the files at the origin.
    pub(super) name: String,
    /// The relay before the server.
    pub(super) store: Relay,
    /// The port at which the program finds the store.
    port: u16,
    /// The relay before the origin.
    pub(super) origin: Relay,
    /// The large file, then the small one.
    pub(super) files: Vec<File>,
    pub(super) lock: Utf8PathBuf,
    folder: Utf8PathBuf,
}

impl<'f> Trial<'f> {
    pub(super) fn new(fixture: &'f Fixture, server: &'f Server) -> Result<Self> {
        Self::of(fixture, server, &[LARGE, SMALL])
    }

    /// A trial with a single file, and without a relay before the store, which would take processor time.
    pub(super) fn direct(fixture: &'f Fixture, server: &'f Server, size: u64) -> Result<Self> {
        Ok(Self { port: server.port, ..Self::of(fixture, server, &[size])? })
    }

    /// A trial with files of these sizes, at most two.
    pub(super) fn of(fixture: &'f Fixture, server: &'f Server, sizes: &[u64]) -> Result<Self> {
        let folder = fixture.scratch.fresh("trial");
        fs::create_dir_all(&folder)?;
        let name = folder.file_name().unwrap_or_default().to_owned();
        let seed = name.bytes().fold(7, |seed, byte| seed * 31 % 1_000_003 + u64::from(byte));
        let file = |((seed, path), size): ((u64, &str), &u64)| {
            let content = Content::safetensors(seed, *size);
            File { path: path.to_owned(), sha256: content.sha256_hex(), content }
        };
        let files: Vec<_> = (seed..).zip([LARGE_PATH, SMALL_PATH]).zip(sizes).map(file).collect();
        for File { path, content, .. } in &files {
            fixture.origin.put(&format!("/{name}/{path}"), content.clone());
        }
        let (store, origin) = (Relay::start(server.port)?, Relay::start(fixture.origin.addr().port())?);
        server.create(&name)?;
        let lock = folder.join("models.lock");
        let port = store.port;
        let trial = Self { fixture, server, name, store, port, origin, files, lock, folder };
        fs::write(&trial.lock, trial.lock_text(trial.origin.port))?;
        Ok(trial)
    }

    /// A lock of the files, at the origin behind the port.
    pub(super) fn lock_text(&self, port: u16) -> String {
        let entry = |File { path, content, sha256 }: &File| {
            let url = format!("http://127.0.0.1:{port}/{}/{path}", self.name);
            model(path, &url, content.size(), sha256)
        };
        VERSION.to_owned() + &self.files.iter().map(entry).collect::<String>()
    }

    pub(super) fn total(&self) -> u64 {
        self.files.iter().map(|file| file.content.size()).sum()
    }

    /// The store's address, through its relay.
    pub(super) fn address(&self) -> String {
        self.server.address(&self.name, self.port)
    }

    /// The bytes that a report says the store gave. Those of a directory are copied, or share their blocks.
    pub(super) fn given_by_store(&self, report: &Value) -> u64 {
        let shown = self.server.shown(&self.name, self.port);
        if self.server.kind != Kind::Directory {
            return given_by(report, &shown);
        }
        let files = report["files"].as_array().into_iter().flatten();
        let is_it = |file: &&Value| file["source"].as_str().is_some_and(|source| source.starts_with(&shown));
        files.filter(is_it).filter_map(|file| file["size"].as_u64()).sum()
    }

    /// A run of the program in an environment that has nothing but the variables which open the store.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<Run> {
        self.run_program(self.fixture.program.as_str(), arguments)
    }

    /// A run of another program in the same environment.
    pub(super) fn run_program(&self, program: &str, arguments: &[&str]) -> Result<Run> {
        let run = self.start_from(program, arguments)?;
        let access = self.server.access(&self.folder, self.port)?;
        Ok(access.iter().fold(run, |run, (name, value)| run.env(name, value)))
    }

    /// A run without any login or key.
    pub(super) fn run_without_access(&self, arguments: &[&str]) -> Result<Run> {
        self.start_from(self.fixture.program.as_str(), arguments)
    }

    fn start_from(&self, program: &str, arguments: &[&str]) -> Result<Run> {
        let Fixture { sh, scratch, .. } = self.fixture;
        let run = Run::new(program.into(), &sh.var("PATH")?, scratch.fresh("run"))?.args(arguments);
        // No request of a check leaves this machine.
        Ok(run.env("AWS_EC2_METADATA_DISABLED", "true"))
    }

    /// The files, written as an installation has them.
    pub(super) fn installed(&self) -> Result<Utf8PathBuf> {
        let installed = self.folder.join("installed");
        if !installed.exists() {
            for File { path, content, .. } in &self.files {
                let path = installed.join(path);
                fs::create_dir_all(path.parent().context("a file has a folder")?)?;
                fs::write(path, content.to_vec())?;
            }
        }
        Ok(installed)
    }

    /// `provision store push` to the store's address. Each run has a home of its own, so the cache, which keeps what an
    /// interrupted push needs, is the trial's.
    pub(super) fn push(&self) -> Result<Run> {
        let (installed, cache) = (self.installed()?, self.folder.join("cache"));
        let (address, lock) = (self.address(), self.lock.as_str());
        let run =
            self.run(&["store", "push", "--to", &address, "--lock", lock, "--dest", installed.as_str()])?;
        Ok(run.args(&["--cache", cache.as_str()]))
    }

    /// `provision store check` of the store's address.
    pub(super) fn check(&self, options: &[&str]) -> Result<Run> {
        let (address, lock) = (self.address(), self.lock.as_str());
        Ok(self.run(&["store", "check", "--to", &address, "--lock", lock])?.args(options))
    }

    /// `provision fetch` into a new destination, with the store and a report.
    pub(super) fn fetch(&self, options: &[&str]) -> Result<(Run, Utf8PathBuf)> {
        let destination = self.fixture.scratch.fresh("dest");
        let address = self.address();
        let arguments = ["fetch", "--lock", self.lock.as_str(), "--dest", destination.as_str()];
        let run = self.run(&arguments)?.args(&["--store", &address, "--report", "report.json"]);
        Ok((run.args(options), destination))
    }

    /// `provision fetch` into a new destination, without the store.
    pub(super) fn fetch_from_origin(&self) -> Result<(Run, Utf8PathBuf)> {
        let destination = self.fixture.scratch.fresh("dest");
        let arguments = ["fetch", "--lock", self.lock.as_str(), "--dest", destination.as_str()];
        Ok((self.run(&arguments)?, destination))
    }

    /// Runs a fetch to its end and requires every file with its bytes.
    pub(super) fn fetch_whole(&self, options: &[&str]) -> Result<Ended> {
        let (run, destination) = self.fetch(options)?;
        let ended = run.exits(0)?;
        self.require_files(&destination)?;
        Ok(ended)
    }

    /// Requires every file below `destination` with its bytes.
    pub(super) fn require_files(&self, destination: &Utf8Path) -> Result<()> {
        for File { path, content, .. } in &self.files {
            let found =
                fs::read(destination.join(path)).with_context(|| format!("{path} is not installed"))?;
            ensure!(found == content.to_vec(), "{path} has other bytes");
        }
        Ok(())
    }

    /// The bytes that the store has for a file, read without the program.
    pub(super) fn stored(&self, file: &File) -> Result<Option<Vec<u8>>> {
        self.server.read(&self.fixture.sh, &self.name, &file.sha256)
    }

    /// Requires that the store has every file.
    pub(super) fn require_stored(&self) -> Result<()> {
        for file in &self.files {
            let stored =
                self.stored(file)?.with_context(|| format!("the store does not have {}", file.path))?;
            ensure!(stored == file.content.to_vec(), "the store has other bytes for {}", file.path);
        }
        Ok(())
    }

    /// Puts bytes into the store, behind the server's back.
    pub(super) fn replace(&self, file: &File, bytes: &[u8]) -> Result<()> {
        self.server.replace(&self.fixture.sh, &self.name, &file.sha256, bytes)
    }

    /// Begins to count at zero, at both relays.
    pub(super) fn reset(&self) {
        self.store.reset();
        self.origin.reset();
    }

    /// Requires that the origin got no connection.
    pub(super) fn require_quiet_origin(&self) -> Result<()> {
        let traffic = self.origin.traffic();
        ensure!(traffic.connections == 0, "the origin was asked: {traffic:?}");
        Ok(())
    }
}

/// The bytes that a report says a source gave, whose shown address begins with `prefix`.
pub(super) fn given_by(report: &Value, prefix: &str) -> u64 {
    let files = report["files"].as_array().into_iter().flatten();
    let sources = files.flat_map(|file| file["sources"].as_array().into_iter().flatten());
    let is_it = |source: &&Value| source["source"].as_str().is_some_and(|shown| shown.starts_with(prefix));
    sources.filter(is_it).filter_map(|source| source["fetched"].as_u64()).sum()
}
