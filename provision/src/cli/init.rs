//! `provision init`: writes the files of a repository around its lock: Dockerfile, workflow, start script,
//! pod.
//!
//! A file that is there stays as it is, unless `--force` is given. Of a file with marked lines (`template`)
//! only these follow the lock and the options, so a user's edits survive a new model directory. The images that
//! marked lines name stay until an option names others. The lock itself is created, but never replaced.

mod layers;
mod template;
mod write;

use camino::{Utf8Component, Utf8Path};
use clap::Args;

use super::exit::{Code, Failure};
use super::lock::LockFile;
use super::{environment, locks, print_line, units};
use provision_core::lockfile::Lockfile;
use provision_core::piece_list;

/// The program's image where neither the environment nor the build names one: the tag of
/// `cargo xtask image --target provision`.
const IMAGE: &str = match option_env!("PROVISION_IMAGE") {
    Some(image) => image,
    None => concat!("provision:", env!("CARGO_PKG_VERSION")),
};

const DOCKERFILE: &str = "Dockerfile.models";
const WORKFLOW: &str = ".github/workflows/models.yml";
const START_SCRIPT: &str = "pre_start.sh";
const POD: &str = "models-pod.yaml";

/// The beginning of the marked lines that name the program's image and the base image.
const DOCKERFILE_IMAGE: &str = "ARG PROVISION_IMAGE=";
const DOCKERFILE_BASE: &str = "ARG BASE_IMAGE=";
const POD_IMAGE: &str = "image: ";

/// The piece lists beside a lock, as a pattern: a build goes on without them.
const LISTS: &str = "models.piece[s]";

/// The line of the Dockerfile that takes the start script, and the words by which that script says its author.
const COPY_SCRIPT: &str = "COPY pre_start.sh /";
const SCRIPT_AUTHOR: &str = "By `provision init";

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
    /// The image that gets the models, such as your `ComfyUI` image [default: the one in Dockerfile.models]
    #[arg(long, value_name = "REF", value_parser = image)]
    base_image: Option<String>,
    /// The program's image [default: the one in the written file, else `$PROVISION_IMAGE`, else that of this version]
    #[arg(long, value_name = "REF", value_parser = image)]
    image: Option<String>,
    /// Replace files that are there, with your edits in them
    #[arg(long)]
    force: bool,
    /// Write nothing: show the difference between the files that are there and the ones to write
    #[arg(long)]
    diff: bool,
}

/// An image's name goes into YAML and into a Dockerfile as it is.
fn image(text: &str) -> Result<String, String> {
    let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-:/".contains(c);
    let is_name = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(fits);
    let is_digest = |digest: &str| {
        let hex = digest.strip_prefix("sha256:");
        hex.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    if is_name && digest.is_none_or(is_digest) {
        return Ok(text.to_owned());
    }
    Err("expected an image such as provision:0.1.0 or ghcr.io/owner/provision@sha256: and 64 digits"
        .to_owned())
}

/// Returns true if only this machine has the image: its name is a single word, or that of a local registry.
fn is_local(image: &str) -> bool {
    let host = image.split_once('/').map(|(host, _)| host);
    host.is_none_or(|host| host == "localhost" || host.starts_with("localhost:"))
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
        print_line(OFFER.trim_end());
    }
    if !args.diff {
        if lock.models().is_empty() {
            let option = if path == default { String::new() } else { format!(" --lock {path}") };
            next.insert(0, format!("provision lock import workflow.json{option}"));
        } else if next.is_empty() && problems.is_empty() {
            next.push("provision fetch".to_owned());
        }
        if !next.is_empty() {
            print_line(format_args!("next: {}", next.join("; then ")));
        }
    }
    let Some(first) = problems.first() else { return Ok(()) };
    let messages: Vec<_> = problems.iter().map(|failure| failure.message.as_str()).collect();
    Err(Failure::new(first.code, messages.join("\n       ")))
}

