//! `cargo xtask lock`: the program's commands, with the workspace's lock as the default and its own name in messages.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::process::{Command, Output};

fn xtask(directory: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.env_clear().env("HOME", directory).current_dir(directory).args(args).output().unwrap()
}

#[test]
fn the_default_lock_is_the_workspaces_in_any_directory() {
    let elsewhere = tempfile::tempdir().unwrap();
    let listed = xtask(elsewhere.path(), &["lock", "list"]);
    assert!(listed.status.success(), "{listed:?}");
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models.lock");
    let models = std::fs::read_to_string(own).unwrap().matches("[[model]]").count();
    let lines = String::from_utf8(listed.stdout).unwrap();
    assert!(models > 0 && lines.lines().count() >= models, "{lines}");
}

#[test]
fn messages_name_the_command_as_it_is_typed() {
    let elsewhere = tempfile::tempdir().unwrap();
    // A workflow that names a file without an address.
    let workflow = r#"{"nodes":[{"id":1,"type":"VAELoader","widgets_values":["x.safetensors"]}],"links":[]}"#;
    std::fs::write(elsewhere.path().join("workflow.json"), workflow).unwrap();
    let ended = xtask(elsewhere.path(), &["lock", "import", "workflow.json", "--lock", "my.lock"]);
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(said.contains("`cargo xtask lock add SOURCE`"), "{said}");
}
