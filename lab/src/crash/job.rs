//! What the program is asked to do when it is struck.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};

use super::context::CrashContext;

/// A job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Job {
    /// Three files from an origin, into nothing.
    Fetch,
    /// The same, slowly: the journal is written, and the parts are made durable on the way.
    Paced,
    /// The same, from what an interrupted run left.
    Resume,
    /// Other bytes of the same length under the same names, which a marker vouches for.
    Replace,
    /// A container's start with baked copies.
    Ensure,
    /// The same with symlinks.
    Symlink,
    /// A fetch into a cache, and from there to the destination.
    Cache,
    /// From a full cache.
    Link,
    /// A fetch, and then the trees of image layers.
    Layers,
}

impl Job {
    pub(super) const ALL: [Self; 9] = [
        Self::Fetch,
        Self::Paced,
        Self::Resume,
        Self::Replace,
        Self::Ensure,
        Self::Symlink,
        Self::Cache,
        Self::Link,
        Self::Layers,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Paced => "paced",
            Self::Resume => "resume",
            Self::Replace => "replace",
            Self::Ensure => "ensure",
            Self::Symlink => "symlink",
            Self::Cache => "cache",
            Self::Link => "link",
            Self::Layers => "layers",
        }
    }

    /// Whether every byte is on the machine already.
    pub(super) fn is_local(self) -> bool {
        matches!(self, Self::Ensure | Self::Symlink | Self::Link)
    }

    /// Puts there what it begins with.
    pub(super) fn prepare(self, context: &CrashContext, place: &JobDir) -> Result<()> {
        if place.root.exists() {
            fs::remove_dir_all(&place.root)?;
        }
        match context.template(self) {
            None => fs::create_dir_all(&place.root)?,
            Some(template) => copy_tree(&template, &place.root)?,
        }
        Ok(())
    }

    /// Its arguments.
    pub(super) fn arguments(self, context: &CrashContext, place: &JobDir, lock: &Utf8Path) -> Vec<String> {
        let baked = ["--baked", context.baked.as_str()];
        let (cache, layers) = (place.cache(), place.layers());
        let mut words = match self {
            Self::Ensure => [&["ensure"], &baked[..]].concat(),
            Self::Symlink => [&["ensure"], &baked[..], &["--baked-mode", "symlink"]].concat(),
            Self::Cache | Self::Link => vec!["fetch", "--cache", cache.as_str()],
            Self::Layers => vec!["fetch", "--layers", layers.as_str()],
            Self::Fetch | Self::Paced | Self::Resume | Self::Replace => vec!["fetch"],
        };
        let destination = place.destination();
        words.extend(["--lock", lock.as_str(), "--dest", destination.as_str()]);
        words.extend(["--progress", "none", "--connections", "4", "--wait", "30s"]);
        words.into_iter().map(str::to_owned).collect()
    }
}

/// Where a job is done.
#[derive(Debug, Clone)]
pub(super) struct JobDir {
    pub(super) root: Utf8PathBuf,
}

impl JobDir {
    pub(super) fn at(root: impl Into<Utf8PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub(super) fn destination(&self) -> Utf8PathBuf {
        self.root.join("models")
    }

    pub(super) fn cache(&self) -> Utf8PathBuf {
        self.root.join("cache")
    }

    pub(super) fn layers(&self) -> Utf8PathBuf {
        self.root.join("layers")
    }

    /// Where a file of the job can be: under its final name, or in its layer.
    pub(super) fn homes(&self, path: &str) -> [Utf8PathBuf; 2] {
        let destination = self.destination();
        let layer = path.split_once('/').map_or("_", |(top, _)| top);
        let below_root = destination.as_str().trim_start_matches('/').to_owned();
        [destination.join(path), self.layers().join(layer).join(below_root).join(path)]
    }
}

/// With times, holes and links as they are: a marker compares times.
fn copy_tree(from: &Utf8Path, to: &Utf8Path) -> Result<()> {
    let status = std::process::Command::new("cp")
        .args(["--archive", "--sparse=always", "--no-target-directory", from.as_str(), to.as_str()])
        .status()
        .context("cp")?;
    ensure!(status.success(), "copying {from} to {to} failed");
    Ok(())
}
