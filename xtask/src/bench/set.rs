//! The set: the four Qwen-Image-Edit files, smaller.

use std::fs;
use std::os::unix::fs::FileExt as _;

use anyhow::{Result, ensure};
use camino::Utf8Path;
use provision_testbed::Content;
use xshell::{Shell, cmd};

/// Path and size of the real files.
const QWEN: [(&str, u64); 4] = [
    ("diffusion_models/qwen_image_edit_2509_fp8_e4m3fn.safetensors", 20_430_698_424),
    ("loras/Qwen-Image-Lightning-4steps-V1.0.safetensors", 1_698_951_104),
    ("text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors", 9_384_670_680),
    ("vae/qwen_image_vae.safetensors", 253_806_246),
];

/// Files whose bytes cannot be compressed, and depend on nothing but their order.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) files: Vec<(&'static str, Content)>,
}

impl Set {
    pub(super) fn qwen(scale: u64) -> Self {
        let file =
            |(seed, (path, size)): (u64, (&'static str, u64))| (path, Content::generated(seed, size / scale));
        let set = Self { files: (1..).zip(QWEN).map(file).collect() };
        // Hashed once and kept; all at the same time, since it takes a while.
        std::thread::scope(|scope| {
            for (_, content) in &set.files {
                scope.spawn(|| content.sha256());
            }
        });
        set
    }

    pub(super) fn total(&self) -> u64 {
        self.files.iter().map(|(_, content)| content.size()).sum()
    }

    /// Writes the files below `folder`.
    pub(super) fn write(&self, folder: &Utf8Path) -> Result<()> {
        let mut block = vec![0; 1 << 20];
        for (path, content) in &self.files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap_or(folder))?;
            let file = fs::File::create(&path)?;
            let mut offset = 0;
            while offset < content.size() {
                let length = block.len().min((content.size() - offset) as usize);
                content.fill(offset, &mut block[..length]);
                file.write_all_at(&block[..length], offset)?;
                offset += length as u64;
            }
        }
        Ok(())
    }

    /// Wants every file below `folder`, by `sha256sum`.
    pub(super) fn check(&self, sh: &Shell, folder: &Utf8Path) -> Result<()> {
        let lines = self.files.iter().map(|(path, content)| format!("{}  {path}\n", content.sha256_hex()));
        let sums: String = lines.collect();
        let _there = sh.push_dir(folder);
        cmd!(sh, "sha256sum --check --strict --quiet -").quiet().stdin(sums).run()?;
        Ok(())
    }

    /// Wants every file below `folder` in its length.
    pub(super) fn check_sizes(&self, folder: &Utf8Path) -> Result<()> {
        for (path, content) in &self.files {
            let found = fs::metadata(folder.join(path))?.len();
            ensure!(found == content.size(), "{path} has {found} bytes, not {}", content.size());
        }
        Ok(())
    }
}
