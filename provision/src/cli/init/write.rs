//! The writes of `provision init`: a file is created or replaced. A failed run leaves no part of
//! one under its name.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};

use camino::Utf8Path;

use crate::cli::exit::{Code, Failure};

/// The text of a file. `None` if there is none.
///
/// # Errors
/// The file cannot be read, or is a symlink to a file that does not exist.
pub(super) fn read(path: &str) -> Result<Option<String>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => leads_somewhere(path).map(|()| None),
        Err(error) => Err(failure(path, &error)),
    }
}

/// Refuses a symlink to a file that does not exist.
pub(super) fn leads_somewhere(path: &str) -> Result<(), Failure> {
    let Ok(target) = fs::read_link(path) else { return Ok(()) };
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let why = format!(
                "{path} is a symlink to {}, which does not exist: remove the link or create its target",
                target.display()
            );
            Err(Failure::new(Code::Disk, why))
        }
        _ => Ok(()),
    }
}

/// Creates a file that is not there, and its directory.
pub(super) fn create(path: &Utf8Path, text: &str, mode: u32) -> Result<(), Failure> {
    let write = || {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        // Between the look at the path and this call another program may have created it.
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        filled(file, path, text)
    };
    write().map_err(|error| failure(path.as_str(), &error))
}

/// Replaces the text of a file in one step. Its mode stays, and a symlink to it, too.
pub(super) fn replace(path: &str, text: &str) -> Result<(), Failure> {
    let write = || {
        let target = Utf8Path::new(path).canonicalize_utf8()?;
        let draft = target.with_file_name(format!(
            ".{}.{}.provision",
            target.file_name().unwrap_or_default(),
            std::process::id()
        ));
        let mode = fs::metadata(&target)?.permissions();
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        let replaced = file
            .set_permissions(mode)
            .and_then(|()| filled(file, &draft, text))
            .and_then(|()| fs::rename(&draft, &target));
        if replaced.is_err() {
            // The first error is the one to report.
            let _ = fs::remove_file(&draft);
        }
        replaced
    };
    write().map_err(|error| failure(path, &error))
}

/// Makes a script executable that is not. Returns true if it changed the mode.
pub(super) fn make_executable(path: &str) -> Result<bool, Failure> {
    let change = || {
        let mode = fs::metadata(path)?.permissions().mode();
        if mode & 0o111 == 0o111 {
            return Ok(false);
        }
        fs::set_permissions(path, Permissions::from_mode(0o755)).map(|()| true)
    };
    change().map_err(|error| failure(path, &error))
}

/// Writes the text durably, or removes the file.
fn filled(mut file: File, path: &Utf8Path, text: &str) -> io::Result<()> {
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(path);
    }
    written
}

fn failure(path: &str, error: &io::Error) -> Failure {
    let hint = if error.kind() == ErrorKind::IsADirectory { "rename it" } else { "check its permissions" };
    Failure::new(Code::Disk, format!("{path} cannot be read or written: {error}; {hint}"))
}
