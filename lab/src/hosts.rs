//! `cargo lab hosts`: compares the testbed's emulated hosts with the real thing.
//!
//! The Hub's own client, from Python's index, drives the emulated Hub. The emulated registry and Debian's registry must
//! pass the same checks. Tests against an emulated host mean something only as far as this holds. The project's own
//! commands also download a blob from real registries that require a login, and import real lists of models from the
//! emulated Hub.

#![expect(clippy::print_stdout, reason = "the checks are the command's output")]

mod hub;
mod lists;
mod pictures;
mod registries;

use anyhow::{Context as _, Result};
use camino::Utf8PathBuf;
use provision_testbed::hosts::hub::Hub;
use provision_testbed::{BlockingOrigin, OriginConfig};
use xshell::Shell;

use crate::project;
use crate::tools::process::Run;
use crate::tools::program;
use crate::tools::programs::{self, CURL, DOCKER_REGISTRY, OPENSSL, PIP, PYTHON};
use crate::tools::scratch::Scratch;

pub(crate) fn run() -> Result<()> {
    let sh = Shell::new()?;
    programs::extend_path(&sh);
    programs::require(&sh, "cargo lab hosts", &[CURL, PYTHON, PIP, OPENSSL, DOCKER_REGISTRY])?;
    let libraries = project::root().join("target/hosts");
    sh.create_dir(&libraries)?;
    let scratch = Scratch::create(&libraries, "run-")?;
    let fixture = &Fixture { program: program::xtask(&sh)?, sh, libraries, scratch };
    println!("--- the emulated Hub, by the Hub's own client");
    hub::check(fixture)?;
    println!("--- real lists of models, by the project's own commands");
    lists::check(fixture)?;
    println!("--- pictures with a workflow, as Pillow writes them");
    pictures::check(fixture)?;
    registries::check(fixture)
}

/// What the checks share.
struct Fixture {
    sh: Shell,
    /// `cargo xtask`.
    program: Utf8PathBuf,
    /// Keeps the packages of Python's index between the runs.
    libraries: Utf8PathBuf,
    scratch: Scratch,
}

impl Fixture {
    /// A run of the program.
    fn run(&self, arguments: &[&str]) -> Result<Run> {
        Ok(self.scratch.run(&self.sh, &self.program)?.args(arguments))
    }

    /// The directory of a package of Python's index, which is installed without its dependencies on `--no-deps`.
    fn library(&self, package: &str, options: &[&str]) -> Result<Utf8PathBuf> {
        programs::python_package(&self.sh, &self.libraries, package, options)
    }
}

/// An emulated Hub, whose large files lie on an origin of their own.
struct EmulatedHub {
    site: BlockingOrigin,
    store: BlockingOrigin,
    hub: Hub,
}

impl EmulatedHub {
    fn start() -> Result<Self> {
        let (site, store) = (start_origin()?, start_origin()?);
        let hub = Hub::mount(&site, &store);
        Ok(Self { site, store, hub })
    }
}

fn start_origin() -> Result<BlockingOrigin> {
    BlockingOrigin::start(OriginConfig::default()).context("starting an origin")
}
