//! `cargo xtask image`: the Dockerfile's targets, built with the docker on this machine.
//!
//! What `docker build` cannot know is said before it starts, because a build that fetches 30 GB fails late: whether
//! each directory of the lock has its layer, and which registries will not take one. Afterwards, what the layers weigh.

#![expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]

mod context;
mod layers;
mod registry;
mod token;

use anyhow::Context as _;
use camino::Utf8PathBuf;
use clap::{Args, ValueEnum};
use provision::cli::exit::{Code, Failure};
use provision::cli::{locks, units};
use xshell::{Shell, cmd};

use crate::project;
use context::LockInContext;
use layers::Layer;

/// Builds the container image
#[derive(Debug, Clone, Args)]
pub(crate) struct ImageArgs {
    /// With or without the models
    #[arg(long, value_enum, env = "PROVISION_TARGET", default_value_t = Target::RuntimeBaked)]
    pub(crate) target: Target,
    /// The image's name [default: provision:TARGET]
    #[arg(long, value_name = "NAME", env = "PROVISION_TAG")]
    pub(crate) tag: Option<String>,
    /// The lockfile that goes into the image [default: models.lock at the workspace root]
    #[arg(long, value_name = "PATH", env = "PROVISION_LOCK", hide_env_values = true)]
    pub(crate) lock: Option<Utf8PathBuf>,
    /// The Dockerfile [default: the project's]
    #[arg(long, value_name = "PATH", env = "PROVISION_DOCKERFILE")]
    pub(crate) file: Option<Utf8PathBuf>,
    /// What the image is for, such as linux/arm64 [default: this machine]
    #[arg(long, value_name = "PLATFORM", env = "PROVISION_PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Options for `docker build`, such as `--build-arg RUNTIME_IMAGE=…`
    #[arg(last = true, value_name = "DOCKER OPTIONS")]
    pub(crate) docker: Vec<String>,
}

/// The Dockerfile's results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// No models: they come to the volume when the container starts
    Runtime,
    /// A layer for each model directory
    RuntimeBaked,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Runtime => "runtime",
            Self::RuntimeBaked => "runtime-baked",
        }
    }
}

pub(crate) fn run(args: &ImageArgs) -> Result<(), Failure> {
    let sh = Shell::new().map_err(unexpected)?;
    let path = args.lock.clone().unwrap_or_else(|| project::lock().into());
    if path == "-" {
        return Err(Failure::new(Code::Usage, "the image keeps its lock: give --lock a file"));
    }
    let file = args.file.clone().unwrap_or_else(|| project::root().join("Dockerfile"));
    if args.target == Target::RuntimeBaked {
        let dockerfile = std::fs::read_to_string(&file)
            .map_err(|error| Failure::new(Code::Usage, format!("{file} cannot be read: {error}")))?;
        let expected = layers::fitting(&locks::read(&path)?, &dockerfile)
            .map_err(|mismatch| Failure::new(Code::Usage, mismatch))?;
        let total = expected.iter().map(|layer| layer.size).sum();
        println!("{path}: {} in {}", units::bytes(total), units::count(expected.len(), "layer"));
        show(&expected);
    } else {
        locks::read(&path)?;
    }
    build(&sh, args, &path, &file).map_err(unexpected)
}

fn unexpected(error: impl Into<anyhow::Error>) -> Failure {
    Failure::new(Code::Unexpected, format!("{:#}", error.into()))
}

fn build(sh: &Shell, args: &ImageArgs, lock: &Utf8PathBuf, file: &Utf8PathBuf) -> anyhow::Result<()> {
    let docker = cmd!(sh, "docker --version").quiet().ignore_stdout().ignore_stderr();
    docker
        .run()
        .ok()
        .context("cargo xtask image needs docker, not found on PATH; on Debian: apt-get install docker.io")?;
    // docker runs at the root; the paths were meant from here.
    let file = file.canonicalize_utf8().with_context(|| file.to_string())?;
    let lock = LockInContext::place(lock)?;
    sh.change_dir(project::root());
    let target = args.target.name();
    let tag = args.tag.clone().unwrap_or_else(|| format!("provision:{target}"));
    let mut options = vec!["--target".to_owned(), target.to_owned(), "--tag".to_owned(), tag.clone()];
    options.extend(["--build-arg".to_owned(), format!("MODELS_LOCK={}", lock.name)]);
    if let Some(platform) = &args.platform {
        options.extend(["--platform".to_owned(), platform.clone()]);
    }
    // Only this target fetches.
    if args.target == Target::RuntimeBaked {
        match token::find(|name| sh.var(name).ok()) {
            Some(token) => {
                println!("the Hub's token comes from {}", token.place());
                options.extend(["--secret".to_owned(), token.secret()]);
            }
            None => {
                println!("no token for the Hub (HF_TOKEN, or a token file): what needs one will be refused");
            }
        }
    }
    options.extend(args.docker.iter().cloned());
    cmd!(sh, "docker build --file {file} {options...} .")
        .env("DOCKER_BUILDKIT", "1")
        .run()
        .context("the image was not built; what is above says why")?;
    drop(lock);
    report(sh, &tag)
}

/// Says what the image has for layers, if this docker has the image: one that was only pushed is not here.
fn report(sh: &Shell, tag: &str) -> anyhow::Result<()> {
    let format = "{{.Size}} {{.CreatedBy}}";
    let history = cmd!(sh, "docker history --no-trunc --human=false --format {format} {tag}");
    let output = history.quiet().ignore_status().output()?;
    if !output.status.success() {
        println!("built; this docker does not have it (`--load` after `--` would bring it here)");
        return Ok(());
    }
    println!("{tag} is built");
    show(&layers::built(&String::from_utf8_lossy(&output.stdout)));
    Ok(())
}

/// The layers, and what a push of them has to reckon with.
fn show(layers: &[Layer]) {
    let width = layers.iter().map(|layer| layer.name.len()).max().unwrap_or_default();
    for Layer { name, size } in layers {
        println!("  {name:<width$}  {:>8}", units::bytes(*size));
    }
    for advice in registry::advice(layers) {
        println!("warning: {advice}");
    }
}

#[cfg(test)]
mod tests {
    use crate::{dist, project};

    #[test]
    fn the_dockerfile_has_the_manifest_of_every_member() {
        let text = |name: &str| std::fs::read_to_string(project::root().join(name)).unwrap();
        let manifest = text("Cargo.toml");
        let members = manifest.lines().find_map(|line| line.strip_prefix("members = [")).unwrap();
        for member in members.split('"').skip(1).step_by(2) {
            // Cargo wants all of them, also to build one.
            assert!(
                text("Dockerfile").contains(&format!("COPY {member}/Cargo.toml {member}/\n")),
                "{member}"
            );
            assert!(text(".dockerignore").contains(&format!("!{member}/Cargo.toml\n")), "{member}");
        }
    }

    #[test]
    fn the_dockerfile_makes_the_binary_that_dist_makes() {
        let dockerfile = std::fs::read_to_string(project::root().join("Dockerfile")).unwrap();
        assert!(dockerfile.contains(&format!("RUSTFLAGS='{}'", dist::RUSTFLAGS)), "{dockerfile}");
        assert!(
            dockerfile.contains("cargo build --locked --profile dist --package provision --target"),
            "{dockerfile}"
        );
    }
}
