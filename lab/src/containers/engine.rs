//! The Docker engine, and everything that the checks make in it.
//!
//! All calls go through a `docker` of ours, first on the search path, which adds two things to `run` and `build`:
//! `--network host`, because the models' server listens on loopback, and a label, by which all is found and removed:
//! at the end, and at the next start, should this one be killed.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use xshell::{Shell, cmd};

use super::dockerfile::CACHE;
use super::names;
use crate::tools::process::{Ended, Run};

const LABEL: &str = "provision.check=containers";

/// The first build compiles for minutes.
pub(super) const LONGEST: Duration = Duration::from_mins(20);

/// What docker's client takes from the environment.
const VARIABLES: [&str; 6] =
    ["HOME", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"];

/// The engine. What the checks made in it goes when it is dropped.
#[derive(Debug)]
pub(super) struct Engine {
    sh: Shell,
    folder: Utf8PathBuf,
    runs: u32,
    /// One check at a time: the README's commands have fixed names.
    _turn: File,
}

impl Engine {
    /// `folder` is for what the runs leave behind.
    pub(super) fn start(sh: &Shell, folder: Utf8PathBuf) -> Result<Self> {
        let answers = cmd!(sh, "docker version").quiet().ignore_status().output()?;
        ensure!(
            answers.status.success(),
            "no Docker engine answers: start one, or say where it is with DOCKER_HOST\n{}",
            String::from_utf8_lossy(&answers.stderr)
        );
        let turn = take_turn()?;
        let programs = folder.join("bin");
        sh.create_dir(&programs)?;
        let path = sh.var("PATH")?;
        let real = path
            .split(':')
            .map(|directory| Utf8Path::new(directory).join("docker"))
            .find(|candidate| candidate.is_file())
            .context("docker is not on PATH")?;
        let ours = programs.join("docker");
        sh.write_file(&ours, wrapper(&real))?;
        std::fs::set_permissions(&ours, std::fs::Permissions::from_mode(0o755))?;
        let sh = sh.clone();
        sh.set_var("PATH", format!("{programs}:{path}"));
        let mut engine = Self { sh, folder, runs: 0, _turn: turn };
        engine.clean();
        engine.names_are_free()?;
        engine.empty_cache()?;
        Ok(engine)
    }

    /// A shell whose `docker` is ours.
    pub(super) fn shell(&self) -> &Shell {
        &self.sh
    }

    /// A program in the environment that docker needs.
    pub(super) fn run(&mut self, program: &Utf8Path) -> Result<Run> {
        self.runs += 1;
        let folder = self.folder.join(format!("run-{}", self.runs));
        let run = Run::new(program, &self.sh.var("PATH")?, folder)?;
        let mut run = run.env("DOCKER_BUILDKIT", "1");
        for name in VARIABLES {
            if let Ok(value) = self.sh.var(name) {
                run = run.env(name, value);
            }
        }
        Ok(run)
    }

    /// `docker ARGUMENTS…`, to its end.
    pub(super) fn docker(&mut self, arguments: &[&str]) -> Result<Ended> {
        self.run("docker".into())?.args(arguments).start()?.end_within(LONGEST)
    }

    /// The same, which has to end well; what it printed.
    pub(super) fn read(&mut self, arguments: &[&str]) -> Result<String> {
        Ok(self.docker(arguments)?.exited(0)?.stdout.trim_end().to_owned())
    }

    /// An empty volume.
    pub(super) fn volume(&mut self, name: &str) -> Result<String> {
        self.read(&["volume", "create", name])
    }

    /// Runs an image to its end: `options`, image, command.
    pub(super) fn container(&mut self, volume: &str, arguments: &[&str]) -> Result<Ended> {
        let mount = mount(volume);
        let mut all = vec!["run", "--rm", "--volume", &mount];
        all.extend(arguments);
        self.docker(&all)
    }

    /// The README's names must not be somebody's.
    fn names_are_free(&mut self) -> Result<()> {
        for image in names::IMAGES {
            ensure!(
                self.read(&["image", "ls", "--quiet", image])?.is_empty(),
                "there is an image {image}, which the checks would replace; to go on: docker image rm {image}"
            );
        }
        let name = names::CONTAINER;
        let there = self.read(&["ps", "--all", "--quiet", "--filter", &format!("name=^{name}$")])?;
        ensure!(there.is_empty(), "there is a container {name}; to go on: docker rm --force {name}");
        for name in names::VOLUMES {
            let there = self.read(&["volume", "ls", "--quiet", "--filter", &format!("name=^{name}$")])?;
            ensure!(there.is_empty(), "there is a volume {name}; to go on: docker volume rm {name}");
        }
        Ok(())
    }

    /// Empties the cache mount of the models' stage: a cache mount can be named in a build only.
    pub(super) fn empty_cache(&mut self) -> Result<()> {
        let context = self.folder.join("empty-cache");
        self.sh.create_dir(&context)?;
        let mount = format!("--mount=type=cache,id={CACHE},target=/cache");
        let text = format!("FROM debian:bookworm-slim\nRUN {mount} find /cache -mindepth 1 -delete\n");
        self.sh.write_file(context.join("Dockerfile"), text)?;
        self.read(&["build", "--quiet", "--no-cache", context.as_str()]).map(drop)
    }

    /// Removes everything that has the label.
    fn clean(&mut self) {
        let filter = format!("label={LABEL}");
        for (list, remove) in [
            (&["ps", "--all", "--quiet"][..], &["rm", "--force", "--volumes"][..]),
            (&["volume", "ls", "--quiet"], &["volume", "rm", "--force"]),
            (&["image", "ls", "--quiet"], &["image", "rm", "--force"]),
        ] {
            let sh = &self.sh;
            let found = cmd!(sh, "docker {list...} --filter {filter}").quiet().read().unwrap_or_default();
            let mut found: Vec<_> = found.lines().collect();
            found.dedup();
            if !found.is_empty() {
                let command = cmd!(sh, "docker {remove...} {found...}").quiet().ignore_status();
                let _ = command.ignore_stdout().ignore_stderr().run();
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.empty_cache();
        self.clean();
    }
}

/// `--volume`'s value: a volume where `ComfyUI` has its models.
pub(super) fn mount(volume: &str) -> String {
    format!("{volume}:{}", names::DESTINATION)
}

/// Waits until no other check uses an engine. The lock goes with the process.
#[expect(clippy::print_stdout, reason = "who waits should know for what")]
fn take_turn() -> Result<File> {
    let path = std::env::temp_dir().join("provision-check-containers.lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
    if file.try_lock().is_err() {
        println!("    waiting for another run of these checks ({})", path.display());
        file.lock()?;
    }
    Ok(file)
}

fn wrapper(docker: &Utf8Path) -> String {
    format!(
        r#"#!/bin/sh
# By `cargo lab containers`: the models' server is on loopback, and what the checks make has a label.
case ${{1-}} in
    build | run)
        verb=$1
        shift
        exec {docker} "$verb" --network host --label {LABEL} "$@"
        ;;
    volume)
        if [ "${{2-}}" = create ]; then
            shift 2
            exec {docker} volume create --label {LABEL} "$@"
        fi
        ;;
esac
exec {docker} "$@"
"#
    )
}