/// The offer of a run without options.
const OFFER: &str = "\
It also writes, for this lock:
  --dockerfile  Dockerfile.models: your image (--base-image) with the models in its layers
  --github      .github/workflows/models.yml: builds that image and pushes it
  --pre-start   pre_start.sh: completes the models at a container's start
  --kubernetes  models-pod.yaml: the same in an init container, on a volume
";

/// Reads the lock, or creates it with a comment.
fn lock_of(args: &InitArgs, path: &Utf8Path) -> Result<Lockfile, Failure> {
    const EMPTY: &str = include_str!("init/templates/models.lock");
    if path.symlink_metadata().is_ok() {
        write::leads_somewhere(path.as_str())?;
        let lock = locks::read(path)?;
        print_line(format_args!("unchanged  {path}: {}", units::count(lock.models().len(), "model")));
        return Ok(lock);
    }
    let lock = Lockfile::parse(path.as_str(), EMPTY)?;
    if args.diff {
        print_line(template::difference(path.as_str(), "", EMPTY));
    } else {
        write::create(path, EMPTY, 0o644)?;
        print_line(format_args!("created    {path}: no model yet, and the two commands that add some"));
    }
    Ok(lock)
}

/// The files that `args` choose, or the reason against one.
fn drafts(args: &InitArgs, path: &Utf8Path, lock: &Lockfile) -> Vec<Result<Draft, Failure>> {
    let mut drafts = Vec::new();
    if args.dockerfile {
        drafts.push(dockerfile(args, path, lock));
    }
    if args.github {
        drafts.push(workflow(args, path, lock));
    }
    if args.pre_start {
        drafts.push(Ok(start_script(args)));
    }
    if args.kubernetes {
        drafts.push(pod(args, path, lock));
    }
    drafts
}

fn dockerfile(args: &InitArgs, path: &Utf8Path, lock: &Lockfile) -> Result<Draft, Failure> {
    let path = in_context(path)?;
    let layers = layers::of(lock)?;
    let base =
        args.base_image.clone().or_else(|| named_in(DOCKERFILE, DOCKERFILE_BASE)).ok_or_else(|| {
            let why = format!("{DOCKERFILE} needs the image that gets the models: give --base-image REF");
            Failure::new(Code::Usage, why)
        })?;
    let copy_lists = |to: &str| {
        let is_listed = lock.models().iter().any(|model| model.pieces.is_some());
        let from = Utf8Path::new(path).with_file_name(LISTS);
        if is_listed {
            format!("COPY [\"{from}\", \"{to}/{}/\"]\n", piece_list::DIRECTORY)
        } else {
            String::new()
        }
    };
    let script = if takes_script(args) { format!("{COPY_SCRIPT}\n") } else { String::new() };
    let values = [
        ("LOCK", path),
        ("DOCKERFILE", DOCKERFILE),
        ("IMAGE", &program_image(args, DOCKERFILE, DOCKERFILE_IMAGE)?),
        ("BASE", &base),
        ("LISTS", &copy_lists("")),
        ("INSTALLED_LISTS", &copy_lists("/opt/provision")),
        ("EXPECTED", &layers.expected()),
        ("LAYERS", &(script + &layers.copies())),
    ];
    Ok(Draft {
        path: DOCKERFILE,
        text: template::fill(include_str!("init/templates/Dockerfile.models"), &values),
        mode: 0o644,
        next: format!("docker build --file {DOCKERFILE} --tag YOUR-NAME ."),
    })
}

