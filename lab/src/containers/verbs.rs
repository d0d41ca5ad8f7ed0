//! The lock's commands in the runtime image, read-only and as a user whom the image does not know.

#![expect(clippy::print_stdout, reason = "a log needs what the commands print")]

use anyhow::{Result, ensure};

use super::engine::RUNTIME;
use super::env::ContainerEnv;
use super::program::USER;
use crate::real::TOKEN;
use crate::tools::lock_text::Entry;
use crate::tools::steps::indented;

/// From URLs to verified files, with every command on a lock but `import`. Each request needs the token.
pub(super) fn run(env: &ContainerEnv) -> Result<()> {
    let hub = env.server.hub();
    let mount = format!("--volume {}:/w", env.volume("provision-check-verbs")?);
    let in_volume = |script: &str| env.read(&format!("docker run --rm {mount} {RUNTIME} sh -c '{script}'"));
    // The engine gives an empty volume to root at each start.
    in_volume(&format!("touch /w/filled && chown --recursive {USER} /w"))?;
    let place = format!("--user {USER} --read-only --tmpfs /tmp --workdir /w {mount}");
    let token = format!("--env HF_TOKEN --env HF_ENDPOINT={hub}");
    let variables = format!("{token} --env PROVISION_LOCK=models.lock --env PROVISION_DEST=models");

    let paths: Vec<&str> = env.lock.entries.iter().map(|entry| entry.path.as_str()).collect();
    // `lock import` sends no token to a private address, which a list would name here.
    let add = |entry: &Entry| {
        let url = entry.url.replace(&format!("{hub}/files"), &format!("{hub}/gated"));
        format!("lock add {url} --path {} --group all", entry.path)
    };
    let adds = env.lock.entries.iter().map(|entry| (add(entry), vec![entry.path.as_str()]));
    let others = [
        (format!("lock remove {}", paths[0]), vec![paths[0]]),
        (add(&env.lock.entries[0]), vec![paths[0]]),
        ("lock list".to_owned(), paths.clone()),
        ("lock check".to_owned(), paths.clone()),
        ("lock update".to_owned(), paths.clone()),
        ("fetch".to_owned(), vec!["done: 4 files"]),
        ("verify".to_owned(), vec!["verified: 4 files"]),
        ("status".to_owned(), vec!["4 of 4 files installed"]),
    ];
    let mark = env.server.log.mark()?;
    for (command, says) in adds.chain(others) {
        let before = env.server.log.mark()?;
        let ended = env.run(&format!("docker run --rm {place} {variables} {RUNTIME} provision {command}"))?;
        let printed = [&ended.stdout, &ended.stderr].into_iter().any(|text| text.contains(TOKEN));
        ensure!(!printed, "the token is in the output:\n{ended}");
        let ended = ended.exited(0)?.says(&says)?;
        println!("    $ provision {command}\n{}", indented(&ended.stdout));
        if command == "fetch" {
            // The bytes that were read for their digest are not downloaded again.
            env.server.assert_no_request(before)?;
        }
    }
    let requests = env.server.log.since(mark)?;
    let expected = format!("Bearer {TOKEN}");
    ensure!(
        !requests.is_empty() && requests.iter().all(|request| request.authorization == expected),
        "not every request had the token: {requests:#?}"
    );

    env.verify_files(&format!("{mount} {RUNTIME}"), "/w/models", &[".models-installed"])?;
    let others = in_volume(&format!("find /w ! -user {USER}"))?;
    ensure!(others.is_empty(), "another user owns these files:\n{others}");
    // A search that misses the digest would miss the token, too.
    let search =
        |text: &str| in_volume(&format!("grep --recursive --files-with-matches -e {text} /w || true"));
    let found = search(&env.lock.entries[0].sha256)?;
    ensure!(found.lines().any(|file| file == "/w/models.lock"), "the search does not find the lock: {found}");
    let leaks = search(TOKEN)?;
    ensure!(leaks.is_empty(), "the token is in:\n{leaks}");
    Ok(())
}
