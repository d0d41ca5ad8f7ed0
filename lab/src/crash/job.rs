//! The jobs: command lines of the program, each with its own directory and start.

use std::fmt;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use clap::ValueEnum;

/// A job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Job {
    /// Three files from an origin, into an empty directory.
    Fetch,
    /// The same, slowly: the journal is written, and parts are synced before the end.
    Paced,
    /// The same, from what an interrupted run left.
    Resume,
    /// Other bytes of the same lengths under the same names, which a marker lists.
    Replace,
    /// As `Replace`, with piece lists: every second piece is in the installed file.
    Update,
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

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

impl Job {
    /// Every byte is on the machine already.
    pub(super) fn is_local(self) -> bool {
        matches!(self, Self::Ensure | Self::Symlink | Self::Link)
    }

    /// The lock pins piece lists.
    pub(super) fn has_lists(self) -> bool {
        self == Self::Update
    }

    /// The program's arguments.
    pub(super) fn arguments(self, baked: &Utf8Path, dir: &JobDir, lock: &Utf8Path) -> Vec<String> {
        let (cache, layers, destination) = (dir.cache(), dir.layers(), dir.destination());
        let mut words = match self {
            Self::Ensure => vec!["ensure", "--baked", baked.as_str()],
            Self::Symlink => vec!["ensure", "--baked", baked.as_str(), "--baked-mode", "symlink"],
            Self::Cache | Self::Link => vec!["fetch", "--cache", cache.as_str()],
            Self::Layers => vec!["fetch", "--layers", layers.as_str()],
            Self::Fetch | Self::Paced | Self::Resume | Self::Replace | Self::Update => vec!["fetch"],
        };
        words.extend(["--lock", lock.as_str(), "--dest", destination.as_str()]);
        words.extend(["--progress", "none", "--connections", "4", "--wait", "30s"]);
        words.into_iter().map(str::to_owned).collect()
    }
}

/// The directory in which a job runs.
#[derive(Debug, Clone)]
pub(super) struct JobDir {
    pub(super) root: Utf8PathBuf,
}

impl JobDir {
    pub(super) fn at(root: impl Into<Utf8PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Empties the directory, and copies `template` into it, with times and holes: a marker compares times.
    pub(super) fn reset(&self, template: &Utf8Path) -> Result<()> {
        let root = &self.root;
        if root.exists() {
            fs::remove_dir_all(root)?;
        }
        if !template.exists() {
            return fs::create_dir_all(root).with_context(|| format!("creating {root}"));
        }
        let options = ["--archive", "--sparse=always", "--no-target-directory"];
        let status = std::process::Command::new("cp").args(options).args([template, root]).status();
        ensure!(status.context("cp")?.success(), "copying {template} to {root} failed");
        Ok(())
    }

    pub(super) fn destination(&self) -> Utf8PathBuf {
        self.root.join("models")
    }

    /// The lists that the destination keeps.
    pub(super) fn kept_lists(&self) -> Utf8PathBuf {
        self.destination().join(".provision.pieces")
    }

    pub(super) fn cache(&self) -> Utf8PathBuf {
        self.root.join("cache")
    }

    pub(super) fn layers(&self) -> Utf8PathBuf {
        self.root.join("layers")
    }

    /// The final names of a file: in the destination, and in its layer.
    pub(super) fn final_names(&self, path: &str) -> [Utf8PathBuf; 2] {
        let destination = self.destination();
        let layer = path.split_once('/').map_or("_", |(top, _)| top);
        let below_root = destination.as_str().trim_start_matches('/');
        [destination.join(path), self.layers().join(layer).join(below_root).join(path)]
    }

    /// The final name of a file after `job`.
    pub(super) fn final_name(&self, job: Job, path: &str) -> Utf8PathBuf {
        let [destination, layer] = self.final_names(path);
        if job == Job::Layers { layer } else { destination }
    }
}
