//! `provision init`: writes the files of a repository around its lock: Dockerfile, workflow, start script,
//! pod.
//!
//! A file that is there stays as it is, unless `--force` is given. Of a file with marked lines (`template`)
//! only these follow the lock, so a user's edits survive a new model directory. The lock itself is created,
//! but never replaced.

mod layers;
mod template;

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use camino::{Utf8Component, Utf8Path};
use clap::Args;

use super::exit::{Code, Failure};
use super::lock::LockFile;
use super::{locks, tell, units};
use provision_core::lockfile::Lockfile;

/// The program's image where the build names none: the tag of `cargo xtask image --target provision`.
const IMAGE: &str = match option_env!("PROVISION_IMAGE") {
    Some(image) => image,
    None => concat!("provision:", env!("CARGO_PKG_VERSION")),
};

const DOCKERFILE: &str = "Dockerfile.models";
const WORKFLOW: &str = ".github/workflows/models.yml";
const START_SCRIPT: &str = "pre_start.sh";
const POD: &str = "models-pod.yaml";

/// The largest layer that ghcr.io accepts, in bytes: GitHub's "Working with the Container registry".
const GHCR_LAYER: u64 = 10_000_000_000;

/// Options of `init`.
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
#[derive(Debug, Clone, Args)]
pub struct InitArgs {
    /// Write Dockerfile.models: your image with the models, a layer for each model directory of the lock
    #[arg(long)]
    dockerfile: bool,
    /// Write .github/workflows/models.yml, which builds that image and pushes it to ghcr.io
    #[arg(long)]
    github: bool,
    /// Write `pre_start.sh`, which completes the models at a container's start
    #[arg(long)]
    pre_start: bool,
    /// Write models-pod.yaml: a pod whose init container completes the models on a volume
    #[arg(long)]
    kubernetes: bool,
    /// The lock.
    #[command(flatten)]
    file: LockFile,
    /// The program's image, as the written files name it
    #[arg(long, value_name = "REF", env = "PROVISION_IMAGE", default_value = IMAGE, value_parser = image)]
    image: String,
    /// Replace files that are there, with your edits in them
    #[arg(long, conflicts_with = "diff")]
    force: bool,
    /// Write nothing: show the difference between the files that are there and the ones to write
    #[arg(long)]
    diff: bool,
}

/// An image's name goes into YAML and into a Dockerfile as it is.
fn image(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-:/@".contains(c);
    if !text.is_empty() && text.chars().all(fits) {
        return Ok(text.to_owned());
    }
    Err("expected an image such as provision:0.1.0 or ghcr.io/owner/provision@sha256:…".to_owned())
}

/// A file to write.
struct Draft {
    path: &'static str,
    text: String,
    mode: u32,
    /// The command or the step that makes use of it.
    next: String,
}

/// Writes the files that `args` choose into the working directory; `default` is the lock if none is given.
///
/// # Errors
/// A file is there with other content, a file cannot be written, or the lock does not suit it.
pub fn run(args: &InitArgs, default: &str) -> Result<(), Failure> {
    let path = args.file.writable(default)?;
    let lock = lock_of(args, &path)?;
    let chosen = args.dockerfile || args.github || args.pre_start || args.kubernetes;
    let mut problems = Vec::new();
    let mut next = Vec::new();
    for draft in drafts(args, &path, &lock) {
        match draft.and_then(|draft| draft.place(args).map(|()| draft.next)) {
            Ok(step) => next.push(step),
            Err(failure) => problems.push(failure),
        }
    }
    if !chosen {
        tell(OFFER.trim_end());
    }
    if !args.diff {
        if lock.models().is_empty() {
            let option = if path == default { String::new() } else { format!(" --lock {path}") };
            next.insert(0, format!("provision lock import workflow.json{option}"));
        } else if next.is_empty() && problems.is_empty() {
            next.push("provision fetch".to_owned());
        }
        if !next.is_empty() {
            tell(format_args!("next: {}", next.join("; then ")));
        }
    }
    let Some(first) = problems.first() else { return Ok(()) };
    let messages: Vec<_> = problems.iter().map(|failure| failure.message.as_str()).collect();
    Err(Failure::new(first.code, messages.join("\n       ")))
}

