//! The images: their content, their secrets, and their reproducibility.

#![expect(clippy::print_stdout, reason = "a log needs the changes and the layers")]

use anyhow::{Result, ensure};
use camino::Utf8PathBuf;

use super::engine::{BAKED, RUNTIME};
use super::env::{ContainerEnv, MODELS};
use crate::real::TOKEN;
use crate::tools::access_log;

/// A baked image whose models needed the token.
const WITH_TOKEN: &str = "provision-check:token";

pub(super) fn build(env: &ContainerEnv) -> Result<()> {
    println!(
        "    the Dockerfile is the shipped one without `# syntax=` and `--link`, with its own cache mount for the models"
    );
    let mark = env.server.log.mark()?;
    let ended = env.image("--target runtime-baked")?;
    ended.says(&["the Hub's token comes from HF_TOKEN", "provision:runtime-baked is built"])?;
    let requests = env.server.log.since(mark)?;
    let (sent, total) = (access_log::bytes(&requests), env.total());
    ensure!(sent >= total, "the build fetched {sent} bytes of {total}");
    ensure!(
        requests.iter().all(|request| request.authorization.is_empty()),
        "the Hub's token went to another host: {requests:#?}"
    );
    env.image("--target runtime")?;
    env.compile()?;

    env.verify_files(BAKED, MODELS, &[])?;
    env.succeeds(&format!("docker run --rm {RUNTIME} test ! -e {MODELS}"))?;
    let paths = env.lock.entries.iter().map(|entry| entry.path.as_str());
    env.verify_layers(&[BAKED, RUNTIME], &env.lock.entries[0].sha256, paths)
}

/// The search for the token means something only after a build that used it.
pub(super) fn token(env: &ContainerEnv) -> Result<()> {
    let lock = env.lock_at("https://huggingface.co/gated")?;
    let mark = env.server.log.mark()?;
    // Without cache: the cache mount has the files, and the build would send no request.
    let image = format!("--target runtime-baked --tag {WITH_TOKEN} --lock {lock} -- --no-cache");
    let command = format!("HF_ENDPOINT={} {}", env.server.hub(), env.image_command(&image));
    let ended = env.succeeds(&command)?;
    let printed = [&ended.stdout, &ended.stderr].into_iter().any(|text| text.contains(TOKEN));
    ensure!(!printed, "the token is in the build's output:\n{ended}");
    let requests = env.server.log.since(mark)?;
    let expected = format!("Bearer {TOKEN}");
    ensure!(
        access_log::bytes(&requests) >= env.total()
            && requests.iter().all(|request| request.authorization == expected),
        "not every request to the Hub had the token: {requests:#?}"
    );
    env.layers_without_token(&[WITH_TOKEN], &env.lock.entries[0].sha256).map(drop)
}

/// The binary is that of the first build. Every later stage runs again.
pub(super) fn reproducible(env: &ContainerEnv) -> Result<()> {
    let commented = env.server.scratch.fresh("lock");
    // Other bytes, same models: the stage has a new key, and its cache mount has all files.
    env.server.sh.write_file(&commented, format!("# The same.\n{}", env.lock.text()))?;
    let (listed, lists) = with_lists(env)?;
    let first = env.model_layers(BAKED)?;
    for (name, options, fetches, lists) in [
        ("another lock, from the cache mount", format!("--lock {commented}"), false, ""),
        ("a lock with piece lists", format!("--lock {listed}"), false, &lists),
        ("without cache", "-- --no-cache".to_owned(), true, ""),
    ] {
        let mark = env.server.log.mark()?;
        env.image(&format!("--target runtime-baked {options}"))?;
        let sent = access_log::bytes(&env.server.log.since(mark)?);
        ensure!((sent > 0) == fetches, "{name}: {sent} bytes were sent");
        let layers = env.model_layers(BAKED)?;
        println!("    {name}: {}", layers.lines().map(|layer| &layer[..19]).collect::<Vec<_>>().join(" "));
        ensure!(layers == first, "{name}: the layers differ:\n{first}\n{layers}");
        let find = "cd /opt/provision && find . -path \"./*/*\" | sort";
        let found = env.read(&format!("docker run --rm {BAKED} sh -c '{find}'"))?;
        ensure!(found == lists, "{name}: beside the lock are {found}, not {lists}");
    }
    Ok(())
}

/// A lock that pins the piece list of each file that has one, and the paths of the lists beside it.
fn with_lists(env: &ContainerEnv) -> Result<(Utf8PathBuf, String)> {
    let (folder, program) = (env.server.scratch.fresh("listed"), &env.server.program);
    let place = "--lock models.lock --dest models";
    let lists = env.read(&format!(
        "mkdir {folder}
        cp {} {folder}/models.lock
        cd {folder}
        {program} fetch-models {place} > log
        {program} lock pieces {place} > log
        find . -path './models.pieces/*' | sort",
        env.lock_file,
    ))?;
    ensure!(!lists.is_empty(), "no file is large enough for a list");
    Ok((folder.join("models.lock"), lists))
}
