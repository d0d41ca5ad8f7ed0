//! The images: their content, their secrets, and their reproducibility.

#![expect(clippy::print_stdout, reason = "a log needs the changes and the layers")]

use anyhow::{Result, ensure};
use camino::Utf8PathBuf;
use provision_core::digest::Sha256;
use provision_core::piece_list::{DIRECTORY, Lister};
use xshell::cmd;

use crate::containers::env::ContainerEnv;
use crate::containers::model_server::GATED;
use crate::containers::names::{BAKED, CANARY, MODELS, RUNTIME, WITH_TOKEN};
use crate::containers::{dockerfile, image_archive};
use crate::tools::access_log;

pub(super) fn build(env: &mut ContainerEnv) -> Result<()> {
    println!("    {}", dockerfile::CHANGES);
    let mark = env.server.log.mark()?;
    let ended = env.build_image(&env.dockerfile, &["--target", "runtime-baked"])?;
    ended.says(&["the Hub's token comes from HF_TOKEN", "provision:runtime-baked is built"])?;
    let requests = env.server.log.since(mark)?;
    let (sent, total) = (access_log::bytes(&requests), env.server.total());
    ensure!(sent >= total, "the build fetched {sent} bytes of {total}");
    ensure!(
        requests.iter().all(|request| request.authorization.is_empty()),
        "the Hub's token went to another host: {requests:#?}"
    );
    env.build_image(&env.dockerfile, &["--target", "runtime"])?;
    env.compile()?;

    let sh = env.engine.shell();
    env.verify_files(&[BAKED], MODELS, &[])?;
    env.engine.succeeds(cmd!(sh, "docker run --rm {RUNTIME} test ! -e {MODELS}"))?;
    let layers = image_archive::layers(sh, &env.verify_no_token(&[BAKED, RUNTIME], env.known())?)?;
    for entry in &env.server.lock.entries {
        let (directory, file) = (entry.path.split('/').next().unwrap_or_default(), &entry.path);
        let paths = ["", &format!("{directory}/"), file].map(|path| format!("opt/models/{path}"));
        let expected = [&["opt/".to_owned()], &paths[..]].concat();
        ensure!(layers.contains(&expected), "no layer has {expected:#?} and nothing else:\n{layers:#?}");
    }
    Ok(())
}

/// The search for the token means something only after a build that used it.
pub(super) fn token(env: &mut ContainerEnv) -> Result<()> {
    let (sh, folder) = (env.engine.shell(), env.engine.scratch.path());
    let (file, lock) = (folder.join("Dockerfile.token"), folder.join("token.lock"));
    let gated = format!("https://huggingface.co/{GATED}");
    sh.write_file(&lock, env.server.lock.text().replace(&env.server.base(), &gated))?;
    sh.write_file(&file, dockerfile::with_hub(&sh.read_file(&env.prebuilt)?, &env.server.hub))?;
    let mark = env.server.log.mark()?;
    // Without cache: the cache mount has the files, and the build would send no request.
    let options =
        ["--target", "runtime-baked", "--tag", WITH_TOKEN, "--lock", lock.as_str(), "--", "--no-cache"];
    let ended = env.build_image(&file, &options)?;
    let printed = [&ended.stdout, &ended.stderr].into_iter().any(|text| text.contains(CANARY));
    ensure!(!printed, "the token is in the build's output:\n{ended}");
    let requests = env.server.log.since(mark)?;
    let expected = format!("Bearer {CANARY}");
    ensure!(
        access_log::bytes(&requests) >= env.server.total()
            && requests.iter().all(|request| request.authorization == expected),
        "not every request to the Hub had the token: {requests:#?}"
    );
    env.verify_no_token(&[WITH_TOKEN], env.known()).map(drop)
}

/// The binary is that of the first build. Every later stage runs again.
pub(super) fn reproducible(env: &mut ContainerEnv) -> Result<()> {
    let commented = env.engine.scratch.path().join("commented.lock");
    // Other bytes, same models: the stage has a new key, and its cache mount has all files.
    env.engine.shell().write_file(&commented, format!("# The same.\n{}", env.server.lock.text()))?;
    let (listed, lists) = with_lists(env)?;
    let first = env.model_layers(BAKED)?;
    for (name, arguments, fetches, lists) in [
        ("another lock, from the cache mount", ["--lock", commented.as_str()], false, &[][..]),
        ("a lock with piece lists", ["--lock", listed.as_str()], false, &lists),
        ("without cache", ["--", "--no-cache"], true, &[]),
    ] {
        let mark = env.server.log.mark()?;
        env.build_image(&env.prebuilt, &[&["--target", "runtime-baked"][..], &arguments].concat())?;
        let sent = access_log::bytes(&env.server.log.since(mark)?);
        ensure!((sent > 0) == fetches, "{name}: {sent} bytes were sent");
        let layers = env.model_layers(BAKED)?;
        println!("    {}: {name}", layers.iter().map(|layer| &layer[..19]).collect::<Vec<_>>().join(" "));
        ensure!(layers == first, "{name}: the layers differ:\n{first:#?}\n{layers:#?}");
        let (sh, find) = (env.engine.shell(), "cd /opt/provision && find . -path './*/*' | sort");
        let found = env.engine.read(cmd!(sh, "docker run --rm {BAKED} sh -c {find}"))?;
        ensure!(found.lines().eq(lists.iter()), "{name}: beside the lock are {found}, not {lists:?}");
    }
    Ok(())
}

/// A lock that pins the piece list of each file that has one, and the paths of the lists beside it.
fn with_lists(env: &ContainerEnv) -> Result<(Utf8PathBuf, Vec<String>)> {
    let folder = env.engine.scratch.fresh("listed");
    let directory = folder.join(DIRECTORY);
    std::fs::create_dir_all(&directory)?;
    let (mut text, mut paths) = (env.server.lock.text(), Vec::new());
    for entry in &env.server.lock.entries {
        let mut lister = Lister::new(entry.size);
        lister.update(&env.server.read(entry)?);
        let Some(list) = lister.finish(entry.sha256.parse()?).write() else { continue };
        let digest = Sha256::of(&list).to_string();
        std::fs::write(directory.join(&digest), list)?;
        let key = format!("sha256 = \"{}\"\n", entry.sha256);
        text = text.replace(&key, &format!("{key}pieces = \"{digest}\"\n"));
        paths.push(format!("./{DIRECTORY}/{digest}"));
    }
    ensure!(!paths.is_empty(), "no file is large enough for a list");
    paths.sort_unstable();
    let lock = folder.join("models.lock");
    std::fs::write(&lock, text)?;
    Ok((lock, paths))
}