/// What a run without options leaves out.
const OFFER: &str = "\
It also writes, for this lock:
  --dockerfile  Dockerfile.models: your image with the models in its layers
  --github      .github/workflows/models.yml: builds that image and pushes it
  --pre-start   pre_start.sh: completes the models at a container's start
  --kubernetes  models-pod.yaml: the same in an init container, on a volume
";

/// Reads the lock, or creates it with a comment.
fn lock_of(args: &InitArgs, path: &Utf8Path) -> Result<Lockfile, Failure> {
    const EMPTY: &str = include_str!("init/templates/models.lock");
    if path.symlink_metadata().is_ok() {
        let lock = locks::read(path)?;
        tell(format_args!("unchanged  {path}: {}", units::count(lock.models().len(), "model")));
        return Ok(lock);
    }
    let lock = Lockfile::parse(path.as_str(), EMPTY)?;
    if args.diff {
        tell(template::difference(path.as_str(), "", EMPTY));
    } else {
        create(path, EMPTY, 0o644)?;
        tell(format_args!("created    {path}: no model yet, and the two commands that add some"));
    }
    Ok(lock)
}

/// The files that `args` choose, or the reason against one.
fn drafts(args: &InitArgs, path: &Utf8Path, lock: &Lockfile) -> Vec<Result<Draft, Failure>> {
    let mut drafts = Vec::new();
    let names = [("IMAGE", args.image.as_str()), ("DOCKERFILE", DOCKERFILE), ("POD", POD)];
    let fill = |text: &str, more: &[(&str, &str)]| template::fill(text, &[&names[..], more].concat());
    if args.dockerfile {
        drafts.push(in_context(path).and_then(|path| {
            let layers = layers::of(lock)?;
            let has_script = args.pre_start || Utf8Path::new(START_SCRIPT).exists();
            let script = if has_script { format!("COPY {START_SCRIPT} /\n") } else { String::new() };
            let values =
                [("LOCK", path), ("EXPECTED", &layers.expected()), ("LAYERS", &(script + &layers.copies()))];
            Ok(Draft {
                path: DOCKERFILE,
                text: fill(include_str!("init/templates/Dockerfile.models"), &values),
                mode: 0o644,
                next: format!(
                    "docker build --file {DOCKERFILE} --build-arg BASE_IMAGE=YOUR-IMAGE --tag YOUR-NAME ."
                ),
            })
        }));
    }
    if args.github {
        drafts.push(in_context(path).map(|path| {
            if let Ok(layers) = layers::of(lock) {
                for (name, size) in layers.above(GHCR_LAYER) {
                    let (size, limit) = (units::bytes(size), units::bytes(GHCR_LAYER));
                    tell(format_args!(
                        "warning: ghcr.io accepts layers up to {limit}, and {name} has {size}: \
                         change the registry in {WORKFLOW}"
                    ));
                }
            }
            let has_dockerfile = args.dockerfile && !lock.models().is_empty();
            let first = if has_dockerfile || Utf8Path::new(DOCKERFILE).exists() {
                ""
            } else {
                "provision init --dockerfile; then "
            };
            Draft {
                path: WORKFLOW,
                text: fill(include_str!("init/templates/models.yml"), &[("LOCK", path)]),
                mode: 0o644,
                next: format!("{first}commit {path}, {DOCKERFILE} and {WORKFLOW}, and push"),
            }
        }));
    }
    if args.pre_start {
        drafts.push(Ok(Draft {
            path: START_SCRIPT,
            text: include_str!("init/templates/pre_start.sh").to_owned(),
            mode: 0o755,
            next: format!("call /{START_SCRIPT} at the container's start"),
        }));
    }
    if args.kubernetes {
        let storage = layers::storage(lock);
        let values = [("LOCK", path.as_str()), ("STORAGE", &storage)];
        drafts.push(Ok(Draft {
            path: POD,
            text: fill(include_str!("init/templates/models-pod.yaml"), &values),
            mode: 0o644,
            next: format!(
                "kubectl create configmap models-lock --from-file=models.lock={path}; \
                 then kubectl apply --filename {POD}"
            ),
        }));
    }
    drafts
}

