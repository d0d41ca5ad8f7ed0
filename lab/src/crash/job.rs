//! The jobs: command lines of the program, each with its own start, and the directories in which they run.

use std::fmt;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use clap::ValueEnum;

use super::models::ModelFile;

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
    /// The lock pins piece lists.
    pub(super) fn has_lists(self) -> bool {
        self == Self::Update
    }
}

/// A job and the directory in which it runs.
#[derive(Debug, Clone)]
pub(super) struct JobDir {
    pub(super) job: Job,
    pub(super) root: Utf8PathBuf,
}

impl JobDir {
    /// The program's arguments. The last is the time to wait for a lock.
    pub(super) fn arguments(&self, baked: &Utf8Path, lock: &Utf8Path) -> Vec<String> {
        let (cache, layers, destination) = (self.cache(), self.layers(), self.destination());
        let mut words = match self.job {
            Job::Ensure => vec!["ensure", "--baked", baked.as_str()],
            Job::Symlink => vec!["ensure", "--baked", baked.as_str(), "--baked-mode", "symlink"],
            Job::Cache | Job::Link => vec!["fetch", "--cache", cache.as_str()],
            Job::Layers => vec!["fetch", "--layers", layers.as_str()],
            Job::Fetch | Job::Paced | Job::Resume | Job::Replace | Job::Update => vec!["fetch"],
        };
        words.extend(["--lock", lock.as_str(), "--dest", destination.as_str()]);
        words.extend(["--progress", "none", "--connections", "4", "--wait", "30s"]);
        words.into_iter().map(str::to_owned).collect()
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

    /// The path of the file's bytes in the cache.
    pub(super) fn object(&self, file: &ModelFile) -> Utf8PathBuf {
        self.cache().join("sha256").join(&file.sha256[..2]).join(&file.sha256)
    }

    pub(super) fn layers(&self) -> Utf8PathBuf {
        self.root.join("layers")
    }

    /// The final names of a file: in the destination, and in its layer.
    pub(super) fn final_names(&self, file: &ModelFile) -> [Utf8PathBuf; 2] {
        let destination = self.destination();
        let layer = file.path.split_once('/').map_or("_", |(top, _)| top);
        let below_root = destination.as_str().trim_start_matches('/');
        [destination.join(file.path), self.layers().join(layer).join(below_root).join(file.path)]
    }

    /// The final name of a file after the job.
    pub(super) fn final_name(&self, file: &ModelFile) -> Utf8PathBuf {
        let [destination, layer] = self.final_names(file);
        if self.job == Job::Layers { layer } else { destination }
    }
}
