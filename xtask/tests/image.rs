//! `cargo xtask image` with a stand-in for docker, which prints its arguments.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A home with the stand-in.
fn home(folder: &Path) -> PathBuf {
    let home = folder.canonicalize().unwrap();
    let docker = home.join("docker");
    fs::write(&docker, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n").unwrap();
    fs::set_permissions(&docker, Permissions::from_mode(0o755)).unwrap();
    home
}

/// The output of the command and of docker.
fn image(home: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.env_clear().env("HOME", home).env("PATH", home).envs(variables.iter().copied());
    let ended = command.current_dir(home).arg("image").args(arguments).output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    String::from_utf8(ended.stdout).unwrap()
}

#[test]
fn the_first_place_with_a_token_is_the_builds_secret() {
    let folder = tempfile::tempdir().unwrap();
    let home = home(folder.path());
    let (hub, other) = (home.join(".cache/huggingface"), home.join("other"));
    fs::create_dir_all(&hub).unwrap();
    let secret = |variables: &[(&str, &str)]| {
        let said = image(&home, variables, &["--target", "runtime-baked"]);
        let secret = said.lines().find_map(|line| line.strip_prefix("--secret=id=hf_token,"));
        let place = said.lines().find_map(|line| line.strip_prefix("the Hub's token comes from "));
        assert_eq!(place.is_some(), secret.is_some(), "{said}");
        secret.unwrap_or_default().to_owned()
    };
    assert_eq!(secret(&[]), "");
    fs::write(hub.join("token"), "t").unwrap();
    fs::write(&other, "t").unwrap();
    let other = other.to_str().unwrap();
    assert_eq!(secret(&[]), format!("src={}", hub.join("token").display()));
    assert_eq!(secret(&[("HF_TOKEN_PATH", other)]), format!("src={other}"));
    assert_eq!(secret(&[("HF_TOKEN_PATH", "/no/such/file")]), "");
    assert_eq!(secret(&[("HF_TOKEN", " "), ("HF_HOME", "/no")]), "");
    assert_eq!(secret(&[("HF_TOKEN", "t"), ("HF_TOKEN_PATH", other)]), "env=HF_TOKEN");
}

#[test]
fn docker_gets_its_options_first_and_then_the_lock_in_the_context() {
    let folder = tempfile::tempdir().unwrap();
    let home = home(folder.path());
    let lock = home.join("my.lock");
    fs::write(&lock, "version = 1\n").unwrap();
    let own = format!("MODELS_LOCK={}", lock.display());
    let said =
        image(&home, &[("RUNTIME_IMAGE", "mine")], &["--target", "runtime", "--", "--build-arg", &own]);
    let position = |start: &str| said.lines().position(|line| line.starts_with(start)).unwrap();
    assert!(position(&own) < position("--build-arg=MODELS_LOCK=.image-"), "{said}");
    assert!(position(&own) < position("--build-arg=RUNTIME_IMAGE=mine"), "{said}");
    assert!(said.contains("provision:runtime is built\n"), "{said}");
    let (secret, baked) = ("--secret=id=hf_token,src=mine", ["--target", "runtime-baked", "--"]);
    let said = image(&home, &[("HF_TOKEN", "t")], &[&baked[..], &[secret]].concat());
    let position = |start: &str| said.lines().position(|line| line.starts_with(start)).unwrap();
    assert!(position("--secret=id=hf_token,env") < position(secret), "{said}");
    let said = image(&home, &[], &["--target", "provision"]);
    let version = concat!("--tag=provision:", env!("CARGO_PKG_VERSION"));
    assert!(said.contains("provision:latest") && said.contains(version), "{said}");
}
