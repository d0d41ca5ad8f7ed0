//! The image `provision`: as an init container, in the folder of another user, and for another platform.

use anyhow::{Context as _, Result, ensure};

use super::engine::{BAKED, COMPILED, PROGRAM, RUNTIME};
use super::env::{ContainerEnv, MARKER};
use crate::tools::files::verify_owner;
use crate::tools::program;

/// A user whom no image knows.
pub(super) const USER: &str = "12345";

/// The image's only files.
const FILES: [&str; 2] = ["etc/ssl/certs/ca-certificates.crt", "provision"];

/// A random user, a read-only root and no shell, as Kubernetes runs an init container.
pub(super) fn init_container(env: &ContainerEnv) -> Result<()> {
    env.image("--target provision")?.says(&["provision:latest is built"])?;
    let layers = env.layers_without_token(&[PROGRAM], FILES[0])?.concat();
    let mut files: Vec<_> = layers.lines().filter(|path| !path.ends_with('/')).collect();
    files.sort_unstable();
    ensure!(files == FILES, "the image has other files: {files:#?}");

    let mount = format!("--volume {}:/volume", env.volume("provision-check-init")?);
    let own = format!("touch /volume/filled && chown --recursive {USER} /volume");
    env.succeeds(&format!("docker run --rm {mount} {RUNTIME} sh -c '{own}'"))?;
    let options =
        format!("--user {USER}:{USER} --read-only {mount} --volume {}:/models.lock:ro", env.lock_file);
    let fetch =
        format!("docker run --rm {options} {PROGRAM} fetch --lock /models.lock --dest /volume/models");
    env.succeeds(&fetch)?;
    env.verify_files(&format!("{mount} {RUNTIME}"), "/volume/models", &[MARKER])?;
    let version = concat!("provision ", env!("CARGO_PKG_VERSION"));
    env.succeeds(&format!("docker run --rm {options} {PROGRAM} --version"))?.says(&[version])?;
    let mark = env.server.log.mark()?;
    env.succeeds(&fetch)?;
    env.server.assert_no_request(mark)
}

/// As root in a folder of the host that belongs to another user, with a token that only root can read.
pub(super) fn owner(env: &ContainerEnv) -> Result<()> {
    let (folder, token) = (env.server.scratch.fresh("owned"), env.server.scratch.fresh("token"));
    let hub = env.server.hub();
    let lock = env.lock_at(&format!("{hub}/gated"))?;
    let mounts = format!("--volume {folder}:/w --volume {token}:/run/token:ro");
    let variables = format!("--env HF_ENDPOINT={hub} --env HF_TOKEN_PATH=/run/token");
    let run = format!("docker run --rm --read-only --workdir /w {mounts} {variables} {PROGRAM}");
    env.succeeds(&format!(
        "mkdir {folder}
        cp {lock} {folder}/models.lock
        printenv HF_TOKEN > {token}
        chmod 600 {token}
        chown --recursive {USER}:{USER} {folder}
        {run} lock add {hub}/gated/config.json --path config.json
        {run} fetch"
    ))?;
    env.verify_files(&format!("{mounts} {RUNTIME}"), "/w/models", &["config.json", MARKER])?;
    verify_owner(&env.server.sh, &folder, USER)
}

/// Images for arm64 on a machine of amd64, which emulates nothing here. The models' layers are those of amd64.
pub(super) fn other_platform(env: &ContainerEnv) -> Result<()> {
    const COMPILED_ARM: &str = "provision-check:build-arm64";
    const PROGRAM_ARM: &str = "provision-check:program-arm64";
    const BAKED_ARM: &str = "provision-check:baked-arm64";
    const BASE_ARM: &str = "provision-check:base-arm64";
    let (sh, context) = (&env.server.sh, env.server.scratch.fresh("context"));
    // An engine without a registry has no base of that platform.
    let options = format!("--platform linux/arm64 --tag {BASE_ARM}");
    env.build(&context, &options, "FROM scratch\nCOPY Dockerfile /\n")?;
    // The context of a build lacks the binary, so it lies in an image of its own.
    sh.copy_file(program::dist(sh, &["--target", "aarch64-unknown-linux-gnu"])?, context.join("provision"))?;
    let text = format!("FROM {COMPILED}\nCOPY provision /out/provision\n");
    env.build(&context, &format!("--tag {COMPILED_ARM}"), &text)?;

    let mark = env.server.log.mark()?;
    env.use_compiled(COMPILED_ARM)?;
    let (platform, base) = ("--platform linux/arm64", format!("--build-arg RUNTIME_IMAGE={BASE_ARM}"));
    env.image(&format!("--target provision {platform} --tag {PROGRAM_ARM}"))?;
    env.image(&format!("--target runtime-baked {platform} --tag {BAKED_ARM} -- {base}"))?;
    env.use_compiled(COMPILED)?;
    env.server.assert_no_request(mark).context("a build for another platform fetched the models again")?;
    for image in [PROGRAM_ARM, BAKED_ARM] {
        env.verify_platform(image, "linux/arm64")?;
    }
    let header = env.read(&format!(
        "id=$(docker create --platform linux/arm64 {PROGRAM_ARM})
        docker cp $id:/provision {context}/copy
        LC_ALL=C readelf --file-header {context}/copy"
    ))?;
    ensure!(header.contains("AArch64"), "the image for arm64 has this program:\n{header}");
    let (here, there) = (env.model_layers(BAKED)?, env.model_layers(BAKED_ARM)?);
    ensure!(here == there, "the models' layers differ:\n{here}\n{there}");
    Ok(())
}
