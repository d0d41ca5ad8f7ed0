//! Files with logins and keys: at most a mebibyte, and no pipes where other programs write them.
//!
//! A pipe without a writer would be waited for without an end, and a device may have none. `/dev/null` is an empty
//! file, as people use it. A file that the user names in a variable may be a pipe: a shell makes one of `<(pass show
//! netrc)`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};

use camino::Utf8Path;

/// The longest file, in bytes.
const LONGEST: u64 = 1 << 20;

/// The text of a file that docker, podman or AWS's tools write.
///
/// # Errors
/// It cannot be read, is longer, or is a pipe. The error repeats nothing of it.
pub(super) fn read(path: &Utf8Path) -> io::Result<String> {
    // Without the flag, a pipe would be waited for at once.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::other("it is a pipe"));
    }
    text_of(file)
}

/// The text of a file or a pipe that the user names.
///
/// # Errors
/// It cannot be read, or is longer.
pub(super) fn read_named(path: &Utf8Path) -> io::Result<String> {
    text_of(File::open(path)?)
}

fn text_of(file: File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(io::Error::other("it is longer than a mebibyte"));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_file_may_be_a_pipe_and_has_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = Utf8Path::from_path(folder.path()).unwrap().join("netrc");
        rustix::fs::mkfifoat(
            rustix::fs::CWD,
            pipe.as_std_path(),
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        )
        .unwrap();
        assert_eq!(read(&pipe).unwrap_err().to_string(), "it is a pipe");
        let writer = pipe.clone();
        let writing = std::thread::spawn(move || std::fs::write(writer, "machine h"));
        assert_eq!(read_named(&pipe).unwrap(), "machine h");
        writing.join().unwrap().unwrap();
        let endless = Utf8Path::new("/dev/zero");
        assert_eq!(read_named(endless).unwrap_err().to_string(), "it is longer than a mebibyte");
        assert_eq!(read(endless).unwrap_err().to_string(), "it is longer than a mebibyte");
    }
}
