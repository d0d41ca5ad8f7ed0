//! One trial: a scene is set, a tool is run against it, and what is left is looked at.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::case::{Start, Trial};
use super::sandbox::{FILE, Scene, Stage, TOKEN};
use super::tool::{Found, Invocation, Job};
use super::verdict::{self, Exit, Seen};
use crate::tools::wait;

/// A head without end must not take the machine with it.
const MEMORY: &str = "--as=8589934592";

/// `None`: it makes no sense with this tool.
pub(super) fn run(
    stage: &Stage,
    trial: &Trial,
    tool: &Found,
    number: usize,
    limit: Duration,
) -> Result<Option<Seen>> {
    if trial.needs_mirrors && !tool.tool.takes_mirrors() {
        return Ok(None);
    }
    let folder = stage.folder.join(number.to_string());
    let destination = folder.join("models");
    fs::create_dir_all(&destination)?;
    let path = destination.join(FILE);
    let right = trial.content.to_vec();
    let before = match trial.start {
        Start::Nothing => None,
        Start::Bytes(ref content) => Some(content.to_vec()),
    };
    if let Some(bytes) = &before {
        fs::write(&path, bytes)?;
    }
    let scene = Scene::set(stage, &trial.content)?;
    let urls = (trial.prepare)(&scene);
    let sha256 = trial.content.sha256_hex();
    let job = Job {
        urls: &urls,
        destination: &destination,
        folder: &folder,
        size: trial.content.size(),
        sha256: &sha256,
        with_token: trial.with_token,
        authority: &stage.authority,
    };
    let Invocation { words, environment } = tool.command(&job)?;
    let log = File::create(folder.join("log"))?;
    let mut child = Command::new("prlimit")
        .args([MEMORY, "--core=0", "--"])
        .args(&words)
        .env_clear()
        .env("PATH", &stage.path_variable)
        .env("HOME", &folder)
        .envs(environment)
        .current_dir(&folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("starting it by prlimit (of util-linux)")?;
    let exit = match wait::until("its end", limit, || Ok(child.try_wait()?)) {
        Ok(status) if status.signal().is_some() => Exit::Signal,
        Ok(status) => status.code().map_or(Exit::Signal, Exit::Code),
        Err(_) => {
            child.kill()?;
            child.wait()?;
            Exit::NoEnd
        }
    };
    let found = fs::read(&path).ok();
    let file = verdict::compare(found.as_deref(), before.as_deref(), &right);
    let is_marked = destination.join(format!("{FILE}.aria2")).exists();
    let mut went = (trial.trespass)(&scene);
    let carries = |value: &str| value.contains(TOKEN);
    if scene.foreign().iter().any(|request| request.headers.iter().any(|(_, value)| carries(value))) {
        went.push("token sent on");
    }
    fs::remove_dir_all(&folder)?;
    Ok(Some(Seen { exit, file, is_marked, went }))
}
