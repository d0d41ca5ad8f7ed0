//! `cargo xtask dist`: builds the static `provision` and its packages, and prints what it made.
//!
//! One binary is in all packages of a machine type. The same source gives the same bytes: names are sorted, times are
//! that of the last commit (or `SOURCE_DATE_EPOCH`), and no file contains a path of this machine. Beside each artefact
//! lie its SHA-256 and its bill of materials.

#![expect(clippy::print_stdout, reason = "paths, sizes and digests are the command's output")]

pub(crate) mod binary;
mod deb;
mod sbom;
mod wheel;

use std::fs;

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use provision::cli::completion::{Shell as For, script};
use provision::cli::program;
use provision_core::byte_size::ByteSize;
use provision_core::digest::Sha256;
use xshell::{Shell, cmd};

use crate::project;
use sbom::Materials;

/// The machine types of a release.
const TARGETS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// The version of the workspace.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
const SUMMARY: &str = "download, verify and install the model files of a lock";
const LICENCES: [&str; 2] = ["LICENSE-APACHE", "LICENSE-MIT"];

/// Builds the static `provision` and its packages, checks the binary, and prints path, size and SHA-256
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DistArgs {
    /// The machine type, such as aarch64-unknown-linux-gnu (repeatable) [default: this machine's; with --all both]
    #[arg(long, value_name = "TRIPLE")]
    target: Vec<String>,

    /// Make the wheel, too
    #[arg(long)]
    wheel: bool,

    /// Make the Debian package, too
    #[arg(long)]
    deb: bool,

    /// Make every package, for every machine type of a release
    #[arg(long)]
    all: bool,

    /// The directory of the artefacts [default: dist below cargo's target directory]
    #[arg(long, value_name = "DIR")]
    out: Option<Utf8PathBuf>,
}

/// What the packages of one machine type are made of.
#[derive(Debug)]
struct Source<'a> {
    sh: &'a Shell,
    out: &'a Utf8Path,
    /// The time of all files, in seconds since 1970.
    epoch: u64,
    /// The first word of the triple: `x86_64`.
    architecture: &'a str,
    binary: &'a Utf8Path,
    /// The binary's bill of materials.
    sbom: String,
}

pub(crate) fn run(args: &DistArgs) -> Result<()> {
    let sh = Shell::new()?;
    let out = args.out.as_ref().map(camino::absolute_utf8).transpose()?;
    sh.change_dir(project::root());
    let out = out.unwrap_or_else(|| binary::folder(&sh).join("dist"));
    sh.create_dir(&out)?;
    let targets = match &args.target[..] {
        [] if args.all => TARGETS.map(str::to_owned).to_vec(),
        [] => vec![binary::host(&sh)?],
        given => given.to_vec(),
    };
    for target in &targets {
        let binary = binary::build(&sh, target)?;
        let (exact, digest) = (ByteSize(binary.metadata()?.len()).exact(), sha256(&binary)?);
        println!("{binary}\n{exact}, static, stripped\nsha256 {digest}");
        let materials = Materials::read(&sh, target, &binary)?;
        let architecture = target.split('-').next().unwrap_or(target);
        let program = out.join(format!("provision-{VERSION}-{architecture}-linux"));
        sh.copy_file(&binary, &program)?;
        let (epoch, sbom) = (epoch(&sh)?, materials.document("provision", &digest));
        let source = Source { sh: &sh, out: &out, epoch, architecture, binary: &binary, sbom };
        let mut artefacts = vec![program];
        if args.wheel || args.all {
            artefacts.push(wheel::make(&source)?);
        }
        if args.deb || args.all {
            artefacts.push(deb::make(&source)?);
        }
        for artefact in artefacts {
            let (name, digest) = (artefact.file_name().unwrap_or_default(), sha256(&artefact)?);
            sh.write_file(format!("{artefact}.sha256"), format!("{digest}  {name}\n"))?;
            sh.write_file(format!("{artefact}.cdx.json"), materials.document(name, &digest))?;
            println!("{artefact}");
        }
    }
    Ok(())
}

fn sha256(path: &Utf8Path) -> Result<String> {
    Ok(Sha256::of(&fs::read(path)?).to_string())
}

/// The time of all files (<https://reproducible-builds.org/specs/source-date-epoch/>). An archive without git has the
/// first second that a zip file can hold.
fn epoch(sh: &Shell) -> Result<u64> {
    let given = sh.var("SOURCE_DATE_EPOCH").ok();
    let commit = || cmd!(sh, "git log -1 --format=%ct").quiet().ignore_stderr().read().ok();
    let seconds = given.or_else(commit).unwrap_or_else(|| "315532800".to_owned());
    seconds.trim().parse().with_context(|| format!("SOURCE_DATE_EPOCH is no number of seconds: {seconds:?}"))
}

/// Writes man pages and completions, made from the command line itself, below `share`. `zsh` is its directory of
/// functions, which differs by distribution.
fn write_share(sh: &Shell, share: &Utf8Path, zsh: &str) -> Result<()> {
    clap_mangen::generate_to(program::command(), sh.create_dir(share.join("man/man1"))?)?;
    for (path, shell) in [
        ("bash-completion/completions/provision", For::Bash),
        (&format!("zsh/{zsh}/_provision"), For::Zsh),
        ("fish/vendor_completions.d/provision.fish", For::Fish),
    ] {
        sh.write_file(share.join(path), script(shell)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_and_each_shell_a_script() {
        let (sh, folder) = (Shell::new().unwrap(), tempfile::tempdir().unwrap());
        let share = Utf8Path::from_path(folder.path()).unwrap();
        write_share(&sh, share, "site-functions").unwrap();
        let text = |path: &str| sh.read_file(share.join(path)).unwrap();
        assert!(text("man/man1/provision-fetch.1").contains("PROVISION_DEST"));
        assert!(text("man/man1/provision-lock-add.1").contains("hf:OWNER/REPO"));
        assert!(text("bash-completion/completions/provision").contains("PROVISION_COMPLETE=\"bash\""));
        assert!(text("zsh/site-functions/_provision").starts_with("#compdef provision"));
        assert!(text("fish/vendor_completions.d/provision.fish").contains("PROVISION_COMPLETE"));
        for command in program::command().get_subcommands() {
            text(&format!("man/man1/provision-{}.1", command.get_name()));
        }
    }
}
