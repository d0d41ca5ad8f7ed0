//! What every check works with: the engine, the web server, and the images under their README names.

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;
use xshell::Shell;

use super::dockerfile;
use super::engine::{self, Engine};
use super::image_archive::ImageArchive;
use super::model_server::{self, ModelServer};
use super::names::{CANARY, COMPILED, DESTINATION, RUNTIME};
use crate::project;
use crate::tools::access_log::{Mark, Request};
use crate::tools::process::Ended;
use crate::tools::program;

/// The stage. Everything goes when it is dropped.
#[derive(Debug)]
pub(super) struct ContainerEnv {
    // Dropped in this order: what uses the scratch directory before the directory.
    pub(super) engine: Engine,
    pub(super) server: ModelServer,
    /// `cargo xtask`.
    program: Utf8PathBuf,
    pub(super) root: Utf8PathBuf,
    _scratch: TempDir,
}

impl ContainerEnv {
    pub(super) fn start(sh: &Shell) -> Result<Self> {
        sh.create_dir(model_server::cache())?;
        let scratch = tempfile::Builder::new().prefix("containers-").tempdir_in(model_server::cache())?;
        let root = Utf8PathBuf::from_path_buf(scratch.path().to_owned())
            .ok()
            .context("the project's path is not UTF-8")?;
        let program = program::xtask(sh)?;
        let engine = Engine::start(sh, root.join("engine"))?;
        let server = ModelServer::start(sh, &root)?;
        let env = Self { engine, server, program, root, _scratch: scratch };
        sh.write_file(env.lock_path(), env.server.lock.text())?;
        let shipped = sh.read_file(project::root().join("Dockerfile"))?;
        sh.write_file(env.dockerfile_path(), dockerfile::adapted(&shipped)?)?;
        Ok(env)
    }

    pub(super) fn complaints(&self) -> String {
        self.server.complaints()
    }

    pub(super) fn lock_path(&self) -> Utf8PathBuf {
        self.root.join("check.lock")
    }

    pub(super) fn dockerfile_path(&self) -> Utf8PathBuf {
        self.root.join("Dockerfile")
    }

    /// The Dockerfile with the binary that the first build made: a build without cache then repeats what is on trial,
    /// and not minutes of compiling.
    pub(super) fn built_dockerfile(&mut self) -> Result<Utf8PathBuf> {
        let (whole, built) = (self.dockerfile_path(), self.root.join("Dockerfile.built"));
        if !built.exists() {
            let options =
                ["build", "--quiet", "--target", "build", "--tag", COMPILED, "--file", whole.as_str()];
            let context = project::root().as_str();
            self.engine.docker(&[&options[..], &[context]].concat())?.exited(0)?;
            let text = std::fs::read_to_string(&whole)?;
            std::fs::write(&built, dockerfile::with_binary_of(&text, COMPILED)?)?;
        }
        Ok(built)
    }

    /// `cargo xtask image`, with a token.
    pub(super) fn image(&mut self, arguments: &[&str], file: &Utf8Path) -> Result<Ended> {
        let program = self.program.clone();
        let run = self.engine.run(&program)?.args(&["image"]).args(arguments);
        let run = run.env("HF_TOKEN", CANARY).env("PROVISION_LOCK", self.lock_path());
        run.env("PROVISION_DOCKERFILE", file).start()?.end_within(engine::LONGEST)?.exited(0)
    }

    /// What was asked of the web server since then.
    pub(super) fn requests(&self, mark: Mark) -> Result<Vec<Request>> {
        self.server.log.since(mark)
    }

    /// Wants every file of the lock on the volume, right by `sha256sum`, and nothing besides but the marker.
    pub(super) fn complete(&mut self, volume: &str) -> Result<()> {
        let mut names: Vec<_> = self.server.lock.entries.iter().map(|entry| entry.path.clone()).collect();
        names.extend(self.server.lock.marker.clone());
        self.right(Some(volume), RUNTIME, DESTINATION, names)
    }

    /// Wants every file of the lock in a directory of an image, right by `sha256sum`, and nothing besides `names`.
    pub(super) fn right(
        &mut self,
        volume: Option<&str>,
        image: &str,
        directory: &str,
        mut names: Vec<String>,
    ) -> Result<()> {
        let mount = volume.map(engine::mount);
        let mut arguments = vec!["run", "--rm", "--interactive"];
        if let Some(mount) = &mount {
            arguments.extend(["--volume", mount]);
        }
        let script = format!(
            "cd {directory} && sha256sum --check --strict --quiet - && find . -type f -printf '%P\\n'"
        );
        arguments.extend([image, "sh", "-c", &script]);
        let sums = self.server.lock.sums();
        let run = self.engine.run("docker".into())?.args(&arguments).input(&sums)?;
        let ended = run.exits(0)?;
        let mut found: Vec<_> = ended.stdout.lines().collect();
        found.sort_unstable();
        names.sort();
        ensure!(found == names, "expected in {directory} of {image}:\n{names:#?}\nfound:\n{found:#?}");
        Ok(())
    }

    /// The digests of an image's layers for models: its last ones.
    pub(super) fn model_layers(&mut self, image: &str) -> Result<Vec<String>> {
        let text = self.engine.read(&["image", "inspect", "--format", "{{json .RootFS.Layers}}", image])?;
        let layers: Vec<String> = serde_json::from_str(&text).context(text)?;
        let models = self.server.lock.entries.len();
        ensure!(layers.len() > models, "{image} has {} layers only", layers.len());
        Ok(layers[layers.len() - models..].to_vec())
    }

    /// The images as a tar, unpacked.
    pub(super) fn save(&mut self, images: &[&str]) -> Result<ImageArchive> {
        let archive = self.root.join("saved.tar");
        let mut arguments = vec!["save", "--output", archive.as_str()];
        arguments.extend(images);
        self.engine.docker(&arguments)?.exited(0)?;
        ImageArchive::unpack(self.engine.shell(), &archive, &self.root.join("saved"))
    }
}
