//! The documented commands about containers, run as written, one block after another.

#![expect(clippy::print_stdout, reason = "a log needs the commands that ran")]

use anyhow::{Context as _, Result, ensure};

use super::env::ContainerEnv;
use super::repository::Repository;
use crate::project;
use crate::readme::{self, CONTAINERS, REPOSITORY, REPOSITORY_MOVED};
use crate::tools::steps::indented;

/// The volumes of the documented commands. Created here, they have the label by which they are removed.
const VOLUMES: [&str; 2] = ["comfy-baked", "comfy-models"];

pub(super) fn run(env: &ContainerEnv) -> Result<()> {
    for volume in VOLUMES {
        env.volume(volume)?;
    }
    for block in readme::blocks()?.iter().filter(|block| block.tag == CONTAINERS) {
        println!("{block}");
        let script = env.server.scratch.fresh("docs.sh");
        let text = format!("set -eux -o pipefail\n{}\n", block.commands.join("\n"));
        env.server.sh.write_file(&script, text)?;
        // `docker exec -it` needs a terminal, which script(1) makes.
        let run = format!("script --quiet --return --command 'bash {script}' /dev/null");
        let ended =
            env.run(&format!("cd '{}'\nexport PROVISION_LOCK={}\n{run}", project::root(), env.lock_file))?;
        ensure!(ended.status.success(), "{}: these commands failed:\n{ended}", block.place);
    }
    Ok(())
}

/// Walks each document about a repository of one's own: a new repository for each, and its blocks in their order.
pub(super) fn own_repository(env: &ContainerEnv) -> Result<()> {
    let mut last: Option<(String, Repository<'_>)> = None;
    for block in readme::blocks()? {
        if !matches!(block.tag, REPOSITORY | REPOSITORY_MOVED) {
            continue;
        }
        let document = block.place.split(':').next().unwrap_or_default();
        if last.as_ref().is_none_or(|(name, _)| name != document) {
            let repository = Repository::create(env)?;
            std::fs::write(repository.hub.folder.join("download.sh"), wget_script()?)?;
            // What people who run ComfyUI have: docs/comfyui.md names the files.
            let files = project::root().join("lab/src/containers/comfyui");
            repository.succeeds(&format!("cp --recursive '{files}/.' ."))?;
            last = Some((document.to_owned(), repository));
        }
        let (_, repository) = last.as_ref().context("a document has a repository")?;
        let has_moved = block.tag == REPOSITORY_MOVED;
        if has_moved {
            repository.hub.move_branch();
        }
        println!("{block}");
        let ended = repository.run(&block.commands.join("\n"))?;
        ensure!(ended.status.success(), "{}: these commands failed:\n{ended}", block.place);
        println!("{}", indented(&ended.stdout));
        ensure!(!has_moved || ended.stdout.contains("updated"), "{}: nothing moved:\n{ended}", block.place);
    }
    Ok(())
}

/// The script of docs/adopt.md that the lock replaces.
fn wget_script() -> Result<String> {
    let text = std::fs::read_to_string(project::root().join("docs/adopt.md"))?;
    let script = text.split_once("```sh\n#!").and_then(|(_, rest)| rest.split_once("```"));
    let (script, _) = script.context("docs/adopt.md shows no script")?;
    Ok(format!("#!{script}"))
}
