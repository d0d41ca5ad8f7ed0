//! Writes a small file in one step: a reader finds the old bytes or the new ones, also after a crash.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;

use camino::Utf8Path;

/// The end of the name of a draft, which begins with a dot and the file's name.
pub(crate) const DRAFT: &str = ".tmp";

/// Writes `bytes` to `path`, with its directory, durably, and with this mode if one is given. Returns false if the file has these bytes
/// already: then nothing is written.
///
/// # Errors
/// A system call failed. The draft is removed.
pub fn put(path: &Utf8Path, bytes: &[u8], mode: Option<u32>) -> io::Result<bool> {
    let is_right = |length: u64| length == bytes.len() as u64 && fs::read(path).is_ok_and(|old| old == bytes);
    if path.metadata().is_ok_and(|found| found.is_file() && is_right(found.len())) {
        return Ok(false);
    }
    let directory = or_here(path.parent());
    if !directory.is_dir() {
        fs::create_dir_all(directory)?;
        sync(or_here(directory.parent()))?;
    }
    let name = path.file_name().unwrap_or_default();
    let draft = directory.join(format!(".{name}.{}{DRAFT}", std::process::id()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&draft)?;
        file.write_all(bytes)?;
        // Whatever the umask is.
        mode.map_or(Ok(()), |mode| file.set_permissions(Permissions::from_mode(mode)))?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        sync(directory)
    };
    let written = write();
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&draft);
    }
    written.map(|()| true)
}

/// The directory, which is the current one for a bare name.
pub(crate) fn or_here(directory: Option<&Utf8Path>) -> &Utf8Path {
    directory.filter(|directory| !directory.as_str().is_empty()).unwrap_or(Utf8Path::new("."))
}

fn sync(directory: &Utf8Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