/// The lock's path in a build context, which is the working directory.
fn in_context(path: &Utf8Path) -> Result<&str, Failure> {
    let path = path.strip_prefix(".").unwrap_or(path);
    let is_below = path.components().all(|part| matches!(part, Utf8Component::Normal(_)));
    if is_below && layers::fits_dockerfile(path.as_str()) {
        return Ok(path.as_str());
    }
    let why = format!("a build reads no lock at {path}: give --lock a plain path below this directory");
    Err(Failure::new(Code::Usage, why))
}

impl Draft {
    /// Writes the file, or its marked lines, or neither: by what is there and what `args` allow.
    fn place(&self, args: &InitArgs) -> Result<(), Failure> {
        let Self { path, text, mode, .. } = self;
        let there = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            read => Some(read.map_err(|error| unwritable(path, &error))?),
        };
        match there {
            _ if args.diff => {
                let there = there.unwrap_or_default();
                let same = there == *text;
                let equal = || format!("unchanged  {path}");
                tell(if same { equal() } else { template::difference(path, &there, text) });
            }
            None => {
                create(Utf8Path::new(path), text, *mode)?;
                tell(format_args!("created    {path}"));
            }
            Some(there) if there == *text => tell(format_args!("unchanged  {path}")),
            Some(_) if args.force => {
                std::fs::write(path, text).map_err(|error| unwritable(path, &error))?;
                tell(format_args!("replaced   {path}"));
            }
            Some(there) => match template::with_marked_lines(&there, text) {
                Some(merged) if merged == there => {
                    tell(format_args!(
                        "unchanged  {path}: its marked lines fit the lock, and your edits stay"
                    ));
                }
                Some(merged) => {
                    std::fs::write(path, merged).map_err(|error| unwritable(path, &error))?;
                    tell(format_args!("updated    {path}: only its marked lines; your edits stay"));
                }
                None => {
                    let why = format!(
                        "{path} is there with other content and stays: --diff shows the difference, \
                         --force replaces it and loses your edits"
                    );
                    return Err(Failure::new(Code::Usage, why));
                }
            },
        }
        Ok(())
    }
}

/// Creates a file that is not there.
fn create(path: &Utf8Path, text: &str, mode: u32) -> Result<(), Failure> {
    let write = || {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        // Between the look at the path and this call another program may have created it.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())
    };
    write().map_err(|error| unwritable(path.as_str(), &error))
}

fn unwritable(path: &str, error: &std::io::Error) -> Failure {
    Failure::new(Code::Disk, format!("{path} cannot be read or written: {error}; check its permissions"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_lock_is_valid_and_every_placeholder_is_filled() {
        let lock = Lockfile::parse("models.lock", include_str!("init/templates/models.lock")).unwrap();
        assert!(lock.models().is_empty());
        let model = format!(
            "version = 1\n[[model]]\npath = \"a b/x\"\nurl = \"https://host/x\"\nsize = 5\nsha256 = \"{}\"\n",
            "0".repeat(64)
        );
        let lock = Lockfile::parse("models.lock", &model).unwrap();
        let args = InitArgs {
            dockerfile: true,
            github: true,
            pre_start: true,
            kubernetes: true,
            file: LockFile::default(),
            image: IMAGE.to_owned(),
            force: false,
            diff: false,
        };
        let drafts = drafts(&args, Utf8Path::new("./a/models.lock"), &lock);
        assert_eq!(drafts.len(), 4);
        for draft in drafts {
            let text = draft.unwrap().text;
            let placeholder = text
                .split('@')
                .skip(1)
                .step_by(2)
                .find(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase()));
            assert_eq!(placeholder, None, "{text}");
        }
    }

    #[test]
    fn an_image_is_one_word_without_quotes() {
        for text in ["provision:0.1.0", "ghcr.io/a/b@sha256:00", "localhost:5000/x_y"] {
            assert_eq!(image(text), Ok(text.to_owned()));
        }
        for text in ["", "a b", "a\"", "$X", "a\nRUN x", "a#b"] {
            assert!(image(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_lock_outside_of_the_build_context_is_refused() {
        assert_eq!(in_context(Utf8Path::new("./a b/models.lock")).unwrap(), "a b/models.lock");
        for path in ["/models.lock", "../models.lock", "a/../../b", "a$b", "a\"b", "a\nb"] {
            assert_eq!(in_context(Utf8Path::new(path)).unwrap_err().code, Code::Usage, "{path}");
        }
    }
}
