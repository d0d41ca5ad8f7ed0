//! The images: what is in them, and that they come out the same.

#![expect(clippy::print_stdout, reason = "what was changed and found belongs into the log")]

use anyhow::{Result, ensure};

use crate::containers::dockerfile;
use crate::containers::env::ContainerEnv;
use crate::containers::image_archive::ImageArchive;
use crate::containers::model_server::GATED;
use crate::containers::names::{BAKED, CANARY, MODELS, RUNTIME, WITH_TOKEN};
use crate::tools::access_log;
use crate::tools::steps::Done;

pub(super) fn build(env: &mut ContainerEnv) -> Result<Done> {
    println!("    {}", dockerfile::changes());
    let file = env.dockerfile_path();
    let mark = env.server.log.mark()?;
    let ended = env.image(&["--target", "runtime-baked"], &file)?;
    ended.says(&["the Hub's token comes from HF_TOKEN", "provision:runtime-baked is built"])?;
    let requests = env.requests(mark)?;
    let (sent, total) = (access_log::bytes(&requests), env.server.total());
    ensure!(sent >= total, "the build fetched {sent} bytes of {total}");
    ensure!(
        requests.iter().all(|request| request.authorization.is_empty()),
        "the Hub's token went to another host"
    );
    env.image(&["--target", "runtime"], &file)?;

    let paths: Vec<_> = env.server.lock.entries.iter().map(|entry| entry.path.clone()).collect();
    env.right(None, BAKED, MODELS, paths.clone())?;
    env.engine.docker(&["run", "--rm", RUNTIME, "test", "!", "-e", MODELS])?.exited(0)?;

    let saved = env.save(&[BAKED, RUNTIME])?;
    let layers = saved.layers(BAKED)?;
    for path in &paths {
        let (directory, _) = path.split_once('/').unwrap_or_default();
        let mut wanted = vec!["opt/".to_owned(), format!("opt/models/"), format!("opt/models/{directory}/")];
        wanted.push(format!("opt/models/{path}"));
        ensure!(layers.contains(&wanted), "no layer has {wanted:#?} and nothing else:\n{:#?}", &layers[1..]);
    }
    let sha256 = &env.server.lock.entries[0].sha256;
    ensure!(
        !saved.containing(sha256)?.is_empty(),
        "the search does not find what is there: the lock's {sha256}"
    );
    keep_no_token(env, &saved, &[BAKED, RUNTIME])?;
    Ok(Done::Passed)
}

fn keep_no_token(env: &mut ContainerEnv, saved: &ImageArchive, images: &[&str]) -> Result<()> {
    let leaks = saved.containing(CANARY)?;
    ensure!(leaks.is_empty(), "the token is in {leaks:?}");
    for image in images {
        for question in [&["history", "--no-trunc"][..], &["image", "inspect"]] {
            let answer = env.engine.read(&[question, &[image]].concat())?;
            ensure!(!answer.contains(CANARY), "the token is in docker {question:?}:\n{answer}");
        }
    }
    Ok(())
}

/// That a token is nowhere says something only where it was used.
pub(super) fn token(env: &mut ContainerEnv) -> Result<Done> {
    let built = env.built_dockerfile()?;
    let built = env.engine.shell().read_file(built)?;
    let (file, lock) = (env.root.join("Dockerfile.token"), env.root.join("token.lock"));
    let gated = format!("https://huggingface.co/{GATED}");
    let text = env.server.lock.text().replace(&env.server.base, &gated);
    env.engine.shell().write_file(&lock, text)?;
    env.engine.shell().write_file(&file, dockerfile::with_hub(&built, &env.server.hub))?;
    let mark = env.server.log.mark()?;
    let arguments = ["--target", "runtime-baked", "--tag", WITH_TOKEN, "--lock", lock.as_str()];
    // Without what the cache mount has, which was fetched without a token.
    let ended = env.image(&[&arguments[..], &["--", "--no-cache"]].concat(), &file)?;
    let said = [&ended.stdout, &ended.stderr];
    ensure!(said.iter().all(|text| !text.contains(CANARY)), "the token is in the build's output:\n{ended}");
    let requests = env.requests(mark)?;
    ensure!(
        access_log::bytes(&requests) >= env.server.total()
            && requests.iter().all(|request| request.authorization == format!("Bearer {CANARY}")),
        "the token did not go to the Hub with every request: {requests:#?}"
    );
    let saved = env.save(&[WITH_TOKEN])?;
    keep_no_token(env, &saved, &[WITH_TOKEN])?;
    Ok(Done::Passed)
}

pub(super) fn reproducible(env: &mut ContainerEnv) -> Result<Done> {
    let file = env.built_dockerfile()?;
    println!("    the binary is the one of the first build; everything after it is done again");
    // The same models by a lock with other bytes: the stage's key is new, and its cache mount has all that it needs.
    let commented = env.root.join("commented.lock");
    env.engine.shell().write_file(&commented, format!("# The same.\n{}", env.server.lock.text()))?;
    let first = env.model_layers(BAKED)?;
    for (what, arguments, is_fetched) in [
        ("another lock, from the cache mount", &["--lock", commented.as_str()][..], false),
        ("without cache", &["--", "--no-cache"], true),
        ("without cache, again", &["--", "--no-cache"], true),
    ] {
        let mark = env.server.log.mark()?;
        env.image(&[&["--target", "runtime-baked"], arguments].concat(), &file)?;
        let sent = access_log::bytes(&env.requests(mark)?);
        ensure!((sent > 0) == is_fetched, "{what}: {sent} bytes were sent");
        let layers = env.model_layers(BAKED)?;
        println!("    {}: {what}", layers.iter().map(|layer| &layer[..19]).collect::<Vec<_>>().join(" "));
        ensure!(layers == first, "{what}: other layers than before:\n{first:#?}\n{layers:#?}");
    }
    Ok(Done::Passed)
}
