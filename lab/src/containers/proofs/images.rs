//! The images: what is in them, and that they come out the same.

#![expect(clippy::print_stdout, reason = "what was changed and found belongs into the log")]

use anyhow::{Result, ensure};

use crate::containers::site::GATED;
use crate::containers::world::{BAKED, CANARY, MODELS, RUNTIME, WITH_TOKEN, World};
use crate::containers::{dockerfile, saved};
use crate::tools::access_log;
use crate::tools::steps::Done;

pub(super) fn build(world: &mut World) -> Result<Done> {
    println!("    {}", dockerfile::changes());
    let file = world.dockerfile_path();
    let mark = world.site.log.mark()?;
    let ended = world.image(&["--target", "runtime-baked"], &file)?;
    ended.says(&["the Hub's token comes from HF_TOKEN", "provision:runtime-baked is built"])?;
    let requests = world.requests(mark)?;
    let (sent, total) = (access_log::bytes(&requests), world.site.total());
    ensure!(sent >= total, "the build fetched {sent} bytes of {total}");
    ensure!(
        requests.iter().all(|request| request.authorization.is_empty()),
        "the Hub's token went to another host"
    );
    world.image(&["--target", "runtime"], &file)?;

    let paths: Vec<_> = world.site.lock.entries.iter().map(|entry| entry.path.clone()).collect();
    world.right(None, BAKED, MODELS, paths.clone())?;
    world.engine.docker(&["run", "--rm", RUNTIME, "test", "!", "-e", MODELS])?.exited(0)?;

    let saved = world.save(&[BAKED, RUNTIME])?;
    let layers = saved.layers(BAKED)?;
    for path in &paths {
        let (directory, _) = path.split_once('/').unwrap_or_default();
        let mut wanted = vec!["opt/".to_owned(), format!("opt/models/"), format!("opt/models/{directory}/")];
        wanted.push(format!("opt/models/{path}"));
        ensure!(layers.contains(&wanted), "no layer has {wanted:#?} and nothing else:\n{:#?}", &layers[1..]);
    }
    let sha256 = &world.site.lock.entries[0].sha256;
    ensure!(
        !saved.containing(sha256)?.is_empty(),
        "the search does not find what is there: the lock's {sha256}"
    );
    keep_no_token(world, &saved, &[BAKED, RUNTIME])?;
    Ok(Done::Passed)
}

fn keep_no_token(world: &mut World, saved: &saved::Images, images: &[&str]) -> Result<()> {
    let leaks = saved.containing(CANARY)?;
    ensure!(leaks.is_empty(), "the token is in {leaks:?}");
    for image in images {
        for question in [&["history", "--no-trunc"][..], &["image", "inspect"]] {
            let answer = world.engine.read(&[question, &[image]].concat())?;
            ensure!(!answer.contains(CANARY), "the token is in docker {question:?}:\n{answer}");
        }
    }
    Ok(())
}

/// That a token is nowhere says something only where it was used.
pub(super) fn token(world: &mut World) -> Result<Done> {
    let built = world.built_dockerfile()?;
    let built = world.engine.shell().read_file(built)?;
    let (file, lock) = (world.root.join("Dockerfile.token"), world.root.join("token.lock"));
    let gated = format!("https://huggingface.co/{GATED}");
    let text = world.site.lock.text().replace(&world.site.base, &gated);
    world.engine.shell().write_file(&lock, text)?;
    world.engine.shell().write_file(&file, dockerfile::with_hub(&built, &world.site.hub))?;
    let mark = world.site.log.mark()?;
    let arguments = ["--target", "runtime-baked", "--tag", WITH_TOKEN, "--lock", lock.as_str()];
    // Without what the cache mount has, which was fetched without a token.
    let ended = world.image(&[&arguments[..], &["--", "--no-cache"]].concat(), &file)?;
    let said = [&ended.stdout, &ended.stderr];
    ensure!(said.iter().all(|text| !text.contains(CANARY)), "the token is in the build's output:\n{ended}");
    let requests = world.requests(mark)?;
    ensure!(
        access_log::bytes(&requests) >= world.site.total()
            && requests.iter().all(|request| request.authorization == format!("Bearer {CANARY}")),
        "the token did not go to the Hub with every request: {requests:#?}"
    );
    let saved = world.save(&[WITH_TOKEN])?;
    keep_no_token(world, &saved, &[WITH_TOKEN])?;
    Ok(Done::Passed)
}

pub(super) fn reproducible(world: &mut World) -> Result<Done> {
    let file = world.built_dockerfile()?;
    println!("    the binary is the one of the first build; everything after it is done again");
    // The same models by a lock with other bytes: the stage's key is new, and its cache mount has all that it needs.
    let commented = world.root.join("commented.lock");
    world.engine.shell().write_file(&commented, format!("# The same.\n{}", world.site.lock.text()))?;
    let first = world.model_layers(BAKED)?;
    for (what, arguments, is_fetched) in [
        ("another lock, from the cache mount", &["--lock", commented.as_str()][..], false),
        ("without cache", &["--", "--no-cache"], true),
        ("without cache, again", &["--", "--no-cache"], true),
    ] {
        let mark = world.site.log.mark()?;
        world.image(&[&["--target", "runtime-baked"], arguments].concat(), &file)?;
        let sent = access_log::bytes(&world.requests(mark)?);
        ensure!((sent > 0) == is_fetched, "{what}: {sent} bytes were sent");
        let layers = world.model_layers(BAKED)?;
        println!("    {}: {what}", layers.iter().map(|layer| &layer[..19]).collect::<Vec<_>>().join(" "));
        ensure!(layers == first, "{what}: other layers than before:\n{first:#?}\n{layers:#?}");
    }
    Ok(Done::Passed)
}
