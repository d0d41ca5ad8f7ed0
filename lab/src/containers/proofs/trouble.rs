//! Starts that are cut short, that find damage, and that cannot be.

#![expect(clippy::print_stdout, reason = "what a person would see belongs into the log")]

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::containers::site::Pace;
use crate::containers::world::{BAKED, DESTINATION, RUNTIME, World};
use crate::containers::{engine, indented};
use crate::tools::access_log;
use crate::tools::steps::Done;
use crate::tools::wait;

/// The volume that the third proof fills and the fourth and last go on with.
const VOLUME: &str = "provision-check-fetched";

pub(super) fn killed(world: &mut World) -> Result<Done> {
    const NAME: &str = "provision-check-killed";
    let volume = world.engine.volume(VOLUME)?;
    let mount = engine::mount(&volume);
    let total = world.site.total();
    let mark = world.site.log.mark()?;
    world.site.slow_down(Pace::Crawl)?;
    let options = ["--name", NAME, "--volume", &mount, "--env", "PROVISION_CONNECTIONS=8"];
    world.engine.read(&[&["run", "--detach"][..], &options, &[RUNTIME, "/pre_start.sh"]].concat())?;
    // An orchestrator that gives up, and a host that does: the first is heard and answered.
    for (verb, code, percent) in [("stop", "143", 15), ("kill", "137", 40)] {
        wait::until("the fetch to get on", Duration::from_mins(2), || {
            Ok(Some(access_log::bytes(&world.requests(mark)?)).filter(|sent| *sent >= total * percent / 100))
        })?;
        world.engine.read(&[verb, NAME])?;
        let ended = world.engine.read(&["wait", NAME])?;
        ensure!(ended == code, "after docker {verb} it ended with {ended}, and not {code}");
        if verb == "stop" {
            world.engine.read(&["start", NAME])?;
        }
    }
    let sent_before = access_log::bytes(&world.requests(mark)?);
    world.site.speed_up(Pace::Crawl)?;

    let mark = world.site.log.mark()?;
    world.engine.read(&["start", NAME])?;
    let code = world.engine.read(&["wait", NAME])?;
    let logs = world.engine.docker(&["logs", NAME])?;
    ensure!(code == "0", "after the kill it ended with {code}:\n{logs}");
    println!("{}", indented(&logs.stderr));
    world.complete(&volume)?;
    let sent = access_log::bytes(&world.requests(mark)?);
    println!("    sent before the kill: {sent_before}, after it: {sent}, the set: {total}");
    // What was in flight is lost, and no more.
    ensure!(sent <= total * 3 / 4, "after the kill {sent} of {total} bytes were sent");
    Ok(Done::Passed)
}

pub(super) fn damaged(world: &mut World) -> Result<Done> {
    let entry = world.site.lock.entries[1].clone();
    let marker = world.site.lock.marker.clone().unwrap_or_default();
    let damage = format!(
        "cd {DESTINATION} && rm {marker} && printf '\\377' | dd of={} bs=1 seek={} conv=notrunc status=none",
        entry.path,
        entry.size / 2
    );
    world.engine.container(VOLUME, &[RUNTIME, "sh", "-c", &damage])?.exited(0)?;
    let mark = world.site.log.mark()?;
    let ended = world.engine.container(VOLUME, &[RUNTIME, "/pre_start.sh"])?.exited(0)?;
    println!("{}", indented(&ended.stderr));
    world.complete(VOLUME)?;
    let requests = world.requests(mark)?;
    ensure!(!requests.is_empty(), "the damaged file was not fetched:\n{ended}");
    ensure!(
        requests.iter().all(|request| entry.url.ends_with(&request.path)),
        "more than {} was asked for: {requests:#?}",
        entry.path
    );
    Ok(Done::Passed)
}

pub(super) fn no_origin(world: &mut World) -> Result<Done> {
    world.site.stop();
    world.engine.container(VOLUME, &[RUNTIME, "/pre_start.sh"])?.exited(0)?;
    let empty = world.engine.volume("provision-check-empty")?;
    let start = ["--env", "PROVISION_RETRIES=1", RUNTIME, "/pre_start.sh"];
    let ended = world.engine.container(&empty, &start)?.exited(4)?;
    println!("{}", indented(&ended.stderr));
    let first = world.site.lock.entries[0].path.clone();
    let ended = ended.complains(&[&first, "INCOMPLETE", "check the network", "PROVISION_REQUIRED=0"])?;
    ensure!(ended.stdout.is_empty(), "failures belong on standard error:\n{ended}");

    // Sourced, it stops the script that sources it, or lets it go on.
    let start = ". /pre_start.sh; echo ComfyUI starts";
    let options = ["--env", "PROVISION_RETRIES=1"];
    let required = [&options[..], &[RUNTIME, "sh", "-c", start]].concat();
    let ended = world.engine.container(&empty, &required)?.exited(4)?;
    ensure!(ended.stdout.is_empty(), "the start went on without the models:\n{ended}");
    let tolerated = [&options[..], &["--env", "PROVISION_REQUIRED=0", RUNTIME, "sh", "-c", start]].concat();
    world
        .engine
        .container(&empty, &tolerated)?
        .exited(0)?
        .says(&["ComfyUI starts", "starting without them"])?;

    world.engine.container(&empty, &[BAKED, "/pre_start.sh"])?.exited(0)?;
    world.complete(&empty)?;
    Ok(Done::Passed)
}
