//! Container starts that succeed.

#![expect(clippy::print_stdout, reason = "a log needs the duration of a start")]

use anyhow::{Context as _, Result, ensure};

use super::engine::{BAKED, RUNTIME};
use super::env::{ContainerEnv, DESTINATION, MODELS};
use crate::tools::access_log;
use crate::tools::steps::indented;

/// The limit for a start with nothing to do, with the shell and on a busy machine.
const NOTHING_TO_DO_MS: u128 = 500;

pub(super) fn baked(env: &ContainerEnv) -> Result<()> {
    let volume = env.volume("provision-check-baked")?;
    let mark = env.server.log.mark()?;
    let ended = env.container(volume, &format!("{BAKED} /pre_start.sh"))?.exited(0)?;
    println!("{}", indented(&ended.stderr));
    ended.says(&["copied"])?;
    env.verify_volume(volume)?;

    // A file that is written again has another inode or change time.
    let list = format!("{RUNTIME} find {DESTINATION} -printf '%i %C@ %p\\n'");
    let files = || Ok::<_, anyhow::Error>(env.container(volume, &list)?.exited(0)?.stdout);
    let before = files()?;
    let timed = format!("{BAKED} sh -c 'date +%s%N && . /pre_start.sh && date +%s%N'");
    let ended = env.container(volume, &timed)?.exited(0)?;
    let times: Vec<u128> = ended.stdout.lines().filter_map(|line| line.parse().ok()).collect();
    let &[start, end] = times.as_slice() else { anyhow::bail!("expected two times:\n{ended}") };
    let took = end.checked_sub(start).context("the clock went backwards")? / 1_000_000;
    println!("    the second start's pre_start.sh: {took} ms");
    ensure!(took <= NOTHING_TO_DO_MS, "a start with nothing to do took {took} ms");
    let after = files()?;
    ensure!(before == after, "the second start wrote files:\n{before}\n{after}");
    env.server.assert_no_request(mark)
}

pub(super) fn linked(env: &ContainerEnv) -> Result<()> {
    let volume = env.volume("provision-check-linked")?;
    let mark = env.server.log.mark()?;
    let start = format!("--env PROVISION_BAKED_MODE=symlink {BAKED} /pre_start.sh");
    env.container(volume, &start)?.exited(0)?.says(&["linked"])?;
    let find = format!("{BAKED} find {DESTINATION} -type l -lname '{MODELS}/*'");
    let links = env.container(volume, &find)?.exited(0)?;
    ensure!(links.stdout.lines().count() == env.lock.entries.len(), "{links}");
    env.container(volume, &start)?.exited(0)?.says(&["nothing to do"])?;
    env.server.assert_no_request(mark)?;
    // In an image without the models the links dangle, and files replace them.
    env.container(volume, &format!("{RUNTIME} /pre_start.sh"))?.exited(0)?.says(&["fetched"])?;
    env.verify_volume(volume)
}

pub(super) fn together(env: &ContainerEnv) -> Result<()> {
    let volume = env.volume("provision-check-together")?;
    let mark = env.server.log.mark()?;
    // The rate lets the second container start while the first one downloads. With more connections the first would
    // take over ranges of slow ones, and the server would have sent a few bytes twice.
    let lock = env.lock_at(&format!("{}/rate/20m", env.server.hub()))?;
    let mounts = format!("--volume {volume}:{DESTINATION} --volume {lock}:/opt/provision/models.lock:ro");
    let options = format!("--rm --env PROVISION_CONNECTIONS=1 {mounts}");
    let start = || env.start_script(&format!("docker run {options} {RUNTIME} /pre_start.sh"));
    let mut waited = 0;
    for container in [start()?, start()?] {
        waited += usize::from(container.end()?.exited(0)?.stderr.contains("waiting"));
    }
    ensure!(waited == 1, "one of two containers must wait for the other; {waited} did");
    env.verify_volume(volume)?;
    let (sent, total) = (access_log::bytes(&env.server.log.since(mark)?), env.total());
    ensure!(sent == total, "{sent} bytes were sent for a set of {total}");
    Ok(())
}
