//! What a user can ask for.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::World;
use crate::real::world::Route;
use crate::tools::files::files_below;
use crate::tools::lock_text::FOLDER;
use crate::tools::steps::Done;
use crate::tools::wheel::MODEL;

pub(super) fn dry_run(world: &World) -> Result<Done> {
    let (lock, destination) = (world.lock(Route::Plain), world.destination());
    let mark = world.log.mark()?;
    let ended = world.fetch(&lock, &destination)?.args(&["--dry-run"]).exits(0)?;
    let paths: Vec<_> = lock.entries.iter().map(|entry| entry.path.as_str()).collect();
    ended.says(&paths)?;
    world.nothing_installed(&destination)?;
    let requests = world.log.since(mark)?;
    ensure!(requests.is_empty(), "a dry run asked: {requests:#?}");
    Ok(Done::Passed)
}

pub(super) fn offline(world: &World) -> Result<Done> {
    let lock = world.lock(Route::Plain);
    let (missing, installed) = (world.destination(), world.installed()?);
    let mark = world.log.mark()?;
    let ended = world.fetch(&lock, &missing)?.args(&["--offline"]).exits(4)?;
    ended.complains(&[MODEL, "offline"])?;
    world.nothing_installed(&missing)?;
    world.fetch(&lock, &installed)?.args(&["--offline"]).exits(0)?;
    let requests = world.log.since(mark)?;
    ensure!(requests.is_empty(), "an offline run asked: {requests:#?}");
    Ok(Done::Passed)
}

pub(super) fn selection(world: &World) -> Result<Done> {
    let lock = world.lock(Route::Plain);
    let visible = |destination: &_| -> Result<Vec<_>> {
        let paths = files_below(&world.sh, destination)?;
        Ok(paths.into_iter().filter(|path| path.starts_with(FOLDER)).collect())
    };
    let wanted = |part: &str| -> Vec<_> {
        let paths = lock.entries.iter().map(|entry| entry.path.clone());
        paths.filter(|path| path.contains(part)).collect()
    };

    let destination = world.destination();
    world.fetch(&lock, &destination)?.args(&["--only", "weights"]).exits(0)?;
    ensure!(visible(&destination)? == wanted(MODEL), "--only weights: {:?}", visible(&destination)?);
    // Part of a set is not the set: the whole run still fetches the rest.
    world.fetch(&lock, &destination)?.exits(0)?;
    world.complete(&lock, &destination)?;

    for (argument, part) in [
        ("minilm/tokenizer.json".to_owned(), "tokenizer.json"),
        ("vocab".to_owned(), "vocab.txt"),
        (format!("{FOLDER}/tokenizer*"), "tokenizer"),
    ] {
        let destination = world.destination();
        world.fetch(&lock, &destination)?.args(&[&argument]).exits(0)?;
        ensure!(visible(&destination)? == wanted(part), "{argument}: {:?}", visible(&destination)?);
    }
    let destination = world.destination();
    world
        .fetch(&lock, &destination)?
        .args(&["nothing-like-that"])
        .exits(2)?
        .complains(&["nothing-like-that"])?;
    Ok(Done::Passed)
}

pub(super) fn standard_input(world: &World) -> Result<Done> {
    let (lock, destination) = (world.lock(Route::Plain), world.destination());
    let arguments = ["fetch-models", "--lock", "-", "--dest", destination.as_str()];
    world.run(&arguments)?.input(&lock.text())?.exits(0)?;
    world.complete(&lock, &destination)?;
    // A lock that is none: its own exit code, and the line.
    let broken = lock.text().replacen("size = ", "sise = ", 1);
    world.run(&arguments)?.input(&broken)?.exits(3)?.complains(&["sise", "^"])?;
    Ok(Done::Passed)
}

pub(super) fn environment(world: &World) -> Result<Done> {
    let (lock, destination) = (world.lock(Route::Plain), world.destination());
    let run = world.run(&["fetch-models"])?.input(&lock.text())?;
    run.env("PROVISION_LOCK", "-")
        .env("PROVISION_DEST", &destination)
        .env("PROVISION_CONNECTIONS", "3")
        .exits(0)?;
    world.complete(&lock, &destination)?;
    world.run(&["fetch-models"])?.env("PROVISION_CONNECTIONS", "many").exits(2)?.complains(&["many"])?;
    Ok(Done::Passed)
}

pub(super) fn json_progress(world: &World) -> Result<Done> {
    let (lock, destination) = (world.lock(Route::Plain), world.destination());
    let ended = world.fetch(&lock, &destination)?.args(&["--progress", "json"]).exits(0)?;
    let events = ended.json_lines()?;
    let named = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    ensure!(named("planned") == 1, "{} events named `planned`:\n{ended}", named("planned"));
    ensure!(
        named("finished") == lock.entries.len(),
        "{} events named `finished`:\n{ended}",
        named("finished")
    );
    world.complete(&lock, &destination)?;
    // A second run, that does nothing, says that as JSON, too.
    let events = world.fetch(&lock, &destination)?.args(&["--progress", "json"]).exits(0)?.json_lines()?;
    ensure!(events.iter().any(|event| event["event"] == "marker-valid"), "no marker-valid in {events:#?}");
    // And quiet is quiet.
    let destination = world.destination();
    let ended = world.fetch(&lock, &destination)?.args(&["--progress", "none", "-q"]).exits(0)?;
    ensure!(ended.stdout.is_empty() && ended.stderr.is_empty(), "not quiet:\n{ended}");
    Ok(Done::Passed)
}

pub(super) fn limited_rate(world: &World) -> Result<Done> {
    let (lock, destination) = (world.lock(Route::Plain), world.destination());
    let ended = world.fetch(&lock, &destination)?.args(&["--limit-rate", "40M"]).exits(0)?;
    world.complete(&lock, &destination)?;
    // One second's worth may come at once; there is no upper bound here, since the machine may be busy.
    let least =
        Duration::from_secs_f64(world.assets.total() as f64 / 40e6).checked_sub(Duration::from_secs(1));
    let least = least.context("the model is too small for this rate")?;
    ensure!(ended.took >= least, "faster than 40 MB/s: {:.2} s, and:\n{ended}", ended.took.as_secs_f64());
    world.fetch(&lock, &destination)?.args(&["--limit-rate", "fast"]).exits(2)?.complains(&["fast"])?;
    Ok(Done::Passed)
}
