//! The sets: files whose bytes cannot be compressed and depend on nothing but their place in the set.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::available_parallelism;

use anyhow::{Result, ensure};
use camino::Utf8Path;
use provision_testbed::Content;

use super::scale::Scale;

/// Path and size of the real files.
const QWEN: [(&str, u64); 4] = [
    ("diffusion_models/qwen_image_edit_2509_fp8_e4m3fn.safetensors", 20_430_698_424),
    ("loras/Qwen-Image-Lightning-4steps-V1.0.safetensors", 1_698_951_104),
    ("text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors", 9_384_670_680),
    ("vae/qwen_image_vae.safetensors", 253_806_246),
];

/// Some files to fetch.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) files: Vec<File>,
}

/// One of them. Its path has no character that any tool's list would have to quote.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) content: Content,
}

impl Set {
    fn new(files: impl Iterator<Item = (String, u64)>) -> Self {
        let file = |(seed, (path, size)): (u64, _)| File { path, content: Content::generated(seed, size) };
        let set = Self { files: (1..).zip(files).map(file).collect() };
        set.hash();
        set
    }

    /// The four Qwen-Image-Edit files, smaller.
    pub(super) fn qwen(scale: Scale) -> Self {
        Self::new(QWEN.iter().map(|(path, size)| ((*path).to_owned(), size / scale.0)))
    }

    /// 5,000 files of 20 to 200 KB.
    pub(super) fn small(scale: Scale) -> Self {
        // A prime as the step spreads the sizes evenly, and the same way on every machine.
        let size = |number: u64| 20_000 + number * 7_919 % 180_001;
        Self::new((0..scale.of(5_000)).map(|number| (format!("small/{number:05}.bin"), size(number))))
    }

    /// `count` files of `size` each.
    pub(super) fn equal(count: u64, size: u64) -> Self {
        Self::new((0..count).map(|number| (format!("equal/{number:05}.bin"), size)))
    }

    /// Hashes every content once, on all cores; a content keeps its digest.
    fn hash(&self) {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..available_parallelism().map_or(1, usize::from) {
                scope.spawn(|| {
                    while let Some(file) = self.files.get(next.fetch_add(1, Relaxed)) {
                        file.content.sha256();
                    }
                });
            }
        });
    }

    pub(super) fn total(&self) -> u64 {
        self.files.iter().map(|file| file.content.size()).sum()
    }

    pub(super) fn largest(&self) -> u64 {
        self.files.iter().map(|file| file.content.size()).max().unwrap_or_default()
    }

    /// Writes the files below `folder`.
    pub(super) fn write(&self, folder: &Utf8Path) -> Result<()> {
        let mut block = vec![0; 1 << 20];
        for File { path, content } in &self.files {
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

    /// Makes the directories that the files will be in: not every tool does.
    pub(super) fn make_directories(&self, folder: &Utf8Path) -> Result<()> {
        for file in &self.files {
            fs::create_dir_all(folder.join(&file.path).parent().unwrap_or(folder))?;
        }
        Ok(())
    }

    /// Wants every file below `folder` in its length.
    pub(super) fn check_sizes(&self, folder: &Utf8Path) -> Result<()> {
        for File { path, content } in &self.files {
            let found = fs::metadata(folder.join(path))?.len();
            ensure!(found == content.size(), "{path} has {found} bytes, not {}", content.size());
        }
        Ok(())
    }

    /// The files in at most `parts` parts of about equal size: the largest that is left goes to the smallest part.
    pub(super) fn parts(&self, parts: usize) -> Vec<Vec<&File>> {
        let mut files: Vec<_> = self.files.iter().collect();
        files.sort_by_key(|file| std::cmp::Reverse(file.content.size()));
        let mut split: Vec<(u64, Vec<&File>)> = vec![(0, Vec::new()); parts.clamp(1, files.len().max(1))];
        for file in files {
            if let Some((bytes, part)) = split.iter_mut().min_by_key(|(bytes, _)| *bytes) {
                *bytes += file.content.size();
                part.push(file);
            }
        }
        split.into_iter().map(|(_, part)| part).collect()
    }
}

/// A list for a tool: what `line` says of each file, line by line.
pub(super) fn list<'a>(files: impl IntoIterator<Item = &'a File>, line: impl Fn(&File) -> String) -> String {
    files.into_iter().fold(String::new(), |text, file| text + &line(file) + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_about_equal_and_hold_every_file_once() {
        let set = Set::new([5_u64, 3, 3, 2, 2].into_iter().map(|size| (format!("{size}"), size)));
        let sizes: Vec<Vec<u64>> =
            set.parts(2).iter().map(|part| part.iter().map(|file| file.content.size()).collect()).collect();
        assert_eq!(sizes, [vec![5, 2], vec![3, 3, 2]]);
        assert_eq!(set.parts(100).len(), 5);
    }

    #[test]
    fn small_files_are_within_their_bounds() {
        let set = Set::small(Scale(200));
        assert_eq!(set.files.len(), 500);
        assert!(set.files.iter().all(|file| (20_000..=200_001).contains(&file.content.size())));
    }
}
