//! Starts that go well.

#![expect(clippy::print_stdout, reason = "how long a start takes belongs into the log")]

use anyhow::{Context as _, Result, ensure};

use crate::containers::env::ContainerEnv;
use crate::containers::model_server::Pace;
use crate::containers::names::{BAKED, DESTINATION, RUNTIME};
use crate::containers::{engine, indented};
use crate::tools::access_log;
use crate::tools::steps::Done;

/// A start with nothing to do may take this long, with the shell and on a busy machine.
const NOTHING_TO_DO_MS: u128 = 500;

pub(super) fn baked(env: &mut ContainerEnv) -> Result<Done> {
    let volume = env.engine.volume("provision-check-baked")?;
    let mark = env.server.log.mark()?;
    let ended = env.engine.container(&volume, &[BAKED, "/pre_start.sh"])?.exited(0)?;
    println!("{}", indented(&ended.stderr));
    ended.says(&["copied"])?;
    env.complete(&volume)?;

    let before = identities(env, &volume)?;
    let timed = "date +%s%N && . /pre_start.sh && date +%s%N";
    let ended = env.engine.container(&volume, &[BAKED, "sh", "-c", timed])?.exited(0)?;
    let times: Vec<u128> = ended.stdout.lines().filter_map(|line| line.parse().ok()).collect();
    let &[began, done] = times.as_slice() else { anyhow::bail!("two times were expected:\n{ended}") };
    let took = done.checked_sub(began).context("a clock that goes backwards")? / 1_000_000;
    println!("    the second start's pre_start.sh: {took} ms");
    ensure!(took <= NOTHING_TO_DO_MS, "a start with nothing to do took {took} ms");
    let after = identities(env, &volume)?;
    ensure!(before == after, "the second start wrote:\n{before}\n{after}");
    let requests = env.requests(mark)?;
    ensure!(requests.is_empty(), "a baked image asked for {requests:#?}");
    Ok(Done::Passed)
}

pub(super) fn linked(env: &mut ContainerEnv) -> Result<Done> {
    let volume = env.engine.volume("provision-check-linked")?;
    let mark = env.server.log.mark()?;
    let start = ["--env", "PROVISION_BAKED_MODE=symlink", BAKED, "/pre_start.sh"];
    env.engine.container(&volume, &start)?.exited(0)?.says(&["linked"])?;
    let count = format!("find {DESTINATION} -type l -lname '/opt/models/*' | wc -l");
    let links = env.engine.container(&volume, &[BAKED, "sh", "-c", &count])?.exited(0)?;
    ensure!(links.stdout.trim() == env.server.lock.entries.len().to_string(), "{links}");
    env.engine.container(&volume, &start)?.exited(0)?.says(&["nothing to do"])?;
    let requests = env.requests(mark)?;
    ensure!(requests.is_empty(), "a baked image asked for {requests:#?}");
    // Where the layers are not, the links lead to nothing, and files take their places.
    env.engine.container(&volume, &[RUNTIME, "/pre_start.sh"])?.exited(0)?.says(&["fetched"])?;
    env.complete(&volume)?;
    Ok(Done::Passed)
}

/// Inode and time of change of everything on the volume: what was written again has others.
fn identities(env: &mut ContainerEnv, volume: &str) -> Result<String> {
    let list = format!("find {DESTINATION} -printf '%i %C@ %p\\n' | sort");
    Ok(env.engine.container(volume, &[RUNTIME, "sh", "-c", &list])?.exited(0)?.stdout)
}

pub(super) fn together(env: &mut ContainerEnv) -> Result<Done> {
    let volume = env.engine.volume("provision-check-together")?;
    let mount = engine::mount(&volume);
    let mark = env.server.log.mark()?;
    // So slow that the second comes while the first is at work. Over one connection, so that nothing is sent but what
    // was asked for: where slow requests are shared among idle connections, a server has sent ahead.
    env.server.slow_down(Pace::Walk)?;
    let names = ["provision-check-one", "provision-check-two"];
    for name in names {
        let options =
            ["run", "--detach", "--name", name, "--volume", &mount, "--env", "PROVISION_CONNECTIONS=1"];
        env.engine.read(&[&options[..], &[RUNTIME, "/pre_start.sh"]].concat())?;
    }
    let mut waited = 0;
    for name in names {
        let code = env.engine.read(&["wait", name])?;
        let logs = env.engine.docker(&["logs", name])?;
        ensure!(code == "0", "{name} ended with {code}:\n{logs}");
        waited += usize::from(logs.stderr.contains("waiting"));
    }
    env.server.speed_up(Pace::Walk)?;
    ensure!(waited == 1, "one of the two has to wait for the other; {waited} did");
    env.complete(&volume)?;
    let (sent, total) = (access_log::bytes(&env.requests(mark)?), env.server.total());
    println!("    {sent} bytes sent for a set of {total}");
    ensure!(sent == total, "{sent} bytes were sent for a set of {total}");
    Ok(Done::Passed)
}
