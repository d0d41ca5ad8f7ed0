//! An archive of `docker save`: every byte of an image, its layers and its configuration.

use anyhow::{Result, ensure};
use camino::Utf8Path;
use xshell::{Shell, cmd};

use crate::tools::files::files_below;

/// Unpacks the archive into `folder`, and decompresses its layers.
pub(super) fn unpack(sh: &Shell, archive: &Utf8Path, folder: &Utf8Path) -> Result<()> {
    sh.create_dir(folder)?;
    cmd!(sh, "tar --extract --file {archive} --directory {folder}").quiet().run()?;
    sh.remove_path(archive)?;
    // With --force gzip copies a file that is not compressed.
    let unzip = r#"for file; do gzip -dc --force "$file" > "$file.plain" && mv "$file.plain" "$file"; done"#;
    Ok(cmd!(sh, "find {folder} -type f -exec sh -e -c {unzip} sh '{}' +").quiet().run()?)
}

/// The files that contain this text.
pub(super) fn containing(sh: &Shell, folder: &Utf8Path, text: &str) -> Result<Vec<String>> {
    let flags = ["--recursive", "--text", "--fixed-strings", "--files-with-matches"];
    let output = cmd!(sh, "grep {flags...} -e {text} {folder}").quiet().ignore_status().output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    // grep exits with 1 when it finds nothing, and with more when it cannot search.
    ensure!(matches!(output.status.code(), Some(0 | 1)), "grep in {folder} failed: {error}");
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// The paths in each layer. Directories end with a slash.
pub(super) fn layers(sh: &Shell, folder: &Utf8Path) -> Result<Vec<Vec<String>>> {
    let paths = |path: String| {
        // tar fails for the configuration in JSON, which is no layer.
        let list = cmd!(sh, "tar --list --file {folder}/{path}").quiet().ignore_status().ignore_stderr();
        Ok(list.read()?.lines().map(|line| line.trim_start_matches("./").to_owned()).collect())
    };
    files_below(sh, folder)?.into_iter().map(paths).collect()
}
