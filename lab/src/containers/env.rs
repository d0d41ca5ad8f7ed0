//! The environment of a check: the engine, the model server, the lock and the Dockerfile.

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use xshell::{Shell, cmd};

use super::engine::{self, Engine};
use super::model_server::ModelServer;
use super::names::{CANARY, COMPILED, COMPILED_ARM, DESTINATION, MARKER, RUNTIME};
use super::{dockerfile, image_archive};
use crate::project;
use crate::tools::process::Ended;
use crate::tools::scratch::Scratch;
use crate::tools::{program, wheel};

/// The environment. The server stops and the engine is cleaned up when it is dropped.
#[derive(Debug)]
pub(super) struct ContainerEnv {
    // Dropped before the engine, which has the scratch directory.
    pub(super) server: ModelServer,
    pub(super) engine: Engine,
    /// The program behind `cargo xtask`.
    xtask: Utf8PathBuf,
    /// The path of [`ModelServer::lock`].
    pub(super) lock: Utf8PathBuf,
    /// The path of the adapted Dockerfile.
    pub(super) dockerfile: Utf8PathBuf,
    /// The adapted Dockerfile with the binary of [`ContainerEnv::compile`], so that builds without cache do not
    /// compile.
    pub(super) prebuilt: Utf8PathBuf,
    /// Input for `sha256sum --check`.
    sums: Utf8PathBuf,
}

impl ContainerEnv {
    pub(super) fn start(sh: &Shell) -> Result<Self> {
        sh.create_dir(wheel::cache())?;
        let scratch = Scratch::create(wheel::cache(), "containers-")?;
        let xtask = program::xtask(sh)?;
        let engine = Engine::start(sh, scratch)?;
        let folder = engine.scratch.path();
        let server = ModelServer::start(sh, folder)?;
        let file = |name: &str, text: String| {
            let path = folder.join(name);
            sh.write_file(&path, text).map(|()| path)
        };
        let lock = file("check.lock", server.lock.text())?;
        let sums = file("sums", server.lock.sums())?;
        let shipped = sh.read_file(project::root().join("Dockerfile"))?;
        let dockerfile = file("Dockerfile", dockerfile::adapted(&shipped)?)?;
        let prebuilt = folder.join("Dockerfile.prebuilt");
        Ok(Self { server, engine, xtask, lock, dockerfile, prebuilt, sums })
    }

    /// Builds [`COMPILED`] and writes the Dockerfile that uses it.
    pub(super) fn compile(&self) -> Result<()> {
        let (sh, file, root) = (self.engine.shell(), &self.dockerfile, project::root());
        let build = cmd!(sh, "docker build --quiet --target build --tag {COMPILED} --file {file} {root}");
        self.engine.succeeds(build)?;
        let text = dockerfile::with_binary_of(&sh.read_file(file)?, COMPILED)?;
        Ok(sh.write_file(&self.prebuilt, text)?)
    }

    /// The Dockerfile of [`ContainerEnv::compile`] with this program in the images for another platform. The context of
    /// a build lacks it, so it lies in an image of its own.
    pub(super) fn with_binary_for_arm64(&self, binary: &Utf8Path) -> Result<Utf8PathBuf> {
        let (sh, context) = (self.engine.shell(), self.engine.scratch.fresh("arm64"));
        sh.create_dir(&context)?;
        sh.copy_file(binary, context.join("provision"))?;
        sh.write_file(
            context.join("Dockerfile"),
            format!("FROM {COMPILED}\nCOPY provision /out/provision\n"),
        )?;
        self.engine.succeeds(cmd!(sh, "docker build --quiet --tag {COMPILED_ARM} {context}"))?;
        let text = dockerfile::with_target_binary_of(&sh.read_file(&self.prebuilt)?, COMPILED_ARM)?;
        let file = context.join("Dockerfile.arm64");
        sh.write_file(&file, text)?;
        Ok(file)
    }

    /// `cargo xtask image` with a token.
    pub(super) fn build_image(&self, file: &Utf8Path, arguments: &[&str]) -> Result<Ended> {
        let run = self.engine.program(&self.xtask)?.args(&["image"]).args(arguments).env("HF_TOKEN", CANARY);
        let run = run.env("PROVISION_LOCK", &self.lock).env("PROVISION_DOCKERFILE", file);
        run.start()?.end_within(engine::TIMEOUT)?.exited(0)
    }

