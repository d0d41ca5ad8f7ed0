//! `cargo lab containers`: checks the Dockerfile, its images and their scripts with a real Docker engine, the server of
//! [`crate::real`] and its real model.
//!
//! The checks are bash scripts, whose `docker` is a wrapper ([`engine`]): it labels what the checks create, for its
//! removal, and adapts the shipped Dockerfile to the engine. Apart from that, images are built as a user builds them.

mod docs;
mod engine;
mod env;
mod failures;
mod images;
mod own_repository;
mod program;
mod repository;
mod start;
mod validators;
mod verbs;

use anyhow::Result;
use xshell::Shell;

use crate::project;
use crate::tools::programs::{self, DOCKER, NGINX, OPENSSL, PIP, PYTHON, SHELLCHECK};
use crate::tools::steps::{Steps, with_log};
use env::ContainerEnv;

/// A check and its name.
type Check = (&'static str, fn(&ContainerEnv) -> Result<()>);

/// In an order that matters: later checks use the images of the first, and the last stops the server.
const CHECKS: [Check; 16] = [
    ("the images have the models, a layer for each directory, and no token", images::build),
    ("a baked image fills an empty volume once", start::baked),
    ("a baked image can link its models instead", start::linked),
    ("a start after a kill resumes", failures::killed),
    ("a damaged file is fetched again, and no other", failures::damaged),
    ("two containers on one volume fetch each byte once", start::together),
    ("a build without cache, or with piece lists, makes the same model layers", images::reproducible),
    ("a token reaches the Hub from a build and is in no image", images::token),
    ("the image provision fills a volume as an init container", program::init_container),
    ("as root it writes files of the folder's owner", program::owner),
    ("images for arm64 have its program and the same model layers", program::other_platform),
    ("the commands on a lock work for any user in a read-only image", verbs::run),
    ("what init writes builds, starts and validates in a repository of one's own", own_repository::run),
    ("the documents about a repository of one's own work as written", docs::own_repository),
    ("the documented commands work as written", docs::run),
    ("without the origin, a full volume starts and an empty one explains why not", failures::no_origin),
];

pub(crate) fn run() -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    programs::extend_path(&sh);
    let needed = [DOCKER, NGINX, OPENSSL, PIP, PYTHON, SHELLCHECK];
    programs::require(&sh, "cargo lab containers", &needed)?;
    let mut steps = Steps::new("containers");
    let start = "an engine answers, and nginx serves a real model";
    let env = steps.prepare(start, || ContainerEnv::start(sh))?;
    for (name, check) in CHECKS {
        let log = || format!("nginx's log:\n{}", env.server.server_log());
        with_log(steps.run(name, || check(&env)), log)?;
    }
    steps.finish();
    Ok(())
}
