//! What every proof works with: the engine, the web server, and the images under their README names.

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;
use xshell::Shell;

use super::engine::{self, Engine};
use super::site::{self, Site};
use super::{dockerfile, saved};
use crate::project;
use crate::tools::access_log::{Mark, Request};
use crate::tools::process::Ended;
use crate::tools::program;

pub(super) const BAKED: &str = "provision:runtime-baked";
pub(super) const RUNTIME: &str = "provision:runtime";
/// Has the binary.
pub(super) const COMPILED: &str = "provision-check:build";
/// Was built with models that want the token.
pub(super) const WITH_TOKEN: &str = "provision-check:token";
/// Has nothing but the binary.
pub(super) const SCRATCH: &str = "provision-check:scratch";
/// Every name that an image gets here.
pub(super) const IMAGES: [&str; 5] = [BAKED, RUNTIME, COMPILED, WITH_TOKEN, SCRATCH];

/// Where `ComfyUI` has its models in the images.
pub(super) const DESTINATION: &str = "/workspace/ComfyUI/models";
/// Where the models are in the baked image.
pub(super) const MODELS: &str = "/opt/models";

/// The token that must be nowhere.
pub(super) const CANARY: &str = "hf_canary_0123456789abcdefghijklmnop";

/// The stage. Everything goes when it is dropped.
#[derive(Debug)]
pub(super) struct World {
    // Dropped in this order: what uses the scratch directory before the directory.
    pub(super) engine: Engine,
    pub(super) site: Site,
    /// `cargo xtask`.
    program: Utf8PathBuf,
    pub(super) root: Utf8PathBuf,
    _scratch: TempDir,
}

impl World {
    pub(super) fn start(sh: &Shell) -> Result<Self> {
        sh.create_dir(site::cache())?;
        let scratch = tempfile::Builder::new().prefix("containers-").tempdir_in(site::cache())?;
        let root = Utf8PathBuf::from_path_buf(scratch.path().to_owned())
            .ok()
            .context("the project's path is not UTF-8")?;
        let program = program::xtask(sh)?;
        let engine = Engine::start(sh, root.join("engine"))?;
        let site = Site::start(sh, &root)?;
        let world = Self { engine, site, program, root, _scratch: scratch };
        sh.write_file(world.lock_path(), world.site.lock.text())?;
        let shipped = sh.read_file(project::root().join("Dockerfile"))?;
        sh.write_file(world.dockerfile_path(), dockerfile::adapted(&shipped)?)?;
        Ok(world)
    }

    pub(super) fn complaints(&self) -> String {
        self.site.complaints()
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
        self.site.log.since(mark)
    }

    /// Wants every file of the lock on the volume, right by `sha256sum`, and nothing besides but the marker.
    pub(super) fn complete(&mut self, volume: &str) -> Result<()> {
        let mut names: Vec<_> = self.site.lock.entries.iter().map(|entry| entry.path.clone()).collect();
        names.extend(self.site.lock.marker.clone());
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
        let sums = self.site.lock.sums();
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
        let models = self.site.lock.entries.len();
        ensure!(layers.len() > models, "{image} has {} layers only", layers.len());
        Ok(layers[layers.len() - models..].to_vec())
    }

    /// The images as a tar, unpacked.
    pub(super) fn save(&mut self, images: &[&str]) -> Result<saved::Images> {
        let archive = self.root.join("saved.tar");
        let mut arguments = vec!["save", "--output", archive.as_str()];
        arguments.extend(images);
        self.engine.docker(&arguments)?.exited(0)?;
        saved::Images::unpack(self.engine.shell(), &archive, &self.root.join("saved"))
    }
}
