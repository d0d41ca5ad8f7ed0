//! Servers that are honest and do less than one would like.

use anyhow::{Result, ensure};

use super::World;
use crate::real::world::Route;
use crate::tools::access_log;
use crate::tools::steps::Done;
use crate::tools::wheel::MODEL;

pub(super) fn mirror(world: &World) -> Result<Done> {
    let (mut lock, destination) = (world.lock(Route::Plain), world.destination());
    let absent = format!("http://127.0.0.1:{}/files/no-such-file", world.ports.http);
    let entry = lock.entry(MODEL);
    entry.mirrors = vec![std::mem::replace(&mut entry.url, absent)];
    world.fetch(&lock, &destination)?.exits(0)?;
    world.complete(&lock, &destination)?;
    Ok(Done::Passed)
}

pub(super) fn no_ranges(world: &World) -> Result<Done> {
    let (lock, destination) = (world.lock(Route::NoRanges), world.destination());
    let mark = world.log.mark()?;
    world.fetch(&lock, &destination)?.exits(0)?;
    world.complete(&lock, &destination)?;
    let requests = world.log.since(mark)?;
    ensure!(requests.iter().all(|request| request.status != 206), "this server has no ranges: {requests:#?}");
    // Finding out may cost the beginning of an answer per file, not the file.
    let (sent, total) = (access_log::bytes(&requests), world.assets.total());
    ensure!(sent <= 2 * total, "nginx had to send {sent} bytes for {total}");
    Ok(Done::Passed)
}

pub(super) fn two_connections(world: &World) -> Result<Done> {
    let (lock, destination) = (world.lock(Route::Two), world.destination());
    let mark = world.log.mark()?;
    world.fetch(&lock, &destination)?.exits(0)?;
    world.complete(&lock, &destination)?;
    let requests = world.log.since(mark)?;
    let refused = requests.iter().filter(|request| request.status == 503).count();
    ensure!(refused > 0, "the limit was never met, so this proves nothing");
    ensure!(
        refused < requests.len() / 2 + 64,
        "it does not back off: {refused} of {} refused",
        requests.len()
    );
    Ok(Done::Passed)
}
