//! `cargo lab packages`: the wheel, the Debian package and the crates, each installed where nothing of the project is.
//!
//! The packages of one binary are made twice and compared byte by byte. `--whole` builds the binary twice, too, in two
//! directories, which takes as long as two builds with link-time optimisation.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use xshell::{Shell, cmd};

use crate::project;
use crate::tools::program;
use crate::tools::programs::{self, DPKG, PYTHON};
use crate::tools::scratch::Scratch;
use crate::tools::steps::{Done, Steps};

/// Installers of wheels that bring their own rules, at these versions.
const INSTALLERS: [&str; 2] = ["pipx==1.18.4", "uv==0.13.9"];

/// What the registry gets, in the order of their imports.
const CRATES: [&str; 6] =
    ["provision-core", "provision-disk", "provision-http", "provision-engine", "provision-lock", "provision"];

/// Installs and runs every package
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PackagesArgs {
    /// Build the binary a second time, in another directory, and compare
    #[arg(long)]
    whole: bool,
}

pub(crate) fn run(args: &PackagesArgs) -> Result<()> {
    let sh = &Shell::new()?;
    sh.change_dir(project::root());
    programs::extend_path(sh);
    programs::require(sh, "cargo lab packages", &[PYTHON, DPKG])?;
    let scratch = &Scratch::create(program::target(sh), "packages-")?;
    let make = || {
        let out = scratch.fresh("out");
        cmd!(sh, "cargo xtask dist --wheel --deb --out {out}").quiet().ignore_stdout().run()?;
        Ok(out)
    };
    let mut steps = Steps::new("packages");
    let first = steps.prepare("the packages are made", make)?;
    steps.run("the same binary gives the same packages", || {
        let second = make()?;
        cmd!(sh, "diff --recursive {first} {second}").run()?;
        Ok(Done::Passed)
    })?;
    if args.whole {
        steps.run("the same source gives the same binary elsewhere", || elsewhere(sh, &first, scratch))?;
    }
    steps.run("each digest is that of its artefact", || {
        let _inside = sh.push_dir(&first);
        cmd!(sh, "sh -c 'cat *.sha256 | sha256sum --check --quiet'").run()?;
        Ok(Done::Passed)
    })?;
    steps.run("the wheel runs in fresh environments", || wheel(sh, &first, scratch))?;
    steps.run("the Debian package runs in a fresh root", || deb(sh, &first, scratch))?;
    steps.run("the crates compile as they are packed", || crates(sh, scratch))?;
    steps.finish();
    Ok(())
}

/// The artefact in `folder` with this ending.
fn artefact(folder: &Utf8Path, ending: &str) -> Result<Utf8PathBuf> {
    let mut entries = folder.read_dir_utf8()?.filter_map(Result::ok);
    let found = entries.find(|entry| entry.file_name().ends_with(ending));
    Ok(found.with_context(|| format!("{folder} has no {ending}"))?.into_path())
}

/// The program prints its version, as packages are installed for that.
fn runs(sh: &Shell, command: &[&str]) -> Result<()> {
    let (program, arguments) = (command[0], &command[1..]);
    let said = cmd!(sh, "{program} {arguments...} --version").quiet().read()?;
    ensure!(said == concat!("provision ", env!("CARGO_PKG_VERSION")), "{command:?} printed {said:?}");
    Ok(())
}

/// Copies the tracked files elsewhere and builds them there.
fn elsewhere(sh: &Shell, first: &Utf8Path, scratch: &Scratch) -> Result<Done> {
    let copy = scratch.fresh("a-source-elsewhere");
    sh.create_dir(&copy)?;
    let script = "git ls-files -z | xargs -0 cp --parents --no-dereference --target-directory \"$0\"";
    cmd!(sh, "sh -c {script} {copy}").quiet().run()?;
    let _inside = sh.push_dir(&copy);
    let out = copy.join("out");
    cmd!(sh, "cargo xtask dist --out {out}").env("CARGO_TARGET_DIR", copy.join("target")).quiet().run()?;
    let (one, two) = (artefact(first, "-linux")?, artefact(&out, "-linux")?);
    cmd!(sh, "cmp {one} {two}").run()?;
    Ok(Done::Passed)
}

