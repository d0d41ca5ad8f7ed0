//! Container starts that are killed, that find damage, or that cannot succeed.

#![expect(clippy::print_stdout, reason = "a log needs the messages that a user would see")]

use std::time::Duration;

use anyhow::{Result, ensure};
use xshell::cmd;

use crate::containers::env::ContainerEnv;
use crate::containers::model_server::SLOW;
use crate::containers::names::{BAKED, DESTINATION, MARKER, RUNTIME};
use crate::tools::steps::indented;
use crate::tools::{access_log, wait};

/// [`killed`] fills this volume; [`damaged`] and [`no_origin`] use it.
const VOLUME: &str = "provision-check-fetched";

pub(super) fn killed(env: &mut ContainerEnv) -> Result<()> {
    const NAME: &str = "provision-check-killed";
    let (sh, engine, total) = (env.engine.shell(), &env.engine, env.server.total());
    let volume = env.volume(VOLUME)?;
    let mark = env.server.log.mark()?;
    let sent = |mark| Ok::<_, anyhow::Error>(access_log::bytes(&env.server.log.since(mark)?));
    let progress = |percent| {
        wait::until("progress of the download", Duration::from_mins(2), || {
            Ok(Some(sent(mark)?).filter(|sent| *sent >= total * percent / 100))
        })
    };
    env.server.limit(SLOW)?;
    let options = ["--volume", &format!("{volume}:{DESTINATION}"), "--env", "PROVISION_CONNECTIONS=8"];
    let start =
        engine.start_command(cmd!(sh, "docker run --name {NAME} {options...} {RUNTIME} /pre_start.sh"))?;
    progress(15)?;
    engine.succeeds(cmd!(sh, "docker stop {NAME}"))?;
    start.end()?.exited(143)?;
    let start = engine.start_command(cmd!(sh, "docker start --attach {NAME}"))?;
    progress(40)?;
    engine.succeeds(cmd!(sh, "docker kill {NAME}"))?;
    start.end()?.exited(137)?;
    let before = sent(mark)?;
    env.server.unlimit(SLOW)?;

    let mark = env.server.log.mark()?;
    println!("{}", indented(&engine.succeeds(cmd!(sh, "docker start --attach {NAME}"))?.stderr));
    env.verify_volume(volume)?;
    let after = sent(mark)?;
    println!("    sent before the kill: {before}, after it: {after}, the set: {total}");
    // Only ranges in flight are lost.
    ensure!(after <= total * 3 / 4, "after the kill {after} of {total} bytes were sent");
    Ok(())
}

pub(super) fn damaged(env: &mut ContainerEnv) -> Result<()> {
    let entry = &env.server.lock.entries[1];
    let (path, middle) = (&entry.path, entry.size / 2);
    let damage = format!(
        "cd {DESTINATION} && rm {MARKER} && printf '\\377' | dd of={path} bs=1 seek={middle} conv=notrunc status=none"
    );
    env.container(VOLUME, &[RUNTIME, "sh", "-c", &damage])?.exited(0)?;
    let mark = env.server.log.mark()?;
    let ended = env.container(VOLUME, &[RUNTIME, "/pre_start.sh"])?.exited(0)?;
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

pub(super) fn no_origin(env: &mut ContainerEnv) -> Result<()> {
    env.server.stop();
    env.container(VOLUME, &[RUNTIME, "/pre_start.sh"])?.exited(0)?;
    let empty = env.volume("provision-check-empty")?;
    let retries = ["--env", "PROVISION_RETRIES=1"];
    let ended = env.container(empty, &[&retries[..], &[RUNTIME, "/pre_start.sh"]].concat())?.exited(4)?;
    println!("{}", indented(&ended.stderr));
    let path = &env.server.lock.entries[0].path;
    let ended = ended.complains(&[path, "INCOMPLETE", "check the network", "PROVISION_REQUIRED=0"])?;
    ensure!(ended.stdout.is_empty(), "the failure is not on standard error:\n{ended}");

    // Sourced, the script ends the script that sources it, or lets it go on.
    let start = [RUNTIME, "sh", "-c", ". /pre_start.sh; echo ComfyUI starts"];
    let ended = env.container(empty, &[&retries[..], &start].concat())?.exited(4)?;
    ensure!(ended.stdout.is_empty(), "the start went on without the models:\n{ended}");
    let tolerant = ["--env", "PROVISION_REQUIRED=0"];
    let ended = env.container(empty, &[&retries[..], &tolerant, &start].concat())?.exited(0)?;
    ended.says(&["ComfyUI starts", "starting without the models"])?;

    env.container(empty, &[BAKED, "/pre_start.sh"])?.exited(0)?;
    env.verify_volume(empty)
}