fn workflow(args: &InitArgs, path: &Utf8Path, lock: &Lockfile) -> Result<Draft, Failure> {
    let path = in_context(path)?;
    if let Ok(layers) = layers::of(lock) {
        for (name, size) in layers.above(GHCR_LAYER) {
            let (size, limit) = (units::bytes(size), units::bytes(GHCR_LAYER));
            print_line(format_args!(
                "warning: ghcr.io accepts layers up to {limit}, and {name} has {size}: \
                 change the registry in {WORKFLOW}"
            ));
        }
    }
    let has_dockerfile = args.dockerfile && !lock.models().is_empty();
    let first = if has_dockerfile || Utf8Path::new(DOCKERFILE).exists() {
        ""
    } else {
        "provision init --dockerfile --base-image YOUR-IMAGE; then "
    };
    if !args.dockerfile
        && let Some(named) = named_in(DOCKERFILE, DOCKERFILE_IMAGE)
    {
        if args.image.as_ref().is_some_and(|image| *image != named) {
            print_line(format_args!(
                "warning: the workflow builds {DOCKERFILE}, which names {named}: add --dockerfile to change it"
            ));
        } else {
            warn_if_local(&named, DOCKERFILE);
        }
    }
    let is_listed = lock.models().iter().any(|model| model.pieces.is_some());
    let lists = if is_listed { format!(", {}", piece_list::DIRECTORY) } else { String::new() };
    let values = [("LOCK", path), ("DOCKERFILE", DOCKERFILE), ("SCRIPT", START_SCRIPT)];
    Ok(Draft {
        path: WORKFLOW,
        text: template::fill(include_str!("init/templates/models.yml"), &values),
        mode: 0o644,
        next: format!("{first}commit {path}{lists}, {DOCKERFILE} and {WORKFLOW}, and push"),
    })
}

fn start_script(args: &InitArgs) -> Draft {
    let dockerfile = std::fs::read_to_string(DOCKERFILE);
    let is_left_out = !args.dockerfile && dockerfile.is_ok_and(|text| !text.contains(COPY_SCRIPT));
    let first = if is_left_out {
        format!("provision init --dockerfile, so that {DOCKERFILE} copies {START_SCRIPT}; then ")
    } else {
        String::new()
    };
    Draft {
        path: START_SCRIPT,
        text: include_str!("init/templates/pre_start.sh").to_owned(),
        mode: 0o755,
        next: format!("{first}call /{START_SCRIPT} at the container's start"),
    }
}

fn pod(args: &InitArgs, path: &Utf8Path, lock: &Lockfile) -> Result<Draft, Failure> {
    // The path goes into a comment and, between single quotes, into a shell's command.
    if path.as_str().contains(|c: char| c.is_control() || c == '\'') {
        let why =
            format!("{POD} cannot name {path:?}: give --lock a path without quotes and control characters");
        return Err(Failure::new(Code::Usage, why));
    }
    let values = [
        ("LOCK", path.as_str()),
        ("POD", POD),
        ("IMAGE", &program_image(args, POD, POD_IMAGE)?),
        ("STORAGE", &layers::storage(lock)),
    ];
    Ok(Draft {
        path: POD,
        text: template::fill(include_str!("init/templates/models-pod.yaml"), &values),
        mode: 0o644,
        next: format!(
            "kubectl create configmap models-lock --from-file='models.lock={path}' --dry-run=client --output yaml \
             | kubectl apply --filename -; then kubectl apply --filename {POD}"
        ),
    })
}

/// The image that a marked line of the written file names. It stays until an option names another one.
fn named_in(path: &str, key: &str) -> Option<String> {
    template::marked_value(&std::fs::read_to_string(path).ok()?, key)
}

/// The program's image for a file, with a warning if only this machine has it.
fn program_image(args: &InitArgs, path: &str, key: &str) -> Result<String, Failure> {
    let chosen = args.image.clone().or_else(|| named_in(path, key));
    let chosen = match (chosen, environment::image()) {
        (Some(chosen), _) => chosen,
        (None, Some(variable)) => {
            image(&variable).map_err(|why| Failure::new(Code::Usage, format!("PROVISION_IMAGE: {why}")))?
        }
        (None, None) => IMAGE.to_owned(),
    };
    warn_if_local(&chosen, path);
    Ok(chosen)
}

fn warn_if_local(image: &str, path: &str) {
    if is_local(image) {
        print_line(format_args!(
            "warning: {path} names {image}, which only this machine has; a runner or a cluster cannot pull it: \
             give --image REGISTRY/NAME"
        ));
    }
}

