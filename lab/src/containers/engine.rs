//! The Docker engine, and the removal of everything that the checks create in it.
//!
//! All calls go through a wrapper named `docker`, first on the search path. It adds `--network host`, because the model
//! server listens on loopback, and a label, by which everything is removed: at the end, and at the next start after a
//! kill.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use camino::Utf8Path;
use xshell::{Cmd, Shell, cmd};

use super::dockerfile::CACHE;
use super::names::{DOCS_CONTAINERS, DOCS_VOLUMES, IMAGES};
use crate::tools::process::{Ended, Run, Running};
use crate::tools::scratch::Scratch;

const LABEL: &str = "provision.check=containers";

/// The limit for one command. The first build compiles for minutes.
pub(super) const TIMEOUT: Duration = Duration::from_mins(20);

/// The environment variables of docker's client.
const VARIABLES: [&str; 6] =
    ["HOME", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"];

/// The commands that list and remove containers, volumes and images.
const KINDS: [[&[&str]; 2]; 3] = [
    [&["ps", "--all"], &["rm", "--force", "--volumes"]],
    [&["volume", "ls"], &["volume", "rm", "--force"]],
    [&["image", "ls"], &["image", "rm", "--force"]],
];

/// The engine. Its drop removes everything that the checks created.
#[derive(Debug)]
pub(super) struct Engine {
    sh: Shell,
    /// Holds the files of runs and checks.
    pub(super) scratch: Scratch,
    /// One run at a time: the documented commands have fixed names.
    _lock: File,
}

impl Engine {
    pub(super) fn start(sh: &Shell, scratch: Scratch) -> Result<Self> {
        let version = cmd!(sh, "docker version").quiet().ignore_status().output()?;
        let error = String::from_utf8_lossy(&version.stderr);
        ensure!(version.status.success(), "no Docker engine answers: start one, or set DOCKER_HOST\n{error}");
        let lock = wait_for_lock()?;
        let wrapper = scratch.path().join("bin/docker");
        let path = sh.var("PATH")?;
        sh.write_file(&wrapper, wrapper_script(&path))?;
        std::fs::set_permissions(&wrapper, Permissions::from_mode(0o755))?;
        let sh = sh.clone();
        sh.set_var("PATH", format!("{}/bin:{path}", scratch.path()));
        let engine = Self { sh, scratch, _lock: lock };
        engine.remove_labelled();
        for ([list, remove], names) in KINDS.into_iter().zip([&DOCS_CONTAINERS[..], &DOCS_VOLUMES, &IMAGES]) {
            for name in names {
                let by_name = format!("name=^{name}$");
                let filter = if list[0] == "image" { format!("reference={name}") } else { by_name };
                let exists = !engine.list(list, &filter).is_empty();
                let remove = remove.join(" ");
                ensure!(!exists, "the checks would replace {name}; to remove it: docker {remove} {name}");
            }
        }
        engine.empty_cache()?;
        Ok(engine)
    }

    /// A shell whose `docker` is the wrapper.
    pub(super) fn shell(&self) -> &Shell {
        &self.sh
    }

    /// A run of `program` with docker's environment.
    pub(super) fn program(&self, program: &Utf8Path) -> Result<Run> {
        let run = Run::new(program, &self.sh.var("PATH")?, self.scratch.fresh("run"))?;
        let variables = VARIABLES.iter().filter_map(|name| Some((name, self.sh.var(name).ok()?)));
        Ok(variables.fold(run.env("DOCKER_BUILDKIT", "1"), |run, (name, value)| run.env(name, value)))
    }

    /// Starts a docker command.
    pub(super) fn start_command(&self, command: Cmd<'_>) -> Result<Running> {
        let command = Command::from(command);
        let arguments: Vec<_> = command.get_args().filter_map(OsStr::to_str).collect();
        self.program("docker".into())?.args(&arguments).start()
    }

    /// Runs a docker command to its end.
    pub(super) fn run(&self, command: Cmd<'_>) -> Result<Ended> {
        self.start_command(command)?.end_within(TIMEOUT)
    }

    /// Runs a docker command, which must succeed.
    pub(super) fn succeeds(&self, command: Cmd<'_>) -> Result<Ended> {
        self.run(command)?.exited(0)
    }

    /// The output of a docker command, which must succeed.
    pub(super) fn read(&self, command: Cmd<'_>) -> Result<String> {
        Ok(self.succeeds(command)?.stdout.trim_end().to_owned())
    }

    /// Empties the cache mount of the models' stage. Only a build can reach a cache mount.
    fn empty_cache(&self) -> Result<()> {
        let context = self.scratch.fresh("empty-cache");
        let mount = format!("--mount=type=cache,id={CACHE},target=/cache");
        let text = format!("FROM debian:bookworm-slim\nRUN {mount} find /cache -mindepth 1 -delete\n");
        let sh = &self.sh;
        sh.write_file(context.join("Dockerfile"), text)?;
        self.succeeds(cmd!(sh, "docker build --quiet --no-cache {context}")).map(drop)
    }

    fn list(&self, list: &[&str], filter: &str) -> Vec<String> {
        let sh = &self.sh;
        let ids = cmd!(sh, "docker {list...} --quiet --filter {filter}").quiet().read().unwrap_or_default();
        ids.lines().map(str::to_owned).collect()
    }

    fn remove_labelled(&self) {
        for [list, remove] in KINDS {
            let ids = self.list(list, &format!("label={LABEL}"));
            if !ids.is_empty() {
                let sh = &self.sh;
                let command = cmd!(sh, "docker {remove...} {ids...}").quiet().ignore_status();
                let _ = command.ignore_stdout().ignore_stderr().run();
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.empty_cache();
        self.remove_labelled();
    }
}

/// Waits until no other run of the checks uses an engine. The kernel releases the lock with the process.
#[expect(clippy::print_stdout, reason = "a silent wait looks like a hang")]
fn wait_for_lock() -> Result<File> {
    let path = std::env::temp_dir().join("provision-check-containers.lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
    if file.try_lock().is_err() {
        println!("    waiting for another run of these checks, which holds {}", path.display());
        file.lock()?;
    }
    Ok(file)
}

fn wrapper_script(path: &str) -> String {
    format!(
        r#"#!/bin/sh
# By `cargo lab containers`: reaches the model server on loopback, also from a list, and labels what the checks must remove.
PATH='{path}'
case "$1 ${{2-}}" in
    "build "*)
        shift
        set -- build --network host --label {LABEL} "$@"
        ;;
    "run "*)
        shift
        set -- run --network host --env PROVISION_ALLOW_PRIVATE --label {LABEL} "$@"
        ;;
    "create "*)
        shift
        set -- create --label {LABEL} "$@"
        ;;
    "volume create")
        shift 2
        set -- volume create --label {LABEL} "$@"
        ;;
esac
exec docker "$@"
"#
    )
}
