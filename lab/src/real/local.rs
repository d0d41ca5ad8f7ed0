//! A copy from a baked directory on a file system that can share blocks.

use anyhow::{Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use xshell::{Shell, cmd};

use super::RealFixture;
use crate::tools::steps::Done;

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
