//! The environment of a check: the engine, the server of [`crate::real`], a lock, and a runner of scripts.

use std::cmp::Reverse;
use std::fs::File;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use xshell::Shell;

use super::engine::{self, COMPILED, DOCUMENTED, LABEL, RUNTIME};
use crate::project;
use crate::real::{RealFixture, TOKEN};
use crate::tools::files::{files_below, files_with};
use crate::tools::lock_text::{FOLDER, Lock};
use crate::tools::process::{Ended, Run, Running};
use crate::tools::program;

/// The directory from which `ComfyUI` reads its models.
pub(super) const DESTINATION: &str = "/workspace/ComfyUI/models";
/// The directory of the models in the baked image.
pub(super) const MODELS: &str = "/opt/models";
/// The marker's name in the lock of the checks and in the documented commands.
pub(super) const MARKER: &str = ".qwen_models_downloaded";

/// The directories of the project's lock, the largest first. The Dockerfile has a layer for each.
const DIRECTORIES: [&str; 4] = ["diffusion_models", "text_encoders", "loras", "vae"];

/// The limit for one script. The first build compiles for minutes.
const TIMEOUT: Duration = Duration::from_mins(20);

/// The environment variables of docker's client and of cargo.
const VARIABLES: [&str; 9] = [
    "HOME",
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
    "CARGO_HOME",
    "CARGO_TARGET_DIR",
    "RUSTUP_HOME",
];

/// The environment. Its drop removes everything that the checks created in the engine, and stops the server.
#[derive(Debug)]
pub(super) struct ContainerEnv {
    pub(super) server: RealFixture,
    /// One file in each directory.
    pub(super) lock: Lock,
    /// The path of `lock`.
    pub(super) lock_file: Utf8PathBuf,
    _engine_lock: File,
}

impl ContainerEnv {
    pub(super) fn start(sh: Shell) -> Result<Self> {
        let program = program::xtask(&sh)?;
        let server = RealFixture::start(sh, program)?;
        let engine_lock = engine::start(&server.sh, server.scratch.path())?;
        let mut lock = server.lock();
        lock.entries.sort_by_key(|entry| Reverse(entry.size));
        lock.entries.truncate(DIRECTORIES.len());
        for (entry, directory) in lock.entries.iter_mut().zip(DIRECTORIES) {
            entry.path = entry.path.replace(FOLDER, directory);
        }
        lock.marker = Some(MARKER.to_owned());
        let lock_file = server.scratch.path().join("check.lock");
        server.sh.write_file(&lock_file, lock.text())?;
        server.sh.write_file(server.scratch.path().join("sums"), lock.sums())?;
        server.sh.write_file(server.scratch.path().join("docker.sed"), "")?;
        let env = Self { server, lock, lock_file, _engine_lock: engine_lock };
        env.prepare_engine()?;
        Ok(env)
    }

    /// Removes what an earlier run has left, and refuses to replace what a user has made.
    fn prepare_engine(&self) -> Result<()> {
        self.remove_labelled()?;
        let names = self.read(engine::LIST)?;
        let taken = DOCUMENTED.into_iter().find(|name| names.lines().any(|taken| taken == *name));
        if let Some(name) = taken {
            bail!(
                "the checks would replace {name}: remove it with docker rm, docker volume rm or docker image rm"
            );
        }
        self.empty_cache()
    }

    /// Empties the cache mount of the models' stage. Only a build can reach a cache mount.
    fn empty_cache(&self) -> Result<()> {
        let mount = format!("--mount=type=cache,id={},target=/cache", engine::CACHE);
        let text = format!("FROM debian:bookworm-slim\nRUN {mount} find /cache -mindepth 1 -delete\n");
        self.build(&self.server.scratch.fresh("context"), "--no-cache", &text)
    }

    fn remove_labelled(&self) -> Result<()> {
        let script = format!(
            "docker ps --all --quiet --filter label={LABEL} | xargs --no-run-if-empty docker rm --force --volumes || true
            docker volume ls --quiet --filter label={LABEL} | xargs --no-run-if-empty docker volume rm --force || true
            docker image ls --quiet --filter label={LABEL} | xargs --no-run-if-empty docker image rm --force || true"
        );
        self.succeeds(&script).map(drop)
    }

