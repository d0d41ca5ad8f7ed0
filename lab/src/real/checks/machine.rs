//! What the machine has already: baked files and the cache.

use anyhow::{Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use xshell::{Shell, cmd};

use super::World;
use crate::real::world::Route;
use crate::tools::access_log;
use crate::tools::steps::Done;

/// Another project, an interrupted one, a volume that was thrown away: with a cache nothing is paid for twice.
pub(super) fn cache(world: &World) -> Result<Done> {
    let (lock, cache) = (world.lock(Route::Plain), world.destination());
    let first = world.destination();
    world.fetch(&lock, &first)?.args(&["--cache", cache.as_str()]).exits(0)?;
    world.complete(&lock, &first)?;
    let mark = world.log.mark()?;
    let second = world.destination();
    world.fetch(&lock, &second)?.args(&["--cache", cache.as_str()]).exits(0)?.says(&["from the cache"])?;
    world.complete(&lock, &second)?;
    let requests = world.log.since(mark)?;
    ensure!(requests.is_empty(), "the second project asked: {requests:#?}");

    let list = ["cache", "list", "--cache", cache.as_str()];
    world.run(&list)?.exits(0)?.says(&["2 names elsewhere"])?;
    world
        .run(&["cache", "prune", "--all", "--cache", cache.as_str()])?
        .exits(0)?
        .says(&["0 files, 0 B left"])?;
    world.complete(&lock, &second)?;
    let mark = world.log.mark()?;
    world.fetch(&lock, &world.destination())?.args(&["--cache", cache.as_str()]).exits(0)?;
    let sent = access_log::bytes(&world.log.since(mark)?);
    ensure!(sent >= world.assets.total(), "the cache was emptied, and only {sent} bytes were fetched");
    Ok(Done::Passed)
}

/// On a file system that can share blocks, a baked copy takes no room.
pub(super) fn reflink(world: &World) -> Result<Done> {
    let Some(disk) = Xfs::mount(&world.sh, &world.destination())? else {
        return Ok(Done::Skipped("an XFS image cannot be made and mounted here".to_owned()));
    };
    let (lock, baked, destination) = (world.lock(Route::Plain), disk.0.join("baked"), disk.0.join("models"));
    world.fetch(&lock, &baked)?.exits(0)?;
    world.complete(&lock, &baked)?;
    let mark = world.log.mark()?;
    let before = used(&world.sh, &disk.0)?;
    let ensure_it = world.with_lock("ensure", &lock, &destination)?;
    ensure_it.args(&["--baked", baked.as_str()]).exits(0)?.says(&["copied from the baked directory"])?;
    world.complete(&lock, &destination)?;
    let grown = used(&world.sh, &disk.0)?.saturating_sub(before);
    ensure!(grown < world.assets.total() / 10, "a copy of {} bytes took {grown}", world.assets.total());
    let requests = world.log.since(mark)?;
    ensure!(requests.is_empty(), "everything was baked, and it asked: {requests:#?}");
    Ok(Done::Passed)
}

/// Bytes in use on the file system at `path`.
fn used(sh: &Shell, path: &Utf8Path) -> Result<u64> {
    cmd!(sh, "sync --file-system {path}").quiet().run()?;
    let said = cmd!(sh, "df --block-size=1 --output=used {path}").quiet().read()?;
    Ok(said.lines().last().unwrap_or_default().trim().parse()?)
}

/// An XFS image, unmounted when it is dropped.
struct Xfs(Utf8PathBuf);

impl Xfs {
    /// `None` where that is not allowed.
    fn mount(sh: &Shell, at: &Utf8Path) -> Result<Option<Self>> {
        let image = at.with_extension("xfs");
        sh.create_dir(at)?;
        cmd!(sh, "truncate --size 600M {image}").quiet().run()?;
        let quietly =
            |command: xshell::Cmd<'_>| command.quiet().ignore_stdout().ignore_stderr().run().is_ok();
        let mounted =
            quietly(cmd!(sh, "mkfs.xfs -q {image}")) && quietly(cmd!(sh, "mount -o loop {image} {at}"));
        Ok(mounted.then(|| Self(at.to_owned())))
    }
}

impl Drop for Xfs {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}
