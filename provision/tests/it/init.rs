//! `provision init` in a repository that has nothing of this project, and the check of its Dockerfile.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use provision_testbed::Content;

use crate::fixture::Fixture;
use crate::program::{Ended, fetch, program, run};

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
}

const ALL: [&str; 4] = ["--dockerfile", "--github", "--pre-start", "--kubernetes"];
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
    let ended = repository.init(&["--dockerfile", "--github"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("no model yet"), "{}", ended.err);
    assert!(!repository.path("Dockerfile.models").exists() && repository.path(FILES[1]).exists());
    assert!(ended.out.lines().last().unwrap().contains("provision init --dockerfile"), "{}", ended.out);
}

#[test]
fn init_writes_each_file_once_and_then_finds_it_unchanged() {
    let repository = Repository::with_lock();
    let ended = repository.init(&ALL);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{}", ended.out);
    for file in FILES {
        assert!(ended.out.contains(&format!("created    {file}")), "{}", ended.out);
    }
    let dockerfile = repository.text("Dockerfile.models");
    let copies: Vec<_> = dockerfile.lines().filter(|line| line.contains("--from=models")).collect();
    let expected = ["my nodes", "vae", "_"]
        .map(|name| format!("COPY --link --from=models [\"/layers/{name}/\", \"/\"]"));
    assert_eq!(copies, expected);
    assert!(dockerfile.contains("COPY pre_start.sh /"), "{dockerfile}");
    let image = concat!("ARG PROVISION_IMAGE=provision:", env!("CARGO_PKG_VERSION"), "\n");
    assert!(dockerfile.contains(image), "{dockerfile}");
    let mode = fs::metadata(repository.path("pre_start.sh")).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111);
    let again = repository.init(&ALL);
    assert_eq!(again.code, Some(0));
    assert!(FILES.iter().all(|file| again.out.contains(&format!("unchanged  {file}"))), "{}", again.out);
    let other = repository.init(&["--dockerfile", "--image", "ghcr.io/me/provision:1", "--force"]);
    assert!(other.out.contains("replaced   Dockerfile.models"), "{}", other.out);
    assert!(repository.text("Dockerfile.models").contains("ARG PROVISION_IMAGE=ghcr.io/me/provision:1\n"));
}

#[test]
fn init_keeps_a_file_that_is_there_unless_forced() {
    let repository = Repository::with_lock();
    for file in FILES {
        fs::create_dir_all(repository.path(file).parent().unwrap()).unwrap();
        fs::write(repository.path(file), "mine\n").unwrap();
    }
    let ended = repository.init(&ALL);
    assert_eq!(ended.code, Some(2));
    for file in FILES {
        assert!(
            ended.err.contains(&format!("{file} is there with other content and stays")),
            "{}",
            ended.err
        );
        assert_eq!(repository.text(file), "mine\n");
    }
    let shown = repository.init(&["--pre-start", "--diff"]);
    assert_eq!(shown.code, Some(0));
    assert!(shown.out.contains("--- pre_start.sh\n") && shown.out.contains("\n-mine\n"), "{}", shown.out);
    assert!(shown.out.contains("\n+exec \"$@\""), "{}", shown.out);
    assert_eq!(repository.text("pre_start.sh"), "mine\n");
    assert_eq!(repository.init(&[&ALL[..], &["--force"]].concat()).code, Some(0));
    assert!(FILES.iter().all(|file| repository.text(file) != "mine\n"));
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
    assert_eq!(repository.init(&["--dockerfile"]).code, Some(0));
    let edited = repository.text("Dockerfile.models").replace("debian:bookworm-slim", "my-comfyui")
        + "CMD [\"python\", \"main.py\"]\n";
    fs::write(repository.path("Dockerfile.models"), &edited).unwrap();
    let ended = repository.init(&["--dockerfile"]);
    assert!(ended.out.contains("unchanged  Dockerfile.models"), "{}", ended.out);
    repository.add("controlnet/c.bin", 5_000);
    let ended = repository.init(&["--dockerfile"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.out.contains("updated    Dockerfile.models"), "{}", ended.out);
    let text = repository.text("Dockerfile.models");
    let copy = "COPY --link --from=models [\"/layers/controlnet/\", \"/\"]\n";
    assert_eq!(text.replace(copy, "").replace("=\"controlnet,", "=\""), edited);
    assert!(text.contains("ENV PROVISION_EXPECT_LAYERS=\"controlnet,my nodes,vae,_\"\n"), "{text}");
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
        let ended = expecting(names);
        assert_eq!(ended.code, Some(2), "{names}: {}", ended.err);
        assert!(ended.err.contains(reason), "{names}: {}", ended.err);
        assert!(ended.err.contains("run `provision init --dockerfile`"), "{}", ended.err);
    }
    assert_eq!(repository.fixture.origin.counters().requests, 0);
    let ended = expecting("_,my nodes,vae");
    assert_eq!(ended.code, Some(0), "{}", ended.err);
}

#[test]
fn the_start_script_ends_with_provision_or_becomes_its_command() {
    let repository = Repository::with_lock();
    assert_eq!(repository.init(&["--pre-start"]).code, Some(0));
    let start = |program: &str| {
        fs::write(repository.path("provision"), format!("#!/bin/sh\n{program}\n")).unwrap();
        fs::set_permissions(repository.path("provision"), fs::Permissions::from_mode(0o755)).unwrap();
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
