//! `cargo xtask dist`: builds the static `provision` and its packages, and prints what it made.
//!
//! One binary is in all packages of a machine type. The same source gives the same bytes: names are sorted, times are
//! that of the last commit (or `SOURCE_DATE_EPOCH`), and no file contains a path of this machine. Beside each artefact
//! lie its SHA-256 and its bill of materials.

#![expect(clippy::print_stdout, reason = "paths, sizes and digests are the command's output")]

pub(crate) mod binary;
mod deb;
mod sbom;
mod share;
mod stage;
mod wheel;

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use provision_core::byte_size::ByteSize;
use xshell::{Shell, cmd};

use crate::project;
use sbom::Materials;
use stage::Stage;

/// The machine types of a release.
const TARGETS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

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

pub(crate) fn run(args: &DistArgs) -> Result<()> {
    let sh = Shell::new()?;
    let out = args.out.as_ref().map(camino::absolute_utf8).transpose()?;
    sh.change_dir(project::root());
    let out = out.unwrap_or_else(|| binary::folder(&sh).join("dist"));
    let targets = match &args.target[..] {
        [] if args.all => TARGETS.map(str::to_owned).to_vec(),
        [] => vec![binary::host(&sh)?],
        given => given.to_vec(),
    };
    for target in targets {
        let path = binary::build(&sh, &target)?;
        let exact = ByteSize(path.metadata()?.len()).exact();
        println!("{path}\n{exact}, static, stripped\nsha256 {}", sha256(&sh, &path)?);
        let source = Source::new(&sh, &target, path, &out)?;
        let mut artefacts = vec![source.program()?];
        if args.wheel || args.all {
            artefacts.push(wheel::make(&source)?);
        }
        if args.deb || args.all {
            artefacts.push(deb::make(&source)?);
        }
        for artefact in artefacts {
            source.describe(&artefact)?;
            println!("{artefact}");
        }
    }
    Ok(())
}

/// What the packages of one machine type are made of.
#[derive(Debug)]
struct Source<'a> {
    sh: &'a Shell,
    binary: Utf8PathBuf,
    materials: Materials,
    /// The first word of the triple: `x86_64`.
    architecture: &'a str,
    version: &'static str,
    /// The time of all files, in seconds since 1970.
    epoch: u64,
    out: &'a Utf8Path,
}

impl<'a> Source<'a> {
    fn new(sh: &'a Shell, target: &'a str, binary: Utf8PathBuf, out: &'a Utf8Path) -> Result<Self> {
        sh.create_dir(out)?;
        Ok(Self {
            sh,
            materials: Materials::read(sh, target, &binary)?,
            binary,
            architecture: target.split('-').next().unwrap_or(target),
            version: env!("CARGO_PKG_VERSION"),
            epoch: epoch(sh)?,
            out,
        })
    }

    /// The binary under its name in a release.
    fn program(&self) -> Result<Utf8PathBuf> {
        let path = self.out.join(format!("provision-{}-{}-linux", self.version, self.architecture));
        self.sh.copy_file(&self.binary, &path)?;
        Ok(path)
    }

    fn stage(&self, name: &str) -> Result<Stage> {
        Stage::create(self.out, name)
    }

    /// The bill of materials of `file`, under this name.
    fn sbom(&self, name: &str, file: &Utf8Path) -> Result<String> {
        Ok(self.materials.document(name, &sha256(self.sh, file)?))
    }

    /// Writes the digest and the bill of materials beside the artefact.
    fn describe(&self, artefact: &Utf8Path) -> Result<()> {
        let name = artefact.file_name().context("an artefact has a name")?;
        let digest = sha256(self.sh, artefact)?;
        self.sh.write_file(format!("{artefact}.sha256"), format!("{digest}  {name}\n"))?;
        self.sh.write_file(format!("{artefact}.cdx.json"), self.sbom(name, artefact)?)?;
        Ok(())
    }
}

fn sha256(sh: &Shell, path: &Utf8Path) -> Result<String> {
    let sum = cmd!(sh, "sha256sum {path}").quiet().read()?;
    Ok(sum.split_whitespace().next().unwrap_or_default().to_owned())
}

/// The time of all files (<https://reproducible-builds.org/specs/source-date-epoch/>). An archive without git has the
/// first second that a zip file can hold.
fn epoch(sh: &Shell) -> Result<u64> {
    let given = sh.var("SOURCE_DATE_EPOCH").ok();
    let commit = || cmd!(sh, "git log -1 --format=%ct").quiet().ignore_stderr().read().ok();
    let seconds = given.or_else(commit).unwrap_or_else(|| "315532800".to_owned());
    seconds.trim().parse().with_context(|| format!("SOURCE_DATE_EPOCH is no number of seconds: {seconds:?}"))
}
