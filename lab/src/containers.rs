//! `cargo lab containers`: checks the Dockerfile, its images and their scripts with a real Docker engine, a web server
//! on loopback and a real model.
//!
//! [`engine`] labels every container, volume and image of the checks and removes them at the end. [`dockerfile`] adapts
//! the shipped Dockerfile to the engine; apart from that, images are built as a user builds them.

mod checks;
mod comfyui;
mod dockerfile;
mod docs;
mod engine;
mod env;
mod image_archive;
mod model_server;
mod names;
mod repository;
mod validators;

use anyhow::{Context as _, Result};
use xshell::Shell;

use crate::project;
use crate::tools::programs::{self, DOCKER, NGINX, PIP, PYTHON, SHELLCHECK};
use crate::tools::steps::{Done, Steps};
use checks::CHECKS;
use env::ContainerEnv;

pub(crate) fn run() -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    programs::extend_path(&sh);
    programs::require(&sh, "cargo lab containers", &[DOCKER, NGINX, PIP, PYTHON, SHELLCHECK])?;
    let mut steps = Steps::new("containers");
    let start = "an engine answers, and nginx serves a real model";
    let mut env = steps.prepare(start, || ContainerEnv::start(&sh))?;
    for (name, check) in CHECKS {
        let result = steps.run(name, || check(&mut env).map(|()| Done::Passed));
        result.with_context(|| format!("nginx's log:\n{}", env.server.error_log()))?;
    }
    steps.finish();
    Ok(())
}
