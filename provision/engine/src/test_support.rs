//! The fixture of the engine's tests: a directory, and files in it with their lock.

use std::fmt::Write as _;

use camino::{Utf8Path, Utf8PathBuf};

use provision_core::digest::Sha256;
use provision_core::lockfile::Lockfile;

/// A directory that is removed with the first value, and its path.
pub(crate) fn directory() -> (tempfile::TempDir, Utf8PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
    (directory, path)
}

/// Writes a file below `root`.
pub(crate) fn write(root: &Utf8Path, path: &str, bytes: &[u8]) -> Utf8PathBuf {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Writes files below `root` and returns their lock.
pub(crate) fn installed(root: &Utf8Path, files: &[(String, Vec<u8>)]) -> Lockfile {
    let mut text = "version = 1\n".to_owned();
    for (path, bytes) in files {
        write(root, path, bytes);
        let (size, sha256) = (bytes.len(), Sha256::of(bytes));
        text += "[[model]]\nurl = \"https://h.example/x\"\n";
        let _ = writeln!(text, "path = \"{path}\"\nsize = {size}\nsha256 = \"{sha256}\"");
    }
    Lockfile::parse("models.lock", &text).unwrap()
}
