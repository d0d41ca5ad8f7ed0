//! The documented commands about containers, run as written, one block after another.
//!
//! Their `docker` is the wrapper of [`super::engine`]. Lock and Dockerfile come from environment variables.

#![expect(clippy::print_stdout, reason = "a log needs the commands that ran")]

use anyhow::{Context as _, Result, ensure};
use xshell::cmd;

use super::comfyui;
use super::env::ContainerEnv;
use super::names::{CANARY, DOCS_VOLUMES};
use super::repository::Repository;
use crate::project;
use crate::readme::{self, Treatment};
use crate::tools::files::verify_owner;
use crate::tools::steps::indented;

/// The user of the folder with a workflow.
const OWNER: &str = "12345";

pub(super) fn run(env: &mut ContainerEnv) -> Result<()> {
    let mut blocks = readme::blocks()?;
    let is_here = |treatment| matches!(treatment, Treatment::Containers | Treatment::ContainersWorkflow);
    blocks.retain(|block| is_here(block.treatment));
    ensure!(
        !blocks.is_empty(),
        "README.md and docs/*.md have no block <!-- ci: run by cargo lab containers -->"
    );
    // Created here, the volumes have the label by which they are removed.
    for volume in DOCS_VOLUMES {
        env.volume(volume)?;
    }
    let sh = env.engine.shell().clone();
    let folder = env.engine.scratch.fresh("workflow");
    sh.write_file(folder.join("workflow.json"), env.server.workflow(&env.server.base()))?;
    // Containers of root write into the folder of another user.
    cmd!(sh, "chown --recursive {OWNER} {folder}").quiet().run()?;
    sh.set_var("PROVISION_LOCK", &env.lock);
    sh.set_var("PROVISION_DOCKERFILE", &env.prebuilt);
    sh.set_var("HF_TOKEN", CANARY);
    // The workflow names this machine's server.
    sh.set_var("PROVISION_ALLOW_PRIVATE", "1");
    // The other progress of docker fills a log with redrawn lines.
    sh.set_var("BUILDKIT_PROGRESS", "plain");
    for block in blocks {
        println!("{block}");
        let script = env.engine.scratch.fresh("docs.sh");
        sh.write_file(&script, format!("set -eux -o pipefail\n{}\n", block.commands.join("\n")))?;
        let is_beside_workflow = block.treatment == Treatment::ContainersWorkflow;
        sh.change_dir(if is_beside_workflow { &folder } else { project::root() });
        // `docker exec -it` needs a terminal, which script(1) makes.
        let command = format!("bash '{script}'");
        let terminal = cmd!(sh, "script --quiet --return --command {command} /dev/null");
        let output = terminal.quiet().ignore_status().ignore_stderr().output()?;
        let text = String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n");
        ensure!(output.status.success(), "{}: these commands failed:\n{text}", block.place);
    }
    verify_owner(&sh, &folder, OWNER)
}

/// Walks each document about a repository of one's own: a new repository for each, and its blocks in their order.
pub(super) fn own_repository(env: &mut ContainerEnv) -> Result<()> {
    let mut last: Option<(String, Repository<'_>)> = None;
    for block in readme::blocks()? {
        if !matches!(block.treatment, Treatment::Repository | Treatment::RepositoryMoved) {
            continue;
        }
        let document = block.place.split(':').next().unwrap_or_default();
        if last.as_ref().is_none_or(|(name, _)| name != document) {
            let repository = Repository::create(env)?;
            std::fs::write(repository.folder.join("download.sh"), wget_script()?)?;
            comfyui::write(&repository.folder)?;
            last = Some((document.to_owned(), repository));
        }
        let (_, repository) = last.as_ref().context("a document has a repository")?;
        let has_moved = block.treatment == Treatment::RepositoryMoved;
        if has_moved {
            repository.move_branch();
        }
        println!("{block}");
        let ended = repository.run(&block.commands.join("\n"))?;
        ensure!(ended.status.success(), "{}: these commands failed:\n{ended}", block.place);
        println!("{}", indented(&ended.stdout));
        ensure!(!has_moved || ended.stdout.contains("updated"), "{}: nothing moved:\n{ended}", block.place);
    }
    ensure!(last.is_some(), "no document has a block that runs in a repository");
    Ok(())
}

/// The script of docs/adopt.md that the lock replaces.
fn wget_script() -> Result<String> {
    let text = std::fs::read_to_string(project::root().join("docs/adopt.md"))?;
    let script = text.split_once("```sh\n#!").and_then(|(_, rest)| rest.split_once("```"));
    let (script, _) = script.context("docs/adopt.md shows no script")?;
    Ok(format!("#!{script}"))
}