    /// Starts a script, in which `docker` is the wrapper and `HF_TOKEN` is set.
    pub(super) fn start_script(&self, script: &str) -> Result<Running> {
        let (sh, scratch) = (&self.server.sh, &self.server.scratch);
        let path = format!("{}:{}", scratch.path(), sh.var("PATH")?);
        let mut run = Run::new("bash".into(), &path, scratch.fresh("run"))?;
        for name in VARIABLES {
            if let Ok(value) = sh.var(name) {
                run = run.env(name, value);
            }
        }
        let run = run.env("DOCKER_BUILDKIT", "1").env("BUILDKIT_PROGRESS", "plain").env("HF_TOKEN", TOKEN);
        run.args(&["-c", &format!("set -eu -o pipefail\n{script}")]).start()
    }

    /// Runs a script to its end.
    pub(super) fn run(&self, script: &str) -> Result<Ended> {
        self.start_script(script)?.end_within(TIMEOUT)
    }

    /// Runs a script, which must succeed.
    pub(super) fn succeeds(&self, script: &str) -> Result<Ended> {
        self.run(script)?.exited(0)
    }

    /// The output of a script, which must succeed.
    pub(super) fn read(&self, script: &str) -> Result<String> {
        Ok(self.succeeds(script)?.stdout.trim_end().to_owned())
    }

    /// The command `cargo xtask image` on the lock.
    pub(super) fn image_command(&self, arguments: &str) -> String {
        format!("PROVISION_LOCK={} {} image {arguments}", self.lock_file, self.server.program)
    }

    /// `cargo xtask image` on the lock.
    pub(super) fn image(&self, arguments: &str) -> Result<Ended> {
        self.succeeds(&self.image_command(arguments))
    }

    /// Builds the image [`COMPILED`], which later builds use.
    pub(super) fn compile(&self) -> Result<()> {
        let root = project::root();
        // Without these words the edits change nothing, and the checks would use the cache mount of real builds.
        let text = self.server.sh.read_file(root.join("Dockerfile"))?;
        for words in ["id=provision-models,", " AS native\n", " AS models\n"] {
            ensure!(text.contains(words), "the Dockerfile lacks {words:?}, which the checks replace");
        }
        let build = format!("docker build --target build --tag {COMPILED} --file {root}/Dockerfile {root}");
        self.succeeds(&build)?;
        self.use_compiled(COMPILED)
    }

    /// Builds take the binaries of [`engine::compiled_edits`] from now on.
    pub(super) fn use_compiled(&self, build: &str) -> Result<()> {
        let edits = self.server.scratch.path().join("docker.sed");
        Ok(self.server.sh.write_file(edits, engine::compiled_edits(build))?)
    }

    /// Builds a Dockerfile with this text, in a folder that has its other inputs.
    pub(super) fn build(&self, context: &Utf8Path, options: &str, text: &str) -> Result<()> {
        self.server.sh.write_file(context.join("Dockerfile"), text)?;
        self.succeeds(&format!("docker build {options} {context}")).map(drop)
    }

    /// A run of an image with a volume at the destination: options, image, command.
    pub(super) fn container(&self, volume: &str, arguments: &str) -> Result<Ended> {
        self.run(&format!("docker run --rm --volume {volume}:{DESTINATION} {arguments}"))
    }

