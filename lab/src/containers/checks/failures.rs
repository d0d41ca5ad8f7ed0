//! Starts that are cut short, that find damage, and that cannot be.

#![expect(clippy::print_stdout, reason = "what a person would see belongs into the log")]

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::containers::env::ContainerEnv;
use crate::containers::model_server::Pace;
use crate::containers::names::{BAKED, DESTINATION, RUNTIME};
use crate::containers::{engine, indented};
use crate::tools::access_log;
use crate::tools::steps::Done;
use crate::tools::wait;

/// The volume that the third proof fills and the fourth and last go on with.
const VOLUME: &str = "provision-check-fetched";

pub(super) fn killed(env: &mut ContainerEnv) -> Result<Done> {
    const NAME: &str = "provision-check-killed";
    let volume = env.engine.volume(VOLUME)?;
    let mount = engine::mount(&volume);
    let total = env.server.total();
    let mark = env.server.log.mark()?;
    env.server.slow_down(Pace::Crawl)?;
    let options = ["--name", NAME, "--volume", &mount, "--env", "PROVISION_CONNECTIONS=8"];
    env.engine.read(&[&["run", "--detach"][..], &options, &[RUNTIME, "/pre_start.sh"]].concat())?;
    // An orchestrator that gives up, and a host that does: the first is heard and answered.
    for (verb, code, percent) in [("stop", "143", 15), ("kill", "137", 40)] {
        wait::until("the fetch to get on", Duration::from_mins(2), || {
            Ok(Some(access_log::bytes(&env.requests(mark)?)).filter(|sent| *sent >= total * percent / 100))
        })?;
        env.engine.read(&[verb, NAME])?;
        let ended = env.engine.read(&["wait", NAME])?;
        ensure!(ended == code, "after docker {verb} it ended with {ended}, and not {code}");
        if verb == "stop" {
            env.engine.read(&["start", NAME])?;
        }
    }
    let sent_before = access_log::bytes(&env.requests(mark)?);
    env.server.speed_up(Pace::Crawl)?;

    let mark = env.server.log.mark()?;
    env.engine.read(&["start", NAME])?;
    let code = env.engine.read(&["wait", NAME])?;
    let logs = env.engine.docker(&["logs", NAME])?;
    ensure!(code == "0", "after the kill it ended with {code}:\n{logs}");
    println!("{}", indented(&logs.stderr));
    env.complete(&volume)?;
    let sent = access_log::bytes(&env.requests(mark)?);
    println!("    sent before the kill: {sent_before}, after it: {sent}, the set: {total}");
    // What was in flight is lost, and no more.
    ensure!(sent <= total * 3 / 4, "after the kill {sent} of {total} bytes were sent");
    Ok(Done::Passed)
}

pub(super) fn damaged(env: &mut ContainerEnv) -> Result<Done> {
    let entry = env.server.lock.entries[1].clone();
    let marker = env.server.lock.marker.clone().unwrap_or_default();
    let damage = format!(
        "cd {DESTINATION} && rm {marker} && printf '\\377' | dd of={} bs=1 seek={} conv=notrunc status=none",
        entry.path,
        entry.size / 2
    );
    env.engine.container(VOLUME, &[RUNTIME, "sh", "-c", &damage])?.exited(0)?;
    let mark = env.server.log.mark()?;
    let ended = env.engine.container(VOLUME, &[RUNTIME, "/pre_start.sh"])?.exited(0)?;
    println!("{}", indented(&ended.stderr));
    env.complete(VOLUME)?;
    let requests = env.requests(mark)?;
    ensure!(!requests.is_empty(), "the damaged file was not fetched:\n{ended}");
    ensure!(
        requests.iter().all(|request| entry.url.ends_with(&request.path)),
        "more than {} was asked for: {requests:#?}",
        entry.path
    );
    Ok(Done::Passed)
}

pub(super) fn no_origin(env: &mut ContainerEnv) -> Result<Done> {
    env.server.stop();
    env.engine.container(VOLUME, &[RUNTIME, "/pre_start.sh"])?.exited(0)?;
    let empty = env.engine.volume("provision-check-empty")?;
    let start = ["--env", "PROVISION_RETRIES=1", RUNTIME, "/pre_start.sh"];
    let ended = env.engine.container(&empty, &start)?.exited(4)?;
    println!("{}", indented(&ended.stderr));
    let first = env.server.lock.entries[0].path.clone();
    let ended = ended.complains(&[&first, "INCOMPLETE", "check the network", "PROVISION_REQUIRED=0"])?;
    ensure!(ended.stdout.is_empty(), "failures belong on standard error:\n{ended}");

    // Sourced, it stops the script that sources it, or lets it go on.
    let start = ". /pre_start.sh; echo ComfyUI starts";
    let options = ["--env", "PROVISION_RETRIES=1"];
    let required = [&options[..], &[RUNTIME, "sh", "-c", start]].concat();
    let ended = env.engine.container(&empty, &required)?.exited(4)?;
    ensure!(ended.stdout.is_empty(), "the start went on without the models:\n{ended}");
    let tolerated = [&options[..], &["--env", "PROVISION_REQUIRED=0", RUNTIME, "sh", "-c", start]].concat();
    env.engine
        .container(&empty, &tolerated)?
        .exited(0)?
        .says(&["ComfyUI starts", "starting without them"])?;

    env.engine.container(&empty, &[BAKED, "/pre_start.sh"])?.exited(0)?;
    env.complete(&empty)?;
    Ok(Done::Passed)
}
