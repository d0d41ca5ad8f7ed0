//! The lock's commands in the runtime image, read-only and as a user whom the image does not know.

#![expect(clippy::print_stdout, reason = "a log needs what the commands print")]

use anyhow::{Result, ensure};
use xshell::cmd;

use crate::containers::env::ContainerEnv;
use crate::containers::model_server::GATED;
use crate::containers::names::{CANARY, RUNTIME};
use crate::tools::steps::indented;

/// From URLs to verified files, with every command on a lock but `import`. Each request needs the token.
pub(super) fn run(env: &mut ContainerEnv) -> Result<()> {
    const USER: &str = "1234";
    let (sh, engine) = (env.engine.shell(), &env.engine);
    let gated = format!("{}/{GATED}", env.server.hub);
    let volume = env.volume("provision-check-verbs")?;
    let mount = ["--volume", &format!("{volume}:/w")];
    let in_volume =
        |script: &str| engine.read(cmd!(sh, "docker run --rm {mount...} {RUNTIME} sh -c {script}"));
    // The engine gives an empty volume to root at each start.
    let fill = format!("touch /w/filled && chown --recursive {USER} /w");
    engine.succeeds(cmd!(sh, "docker run --rm {mount...} {RUNTIME} sh -c {fill}"))?;
    let place = ["--user", USER, "--read-only", "--tmpfs", "/tmp", "--workdir", "/w"];
    let variables = [
        &format!("HF_TOKEN={CANARY}"),
        &format!("HF_ENDPOINT={}", env.server.hub),
        "PROVISION_LOCK=models.lock",
        "PROVISION_DEST=models",
    ];
    let variables = variables.iter().flat_map(|variable| ["--env", variable]);
    let options: &Vec<&str> = &mount.into_iter().chain(place).chain(variables).collect();

    let entries = &env.server.lock.entries;
    let paths: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
    let urls: Vec<String> =
        entries.iter().map(|entry| entry.url.replace(&env.server.base(), &gated)).collect();
    let added: Vec<[&str; 7]> = (urls.iter().zip(&paths))
        .map(|(url, path)| ["lock", "add", url, "--path", path, "--group", "all"])
        .collect();
    let mark = env.server.log.mark()?;
    // `lock import` sends no token to a private address, which a list would name here.
    let adds = added.iter().zip(&paths).map(|(arguments, path)| (&arguments[..], std::slice::from_ref(path)));
    let others = [
        (&["lock", "remove", paths[0]][..], &paths[..1]),
        (&added[0], &paths[..1]),
        (&["lock", "list"], &paths),
        (&["lock", "check"], &paths),
        (&["lock", "update"], &paths),
        (&["fetch"], &["done: 4 files"]),
        (&["verify"], &["verified: 4 files"]),
        (&["status"], &["4 of 4 files installed"]),
    ];
    for (arguments, says) in adds.chain(others) {
        // The bytes that were read for their digest are not downloaded again.
        let before = (arguments == ["fetch"]).then(|| env.server.log.mark()).transpose()?;
        let ended =
            engine.run(cmd!(sh, "docker run --rm {options...} {RUNTIME} provision {arguments...}"))?;
        let printed = [&ended.stdout, &ended.stderr].into_iter().any(|text| text.contains(CANARY));
        ensure!(!printed, "the token is in the output:\n{ended}");
        let ended = ended.exited(0)?.says(says)?;
        println!("    $ provision {}\n{}", arguments.join(" "), indented(&ended.stdout));
        if let Some(before) = before {
            let requests = env.server.log.since(before)?;
            ensure!(requests.is_empty(), "the fetch sent requests again: {requests:#?}");
        }
    }
    let requests = env.server.log.since(mark)?;
    let expected = format!("Bearer {CANARY}");
    ensure!(
        !requests.is_empty() && requests.iter().all(|request| request.authorization == expected),
        "not every request had the token: {requests:#?}"
    );

    env.verify_files(&[mount[0], mount[1], RUNTIME], "/w/models", &[".models-installed"])?;
    let others = in_volume(&format!("find /w ! -user {USER}"))?;
    ensure!(others.is_empty(), "another user owns these files:\n{others}");
    // A search that misses the digest would miss the token, too.
    let search =
        |text: &str| in_volume(&format!("grep --recursive --files-with-matches -e {text} /w || true"));
    let found = search(&entries[0].sha256)?;
    ensure!(found.lines().any(|file| file == "/w/models.lock"), "the search does not find the lock: {found}");
    let leaks = search(CANARY)?;
    ensure!(leaks.is_empty(), "the token is in:\n{leaks}");
    Ok(())
}
