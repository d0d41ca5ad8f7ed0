//! The main job, and that it is done only once.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;

use anyhow::{Result, ensure};
use camino::Utf8Path;

use super::World;
use crate::real::world::{MARKER, Route};
use crate::tools::access_log;
use crate::tools::lock_text::FOLDER;
use crate::tools::steps::Done;
use crate::tools::wheel::MODEL;

pub(super) fn http(world: &World) -> Result<Done> {
    let (lock, destination) = (world.lock(Route::Plain), world.destination());
    let mark = world.log.mark()?;
    world.fetch(&lock, &destination)?.exits(0)?;
    world.complete(&lock, &destination)?;

    let requests = world.log.since(mark)?;
    let ranges = requests.iter().filter(|request| request.status == 206 && request.path.ends_with(MODEL));
    let connections: HashSet<_> = ranges.clone().map(|request| request.connection).collect();
    ensure!(connections.len() > 1, "{MODEL} came over {} connection", connections.len());
    ensure!(requests.iter().all(|request| request.referer.is_empty()), "a Referer was sent: {requests:#?}");
    let (sent, total) = (access_log::bytes(&requests), world.assets.total());
    ensure!(sent >= total, "nginx sent {sent} bytes of {total}");
    // What is cut off at the end of a claim or thrown away by a probe counts here, and must stay small.
    ensure!(sent <= total + total / 20, "nginx had to send {sent} bytes for {total}");
    Ok(Done::Passed)
}

pub(super) fn second_run(world: &World) -> Result<Done> {
    let destination = world.installed()?;
    let mark = world.log.mark()?;
    let ended = world.fetch(&world.lock(Route::Plain), &destination)?.exits(0)?;
    let requests = world.log.since(mark)?;
    ensure!(requests.is_empty(), "the second run asked: {requests:#?}\n{ended}");
    // A new address changes nothing about the bytes, so the marker holds.
    world.fetch(&world.https_lock("files"), &destination)?.exits(0)?;
    let requests = world.log.since(mark)?;
    ensure!(requests.is_empty(), "a run with other addresses asked: {requests:#?}");
    Ok(Done::Passed)
}

pub(super) fn https(world: &World) -> Result<Done> {
    let (lock, destination) = (world.https_lock("files"), world.destination());
    let mark = world.log.mark()?;
    world.fetch(&lock, &destination)?.env("SSL_CERT_FILE", &world.certificates.authority).exits(0)?;
    world.complete(&lock, &destination)?;
    let requests = world.log.since(mark)?;
    ensure!(
        requests.iter().all(|request| request.port == world.ports.https),
        "not over https: {requests:#?}"
    );
    Ok(Done::Passed)
}

pub(super) fn repair(world: &World) -> Result<Done> {
    let (lock, destination) = (world.lock(Route::Plain), world.installed()?);
    let damaged = format!("{FOLDER}/tokenizer.json");
    flip_a_byte(&destination.join(&damaged))?;
    fs::remove_file(destination.join(MARKER))?;
    let mark = world.log.mark()?;
    world.fetch(&lock, &destination)?.exits(0)?;
    world.complete(&lock, &destination)?;
    let requests = world.log.since(mark)?;
    ensure!(!requests.is_empty(), "the damaged file was not fetched");
    ensure!(
        requests.iter().all(|request| request.path == "/files/tokenizer.json"),
        "more than the damaged file was asked for: {requests:#?}"
    );

    // With the marker there, the same size and the same time, only a full look finds it.
    let before = fs::metadata(destination.join(&damaged))?.modified()?;
    flip_a_byte(&destination.join(&damaged))?;
    OpenOptions::new().write(true).open(destination.join(&damaged))?.set_modified(before)?;
    world.fetch(&lock, &destination)?.args(&["--verify", "full"]).exits(0)?;
    world.complete(&lock, &destination)?;
    Ok(Done::Passed)
}

pub(super) fn verify_and_status(world: &World) -> Result<Done> {
    let (lock, destination) = (world.lock(Route::Plain), world.installed()?);
    let mark = world.log.mark()?;
    world.with_lock("verify", &lock, &destination)?.exits(0)?;
    world.with_lock("status", &lock, &destination)?.exits(0)?.says(&[MODEL])?;
    flip_a_byte(&destination.join(FOLDER).join(MODEL))?;
    world.with_lock("verify", &lock, &destination)?.exits(5)?.says(&[MODEL])?;
    fs::remove_file(destination.join(FOLDER).join("vocab.txt"))?;
    world.with_lock("verify", &lock, &destination)?.exits(5)?.says(&[MODEL, "vocab.txt"])?;
    world.with_lock("status", &lock, &destination)?.end()?.says(&["vocab.txt"])?;
    let requests = world.log.since(mark)?;
    ensure!(requests.is_empty(), "verify or status asked: {requests:#?}");
    Ok(Done::Passed)
}

fn flip_a_byte(path: &Utf8Path) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let at = file.metadata()?.len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ 1], at)?;
    Ok(())
}