fn wheel(sh: &Shell, packages: &Utf8Path, scratch: &Scratch) -> Result<Done> {
    let wheel = &artefact(packages, ".whl")?;
    let environment = scratch.fresh("environment");
    let bin = environment.join("bin");
    cmd!(sh, "python3 -m venv {environment}").quiet().run()?;
    let pip = |arguments: &[&str]| {
        let install = cmd!(sh, "{bin}/pip install --quiet --disable-pip-version-check").args(arguments);
        install.quiet().run()
    };
    pip(&["--no-index", wheel.as_str()])?;
    runs(sh, &[bin.join("provision").as_str()])?;
    ensure!(environment.join("share/man/man1/provision-fetch.1").is_file(), "the wheel has no man pages");
    // pip decides by the tags, exactly as they are written.
    for system in ["manylinux_2_17", "musllinux_1_1"] {
        let system = format!("{system}_{}", std::env::consts::ARCH);
        let target = scratch.fresh("system");
        let elsewhere = ["--only-binary", ":all:", "--platform", &system, "--target", target.as_str()];
        pip(&[&["--no-index"], &elsewhere[..], &[wheel.as_str()]].concat())?;
    }
    // Each of them runs the wheel in an environment that it makes.
    pip(&INSTALLERS)?;
    let _home = sh.push_env("PIPX_HOME", scratch.fresh("pipx"));
    let _cache = sh.push_env("UV_CACHE_DIR", scratch.fresh("uv"));
    runs(sh, &[bin.join("pipx").as_str(), "run", "--spec", wheel.as_str(), "provision"])?;
    runs(sh, &[bin.join("uvx").as_str(), "--quiet", "--from", wheel.as_str(), "provision"])?;
    Ok(Done::Passed)
}

/// A root with dpkg's database and nothing else: the binary needs no C library.
fn deb(sh: &Shell, packages: &Utf8Path, scratch: &Scratch) -> Result<Done> {
    let (deb, root) = (artefact(packages, ".deb")?, scratch.fresh("root"));
    for folder in ["info", "updates", "triggers"] {
        sh.create_dir(root.join("var/lib/dpkg").join(folder))?;
    }
    sh.write_file(root.join("var/lib/dpkg/status"), "")?;
    if cmd!(sh, "chroot / true").quiet().ignore_stderr().run().is_err() {
        return Ok(Done::Skipped("no chroot here (not root?)".to_owned()));
    }
    cmd!(sh, "dpkg --root {root} --install {deb}").quiet().ignore_stdout().run()?;
    runs(sh, &["chroot", root.as_str(), "/usr/bin/provision"])?;
    let broken = cmd!(sh, "dpkg --root {root} --verify provision").quiet().read()?;
    ensure!(broken.is_empty(), "dpkg --verify: {broken}");
    for file in [
        "bash-completion/completions/provision",
        "zsh/vendor-completions/_provision",
        "man/man1/provision.1.gz",
    ] {
        ensure!(root.join("usr/share").join(file).is_file(), "the package has no {file}");
    }
    Ok(Done::Passed)
}

/// `cargo package` would compile every crate with all its dependencies, six times. Unpacked beside each other the
/// crates are compiled once, from what the registry would get.
fn crates(sh: &Shell, scratch: &Scratch) -> Result<Done> {
    let (folder, target) = (scratch.fresh("crates"), scratch.fresh("packed"));
    let chosen = CRATES.iter().flat_map(|name| ["--package", name]);
    let pack = ["--quiet", "--locked", "--allow-dirty", "--no-verify", "--target-dir", target.as_str()];
    cmd!(sh, "cargo package {pack...} {chosen...}").quiet().ignore_stderr().run()?;
    sh.create_dir(&folder)?;
    // With the profiles of the project, dependencies that clippy has compiled are used again.
    let manifest = sh.read_file("Cargo.toml")?;
    let profiles = manifest.find("\n[profile.dev]").map(|start| &manifest[start..]).unwrap_or_default();
    let mut workspace =
        format!("{profiles}\n[workspace]\nresolver = \"3\"\nmembers = [\"*\"]\n[patch.crates-io]\n");
    for name in CRATES {
        let packed = format!("{name}-{}", env!("CARGO_PKG_VERSION"));
        cmd!(sh, "tar --extract --directory {folder} --file {target}/package/{packed}.crate")
            .quiet()
            .run()?;
        for file in ["LICENSE-MIT", "LICENSE-APACHE", "README.md"] {
            let path = folder.join(&packed).join(file);
            ensure!(!sh.read_file(&path)?.is_empty(), "{path} is empty");
        }
        writeln!(workspace, "{name} = {{ path = \"{packed}\" }}")?;
    }
    sh.write_file(folder.join("Cargo.toml"), workspace)?;
    sh.copy_file("Cargo.lock", folder.join("Cargo.lock"))?;
    let shared = program::target(sh);
    let _inside = sh.push_dir(&folder);
    cmd!(sh, "cargo check --quiet --offline --workspace --target-dir {shared}").quiet().run()?;
    Ok(Done::Passed)
}