/// Returns true if the image gets the start script: one of `init`, which is there or which this run writes.
fn takes_script(args: &InitArgs) -> bool {
    match std::fs::read_to_string(START_SCRIPT) {
        Ok(text) => text.contains(SCRIPT_AUTHOR) || (args.pre_start && args.force),
        Err(_) => args.pre_start,
    }
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

/// The change that a run makes to a file.
enum Change {
    Create(String),
    /// All of the text.
    Replace(String),
    /// Only marked lines.
    Update(String),
    /// Nothing, for this reason.
    Leave(&'static str),
    /// Nothing, since the file is the user's.
    Refuse,
}

impl Draft {
    /// The change, by the file that is there and by the options.
    fn change(&self, there: Option<&str>, args: &InitArgs) -> Change {
        let Some(there) = there else { return Change::Create(self.text.clone()) };
        if there == self.text {
            return Change::Leave("");
        }
        if args.force {
            return Change::Replace(self.text.clone());
        }
        match template::with_marked_lines(there, &self.text) {
            Some(merged) if merged == there => {
                Change::Leave(": its marked lines fit the lock, and your edits stay")
            }
            Some(merged) => Change::Update(merged),
            None => Change::Refuse,
        }
    }

    /// Writes the file, or its marked lines, or neither; with `--diff` it shows the same.
    fn place(&self, args: &InitArgs) -> Result<(), Failure> {
        let path = self.path;
        let there = write::read(path)?;
        let change = self.change(there.as_deref(), args);
        match change {
            Change::Leave(why) => {
                let is_script = self.mode & 0o111 != 0 && !args.diff;
                let now = is_script && write::make_executable(path)?;
                print_line(format_args!(
                    "unchanged  {path}{why}{}",
                    if now { ": executable again" } else { "" }
                ));
            }
            Change::Refuse if args.diff => print_line(format_args!(
                "stays      {path}: it has other content; --diff --force shows the difference"
            )),
            Change::Refuse => {
                let why = format!(
                    "{path} is there with other content and stays: --diff --force shows the difference, \
                     --force replaces it and loses your edits"
                );
                return Err(Failure::new(Code::Usage, why));
            }
            Change::Create(text) | Change::Replace(text) | Change::Update(text) if args.diff => {
                print_line(template::difference(path, there.as_deref().unwrap_or_default(), &text));
            }
            Change::Create(text) => {
                write::create(Utf8Path::new(path), &text, self.mode)?;
                print_line(format_args!("created    {path}"));
            }
            Change::Replace(text) => {
                write::replace(path, &text)?;
                if self.mode & 0o111 != 0 {
                    write::make_executable(path)?;
                }
                print_line(format_args!("replaced   {path}"));
            }
            Change::Update(text) => {
                write::replace(path, &text)?;
                print_line(format_args!("updated    {path}: only its marked lines; your edits stay"));
            }
        }
        Ok(())
    }
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
            base_image: Some("base".to_owned()),
            image: None,
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
        for text in ["provision:0.1.0", "localhost:5000/x_y", &format!("ghcr.io/a/b@sha256:{:064}", 0)] {
            assert_eq!(image(text), Ok(text.to_owned()));
        }
        for text in ["", "a b", "a\"", "$X", "a\nRUN x", "a#b", "a:@b", "a@sha256:00", "-a", "a:", "a/"] {
            assert!(image(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_image_without_a_registry_is_local() {
        assert!(
            ["provision", "provision:0.1.0", "localhost:5000/a", "localhost/a"].into_iter().all(is_local)
        );
        assert!(!["ghcr.io/a/b", "a/b", "host:5000/a"].into_iter().any(is_local));
    }

    #[test]
    fn a_lock_outside_of_the_build_context_is_refused() {
        assert_eq!(in_context(Utf8Path::new("./a b/models.lock")).unwrap(), "a b/models.lock");
        for path in ["/models.lock", "../models.lock", "a/../../b", "a$b", "a\"b", "a\nb"] {
            assert_eq!(in_context(Utf8Path::new(path)).unwrap_err().code, Code::Usage, "{path}");
        }
    }
}
