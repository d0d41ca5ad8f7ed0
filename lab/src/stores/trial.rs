//! A trial: files of its own, a lock of them, an origin and a store, with a relay before each of the two.
//!
//! Every trial takes another name at the server and other bytes, so no trial meets what another one left.

use std::fs;
use std::ops::RangeBounds;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8PathBuf;
use provision_testbed::Content;
use serde_json::Value;

use super::server::{Kind, Server};
use crate::tools::files::{verify_contents, write_contents};
use crate::tools::lock_text;
use crate::tools::process::{Ended, Run};
use crate::tools::relay::Relay;

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

/// A file's path and content.
pub(super) type File = (&'static str, Content);

/// A trial at one store.
#[derive(Debug)]
pub(super) struct Trial<'f> {
    pub(super) server: &'f Server<'f>,
    /// The store's name at the server, and the folder of the files at the origin.
    pub(super) name: String,
    /// The relay before the server.
    pub(super) store: Relay,
    /// The port at which the program finds the store.
    pub(super) port: u16,
    /// The variables that open the store.
    pub(super) access: Vec<(&'static str, String)>,
    /// The relay before the origin.
    pub(super) origin: Relay,
    /// The large file, then the small one.
    pub(super) files: Vec<File>,
    pub(super) lock: Utf8PathBuf,
    folder: Utf8PathBuf,
}

impl<'f> Trial<'f> {
    pub(super) fn new(server: &'f Server<'f>) -> Result<Self> {
        Self::of(server, &[LARGE, SMALL])
    }

    /// A trial with files of these sizes, at most two.
    pub(super) fn of(server: &'f Server<'f>, sizes: &[u64]) -> Result<Self> {
        let fixture = server.fixture;
        let folder = fixture.scratch.fresh("trial");
        let name = folder.file_name().unwrap_or_default().to_owned();
        let seed = name.bytes().fold(7, |seed, byte| seed * 31 % 1_000_003 + u64::from(byte));
        let files: Vec<_> = (seed..)
            .zip([LARGE_PATH, SMALL_PATH].into_iter().zip(sizes))
            .map(|(seed, (path, size))| (path, Content::safetensors(seed, *size)))
            .collect();
        for (path, content) in &files {
            fixture.origin.put(&format!("/{name}/{path}"), content.clone());
        }
        let (store, origin) = (Relay::start(server.port)?, Relay::start(fixture.origin.addr().port())?);
        fs::create_dir_all(&folder)?;
        // A directory is a store from the beginning; the other servers do not need it.
        fs::create_dir_all(server.data.join(&name))?;
        let (port, lock) = (store.port, folder.join("models.lock"));
        let access = server.access(port, None)?;
        let trial = Self { server, name, store, port, access, origin, files, lock, folder };
        let base = format!("http://127.0.0.1:{}/{}", trial.origin.port, trial.name);
        trial.write_lock(|path| format!("{base}/{path}"))?;
        Ok(trial)
    }

    /// Writes a lock of the files.
    pub(super) fn write_lock(&self, url: impl Fn(&str) -> String) -> Result<()> {
        Ok(fs::write(&self.lock, lock_text::of_contents(&self.files, url))?)
    }

    pub(super) fn total(&self) -> u64 {
        self.files.iter().map(|(_, content)| content.size()).sum()
    }

    /// The store's address, through its relay.
    pub(super) fn address(&self) -> String {
        self.server.addresses(&self.name, self.port).0
    }

    /// The bytes that a report says the store gave. Those of a directory are copied, or share their blocks.
    pub(super) fn given_by_store(&self, report: &Value) -> u64 {
        let (_, shown) = self.server.addresses(&self.name, self.port);
        if self.server.kind != Kind::Directory {
            return given_by(report, &shown);
        }
        let files = report["files"].as_array().into_iter().flatten();
        let is_it = |file: &&Value| file["source"].as_str().is_some_and(|source| source.starts_with(&shown));
        files.filter(is_it).filter_map(|file| file["size"].as_u64()).sum()
    }

    /// A run of the program with the lock.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<Run> {
        self.run_by(self.server.fixture.program.as_str(), arguments)
    }

    /// A run of another program, which may start this one. Its environment has nothing but the variables which open the
    /// store, and no request leaves this machine.
    pub(super) fn run_by(&self, program: &str, arguments: &[&str]) -> Result<Run> {
        let fixture = self.server.fixture;
        let run = fixture.scratch.run(&fixture.sh, program)?.args(arguments);
        let run = run.args(&["--lock", self.lock.as_str()]).env("AWS_EC2_METADATA_DISABLED", "true");
        Ok(run.envs(&self.access))
    }

    /// The files, written as an installation has them.
    pub(super) fn installed(&self) -> Result<Utf8PathBuf> {
        let installed = self.folder.join("installed");
        if !installed.exists() {
            write_contents(&installed, &self.files)?;
        }
        Ok(installed)
    }

    /// `provision store push` to the store. Each run has a home of its own, so the cache, which keeps what an
    /// interrupted push needs, is the trial's.
    pub(super) fn push(&self) -> Result<Run> {
        let (address, installed, cache) = (self.address(), self.installed()?, self.folder.join("cache"));
        let run = self.run(&["store", "push", "--to", &address, "--dest", installed.as_str()])?;
        Ok(run.args(&["--cache", cache.as_str()]))
    }

    /// Fills the store, and begins to count at zero.
    pub(super) fn fill(&self) -> Result<()> {
        self.push()?.exits(0)?;
        self.reset();
        Ok(())
    }

    /// `provision store check` of the store's address.
    pub(super) fn check(&self, options: &[&str]) -> Result<Run> {
        Ok(self.run(&["store", "check", "--to", &self.address()])?.args(options))
    }

    /// `provision fetch` into a new destination, with the store and a report.
    pub(super) fn fetch(&self, options: &[&str]) -> Result<(Run, Utf8PathBuf)> {
        let (run, destination) = self.fetch_from_origin()?;
        let address = self.address();
        Ok((run.args(&["--store", &address]).args(options), destination))
    }

    /// `provision fetch` into a new destination, without the store.
    pub(super) fn fetch_from_origin(&self) -> Result<(Run, Utf8PathBuf)> {
        let destination = self.server.fixture.scratch.fresh("dest");
        let run = self.run(&["fetch", "--dest", destination.as_str(), "--report", "report.json"])?;
        Ok((run, destination))
    }

    /// Runs a fetch to its end and requires every file with its bytes.
    pub(super) fn fetch_whole(&self, options: &[&str]) -> Result<Ended> {
        let (run, destination) = self.fetch(options)?;
        let ended = run.exits(0)?;
        verify_contents(&destination, &self.files)?;
        Ok(ended)
    }

    /// The bytes that the store has for a file, read without the program.
    pub(super) fn stored(&self, (_, content): &File) -> Result<Option<Vec<u8>>> {
        self.server.read(&self.name, &content.sha256_hex())
    }

    /// Requires that the store has every file.
    pub(super) fn require_stored(&self) -> Result<()> {
        for file in &self.files {
            let stored = self.stored(file)?.with_context(|| format!("the store does not have {}", file.0))?;
            ensure!(stored == file.1.to_vec(), "the store has other bytes for {}", file.0);
        }
        Ok(())
    }

    /// Puts bytes into the store, behind the server's back.
    pub(super) fn replace(&self, (_, content): &File, bytes: &[u8]) -> Result<()> {
        self.server.replace(&self.name, &content.sha256_hex(), bytes)
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

    /// Requires that the origin gave so many bytes.
    pub(super) fn require_from_origin(&self, expected: impl RangeBounds<u64>, ended: &Ended) -> Result<()> {
        let given = self.origin.traffic().down;
        ensure!(expected.contains(&given), "the origin gave {given} bytes:\n{ended}");
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
