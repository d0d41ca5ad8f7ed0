//! A program that root starts, and what it writes in the folder of another user (`PROVISION_AS_OWNER`).

use std::os::unix::fs::{MetadataExt as _, chown};

use crate::prelude::*;

const OWNER: u32 = 65534;
const TOKEN: &str = "canary-token";

/// A folder of another user with a lock for one model, which the origin gives only to the token's holder.
fn folder_of_another() -> (Fixture, BlockingOrigin) {
    let (mut fixture, cdn) = (Fixture::new(), start_origin("127.0.0.2"));
    let content = Content::generated(1, 300_000);
    let url = fixture.origin.put_hub_on(&cdn, "o/r", "main", "x.safetensors", content.clone());
    fixture.origin.require_token("/o/r", TOKEN, "GatedRepo");
    fixture.model("vae/x.safetensors", &content, &[url]);
    fixture.write_lock();
    chown(fixture.beside(""), Some(OWNER), Some(OWNER)).unwrap();
    (fixture, cdn)
}

/// `provision fetch` with a working directory, and with a token in a file that only root can read.
fn fetch_in(fixture: &Fixture, folder: &Path, secrets: &Path, variable: Option<&str>) -> Command {
    let file = secrets.join("token");
    std::fs::write(&file, TOKEN).unwrap();
    chmod(&file, 0o600);
    let mut command = fetch(fixture, &[]);
    command.current_dir(folder).env_remove("HF_TOKEN").env("HF_TOKEN_PATH", file);
    command.env("HF_ENDPOINT", fixture.origin.url(""));
    variable.map(|value| command.env("PROVISION_AS_OWNER", value));
    command
}

/// User and group of each file of a run.
fn owners(fixture: &Fixture) -> Vec<(u32, u32)> {
    let paths = ["", "vae", "vae/x.safetensors", ".models-installed"];
    let owner =
        |path: &&str| std::fs::metadata(fixture.path(path)).map(|found| (found.uid(), found.gid())).unwrap();
    paths.iter().map(owner).collect()
}

#[test]
fn root_writes_as_the_owner_of_its_working_directory() {
    if !needs_root() {
        return;
    }
    let ((fixture, _cdn), secrets) = (folder_of_another(), tempfile::tempdir().unwrap());
    let folder = fixture.beside("");
    run(&mut fetch_in(&fixture, &folder, secrets.path(), Some("1"))).exits(0);
    assert_eq!(owners(&fixture), [(OWNER, OWNER); 4]);
    fixture.assert_installed();
}

#[test]
fn root_stays_root_unless_asked_and_in_its_own_folder() {
    if !needs_root() {
        return;
    }
    let roots_folder = tempfile::tempdir().unwrap();
    for (variable, own) in [(None, false), (Some("0"), false), (Some(""), false), (Some("1"), true)] {
        let ((fixture, _cdn), secrets) = (folder_of_another(), tempfile::tempdir().unwrap());
        let folder = if own { roots_folder.path().to_owned() } else { fixture.beside("") };
        run(&mut fetch_in(&fixture, &folder, secrets.path(), variable)).exits(0);
        assert_eq!(owners(&fixture), [(0, 0); 4], "{variable:?} {own}");
    }
}

#[test]
fn root_without_the_right_to_change_users_says_so() {
    if !needs_root() || !needs_tool("setpriv", "--version") {
        return;
    }
    let ((fixture, _cdn), secrets) = (folder_of_another(), tempfile::tempdir().unwrap());
    let program = fetch_in(&fixture, &fixture.beside(""), secrets.path(), Some("1"));
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set", "-setuid,-setgid", "--inh-caps", "-setuid,-setgid"])
        .arg(program.get_program());
    command.args(program.get_args()).env_clear().current_dir(fixture.beside(""));
    command.envs(environment(&program));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = run(&mut command).exits(2);
    for word in ["user 65534", "--user 65534:65534", "PROVISION_AS_OWNER=0"] {
        ended.err_has(&[word]);
    }
    assert!(!fixture.path("").exists(), "nothing was written");
}
