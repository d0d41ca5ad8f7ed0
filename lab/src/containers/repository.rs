//! A repository of one's own: it has the program and its image, and nothing else of this project.
//!
//! The program comes out of the image. The models come from the testbed's Hub, whose repositories are gated, so every
//! build needs the token.

use anyhow::Result;
use camino::Utf8PathBuf;

use super::engine::PROGRAM;
use super::env::ContainerEnv;
use crate::readme::hub::HubFixture;
use crate::real::TOKEN;
use crate::tools::process::Ended;

/// The repository, which is the folder of `hub`.
#[derive(Debug)]
pub(super) struct Repository<'a> {
    env: &'a ContainerEnv,
    pub(super) hub: HubFixture,
    /// Has `provision`, and is the home directory of commands.
    programs: Utf8PathBuf,
}

impl<'a> Repository<'a> {
    /// A repository with a workflow. Requires the image [`PROGRAM`].
    pub(super) fn create(env: &'a ContainerEnv) -> Result<Self> {
        let hub = HubFixture::start(&env.server.scratch.fresh("repository"), Some(TOKEN))?;
        let programs = env.server.scratch.fresh("programs");
        env.succeeds(&format!(
            "mkdir {programs}\nid=$(docker create {PROGRAM})\ndocker cp $id:/provision {programs}"
        ))?;
        Ok(Self { env, hub, programs })
    }

    /// Runs commands in the repository.
    pub(super) fn run(&self, commands: &str) -> Result<Ended> {
        let (programs, script) = (&self.programs, self.hub.script(commands));
        // A workflow of others may not name hosts of a private network, as the Hub is here.
        let variables = format!("HOME={programs} PATH={programs}:$PATH PROVISION_ALLOW_PRIVATE=1");
        self.env.run(&format!("export {variables}\n{script}"))
    }

    /// Runs commands, which must succeed.
    pub(super) fn succeeds(&self, commands: &str) -> Result<Ended> {
        self.run(commands)?.exited(0)
    }
}
