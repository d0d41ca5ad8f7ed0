//! The README's commands about containers, as written: the same images, the same server, one block after another.
//! Their `docker` is ours ([`super::engine`]), and the lock and the Dockerfile come from the environment.

#![expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]

use anyhow::{Result, ensure};
use xshell::cmd;

use super::env::ContainerEnv;
use super::names::{CANARY, VOLUMES};
use crate::project;
use crate::readme::{self, Treatment};
use crate::tools::steps::Done;

pub(super) fn run(env: &mut ContainerEnv) -> Result<Done> {
    let blocks = readme::blocks()?;
    let mine: Vec<_> = blocks.iter().filter(|block| block.treatment == Treatment::Containers).collect();
    ensure!(
        !mine.is_empty(),
        "README.md has no block for this check: mark one with <!-- ci: run by cargo lab containers -->"
    );
    // Labelled, so that they go at the end.
    for volume in VOLUMES {
        env.engine.volume(volume)?;
    }
    let sh = env.engine.shell().clone();
    sh.change_dir(project::root());
    sh.set_var("PROVISION_LOCK", env.lock_path());
    sh.set_var("PROVISION_DOCKERFILE", env.built_dockerfile()?);
    sh.set_var("HF_TOKEN", CANARY);
    // Else docker draws, and a failure's log is full of it.
    sh.set_var("BUILDKIT_PROGRESS", "plain");
    for block in mine {
        println!("    README.md:{}", block.line);
        for command in &block.commands {
            println!("    $ {command}");
        }
        let script = env.root.join("readme.sh");
        sh.write_file(&script, format!("set -eux -o pipefail\n{}\n", block.commands.join("\n")))?;
        // In a terminal of its own: `docker exec -it` wants one.
        let command = format!("bash {script}");
        let terminal = cmd!(sh, "script --quiet --return --command {command} /dev/null");
        let output = terminal.quiet().ignore_status().ignore_stderr().output()?;
        let shown = String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n");
        ensure!(output.status.success(), "README.md:{}: these commands failed:\n{shown}", block.line);
    }
    Ok(Done::Passed)
}
