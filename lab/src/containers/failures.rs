//! Container starts that are killed, that find damage, or that cannot succeed.

#![expect(clippy::print_stdout, reason = "a log needs the messages that a user would see")]

use std::time::Duration;

use anyhow::{Result, ensure};

use super::engine::{BAKED, RUNTIME};
use super::env::{ContainerEnv, DESTINATION, MARKER};
use crate::tools::steps::indented;
use crate::tools::{access_log, wait};

/// [`killed`] fills this volume; [`damaged`] and [`no_origin`] use it.
const VOLUME: &str = "provision-check-fetched";

pub(super) fn killed(env: &ContainerEnv) -> Result<()> {
    const NAME: &str = "provision-check-killed";
    let (volume, total) = (env.volume(VOLUME)?, env.total());
    let mark = env.server.log.mark()?;
    let sent = |mark| Ok::<_, anyhow::Error>(access_log::bytes(&env.server.log.since(mark)?));
    let progress = |percent| {
        wait::until("progress of the download", Duration::from_mins(2), || {
            Ok(Some(sent(mark)?).filter(|sent| *sent >= total * percent / 100))
        })
    };
    // Slow responses end often, so that the access log follows the download.
    let lock = env.lock_at(&format!("{}/rate/1m", env.server.hub()))?;
    let mounts = format!("--volume {volume}:{DESTINATION} --volume {lock}:/opt/provision/models.lock:ro");
    let options = format!("--name {NAME} --env PROVISION_CONNECTIONS=8 {mounts}");
    let first = env.start_script(&format!("docker run {options} {RUNTIME} /pre_start.sh"))?;
    progress(15)?;
    env.succeeds(&format!("docker stop {NAME}"))?;
    first.end()?.exited(143)?;
    let second = env.start_script(&format!("docker start --attach {NAME}"))?;
    progress(40)?;
    env.succeeds(&format!("docker kill {NAME}"))?;
    second.end()?.exited(137)?;
    let before = sent(mark)?;

    let mark = env.server.log.mark()?;
    println!("{}", indented(&env.succeeds(&format!("docker start --attach {NAME}"))?.stderr));
    env.verify_volume(volume)?;
    let after = sent(mark)?;
    println!("    sent before the kill: {before}, after it: {after}, the set: {total}");
    // Only ranges in flight are lost.
    ensure!(after <= total * 3 / 4, "after the kill {after} of {total} bytes were sent");
    Ok(())
}

pub(super) fn damaged(env: &ContainerEnv) -> Result<()> {
    let entry = &env.lock.entries[1];
    let (path, middle) = (&entry.path, entry.size / 2);
    let dd = format!("dd of={path} bs=1 seek={middle} conv=notrunc status=none");
    let damage = format!("cd {DESTINATION} && rm {MARKER} && printf \"\\377\" | {dd}");
    env.container(VOLUME, &format!("{RUNTIME} sh -c '{damage}'"))?.exited(0)?;
    let mark = env.server.log.mark()?;
    let ended = env.container(VOLUME, &format!("{RUNTIME} /pre_start.sh"))?.exited(0)?;
    println!("{}", indented(&ended.stderr));
    env.verify_volume(VOLUME)?;
    let requests = env.server.log.since(mark)?;
    ensure!(!requests.is_empty(), "the damaged file was not fetched:\n{ended}");
    ensure!(
        requests.iter().all(|request| entry.url.ends_with(&request.path)),
        "requests for more than {path}: {requests:#?}"
    );
    Ok(())
}

pub(super) fn no_origin(env: &ContainerEnv) -> Result<()> {
    env.server.stop_server()?;
    env.container(VOLUME, &format!("{RUNTIME} /pre_start.sh"))?.exited(0)?;
    let empty = env.volume("provision-check-empty")?;
    let run = |options: &str, command: &str| {
        env.container(empty, &format!("--env PROVISION_RETRIES=1 {options} {RUNTIME} {command}"))
    };
    let ended = run("", "/pre_start.sh")?.exited(4)?;
    println!("{}", indented(&ended.stderr));
    let path = &env.lock.entries[0].path;
    let ended = ended.complains(&[path, "INCOMPLETE", "check the network", "PROVISION_REQUIRED=0"])?;
    ensure!(ended.stdout.is_empty(), "the failure is not on standard error:\n{ended}");

    // Sourced, the script ends the script that sources it, or lets it go on.
    let start = "sh -c '. /pre_start.sh; echo ComfyUI starts'";
    let ended = run("", start)?.exited(4)?;
    ensure!(ended.stdout.is_empty(), "the start went on without the models:\n{ended}");
    let ended = run("--env PROVISION_REQUIRED=0", start)?.exited(0)?;
    ended.says(&["ComfyUI starts", "starting without the models"])?;

    env.container(empty, &format!("{BAKED} /pre_start.sh"))?.exited(0)?;
    env.verify_volume(empty)
}
