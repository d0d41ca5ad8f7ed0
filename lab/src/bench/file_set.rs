//! The file sets that the scenarios fetch.
//!
//! Bytes depend only on a file's place in its set, and cannot be compressed. Sizes in the scenarios' descriptions are
//! those at [`Scale::USUAL`]; another scale makes every set larger or smaller.

use std::fs::{self, File};
use std::io::{self, Write as _};

use anyhow::{Result, ensure};
use camino::Utf8Path;
use provision_testbed::Content;

/// Path and size of the real files.
const QWEN: [(&str, u64); 4] = [
    ("diffusion_models/qwen_image_edit_2509_fp8_e4m3fn.safetensors", 20_430_698_424),
    ("loras/Qwen-Image-Lightning-4steps-V1.0.safetensors", 1_698_951_104),
    ("text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors", 9_384_670_680),
    ("vae/qwen_image_vae.safetensors", 253_806_246),
];

/// The factor by which the files are smaller than the real ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scale(pub(super) u64);

impl Scale {
    pub(super) const USUAL: u64 = 20;

    /// The amount here that is `usual` at the usual scale; at least 1.
    pub(super) fn of(self, usual: u64) -> u64 {
        (usual * Self::USUAL / self.0).max(1)
    }
}

/// Files to fetch. Cloning is cheap. A digest is computed on its first use, once for all clones.
#[derive(Debug, Clone)]
pub(super) struct FileSet(pub(super) Vec<BenchFile>);

/// A file of a set. Its path has no character that a tool's list would quote.
#[derive(Debug, Clone)]
pub(super) struct BenchFile {
    pub(super) path: String,
    pub(super) content: Content,
}

impl FileSet {
    fn new(files: impl Iterator<Item = (String, u64)>) -> Self {
        let file = |(seed, (path, size))| BenchFile { path, content: Content::generated(seed, size) };
        Self((1..).zip(files).map(file).collect())
    }

    /// The four Qwen-Image-Edit files, smaller.
    pub(super) fn qwen(scale: Scale) -> Self {
        Self::new(QWEN.iter().map(|(path, size)| ((*path).to_owned(), size / scale.0)))
    }

    /// 5,000 files of 20 to 200 KB.
    pub(super) fn small(scale: Scale) -> Self {
        // The step is a prime: it spreads the sizes evenly, and alike on every machine.
        let size = |number: u64| 20_000 + number * 7_919 % 180_001;
        Self::new((0..scale.of(5_000)).map(|number| (format!("small/{number:05}.bin"), size(number))))
    }

    /// `count` files of `size` bytes.
    pub(super) fn equal(count: u64, size: u64) -> Self {
        Self::new((0..count).map(|number| (format!("equal/{number:05}.bin"), size)))
    }

    pub(super) fn description(&self) -> String {
        format!("{}, {:.2} GB", counted(self.0.len(), "file"), self.total() as f64 / 1e9)
    }

    pub(super) fn total(&self) -> u64 {
        self.0.iter().map(|file| file.content.size()).sum()
    }

    /// Creates the directories of the files: not every tool does.
    pub(super) fn create_directories(&self, folder: &Utf8Path) -> io::Result<()> {
        self.0.iter().try_for_each(|file| folder.join(&file.path).parent().map_or(Ok(()), fs::create_dir_all))
    }

    /// Writes the files below `folder`.
    pub(super) fn write(&self, folder: &Utf8Path) -> io::Result<()> {
        self.create_directories(folder)?;
        for BenchFile { path, content } in &self.0 {
            let mut file = File::create(folder.join(path))?;
            blocks(content).try_for_each(|block| file.write_all(&block))?;
        }
        Ok(())
    }

    /// Fails unless every file below `folder` has its size.
    pub(super) fn check_sizes(&self, folder: &Utf8Path) -> Result<()> {
        for BenchFile { path, content } in &self.0 {
            let found = fs::metadata(folder.join(path))?.len();
            ensure!(found == content.size(), "{path} has {found} bytes, not {}", content.size());
        }
        Ok(())
    }

    /// The text that `entry` makes of every file, joined.
    pub(super) fn list(&self, entry: impl Fn(&BenchFile) -> String) -> String {
        self.0.iter().map(entry).collect()
    }
}

/// The bytes of a file, a block after the other: no file is held whole.
pub(super) fn blocks(content: &Content) -> impl Iterator<Item = Vec<u8>> {
    const BLOCK: u64 = 1 << 20;
    let starts = (0..content.size()).step_by(BLOCK as usize);
    starts.map(|start| content.slice(start..content.size().min(start + BLOCK)))
}

/// A number of things in words: "1 file", "10,000 files".
pub(super) fn counted(number: usize, unit: &str) -> String {
    match number {
        1 => format!("1 {unit}"),
        0..1_000 => format!("{number} {unit}s"),
        _ => format!("{},{:03} {unit}s", number / 1_000, number % 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_counted_in_words() {
        assert_eq!(counted(1, "file"), "1 file");
        assert_eq!(counted(256, "connection"), "256 connections");
        assert_eq!(counted(10_000, "file"), "10,000 files");
    }

    #[test]
    fn sizes_are_as_described_at_the_usual_scale() {
        assert_eq!(Scale(20).of(5_000), 5_000);
        assert_eq!(Scale(200).of(5_000), 500);
        assert_eq!(Scale(10).of(5_000), 10_000);
        assert_eq!(Scale(1_000_000).of(4), 1);
    }

    #[test]
    fn small_files_are_within_their_bounds() {
        let set = FileSet::small(Scale(200));
        assert_eq!(set.0.len(), 500);
        assert!(set.0.iter().all(|file| (20_000..=200_001).contains(&file.content.size())));
    }
}
