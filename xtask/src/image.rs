//! `cargo xtask image`: builds one target of the Dockerfile with the local docker.
//!
//! A build that downloads 30 GB fails late. The command therefore checks first what `docker build` cannot know: that
//! each directory of the lock has its layer, and that registries accept layers of that size. Afterwards it prints the
//! size of each layer.

#![expect(clippy::print_stdout, reason = "the layer sizes and warnings are the command's output")]

mod context;
mod inputs;
mod layers;
mod registry;
mod token;

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, ValueEnum};
use provision::cli::exit::{Code, Failure};
use provision::cli::{locks, units};
use provision_core::lockfile::Lockfile;
use xshell::{Shell, cmd};

use crate::project;
use context::LockInContext;
use inputs::Inputs;
use layers::Layer;

/// The program's version: the workspace has one.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Builds the container image
#[derive(Debug, Clone, Args)]
pub(crate) struct ImageArgs {
    /// The program alone, or an image with or without the models
    #[arg(long, value_enum, env = "PROVISION_TARGET", default_value_t = Target::RuntimeBaked)]
    target: Target,
    /// The image's name [default: provision:TARGET; for provision its version, and latest]
    #[arg(long, value_name = "NAME", env = "PROVISION_TAG")]
    tag: Option<String>,
    /// The lockfile that goes into the image [default: models.lock at the workspace root]
    #[arg(long, value_name = "PATH", env = "PROVISION_LOCK", hide_env_values = true)]
    lock: Option<Utf8PathBuf>,
    /// The Dockerfile [default: the project's]
    #[arg(long, value_name = "PATH", env = "PROVISION_DOCKERFILE")]
    file: Option<Utf8PathBuf>,
    /// The image's platform, such as linux/arm64 [default: this machine's]
    #[arg(long, value_name = "PLATFORM", env = "PROVISION_PLATFORM")]
    platform: Option<String>,
    /// Options for `docker build`, such as `--build-arg RUNTIME_IMAGE=…`
    #[arg(last = true, value_name = "DOCKER OPTIONS")]
    docker: Vec<String>,
}

/// A target of the Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// The program and the certificates alone, to copy from and to run
    Provision,
    /// No models: the container downloads them to its volume when it starts
    Runtime,
    /// A layer for each model directory
    RuntimeBaked,
}

pub(crate) fn run(args: &ImageArgs) -> anyhow::Result<()> {
    let usage = |message: String| Failure::new(Code::Usage, message);
    let sh = Shell::new()?;
    let Inputs { lock, docker } =
        inputs::choose(args.lock.as_deref(), |name| sh.var(name).ok(), &args.docker).map_err(usage)?;
    let file = args.file.clone().unwrap_or_else(|| project::root().join("Dockerfile"));
    if args.target == Target::Provision {
        return build(&sh, args, None, &file, &docker);
    }
    let path = lock.unwrap_or_else(|| project::lock().into());
    if path == "-" {
        return Err(usage("the image keeps its lock: give --lock a file".to_owned()).into());
    }
    let lock = locks::read(&path)?;
    if args.target == Target::RuntimeBaked {
        let dockerfile = std::fs::read_to_string(&file)
            .map_err(|error| usage(format!("cannot read the Dockerfile {file}: {error}")))?;
        let layers = layers::expected(&lock, &dockerfile).map_err(usage)?;
        let total = layers.iter().map(|layer| layer.size).sum();
        println!("{path}: {} in {}", units::bytes(total), units::count(layers.len(), "layer"));
        print_layers(&layers);
    }
    build(&sh, args, Some((&path, &lock)), &file, &docker)
}

