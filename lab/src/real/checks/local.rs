//! Files that the machine has already: in the cache and in a baked directory.

use anyhow::{Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use xshell::{Shell, cmd};

use super::RealFixture;
use crate::tools::access_log;
use crate::tools::steps::Done;

pub(super) fn cache(fixture: &RealFixture) -> Result<Done> {
    let (lock, cache) = (fixture.lock(), fixture.destination());
    let option = ["--cache", cache.as_str()];
    let fetch = |destination| Ok::<_, anyhow::Error>(fixture.fetch(&lock, destination)?.args(&option));
    let (first, second, third) = (fixture.destination(), fixture.destination(), fixture.destination());
    fetch(&first)?.exits(0)?;
    fixture.assert_complete(&lock, &first)?;
    let mark = fixture.log.mark()?;
    fetch(&second)?.exits(0)?.says(&["from the cache"])?;
    fixture.assert_complete(&lock, &second)?;
    fixture.assert_no_request(mark)?;

    fixture.run(&["cache", "list"])?.args(&option).exits(0)?.says(&["2 names elsewhere"])?;
    fixture.run(&["cache", "prune", "--all"])?.args(&option).exits(0)?.says(&["0 files, 0 B left"])?;
    fixture.assert_complete(&lock, &second)?;
    let mark = fixture.log.mark()?;
    fetch(&third)?.exits(0)?;
    let sent = access_log::bytes(&fixture.log.since(mark)?);
    ensure!(sent >= fixture.assets.total(), "after the prune only {sent} bytes were downloaded");
    Ok(Done::Passed)
}

pub(super) fn reflink(fixture: &RealFixture) -> Result<Done> {
    let Some(disk) = Xfs::mount(&fixture.sh, &fixture.destination())? else {
        return Ok(Done::Skipped("no XFS image can be made and mounted here".to_owned()));
    };
    let (lock, baked, destination) = (fixture.lock(), disk.0.join("baked"), disk.0.join("models"));
    fixture.fetch(&lock, &baked)?.exits(0)?;
    let mark = fixture.log.mark()?;
    let before = disk.used(&fixture.sh)?;
    let ensure_models = fixture.run_on("ensure", &lock, &destination)?;
    ensure_models.args(&["--baked", baked.as_str()]).exits(0)?.says(&["copied from the baked directory"])?;
    fixture.assert_complete(&lock, &destination)?;
    let (grown, total) = (disk.used(&fixture.sh)?.saturating_sub(before), fixture.assets.total());
    ensure!(grown < total / 10, "a copy of {total} bytes took {grown} bytes of disk space");
    fixture.assert_no_request(mark)?;
    Ok(Done::Passed)
}

/// A mounted XFS image: a file system that can share blocks. It is unmounted when it is dropped.
struct Xfs(Utf8PathBuf);

impl Xfs {
    /// `None` where this process may not mount, or where mkfs.xfs is missing.
    fn mount(sh: &Shell, at: &Utf8Path) -> Result<Option<Self>> {
        let image = at.with_extension("xfs");
        sh.create_dir(at)?;
        cmd!(sh, "truncate --size 600M {image}").quiet().run()?;
        let succeeds =
            |command: xshell::Cmd<'_>| command.quiet().ignore_stdout().ignore_stderr().run().is_ok();
        let mounted =
            succeeds(cmd!(sh, "mkfs.xfs -q {image}")) && succeeds(cmd!(sh, "mount -o loop {image} {at}"));
        Ok(mounted.then(|| Self(at.to_owned())))
    }

    /// The bytes in use.
    fn used(&self, sh: &Shell) -> Result<u64> {
        let path = &self.0;
        cmd!(sh, "sync --file-system {path}").quiet().run()?;
        let output = cmd!(sh, "df --block-size=1 --output=used {path}").quiet().read()?;
        Ok(output.lines().last().unwrap_or_default().trim().parse()?)
    }
}

impl Drop for Xfs {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}
