//! Files with logins and keys, as docker, podman and AWS's tools write them: at most a mebibyte, and no pipes.
//!
//! A pipe without a writer would be waited for without an end, and a device may have none. `/dev/null` is an empty file, as people use it.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};

use camino::Utf8Path;

/// The longest file, in bytes.
const LONGEST: u64 = 1 << 20;

/// The text of a file.
///
/// # Errors
/// It cannot be read, is longer, or is a pipe. The error repeats nothing of it.
pub(super) fn read(path: &Utf8Path) -> io::Result<String> {
    // Without the flag, a pipe would be waited for at once.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::other("it is a pipe"));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(io::Error::other("it is longer than a mebibyte"));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))
}
