//! `provision init` in a repository that has nothing of this project, and the check of its Dockerfile.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use crate::prelude::*;

/// A repository with a lock of two directories and a file beside them.
struct Repository {
    fixture: Fixture,
    folder: PathBuf,
}

impl Repository {
    fn empty() -> Self {
        let fixture = Fixture::new();
        let folder = fixture.beside("");
        Self { fixture, folder }
    }

    fn with_lock() -> Self {
        let mut repository = Self::empty();
        for (path, size) in [("vae/x.safetensors", 10), ("my nodes/y.bin", 3_000), ("z.bin", 1)] {
            repository.add(path, size);
        }
        repository
    }

    fn add(&mut self, path: &str, size: u64) {
        self.fixture.file(path, &Content::generated(size, size));
        self.fixture.write_lock();
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn init(&self, arguments: &[&str]) -> Ended {
        run(program(&self.fixture).current_dir(&self.folder).arg("init").args(arguments))
    }

    /// Runs `init`, which must succeed; returns its output.
    fn inits(&self, arguments: &[&str]) -> String {
        let ended = self.init(arguments);
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{}", ended.out);
        ended.out
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o777
    }
}

const ALL: [&str; 4] = ["--dockerfile", "--github", "--pre-start", "--kubernetes"];
/// A Dockerfile needs it once.
const BASE: [&str; 2] = ["--base-image", "debian:bookworm-slim"];
const LOCAL: &str = "which only this machine has";
const FILES: [&str; 4] =
    ["Dockerfile.models", ".github/workflows/models.yml", "pre_start.sh", "models-pod.yaml"];

#[test]
fn init_alone_writes_a_lock_and_offers_the_rest() {
    let repository = Repository::empty();
    let ended = repository.init(&[]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    assert!(ended.out.starts_with("created    models.lock"), "{}", ended.out);
    assert!(ALL.iter().all(|option| ended.out.contains(option)), "{}", ended.out);
    let last = ended.out.lines().last().unwrap();
    assert_eq!(last, "next: provision lock import workflow.json");
    let text = repository.text("models.lock");
    assert!(text.contains("provision lock import") && text.contains("provision lock add"), "{text}");
    assert!(!FILES.iter().any(|file| repository.path(file).exists()));

    // A layer per directory needs directories. The other files do not wait for them.
    let ended = repository.init(&["--dockerfile", "--github"]).exits(2);
    ended.err_has(&["no model yet"]);
    assert!(!repository.path("Dockerfile.models").exists() && repository.path(FILES[1]).exists());
    assert!(ended.out.lines().last().unwrap().contains("provision init --dockerfile"), "{}", ended.out);
}

#[test]
fn init_writes_each_file_once_and_then_finds_it_unchanged() {
    let repository = Repository::with_lock();
    let said = repository.inits(&[&ALL[..], &BASE].concat());
    for file in FILES {
        assert!(said.contains(&format!("created    {file}")), "{said}");
    }
    let dockerfile = repository.text("Dockerfile.models");
    let copies: Vec<_> = dockerfile.lines().filter(|line| line.contains("--from=models")).collect();
    let expected = ["my nodes", "vae", "_"]
        .map(|name| format!("COPY --link --from=models [\"/layers/{name}/\", \"/\"]"));
    assert_eq!(copies, expected);
    assert!(dockerfile.contains("COPY pre_start.sh /"), "{dockerfile}");
    let image = concat!("ARG PROVISION_IMAGE=provision:", env!("CARGO_PKG_VERSION"), "\n");
    assert!(dockerfile.contains(image), "{dockerfile}");
    assert_eq!(repository.mode("pre_start.sh") & 0o111, 0o111);
    let again = repository.inits(&ALL);
    assert!(FILES.iter().all(|file| again.contains(&format!("unchanged  {file}"))), "{again}");
}

#[test]
fn a_dockerfile_needs_a_base_image_and_keeps_it() {
    let repository = Repository::with_lock();
    repository.init(&["--dockerfile"]).exits(2).err_has(&["give --base-image REF"]);
    assert!(!repository.path("Dockerfile.models").exists());
    repository.inits(&["--dockerfile", "--base-image", "me/comfyui:1"]);
    for more in [&[][..], &["--force"]] {
        repository.inits(&[&["--dockerfile"], more].concat());
        assert!(repository.text("Dockerfile.models").contains("\nARG BASE_IMAGE=me/comfyui:1\n"));
    }
    let said = repository.inits(&["--dockerfile", "--base-image", "me/comfyui:2"]);
    assert!(said.contains("updated    Dockerfile.models") || said.contains("replaced"), "{said}");
    assert!(repository.text("Dockerfile.models").contains("\nARG BASE_IMAGE=me/comfyui:2\n"));
}

#[test]
fn the_programs_image_is_that_of_the_option_then_of_the_file() {
    let repository = Repository::with_lock();
    let files = ["--dockerfile", "--kubernetes"];
    let names = |image: &str| {
        let (dockerfile, pod) = (repository.text("Dockerfile.models"), repository.text("models-pod.yaml"));
        assert!(dockerfile.contains(&format!("\nARG PROVISION_IMAGE={image}\n")), "{dockerfile}");
        assert!(pod.contains(&format!("\n      image: {image}\n")), "{pod}");
    };
    let said = repository.inits(&[&files[..], &BASE].concat());
    names(concat!("provision:", env!("CARGO_PKG_VERSION")));
    assert_eq!(said.matches(LOCAL).count(), 2, "{said}");
    assert!(repository.inits(&["--github"]).contains(LOCAL));

    let image = "ghcr.io/me/provision:1";
    let said = repository.inits(&[&files[..], &["--image", image]].concat());
    assert!(said.contains("updated    Dockerfile.models") && said.contains("updated    models-pod.yaml"));
    assert!(!said.contains(LOCAL), "{said}");
    names(image);
    // The variable is that of the program's own image. It is for files that name none.
    let mut command = program(&repository.fixture);
    command.current_dir(&repository.folder).env("PROVISION_IMAGE", "ghcr.io/other/provision:2").arg("init");
    run(command.args(files).arg("--github")).exits(0);
    names(image);
    for file in [FILES[0], FILES[3]] {
        fs::remove_file(repository.path(file)).unwrap();
    }
    run(command.args(BASE)).exits(0);
    names("ghcr.io/other/provision:2");
    let said = repository.inits(&["--github", "--image", image]);
    assert!(said.contains("which names ghcr.io/other/provision:2: add --dockerfile"), "{said}");
}

#[test]
fn the_workflow_pushes_over_no_other_image() {
    let repository = Repository::with_lock();
    repository.inits(&["--github"]);
    let text = repository.text(FILES[1]);
    assert!(text.contains("\"IMAGE=ghcr.io/${GITHUB_REPOSITORY,,}-models\""), "{text}");
    assert!(text.contains("[\"models.lock\", \"Dockerfile.models\", \"pre_start.sh\", "), "{text}");
}

#[test]
fn init_keeps_a_file_that_is_there_unless_forced() {
    let repository = Repository::with_lock();
    for file in FILES {
        write(repository.path(file), "mine\n");
    }
    let ended = repository.init(&[&ALL[..], &BASE].concat()).exits(2);
    for file in FILES {
        ended.err_has(&[&format!("{file} is there with other content and stays")]);
        assert_eq!(repository.text(file), "mine\n");
    }
    let plain = repository.inits(&["--pre-start", "--diff"]);
    assert!(plain.contains("stays      pre_start.sh") && !plain.contains("-mine"), "{plain}");
    let shown = repository.inits(&["--pre-start", "--diff", "--force"]);
    assert!(shown.contains("--- pre_start.sh\n") && shown.contains("\n-mine\n"), "{shown}");
    assert!(shown.contains("\n+exec \"$@\""), "{shown}");
    assert_eq!(repository.text("pre_start.sh"), "mine\n");
    repository.inits(&[&ALL[..], &BASE, &["--force"]].concat());
    assert!(FILES.iter().all(|file| repository.text(file) != "mine\n"));
    assert_eq!(repository.mode("pre_start.sh"), 0o755);
}

#[test]
fn a_lock_that_is_there_is_never_replaced() {
    let repository = Repository::with_lock();
    let before = repository.text("models.lock");
    assert_eq!(repository.init(&["--force"]).code, Some(0));
    assert_eq!(repository.text("models.lock"), before);
    fs::write(repository.path("models.lock"), "broken").unwrap();
    assert_eq!(repository.init(&["--force"]).code, Some(3));
    assert_eq!(repository.text("models.lock"), "broken");
}

#[test]
fn a_new_model_directory_changes_only_the_marked_lines() {
    let mut repository = Repository::with_lock();
    repository.inits(&[&["--dockerfile"][..], &BASE].concat());
    let edited = repository.text("Dockerfile.models").replace("debian:bookworm-slim", "my-comfyui")
        + "CMD [\"python\", \"main.py\"]\n";
    fs::write(repository.path("Dockerfile.models"), &edited).unwrap();
    repository.init(&["--dockerfile"]).out_has(&["unchanged  Dockerfile.models"]);
    repository.add("controlnet/c.bin", 5_000);
    // The difference is that of a plain run: without the user's edits.
    let shown = repository.inits(&["--dockerfile", "--diff"]);
    let changed = |line: &&str| line.starts_with(['+', '-']) && !line[1..].starts_with(['+', '-']);
    assert_eq!(shown.lines().filter(changed).count(), 3, "{shown}");
    assert!(repository.inits(&["--dockerfile", "--diff", "--force"]).contains("-CMD"));
    assert_eq!(repository.text("Dockerfile.models"), edited);
    repository.init(&["--dockerfile"]).exits(0).out_has(&["updated    Dockerfile.models"]);
    let text = repository.text("Dockerfile.models");
    let copy = "COPY --link --from=models [\"/layers/controlnet/\", \"/\"]\n";
    assert_eq!(text.replace(copy, "").replace("=\"controlnet,", "=\""), edited);
    assert!(text.contains("ENV PROVISION_EXPECT_LAYERS=\"controlnet,my nodes,vae,_\"\n"), "{text}");
}

#[test]
fn a_lock_with_piece_lists_has_them_in_the_image_beside_it() {
    let repository = Repository::with_lock();
    repository.inits(&[&["--dockerfile"][..], &BASE].concat());
    let (without, lock) = (repository.text("Dockerfile.models"), repository.text("models.lock"));
    let pinned = format!("{lock}pieces = \"{}\"\n", "a".repeat(64));
    fs::write(repository.path("models.lock"), &pinned).unwrap();
    let said = repository.inits(&["--dockerfile", "--github"]);
    assert!(said.contains("commit models.lock, models.pieces, Dockerfile.models"), "{said}");
    let text = repository.text("Dockerfile.models");
    let copies = ["/models.pieces/", "/opt/provision/models.pieces/"]
        .map(|place| format!("COPY [\"models.piece[s]\", \"{place}\"]\n"));
    assert!(copies.iter().all(|copy| text.contains(copy)), "{text}");
    assert_eq!(copies.iter().fold(text, |text, copy| text.replace(copy, "")), without);
    // Beside a lock in a folder.
    write(repository.path("deploy/my.lock"), &pinned);
    repository.inits(&["--dockerfile", "--lock", "deploy/my.lock"]);
    // Its addresses are signed, and the search for secrets reads every file that is left.
    fs::remove_dir_all(repository.path("deploy")).unwrap();
    let text = repository.text("Dockerfile.models");
    assert!(text.contains("COPY [\"deploy/models.piece[s]\", \"/models.pieces/\"]"), "{text}");
}

#[test]
fn a_file_is_replaced_in_one_step_and_keeps_its_mode() {
    let mut repository = Repository::with_lock();
    repository.inits(&[&["--dockerfile"][..], &BASE].concat());
    let file = repository.path("Dockerfile.models");
    // The name may be a link.
    fs::rename(&file, repository.path("real")).unwrap();
    symlink("real", &file).unwrap();
    chmod(&file, 0o640);
    let before = fs::metadata(&file).unwrap().ino();
    repository.add("controlnet/c.bin", 5_000);
    assert!(repository.inits(&["--dockerfile"]).contains("updated"));
    assert_ne!(fs::metadata(&file).unwrap().ino(), before);
    assert_eq!(repository.mode("real"), 0o640);
    assert!(file.is_symlink());
    let names = fs::read_dir(&repository.folder).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = names.filter(|name| name.to_string_lossy().ends_with(".provision")).collect();
    assert!(left.is_empty(), "{left:?}");

    fs::remove_file(repository.path("real")).unwrap();
    repository
        .init(&["--dockerfile", "--base-image", "x"])
        .exits(7)
        .err_has(&["is a symlink to real, which does not exist"]);
    fs::create_dir(repository.path("pre_start.sh")).unwrap();
    repository.init(&["--pre-start"]).err_has(&["rename it"]);
    symlink("nowhere", repository.path("other.lock")).unwrap();
    repository.init(&["--lock", "other.lock"]).err_has(&["other.lock is a symlink to nowhere, which"]);
}

#[test]
fn only_a_start_script_of_init_goes_into_the_image() {
    let repository = Repository::with_lock();
    fs::write(repository.path("pre_start.sh"), "#!/bin/sh\nmine\n").unwrap();
    let dockerfile = [&["--dockerfile"][..], &BASE].concat();
    let copies = || repository.text("Dockerfile.models").contains("\nCOPY pre_start.sh /\n");
    repository.inits(&dockerfile);
    assert!(!copies());
    assert_eq!(repository.init(&["--dockerfile", "--pre-start"]).code, Some(2));
    assert!(!copies());
    // A start script that comes later is no part of the image yet.
    fs::remove_file(repository.path("pre_start.sh")).unwrap();
    let said = repository.inits(&["--pre-start"]);
    assert!(said.contains("next: provision init --dockerfile, so that"), "{said}");
    repository.inits(&["--dockerfile"]);
    assert!(copies());
    assert!(!repository.inits(&["--pre-start"]).contains("init --dockerfile"));
    // A checkout without modes loses the script's.
    chmod(repository.path("pre_start.sh"), 0o644);
    assert!(repository.inits(&["--pre-start"]).contains("unchanged  pre_start.sh: executable again"));
    assert_eq!(repository.mode("pre_start.sh"), 0o755);
}

#[test]
fn a_pod_names_no_lock_that_would_break_its_comment() {
    let repository = Repository::with_lock();
    for name in ["a\nb", "it's"] {
        fs::rename(repository.path("models.lock"), repository.path(name)).unwrap();
        let ended = repository.init(&["--kubernetes", "--lock", name]);
        fs::rename(repository.path(name), repository.path("models.lock")).unwrap();
        assert_eq!(ended.code, Some(2), "{}", ended.out);
        ended.err_has(&["without quotes and control characters"]);
    }
    // The command works a second time, and its user is not that of ComfyUI.
    assert!(repository.inits(&["--kubernetes"]).contains("| kubectl apply --filename -;"));
    let (pod, containers) = (repository.text("models-pod.yaml"), "\n  containers:\n");
    let (before, after) = pod.split_once(containers).unwrap();
    let (spec, init) = before.split_once("  initContainers:\n").unwrap();
    assert!(init.contains("runAsUser: 10001") && !spec.contains("runAs") && !after.contains("runAs"));
}

#[test]
fn other_layers_than_expected_end_a_build_before_any_request() {
    let repository = Repository::with_lock();
    let layers = repository.fixture.beside("layers");
    let expecting = |names: &str| {
        let mut command = fetch(&repository.fixture, &["--layers", layers.to_str().unwrap()]);
        run(command.env("PROVISION_EXPECT_LAYERS", names))
    };
    for (names, reason) in [
        ("vae,_", "it has no layer for my nodes/;"),
        ("vae,_,my nodes,old", "the lock has no model in old/;"),
        ("_,loras", "it has no layer for my nodes/, vae/, and the lock has no model in loras/;"),
    ] {
        expecting(names).row(names).exits(2).err_has(&[reason, "run `provision init --dockerfile`"]);
    }
    assert_eq!(repository.fixture.requests(), 0);
    expecting("_,my nodes,vae").exits(0);
}

#[test]
fn the_start_script_ends_with_provision_or_becomes_its_command() {
    let repository = Repository::with_lock();
    assert_eq!(repository.init(&["--pre-start"]).code, Some(0));
    let start = |program: &str| {
        write_program(repository.path("provision"), format!("#!/bin/sh\n{program}\n"));
        let mut command = Command::new(repository.path("pre_start.sh"));
        let path = format!("{}:/usr/bin:/bin", repository.folder.display());
        command.args(["printf", "[%s]", "a b"]).env_clear().env("PATH", path).env("PROVISION_DEST", "/d e");
        let ended = run(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()));
        (ended.code, ended.out)
    };
    let call = "[ensure --lock /opt/provision/models.lock --dest /d e]";
    let echo = "printf '[%s]' \"$*\"";
    assert_eq!(start(echo), (Some(0), format!("{call}[a b]")));
    assert_eq!(start(&format!("{echo}; exit 6")), (Some(6), call.to_owned()));
    // As an engine does, this terminates the script alone, and waits until the signal is passed on.
    let waits = "trap 'echo stopped; exit 143' TERM\nkill -TERM \"$PPID\"\ni=0\n\
                 while [ $i -lt 200 ]; do sleep 0.05; i=$((i + 1)); done";
    assert_eq!(start(waits), (Some(143), "stopped\n".to_owned()));
}
