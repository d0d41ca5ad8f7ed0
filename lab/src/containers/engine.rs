//! The Docker engine, and the removal of everything that the checks create in it.
//!
//! Scripts call a wrapper named `docker`, first on their search path. It adds `--network host`, because the servers
//! listen on loopback, and a label, by which everything is removed: at the end, and at the next start after a kill.
//!
//! The wrapper also adapts Dockerfiles. An engine without a registry has only the builder's own frontend, which supports
//! neither a `# syntax=` line nor `COPY --link`. The models' cache mount gets its own name: it starts empty, and the
//! mount of real builds is untouched.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Result, ensure};
use camino::Utf8Path;
use xshell::{Shell, cmd};

pub(super) const BAKED: &str = "provision:runtime-baked";
pub(super) const RUNTIME: &str = "provision:runtime";
/// The program alone.
pub(super) const PROGRAM: &str = concat!("provision:", env!("CARGO_PKG_VERSION"));
/// The Dockerfile's `build` stage, which has the binary.
pub(super) const COMPILED: &str = "provision-check:build";

/// The label of what the checks create.
pub(super) const LABEL: &str = "provision.check=containers";

/// The cache mount of the models in the checks.
pub(super) const CACHE: &str = "provision-models-check";

/// The containers, volumes and images of the documented commands. A user may have some of that name.
pub(super) const DOCUMENTED: [&str; 8] = [
    "comfy",
    "comfy-baked",
    "comfy-models",
    "comfyui-models:latest",
    "provision:latest",
    PROGRAM,
    BAKED,
    RUNTIME,
];

/// Lists the names of all containers, volumes and images.
pub(super) const LIST: &str = "docker ps --all --format '{{.Names}}'
docker volume ls --format '{{.Name}}'
docker image ls --format '{{.Repository}}:{{.Tag}}'";

/// Writes the wrapper into `folder`, and waits until no other run of the checks uses an engine: the documented commands
/// have fixed names. The kernel releases the returned lock with the process.
#[expect(clippy::print_stdout, reason = "a silent wait looks like a hang")]
pub(super) fn start(sh: &Shell, folder: &Utf8Path) -> Result<File> {
    let version = cmd!(sh, "docker version").quiet().ignore_status().output()?;
    let error = String::from_utf8_lossy(&version.stderr);
    ensure!(version.status.success(), "no Docker engine answers: start one, or set DOCKER_HOST\n{error}");
    let path = std::env::temp_dir().join("provision-check-containers.lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
    if lock.try_lock().is_err() {
        println!("    waiting for another run of these checks, which holds {}", path.display());
        lock.lock()?;
    }
    let wrapper = folder.join("docker");
    sh.write_file(&wrapper, wrapper_text(folder, &sh.var("PATH")?))?;
    std::fs::set_permissions(&wrapper, Permissions::from_mode(0o755))?;
    Ok(lock)
}

/// The edits that make a Dockerfile take its binaries from the image [`COMPILED`], so that a build without cache does
/// not compile. That for the image's platform is in the image `build`.
pub(super) fn compiled_edits(build: &str) -> String {
    let native = "FROM --platform=$BUILDPLATFORM";
    format!(
        "/ AS native$/i\\\n{native} {COMPILED} AS native\\\n{native} {build} AS build\n\
         / AS native$/,/ AS models$/{{ / AS models$/!d }}\n"
    )
}

fn wrapper_text(folder: &Utf8Path, path: &str) -> String {
    format!(
        r#"#!/bin/sh
# By `cargo lab containers`: labels what the checks must remove, reaches their servers, and adapts Dockerfiles.
PATH='{path}'
verb=$1
shift
case $verb in
    build)
        last=
        for argument; do
            shift
            if [ "$last" = --file ]; then
                sed -e '/^# syntax=/d' -e 's/^COPY --link /COPY /' -e 's/id=provision-models,/id={CACHE},/' \
                    ${{HF_ENDPOINT:+-e "s|^FROM .* AS models\$|&\nENV HF_ENDPOINT=$HF_ENDPOINT|"}} \
                    "$argument" | sed -f '{folder}/docker.sed' > '{folder}/Dockerfile'
                argument='{folder}/Dockerfile'
            fi
            last=$argument
            set -- "$@" "$argument"
        done
        set -- --network host --label {LABEL} "$@"
        ;;
    run) set -- --network host --env PROVISION_ALLOW_PRIVATE --env HF_ENDPOINT --label {LABEL} "$@" ;;
    create) set -- --label {LABEL} "$@" ;;
esac
exec docker "$verb" "$@"
"#
    )
}
