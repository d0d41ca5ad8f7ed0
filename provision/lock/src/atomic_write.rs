//! Writes a small file in one step: a reader finds the old bytes or the new ones, also after a crash.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};

/// The suffix of a draft's name, which begins with a dot and the file's name.
pub(crate) const DRAFT: &str = ".tmp";

/// The drafts of other processes with the same number, which are left as they are.
const ATTEMPTS: u32 = 16;

/// Writes `bytes` to `path`, with its directory, durably, and with this mode if one is given. Returns false if the file
/// has these bytes already: then it gets the rights that it lacks, and nothing else.
///
/// # Errors
/// A system call failed. The draft is removed.
pub fn put(path: &Utf8Path, bytes: &[u8], mode: Option<u32>) -> io::Result<bool> {
    let is_right = |length: u64| length == bytes.len() as u64 && fs::read(path).is_ok_and(|old| old == bytes);
    if path.metadata().is_ok_and(|found| found.is_file() && is_right(found.len())) {
        if let Some(mode) = mode {
            add_rights(path, mode);
        }
        return Ok(false);
    }
    let directory = or_here(path.parent());
    if !directory.is_dir() {
        fs::create_dir_all(directory)?;
        sync(or_here(directory.parent()))?;
    }
    let (mut file, draft) = draft_of(path, directory)?;
    let mut write = || {
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

/// Adds rights to those of a file. Another user's file, or one behind a symlink, keeps its mode: its bytes are right
/// all the same.
fn add_rights(path: &Utf8Path, mode: u32) {
    let rights =
        path.symlink_metadata().ok().filter(fs::Metadata::is_file).map(|found| found.permissions().mode());
    if let Some(rights) = rights.filter(|rights| rights & mode != mode) {
        let _ = fs::set_permissions(path, Permissions::from_mode((rights | mode) & 0o7777));
    }
}

/// A new file in `directory`, which no other process has opened.
fn draft_of(path: &Utf8Path, directory: &Utf8Path) -> io::Result<(File, Utf8PathBuf)> {
    let (name, process) = (path.file_name().unwrap_or_default(), std::process::id());
    let mut attempts =
        (0..ATTEMPTS).map(|attempt| directory.join(format!(".{name}.{process}-{attempt}{DRAFT}")));
    loop {
        let Some(draft) = attempts.next() else { return Err(io::ErrorKind::AlreadyExists.into()) };
        match File::create_new(&draft) {
            Ok(file) => return Ok((file, draft)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// The directory, which is the current one for a bare name.
pub(crate) fn or_here(directory: Option<&Utf8Path>) -> &Utf8Path {
    directory.filter(|directory| !directory.as_str().is_empty()).unwrap_or(Utf8Path::new("."))
}

fn sync(directory: &Utf8Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn directory() -> (tempfile::TempDir, Utf8PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
        (directory, path)
    }

    #[test]
    fn nothing_is_written_through_a_draft_that_is_there() {
        let (_keep, root) = directory();
        let draft = root.join(format!(".x.{}-0{DRAFT}", std::process::id()));
        fs::write(root.join("victim"), "stays").unwrap();
        std::os::unix::fs::symlink("victim", &draft).unwrap();
        assert!(put(&root.join("x"), b"new", Some(0o644)).unwrap());
        assert_eq!(fs::read(root.join("victim")).unwrap(), b"stays");
        assert_eq!(fs::read(root.join("x")).unwrap(), b"new");
        assert!(!root.join("x").is_symlink());
        // That of a killed process with the same number, as all have in containers.
        fs::remove_file(&draft).unwrap();
        fs::write(&draft, "killed").unwrap();
        assert!(put(&root.join("x"), b"newer", None).unwrap());
        assert_eq!(
            (fs::read(root.join("x")).unwrap(), fs::read(&draft).unwrap()),
            (b"newer".into(), b"killed".into())
        );
    }

    #[test]
    fn a_file_with_right_bytes_gets_the_rights_that_it_lacks() {
        let (_keep, root) = directory();
        let path = root.join("x");
        let mode = || path.metadata().unwrap().permissions().mode() & 0o7777;
        for (before, after) in [(0o600, 0o644), (0o664, 0o664)] {
            fs::write(&path, "list").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(before)).unwrap();
            assert!(!put(&path, b"list", Some(0o644)).unwrap());
            assert_eq!(mode(), after);
            assert!(!put(&path, b"list", None).unwrap());
        }
        // The target of a link is not this program's.
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink("x", root.join("link")).unwrap();
        assert!(!put(&root.join("link"), b"list", Some(0o644)).unwrap());
        assert_eq!(mode(), 0o600);
    }
}
