//! What is in a directory, by `find`.

use anyhow::Result;
use camino::Utf8Path;
use xshell::{Shell, cmd};

/// The paths of the regular files below, sorted.
pub(crate) fn files_below(sh: &Shell, directory: &Utf8Path) -> Result<Vec<String>> {
    let found = cmd!(sh, "find {directory} -type f -printf %P\\n").quiet().read()?;
    let mut paths: Vec<_> = found.lines().map(str::to_owned).collect();
    paths.sort();
    Ok(paths)
}
