//! `cargo xtask image`: builds one target of the Dockerfile with the local docker.
//!
//! A build that downloads 30 GB fails late. The command therefore checks first what `docker build` cannot know: that
//! each directory of the lock has its layer, and that registries accept layers of that size.

#![expect(clippy::print_stdout, reason = "the layer sizes and warnings are the command's output")]

mod context;
mod inputs;
mod layers;
mod registry;

use anyhow::Context as _;
use camino::Utf8PathBuf;
use clap::{Args, ValueEnum};
use provision::cli::exit::{Code, Failure};
use provision::cli::{environment, locks, units};
use xshell::{Shell, cmd};

use crate::dist::VERSION;
use crate::project;
use context::LockInContext;
use inputs::Inputs;

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
    let inputs = inputs::choose(args.lock.as_deref(), |name| sh.var(name).ok(), &args.docker);
    let Inputs { lock, mut options } = inputs.map_err(usage)?;
    // docker runs in the workspace's root, and the user's paths are relative to the current directory.
    let file = args.file.clone().unwrap_or_else(|| project::root().join("Dockerfile"));
    let unreadable = |error| usage(format!("cannot read the Dockerfile {file}: {error}"));
    let file = file.canonicalize_utf8().map_err(unreadable)?;
    let target = args.target.to_possible_value().context("every target has a name")?;
    let target = target.get_name();
    let mut tag = args.tag.clone().unwrap_or_else(|| format!("provision:{target}"));
    options.extend(args.platform.iter().map(|platform| format!("--platform={platform}")));

    // The copy in the build context lasts as long as the build.
    let _in_context;
    // The user's own values of these win.
    let mut defaults = Vec::new();
    if args.target == Target::Provision {
        defaults.push(format!("--label=org.opencontainers.image.version={VERSION}"));
        if args.tag.is_none() {
            options.push(format!("--tag=provision:{VERSION}"));
            "provision:latest".clone_into(&mut tag);
        }
    } else {
        let path = lock.unwrap_or_else(|| project::lock().into());
        if path == "-" {
            return Err(usage("the image keeps its lock: give --lock a file".to_owned()).into());
        }
        let lock = locks::read(&path)?;
        // Only this target downloads models.
        if args.target == Target::RuntimeBaked {
            let layers = layers::of(&lock, &sh.read_file(&file)?)?;
            let total = layers.iter().map(|(_, size)| size).sum();
            println!("{path}: {} in {}", units::bytes(total), units::count(layers.len(), "layer"));
            for (name, size) in &layers {
                println!("  {name:<20}  {:>8}", units::bytes(*size));
            }
            for warning in registry::warnings(&layers) {
                println!("warning: {warning}");
            }
            defaults.extend(hub_token(&sh).map(|source| format!("--secret=id=hf_token,{source}")));
        }
        let placed = LockInContext::place(&path, &lock)?;
        options.push(format!("--build-arg=MODELS_LOCK={}", placed.name));
        options.push(format!("--build-arg=MODELS_PIECES={}", placed.pieces));
        _in_context = placed;
    }
    sh.change_dir(project::root());
    let docker = &args.docker;
    // Of two values, docker takes the last one.
    cmd!(
        sh,
        "docker build --file {file} --target {target} --tag {tag} {defaults...} {docker...} {options...} ."
    )
    .env("DOCKER_BUILDKIT", "1")
    .run()
    .context(
        "the image is not built: docker says why above, or is missing (Debian: apt-get install docker.io)",
    )?;
    // A builder of buildx may push the image, or keep it to itself.
    let inspect = cmd!(sh, "docker image inspect {tag}").quiet().ignore_stdout().ignore_stderr();
    let load = if inspect.run().is_ok() { "" } else { "; add `-- --load` to have it in this docker" };
    println!("{tag} is built{load}");
    Ok(())
}

/// The place of the Hub's token for `--secret`, in the order in which `provision` looks for it. docker reads the token.
fn hub_token(sh: &Shell) -> Option<String> {
    if sh.var("HF_TOKEN").is_ok_and(|token| !token.trim().is_empty()) {
        println!("the Hub's token comes from HF_TOKEN");
        return Some("env=HF_TOKEN".to_owned());
    }
    let file = environment::hub_token_path()?.canonicalize_utf8().ok().filter(|path| path.is_file())?;
    println!("the Hub's token comes from {file}");
    Some(format!("src={file}"))
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
