//! What `docker save` writes: every byte of an image, its layers and its configuration.

use std::io::Read as _;

use anyhow::{Context as _, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;
use xshell::{Shell, cmd};

use crate::tools::files::files_below;

/// Saved images, unpacked: a directory of layers and JSON.
#[derive(Debug)]
pub(super) struct ImageArchive {
    folder: Utf8PathBuf,
    sh: Shell,
}

impl ImageArchive {
    pub(super) fn unpack(sh: &Shell, archive: &Utf8Path, folder: &Utf8Path) -> Result<Self> {
        sh.remove_path(folder)?;
        sh.create_dir(folder)?;
        cmd!(sh, "tar --extract --file {archive} --directory {folder}").quiet().run()?;
        sh.remove_path(archive)?;
        let images = Self { folder: folder.to_owned(), sh: sh.clone() };
        images.decompress()?;
        Ok(images)
    }

    /// Layers may be compressed, and a search would look at the compressed bytes.
    fn decompress(&self) -> Result<()> {
        for path in files_below(&self.sh, &self.folder)? {
            let path = self.folder.join(path);
            let mut magic = Vec::new();
            std::fs::File::open(&path)?.take(4).read_to_end(&mut magic)?;
            match magic.as_slice() {
                [0x1f, 0x8b, ..] => {
                    let plain = Utf8PathBuf::from(format!("{path}.plain"));
                    let target = std::fs::File::create(&plain)?;
                    let status = std::process::Command::new("gzip")
                        .args(["-dc"])
                        .arg(&path)
                        .stdout(target)
                        .status()?;
                    ensure!(status.success(), "gzip -dc {path}: {status}");
                    std::fs::rename(plain, &path)?;
                }
                [0x28, 0xb5, 0x2f, 0xfd] => {
                    bail!("{path} is compressed by zstd, which this check cannot look into")
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The files that have this text in them.
    pub(super) fn containing(&self, text: &str) -> Result<Vec<String>> {
        let sh = &self.sh;
        let folder = &self.folder;
        let search =
            cmd!(sh, "grep --recursive --text --fixed-strings --files-with-matches -e {text} {folder}");
        let output = search.quiet().ignore_status().output()?;
        // 1 is "not found"; more is a failure to search.
        ensure!(
            matches!(output.status.code(), Some(0 | 1)),
            "grep: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    }

    /// What each layer of an image holds, the lowest first: paths as in a tar, directories with a slash at the end.
    pub(super) fn layers(&self, image: &str) -> Result<Vec<Vec<String>>> {
        let sh = &self.sh;
        let manifest: Value = serde_json::from_str(&sh.read_file(self.folder.join("manifest.json"))?)?;
        let has_name =
            |entry: &&Value| entry["RepoTags"].as_array().is_some_and(|tags| tags.contains(&image.into()));
        let entry = manifest.as_array().and_then(|entries| entries.iter().find(has_name));
        let layers = entry.and_then(|entry| entry["Layers"].as_array());
        let layers = layers.with_context(|| format!("{image} is not in the manifest: {manifest:#}"))?;
        let list = |layer: &Value| {
            let path = self.folder.join(layer.as_str().unwrap_or_default());
            let listed = cmd!(sh, "tar --list --file {path}").quiet().read()?;
            Ok(listed.lines().map(|line| line.trim_start_matches("./").to_owned()).collect())
        };
        layers.iter().map(list).collect()
    }
}