    /// Creates an empty volume.
    pub(super) fn volume(&self, name: &'static str) -> Result<&'static str> {
        self.succeeds(&format!("docker volume create --label {LABEL} {name}"))?;
        Ok(name)
    }

    /// A file of the lock with its URLs below `base`.
    pub(super) fn lock_at(&self, base: &str) -> Result<Utf8PathBuf> {
        let path = self.server.scratch.fresh("lock");
        let text = self.lock.text().replace(&format!("{}/files", self.server.hub()), base);
        self.server.sh.write_file(&path, text)?;
        Ok(path)
    }

    /// The size of all files of the lock together.
    pub(super) fn total(&self) -> u64 {
        self.lock.entries.iter().map(|entry| entry.size).sum()
    }

    /// Requires every file of the lock and the marker on the volume, and nothing else.
    pub(super) fn verify_volume(&self, volume: &str) -> Result<()> {
        self.verify_files(&format!("--volume {volume}:{DESTINATION} {RUNTIME}"), DESTINATION, &[MARKER])
    }

    /// Requires every file of the lock and `others` in a directory of an image, and nothing else. `sha256sum` in the
    /// image compares the digests.
    pub(super) fn verify_files(&self, image: &str, directory: &str, others: &[&str]) -> Result<()> {
        let output = self.read(&format!(
            "docker run --rm --volume {}/sums:/sums:ro {image} sh -c \
             'cd {directory} && sha256sum --check --strict --quiet /sums && find . -type f -printf \"%P\\n\"'",
            self.server.scratch.path(),
        ))?;
        let mut found: Vec<_> = output.lines().collect();
        let paths = self.lock.entries.iter().map(|entry| entry.path.as_str());
        let mut expected: Vec<_> = paths.chain(others.iter().copied()).collect();
        found.sort_unstable();
        expected.sort_unstable();
        ensure!(found == expected, "expected in {directory} of {image}:\n{expected:#?}\nfound:\n{found:#?}");
        Ok(())
    }

    /// The digests of an image's last layers.
    pub(super) fn last_layers(&self, image: &str, count: usize) -> Result<String> {
        let format = r#"{{join .RootFS.Layers "\n"}}"#;
        self.read(&format!("docker image inspect --format '{format}' {image} | tail --lines {count}"))
    }

    /// The digests of the layers with the files of the lock.
    pub(super) fn model_layers(&self, image: &str) -> Result<String> {
        self.last_layers(image, self.lock.entries.len())
    }

    pub(super) fn verify_platform(&self, image: &str, platform: &str) -> Result<()> {
        let format = "{{.Os}}/{{.Architecture}}";
        let found = self.read(&format!("docker image inspect --format '{format}' {image}"))?;
        ensure!(found == platform, "{image} is for {found}");
        Ok(())
    }

    /// Requires images, their history and their configuration without the token. They have the text `known`. Returns
    /// the paths in each layer, a line each. Directories end with a slash.
    pub(super) fn layers_without_token(&self, images: &[&str], known: &str) -> Result<Vec<String>> {
        let (sh, folder) = (&self.server.sh, self.server.scratch.fresh("archive"));
        let names = images.join(" ");
        // With --force gzip copies a file that is not compressed.
        self.succeeds(&format!(
            r#"mkdir {folder}
            docker save {names} | tar --extract --directory {folder}
            find {folder} -type f | while read -r file; do
                gzip -dc --force "$file" > "$file.plain" && mv "$file.plain" "$file"
            done"#
        ))?;
        // A search that misses it would miss the token, too.
        let is_found = !known.is_empty() && !files_with(sh, &folder, known)?.is_empty();
        ensure!(is_found, "the search does not find {known:?} in the archive of {names}");
        self.succeeds(&format!(
            "for image in {names}; do docker history --no-trunc $image; done > {folder}/history
            docker image inspect {names} > {folder}/configuration"
        ))?;
        let leaks = files_with(sh, &folder, TOKEN)?;
        ensure!(leaks.is_empty(), "the token is in {leaks:?} of {names}");
        // tar fails for the configuration in JSON, which is no layer.
        let list = |path| self.run(&format!("tar --list --file {folder}/{path} | sed 's|^\\./||'"));
        files_below(sh, &folder)?.into_iter().map(|path| Ok(list(path)?.stdout)).collect()
    }

    /// Requires a layer for each of the paths below [`MODELS`], with its parents and nothing else, and no token.
    pub(super) fn verify_layers<'a>(
        &self,
        images: &[&str],
        known: &str,
        paths: impl IntoIterator<Item = &'a str>,
    ) -> Result<()> {
        let layers = self.layers_without_token(images, known)?;
        for path in paths {
            let parents = path.match_indices('/').map(|(at, _)| &path[..=at]);
            let paths = [""].into_iter().chain(parents).chain([path]);
            let paths: Vec<_> = paths.map(|path| format!("opt/models/{path}\n")).collect();
            let expected = format!("opt/\n{}", paths.concat());
            ensure!(
                layers.contains(&expected),
                "no layer has this and nothing else:\n{expected}\n{layers:#?}"
            );
        }
        Ok(())
    }
}

impl Drop for ContainerEnv {
    fn drop(&mut self) {
        let _ = self.empty_cache();
        let _ = self.remove_labelled();
    }
}
