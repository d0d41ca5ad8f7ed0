//! Errors of the command line: advice only where the command has what is advised, and variables by name.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::Command;

/// The usage error of `cargo xtask` with these variables and arguments.
fn error_of(variables: &[(&str, &str)], args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.env_clear().env("HOME", "/nowhere").envs(variables.iter().copied());
    let ended = command.args(args).output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(2), "{args:?}: {said}");
    said
}

#[test]
fn the_projects_own_commands_get_no_advice_about_a_fetch() {
    for command in ["dist", "image", "ci"] {
        for option in [
            "--output=x",
            "-o",
            "-x16",
            "--rate=5M",
            "--token=x",
            "--resume",
            "--sha256=x",
            "--include=x",
            "-i",
        ] {
            let said = error_of(&[], &[command, option]);
            assert!(said.contains("unexpected argument"), "{command} {option}: {said}");
            for advice in [
                "--dest",
                "--connections",
                "--limit-rate",
                "HF_TOKEN",
                "resumes",
                "digests",
                "--group",
                "import",
            ] {
                assert!(!said.contains(advice), "{command} {option}: {said}");
            }
        }
    }
    assert!(error_of(&[], &["fetch-models", "--output=x"]).contains("`--dest DIR`"));
    assert!(error_of(&[], &["lock", "add", "--output=x", "hf:o/r/x"]).contains("`--dest DIR`"));
    assert!(error_of(&[], &["--output=x"]).contains("`--dest DIR`"), "no command is chosen yet");
}

#[test]
fn a_conflict_with_a_variable_names_the_variable() {
    let said = error_of(&[("PROVISION_LOCK", "my.lock")], &["fetch-models", "--demo"]);
    assert!(said.contains("'--demo' cannot be used with 'PROVISION_LOCK (--lock <PATH|URL>)'"), "{said}");
    let said = error_of(&[], &["fetch-models", "--demo", "--lock", "my.lock"]);
    assert!(said.contains("'--demo' cannot be used with '--lock <PATH|URL>'"), "{said}");
    let said = error_of(&[("PROVISION_TARGET", "big")], &["image"]);
    assert!(said.contains("'big' for 'PROVISION_TARGET (--target <TARGET>)'"), "{said}");
}
