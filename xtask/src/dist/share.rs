//! The files that a package ships beside the binary: man pages and completions, made from the command line itself.

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use provision::cli::completion::{Shell as For, script};
use provision::cli::program;

/// A file below a prefix such as `/usr`.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: Utf8PathBuf,
    pub(super) bytes: Vec<u8>,
}

/// The man pages of the program and its subcommands, and the completions, sorted by path. `zsh` is its directory of
/// functions, which differs by distribution.
pub(super) fn files(zsh: &str) -> Result<Vec<File>> {
    let pages = tempfile::tempdir()?;
    clap_mangen::generate_to(program::command(), pages.path())?;
    let mut files = Vec::new();
    for page in Utf8Path::from_path(pages.path()).unwrap_or(Utf8Path::new("")).read_dir_utf8()? {
        let page = page?;
        let path = Utf8Path::new("share/man/man1").join(page.file_name());
        files.push(File { path, bytes: std::fs::read(page.path())? });
    }
    let completions = [
        ("share/bash-completion/completions/provision".to_owned(), For::Bash),
        (format!("share/zsh/{zsh}/_provision"), For::Zsh),
        ("share/fish/vendor_completions.d/provision.fish".to_owned(), For::Fish),
    ];
    for (path, shell) in completions {
        files.push(File { path: path.into(), bytes: script(shell)?.into_bytes() });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_and_each_shell_a_script() {
        let files = files("site-functions").unwrap();
        let text = |path: &str| {
            let file = files.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("{path}"));
            std::str::from_utf8(&file.bytes).unwrap()
        };
        assert!(text("share/man/man1/provision-fetch.1").contains("PROVISION_DEST"));
        assert!(text("share/man/man1/provision-lock-add.1").contains("hf:OWNER/REPO"));
        assert!(text("share/bash-completion/completions/provision").contains("PROVISION_COMPLETE=\"bash\""));
        assert!(text("share/zsh/site-functions/_provision").starts_with("#compdef provision"));
        for command in program::command().get_subcommands() {
            text(&format!("share/man/man1/provision-{}.1", command.get_name()));
        }
    }
}
