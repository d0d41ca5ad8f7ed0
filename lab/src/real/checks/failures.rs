//! What cannot end well has to end right: its own exit code, a message, nothing half there.

use anyhow::{Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use xshell::{Shell, cmd};

use super::World;
use crate::real::world::{MARKER, Route};
use crate::tools::access_log;
use crate::tools::files::files_below;
use crate::tools::steps::Done;
use crate::tools::wheel::MODEL;

pub(super) fn unknown_authority(world: &World) -> Result<Done> {
    let destination = world.destination();
    let mark = world.log.mark()?;
    let ended = world.fetch(&world.https_lock("files"), &destination)?.exits(4)?;
    ended.complains(&["certificate", "localhost", "SSL_CERT_FILE"])?;
    world.nothing_installed(&destination)?;
    let requests = world.log.since(mark)?;
    ensure!(requests.is_empty(), "a server that cannot be trusted was asked: {requests:#?}");
    Ok(Done::Passed)
}

pub(super) fn missing_ca_file(world: &World) -> Result<Done> {
    let destination = world.destination();
    let mark = world.log.mark()?;
    let run = world.fetch(&world.lock(Route::Plain), &destination)?.env("SSL_CERT_FILE", "no-such-file.pem");
    run.exits(2)?.complains(&["SSL_CERT_FILE", "no-such-file.pem"])?;
    let requests = world.log.since(mark)?;
    ensure!(requests.is_empty(), "asked although the CA file cannot be read: {requests:#?}");
    Ok(Done::Passed)
}

pub(super) fn downgrade(world: &World) -> Result<Done> {
    let destination = world.destination();
    let mark = world.log.mark()?;
    let run = world.fetch(&world.https_lock("down"), &destination)?;
    run.env("SSL_CERT_FILE", &world.certificates.authority).exits(4)?.complains(&["http"])?;
    world.nothing_installed(&destination)?;
    let requests = world.log.since(mark)?;
    ensure!(!requests.is_empty(), "the redirect was not even asked for");
    ensure!(
        requests.iter().all(|request| request.port == world.ports.https),
        "a redirect from https to http was followed: {requests:#?}"
    );
    Ok(Done::Passed)
}

pub(super) fn wrong_digest(world: &World) -> Result<Done> {
    let (right, destination) = (world.lock(Route::Plain), world.destination());
    let mut wrong = right.clone();
    wrong.entry(MODEL).sha256 = "0".repeat(64);
    let ended = world.fetch(&wrong, &destination)?.exits(5)?;
    ended.complains(&[MODEL, &right.clone().entry(MODEL).sha256])?;
    let mut others = right.clone();
    others.entries.retain(|entry| !entry.path.ends_with(MODEL));
    world.right(&others, &destination)?;
    let found = files_below(&world.sh, &destination)?;
    let left: Vec<_> = found.iter().filter(|path| path.contains(MODEL) || *path == MARKER).collect();
    ensure!(left.is_empty(), "the wrong bytes or a marker are still there: {left:?}");

    // An installed file that is right stays, whatever a new lock wants in its place and does not get.
    let installed = world.installed()?;
    world.fetch(&wrong, &installed)?.exits(5)?;
    world.right(&right, &installed)?;
    Ok(Done::Passed)
}

pub(super) fn not_found(world: &World) -> Result<Done> {
    let (mut lock, destination) = (world.lock(Route::Plain), world.destination());
    let absent = format!("http://127.0.0.1:{}/files/no-such-file", world.ports.http);
    lock.entry("vocab.txt").url.clone_from(&absent);
    world.fetch(&lock, &destination)?.exits(4)?.complains(&["vocab.txt", "404"])?;
    lock.entries.retain(|entry| entry.url != absent);
    world.right(&lock, &destination)?;
    ensure!(!destination.join(MARKER).exists(), "there is a marker although a file is missing");
    Ok(Done::Passed)
}

pub(super) fn full_disk(world: &World) -> Result<Done> {
    let lock = world.lock(Route::Plain);
    let Some(disk) = SmallDisk::mount(&world.sh, &world.destination())? else {
        return Ok(Done::Skipped(
            "a tmpfs cannot be mounted here (not root, or a container without the right)".to_owned(),
        ));
    };
    let destination = disk.0.join("models");
    let mark = world.log.mark()?;
    let ended = world.fetch(&lock, &destination)?.exits(7)?;
    let numbers: Vec<u64> =
        ended.stderr.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect();
    let (total, free) = (world.assets.total(), 64 << 20);
    ensure!(
        numbers.iter().any(|n| *n >= total && *n < 2 * total)
            && numbers.iter().any(|n| *n > free / 2 && *n <= free),
        "the message should name what is needed (at least {total}) and what is free (at most {free}):\n{ended}"
    );
    world.nothing_installed(&destination)?;
    let requests = world.log.since(mark)?;
    ensure!(access_log::bytes(&requests) == 0, "bytes were fetched although they cannot fit: {requests:#?}");
    // What fits still goes there.
    world.fetch(&lock, &destination)?.args(&["--only", "text"]).exits(0)?;
    Ok(Done::Passed)
}

/// A tmpfs of 64 MiB, unmounted when it is dropped.
struct SmallDisk(Utf8PathBuf);

impl SmallDisk {
    /// `None` where that is not allowed.
    fn mount(sh: &Shell, at: &Utf8Path) -> Result<Option<Self>> {
        sh.create_dir(at)?;
        let mount = cmd!(sh, "mount -t tmpfs -o size=64m,mode=0755 tmpfs {at}");
        let mounted = mount.quiet().ignore_stdout().ignore_stderr().run().is_ok();
        Ok(mounted.then(|| Self(at.to_owned())))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}
