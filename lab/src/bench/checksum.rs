//! Verification by the tools that everybody has, at its best: as many at once as there are cores, each with an equal
//! part of the bytes. Unlike a table of sums that a person looks at, these fail when a file is not right.

use std::fs;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};

use super::invocation::Invocation;
use super::set::{self, File, Set};

/// Compares the set below `destination` with its digests. Lists go to `folder`.
pub(super) fn sha256sum(
    set: &Set,
    destination: &Utf8Path,
    folder: &Utf8Path,
    cores: usize,
) -> Result<Invocation> {
    let lists = write_parts(set, folder, cores, |sha256, path| format!("{sha256}  {destination}/{path}\n"))?;
    let all = folder.join("sums.lists");
    let lists: Vec<_> = lists.iter().map(|list| list.as_str()).collect();
    fs::write(&all, lists.join("\n"))?;
    let at_once = lists.len().to_string();
    Ok(Invocation::new("xargs", ["--arg-file", all.as_str(), "-P", &at_once, "-n", "1"]).with([
        "sha256sum",
        "--check",
        "--strict",
        "--quiet",
    ]))
}

/// Hashes the set. openssl cannot compare: it is let off that.
pub(super) fn openssl(
    set: &Set,
    destination: &Utf8Path,
    folder: &Utf8Path,
    cores: usize,
) -> Result<Invocation> {
    let list = folder.join("openssl.list");
    fs::write(&list, set::list(&set.files, |file| format!("{destination}/{}", file.path)))?;
    Ok(Invocation::new("xargs", ["--arg-file", list.as_str(), "-P", &cores.to_string(), "-n", "1"])
        .with(["openssl", "dgst", "-sha256"]))
}

fn write_parts(
    set: &Set,
    folder: &Utf8Path,
    parts: usize,
    line: impl Fn(&str, &str) -> String,
) -> Result<Vec<Utf8PathBuf>> {
    let write = |(number, part): (usize, Vec<&File>)| {
        let list = folder.join(format!("sums.{number}"));
        let text: String = part.iter().map(|file| line(&file.content.sha256_hex(), &file.path)).collect();
        fs::write(&list, text)?;
        Ok(list)
    };
    set.parts(parts).into_iter().enumerate().map(write).collect()
}
