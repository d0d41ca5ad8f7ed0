//! The image `provision`: as an init container, in the folder of another user, and for another platform.

use anyhow::{Context as _, Result, ensure};
use xshell::cmd;

use crate::containers::env::ContainerEnv;
use crate::containers::image_archive;
use crate::containers::model_server::GATED;
use crate::containers::names::{ARM_BASE, BAKED, BAKED_ARM, CANARY, MARKER, PROGRAM, PROGRAM_ARM, RUNTIME};
use crate::tools::files::verify_owner;
use crate::tools::program;

/// A user whom no image knows.
const USER: &str = "12345";

/// The image's only files.
const FILES: [&str; 2] = ["etc/ssl/certs/ca-certificates.crt", "provision"];

/// A random user, a read-only root and no shell, as Kubernetes runs an init container.
pub(super) fn init_container(env: &mut ContainerEnv) -> Result<()> {
    env.build_image(&env.prebuilt, &["--target", "provision"])?.says(&["provision:latest is built"])?;
    let (sh, engine) = (env.engine.shell(), &env.engine);
    let (tar, folder) = (engine.scratch.fresh("tar"), engine.scratch.fresh("archive"));
    engine.succeeds(cmd!(sh, "docker save --output {tar} {PROGRAM}"))?;
    image_archive::unpack(sh, &tar, &folder)?;
    let layers = image_archive::layers(sh, &folder)?.concat();
    let mut files: Vec<_> = layers.iter().filter(|path| !path.ends_with('/')).collect();
    files.sort_unstable();
    ensure!(files == FILES, "the image has other files: {files:#?}");

    let volume = env.volume("provision-check-init")?;
    let mount = format!("{volume}:/volume");
    let own = format!("touch /volume/filled && chown --recursive {USER} /volume");
    engine.succeeds(cmd!(sh, "docker run --rm --volume {mount} {RUNTIME} sh -c {own}"))?;
    let user = ["--user", &format!("{USER}:{USER}"), "--read-only"];
    let lock = format!("{}:/models.lock:ro", env.lock);
    let place = ["--lock", "/models.lock", "--dest", "/volume/models"];
    let fetch = || {
        let mounts = ["--volume", &mount, "--volume", &lock];
        engine.succeeds(cmd!(sh, "docker run --rm {user...} {mounts...} {PROGRAM} fetch {place...}"))
    };
    fetch()?;
    env.verify_files(&["--volume", &mount, RUNTIME], "/volume/models", &[MARKER])?;
    let mark = env.server.log.mark()?;
    fetch()?;
    let requests = env.server.log.since(mark)?;
    ensure!(requests.is_empty(), "the second start sent requests: {requests:#?}");
    Ok(())
}

/// As root in a folder of the host that belongs to another user, with a token that only root can read.
pub(super) fn owner(env: &mut ContainerEnv) -> Result<()> {
    let (sh, engine) = (env.engine.shell(), &env.engine);
    let folder = engine.scratch.fresh("owned");
    let gated = format!("{}/{GATED}", env.server.hub);
    let text = env.server.lock.text().replace(&env.server.base(), &gated);
    sh.write_file(folder.join("models.lock"), text)?;
    let token = engine.scratch.fresh("token");
    sh.write_file(&token, CANARY)?;
    cmd!(sh, "chmod 600 {token}").quiet().run()?;
    cmd!(sh, "chown --recursive {USER}:{USER} {folder}").quiet().run()?;
    let mounts = ["--volume", &format!("{folder}:/w"), "--volume", &format!("{token}:/run/token:ro")];
    let variables =
        ["--env", &format!("HF_ENDPOINT={}", env.server.hub), "--env", "HF_TOKEN_PATH=/run/token"];
    let options = ["--rm", "--read-only", "--workdir", "/w"];
    engine.succeeds(cmd!(sh, "docker run {options...} {mounts...} {variables...} {PROGRAM} fetch"))?;
    env.verify_files(&[mounts[0], mounts[1], RUNTIME], "/w/models", &[MARKER])?;
    verify_owner(sh, &folder, USER)
}

/// Images for arm64 on a machine of amd64, which emulates nothing here. The models' layers are those of amd64.
pub(super) fn other_platform(env: &mut ContainerEnv) -> Result<()> {
    let (sh, engine) = (env.engine.shell(), &env.engine);
    // An engine without a registry has no base of that platform.
    let (base, arm) = (engine.scratch.fresh("base"), ["--platform", "linux/arm64", "--tag"]);
    sh.write_file(base.join("Dockerfile"), "FROM scratch\nCOPY Dockerfile /\n")?;
    engine.succeeds(cmd!(sh, "docker build --quiet {arm...} {ARM_BASE} {base}"))?;
    let binary = program::dist(sh, &["--target", "aarch64-unknown-linux-gnu"])?;
    let file = env.with_binary_for_arm64(&binary)?;

    let mark = env.server.log.mark()?;
    env.build_image(&file, &[&["--target", "provision"], &arm[..], &[PROGRAM_ARM]].concat())?;
    let runtime = format!("RUNTIME_IMAGE={ARM_BASE}");
    let baked =
        [&["--target", "runtime-baked"], &arm[..], &[BAKED_ARM, "--", "--build-arg", &runtime]].concat();
    env.build_image(&file, &baked)?;
    let requests = env.server.log.since(mark)?;
    ensure!(requests.is_empty(), "a build for another platform fetched the models again: {requests:#?}");
    for image in [PROGRAM_ARM, BAKED_ARM] {
        let format = "{{.Os}}/{{.Architecture}}";
        let platform = engine.read(cmd!(sh, "docker image inspect --format {format} {image}"))?;
        ensure!(platform == "linux/arm64", "{image} is for {platform}");
    }
    let container = engine.read(cmd!(sh, "docker create --platform linux/arm64 {PROGRAM_ARM}"))?;
    let copy = engine.scratch.fresh("provision");
    engine.succeeds(cmd!(sh, "docker cp {container}:/provision {copy}"))?;
    engine.succeeds(cmd!(sh, "docker rm {container}"))?;
    let header = cmd!(sh, "readelf --file-header {copy}").env("LC_ALL", "C").quiet().read()?;
    let machine =
        header.lines().find_map(|line| line.trim().strip_prefix("Machine:")).context("no machine")?;
    ensure!(machine.trim() == "AArch64", "the image for arm64 has a program for {machine}");
    let (here, there) = (env.model_layers(BAKED)?, env.model_layers(BAKED_ARM)?);
    ensure!(here == there, "the models' layers differ:\n{here:#?}\n{there:#?}");
    Ok(())
}