/// Builds the target. The target `provision` has no lock.
fn build(
    sh: &Shell,
    args: &ImageArgs,
    lock: Option<(&Utf8Path, &Lockfile)>,
    file: &Utf8Path,
    docker: &[String],
) -> anyhow::Result<()> {
    let version = cmd!(sh, "docker --version").quiet().ignore_stdout().ignore_stderr();
    version
        .run()
        .ok()
        .context("cargo xtask image needs docker, not found on PATH; on Debian: apt-get install docker.io")?;
    // docker runs in the workspace's root, and the user's paths are relative to the current directory.
    let file = file.canonicalize_utf8().with_context(|| file.to_string())?;
    let lock = lock.map(|(path, lock)| LockInContext::place(path, lock)).transpose()?;
    sh.change_dir(project::root());
    let target = args.target.to_possible_value().context("every target has a name")?;
    let target = target.get_name();
    let mut options = Vec::new();
    let tag = args.tag.clone().unwrap_or_else(|| match args.target {
        Target::Provision => {
            options.extend(["--tag".to_owned(), format!("provision:{VERSION}")]);
            "provision:latest".to_owned()
        }
        _ => format!("provision:{target}"),
    });
    match &lock {
        Some(LockInContext { name, pieces, .. }) => {
            for argument in [format!("MODELS_LOCK={name}"), format!("MODELS_PIECES={pieces}")] {
                options.extend(["--build-arg".to_owned(), argument]);
            }
        }
        None => options.extend(["--label".to_owned(), format!("org.opencontainers.image.version={VERSION}")]),
    }
    if let Some(platform) = &args.platform {
        options.extend(["--platform".to_owned(), platform.clone()]);
    }
    // Only this target downloads models.
    if args.target == Target::RuntimeBaked {
        match token::find(|name| sh.var(name).ok()) {
            Some(token) => {
                println!("the Hub's token comes from {}", token.place());
                options.extend(["--secret".to_owned(), token.secret()]);
            }
            None => println!("no token for the Hub: set HF_TOKEN if a model needs one"),
        }
    }
    options.extend(docker.iter().cloned());
    cmd!(sh, "docker build --file {file} --target {target} --tag {tag} {options...} .")
        .env("DOCKER_BUILDKIT", "1")
        .run()
        .context("docker build failed; its output above says why")?;
    let format = "{{.Size}} {{.CreatedBy}}";
    let history = cmd!(sh, "docker history --no-trunc --human=false --format {format} {tag}");
    let output = history.quiet().ignore_status().output()?;
    if output.status.success() {
        println!("{tag} is built");
        print_layers(&layers::built(&String::from_utf8_lossy(&output.stdout)));
    } else {
        // A builder of buildx may push the image, or keep it to itself.
        println!("{tag} is built, but this docker does not have it; add `-- --load` to load it");
    }
    Ok(())
}

/// Prints each layer's size, and a warning for each limit of a registry.
fn print_layers(layers: &[Layer]) {
    let width = layers.iter().map(|layer| layer.name.len()).max().unwrap_or_default();
    for Layer { name, size } in layers {
        println!("  {name:<width$}  {:>8}", units::bytes(*size));
    }
    for warning in registry::warnings(layers) {
        println!("warning: {warning}");
    }
}

#[cfg(test)]
mod tests {
    use crate::dist::binary;
    use crate::project;

    #[test]
    fn the_dockerfile_has_every_member_of_the_workspace() {
        let text = |name: &str| std::fs::read_to_string(project::root().join(name)).unwrap();
        let (manifest, dockerfile, ignore) = (text("Cargo.toml"), text("Dockerfile"), text(".dockerignore"));
        let (_, members) = manifest.split_once("\nmembers = [").unwrap();
        let (members, _) = members.split_once(']').unwrap();
        // To build one member, cargo reads the manifests of all.
        for member in members.split('"').skip(1).step_by(2) {
            if member == "provision" || member.starts_with("provision/") {
                assert!(dockerfile.contains("COPY provision provision\n") && ignore.contains("!provision\n"));
            } else {
                assert!(dockerfile.contains(&format!("COPY {member}/Cargo.toml {member}/\n")), "{member}");
                assert!(dockerfile.contains(&format!(" {member}/src/main.rs")), "{member}");
                assert!(ignore.contains(&format!("!{member}/Cargo.toml\n")), "{member}");
            }
        }
    }

    #[test]
    fn the_dockerfile_makes_the_binary_that_dist_makes() {
        let text = |name: &str| std::fs::read_to_string(project::root().join(name)).unwrap();
        let (dockerfile, script) = (text("Dockerfile"), text("provision/container/compile.sh"));
        assert_eq!(dockerfile.matches("sh provision/container/compile.sh").count(), 2, "{dockerfile}");
        assert!(script.contains(&format!("RUSTFLAGS='{}'", binary::RUSTFLAGS)), "{script}");
        assert!(
            script.contains("cargo build --locked --profile dist --package provision --target"),
            "{script}"
        );
    }
}
