//! Verification by common tools at their best: one process a core, each with an equal share of the bytes.

use std::process::Command;
use std::{fs, io};

use camino::{Utf8Path, Utf8PathBuf};

use super::file_set::FileSet;

/// Compares the set below `destination` with its digests by `sha256sum`. Lists go to `folder`.
pub(super) fn sha256sum(
    set: &FileSet,
    destination: &Utf8Path,
    folder: &Utf8Path,
    cores: usize,
) -> io::Result<Command> {
    let write = |(number, part): (usize, FileSet)| {
        let list = folder.join(format!("sums.{number}"));
        let sum = part.list(|file| format!("{}  {destination}/{}\n", file.content.sha256_hex(), file.path));
        fs::write(&list, sum)?;
        Ok(list)
    };
    let lists = set.split(cores).into_iter().enumerate().map(write).collect::<io::Result<Vec<_>>>()?;
    parallel(&folder.join("sums.lists"), &lists, cores, &["sha256sum", "--check", "--strict", "--quiet"])
}

/// Hashes the set by `openssl dgst`, which cannot compare.
pub(super) fn openssl(
    set: &FileSet,
    destination: &Utf8Path,
    folder: &Utf8Path,
    cores: usize,
) -> io::Result<Command> {
    let files: Vec<_> = set.0.iter().map(|file| destination.join(&file.path)).collect();
    parallel(&folder.join("openssl.list"), &files, cores, &["openssl", "dgst", "-sha256"])
}

/// Runs `program` once for each argument, `cores` at a time.
fn parallel(
    list: &Utf8Path,
    arguments: &[Utf8PathBuf],
    cores: usize,
    program: &[&str],
) -> io::Result<Command> {
    let lines: Vec<_> = arguments.iter().map(|argument| argument.as_str()).collect();
    fs::write(list, lines.join("\n"))?;
    let mut command = Command::new("xargs");
    command.args(["--arg-file", list.as_str(), "-P", &cores.to_string(), "-n", "1"]).args(program);
    Ok(command)
}
