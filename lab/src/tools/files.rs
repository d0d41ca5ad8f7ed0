//! Directory listings and digests by `find` and `sha256sum`, independent of the code under test.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;
use provision_testbed::Content;
use xshell::{Shell, cmd};

use crate::tools::process::silently;

/// The paths of the regular files below `directory`, sorted.
pub(crate) fn files_below(sh: &Shell, directory: &Utf8Path) -> Result<Vec<String>> {
    let found = cmd!(sh, "find {directory} -type f -printf %P\\n").quiet().read()?;
    let mut paths: Vec<_> = found.lines().map(str::to_owned).collect();
    paths.sort();
    Ok(paths)
}

/// The files below `directory` that contain this text, found by `grep`.
pub(crate) fn files_with(sh: &Shell, directory: &Utf8Path, text: &str) -> Result<Vec<String>> {
    let flags = ["--recursive", "--text", "--fixed-strings", "--files-with-matches"];
    let output = cmd!(sh, "grep {flags...} -e {text} {directory}").quiet().ignore_status().output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    // grep exits with 1 when it finds nothing, and with more when it cannot search.
    ensure!(matches!(output.status.code(), Some(0 | 1)), "grep in {directory} failed: {error}");
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// Verifies every file that `sums` names, relative to `directory`, with `sha256sum --check`.
pub(crate) fn verify_sums(sh: &Shell, directory: &Utf8Path, sums: &str) -> Result<()> {
    let _pushed = sh.push_dir(directory);
    silently(cmd!(sh, "sha256sum --check --strict --quiet -").stdin(sums))
        .with_context(|| format!("the files in {directory}"))
}

/// Requires that `directory` and every file below it belong to the user.
pub(crate) fn verify_owner(sh: &Shell, directory: &Utf8Path, user: &str) -> Result<()> {
    let others = cmd!(sh, "find {directory} ! -user {user}").quiet().read()?;
    ensure!(others.is_empty(), "another user than {user} owns these files:\n{others}");
    Ok(())
}

/// Writes each of these files below `directory`.
pub(crate) fn write_contents(directory: &Utf8Path, files: &[(&str, Content)]) -> Result<()> {
    for (path, content) in files {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap_or(directory))?;
        fs::write(path, content.to_vec())?;
    }
    Ok(())
}

/// Requires each of these files below `directory` with its bytes.
pub(crate) fn verify_contents(directory: &Utf8Path, files: &[(&str, Content)]) -> Result<()> {
    for (path, content) in files {
        let path = directory.join(path);
        let found = fs::read(&path).with_context(|| format!("{path} is not there"))?;
        ensure!(found == content.to_vec(), "{path} has other bytes");
    }
    Ok(())
}