    /// A run of an image with a volume at the destination: options, image, command.
    pub(super) fn container(&self, volume: &str, arguments: &[&str]) -> Result<Ended> {
        let sh = self.engine.shell();
        self.engine.run(cmd!(sh, "docker run --rm --volume {volume}:{DESTINATION} {arguments...}"))
    }

    /// Creates an empty volume.
    pub(super) fn volume(&self, name: &'static str) -> Result<&'static str> {
        let sh = self.engine.shell();
        self.engine.succeeds(cmd!(sh, "docker volume create {name}"))?;
        Ok(name)
    }

    /// Requires every file of the lock and the marker on the volume, and nothing else.
    pub(super) fn verify_volume(&self, volume: &str) -> Result<()> {
        self.verify_files(&["--volume", &format!("{volume}:{DESTINATION}"), RUNTIME], DESTINATION, &[MARKER])
    }

    /// Requires every file of the lock and `others` in a directory of an image, and nothing else. `sha256sum` in the
    /// image compares the digests.
    pub(super) fn verify_files(&self, image: &[&str], directory: &str, others: &[&str]) -> Result<()> {
        let (sh, sums) = (self.engine.shell(), &self.sums);
        let script = format!(
            "cd {directory} && sha256sum --check --strict --quiet /sums && find . -type f -printf '%P\\n'"
        );
        let run = cmd!(sh, "docker run --rm --volume {sums}:/sums:ro {image...} sh -c {script}");
        let output = self.engine.read(run)?;
        let mut found: Vec<_> = output.lines().collect();
        let paths = self.server.lock.entries.iter().map(|entry| entry.path.as_str());
        let mut expected: Vec<_> = paths.chain(others.iter().copied()).collect();
        found.sort_unstable();
        expected.sort_unstable();
        ensure!(
            found == expected,
            "expected in {directory} of {image:?}:\n{expected:#?}\nfound:\n{found:#?}"
        );
        Ok(())
    }

    /// A text of the lock, which is in every image.
    pub(super) fn known(&self) -> &str {
        &self.server.lock.entries[0].sha256
    }

    /// The digests of the model layers, which are the last ones of an image.
    pub(super) fn model_layers(&self, image: &str) -> Result<Vec<String>> {
        let (sh, format) = (self.engine.shell(), "{{json .RootFS.Layers}}");
        let text = self.engine.read(cmd!(sh, "docker image inspect --format {format} {image}"))?;
        let mut layers: Vec<String> = serde_json::from_str(&text).context(text)?;
        let others = layers.len().checked_sub(self.server.lock.entries.len());
        Ok(layers.split_off(others.with_context(|| format!("{image} has too few layers: {layers:?}"))?))
    }

    /// Searches images, their history and their configuration for the token. They have the text `known`. Returns the
    /// directory of their archive.
    pub(super) fn verify_no_token(&self, images: &[&str], known: &str) -> Result<Utf8PathBuf> {
        let sh = self.engine.shell();
        let (tar, folder) = (self.engine.scratch.fresh("tar"), self.engine.scratch.fresh("archive"));
        self.engine.succeeds(cmd!(sh, "docker save --output {tar} {images...}"))?;
        image_archive::unpack(sh, &tar, &folder)?;
        // A search that misses it would miss the token, too.
        let is_found = !image_archive::containing(sh, &folder, known)?.is_empty();
        ensure!(is_found, "the search does not find {known} of the lock in the archive");
        let leaks = image_archive::containing(sh, &folder, CANARY)?;
        ensure!(leaks.is_empty(), "the token is in {leaks:?}");
        for image in images {
            for command in [&["history", "--no-trunc"][..], &["image", "inspect"]] {
                let output = self.engine.read(cmd!(sh, "docker {command...} {image}"))?;
                ensure!(!output.contains(CANARY), "the token is in docker {command:?} {image}:\n{output}");
            }
        }
        Ok(folder)
    }
}
