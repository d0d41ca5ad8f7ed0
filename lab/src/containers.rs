//! `cargo lab containers`: the Dockerfile and what it makes, proved with a real Docker engine, a real web server
//! on loopback and a real model.
//!
//! Everything that a proof makes (containers, volumes, images) carries a label and goes at the end, however that comes.
//! The Dockerfile is the shipped one but for what [`dockerfile`] says. The web server is reached by `--network host`:
//! that is the only thing that a command in the README lacks, and [`engine`] adds it.

mod checks;
mod dockerfile;
mod docs;
mod engine;
mod env;
mod image_archive;
mod model_server;
mod names;

use anyhow::{Context as _, Result};
use xshell::Shell;

use crate::project;
use crate::tools::programs::{self, DOCKER, NGINX, PIP, PYTHON};
use crate::tools::steps::{Done, Steps};
use checks::CHECKS;
use env::ContainerEnv;

/// One thing that has to hold.
struct Check {
    name: &'static str,
    run: fn(&mut ContainerEnv) -> Result<Done>,
}

pub(crate) fn run() -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    programs::extend_path(&sh);
    programs::require(&sh, "cargo lab containers", &[DOCKER, NGINX, PIP, PYTHON])?;
    let mut steps = Steps::new("containers");
    let mut env = None;
    steps.run("an engine that answers, and a real model behind nginx", || {
        env = Some(ContainerEnv::start(&sh)?);
        Ok(Done::Passed)
    })?;
    if let Some(env) = &mut env {
        for check in CHECKS {
            steps
                .run(check.name, || (check.run)(env))
                .with_context(|| format!("nginx says:\n{}", env.complaints()))?;
        }
    }
    steps.finish();
    Ok(())
}

/// What a program said, set off from what the checks say.
fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    | {line}")).collect::<Vec<_>>().join("\n")
}
