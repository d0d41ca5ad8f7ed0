//! The image's scripts, in every shell that is installed, with a `provision` that only prints its arguments.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// The shells that `/bin/sh` is on Debian, Alpine and other systems.
const SHELLS: [&[&str]; 4] = [&["sh"], &["dash"], &["bash"], &["busybox", "sh"]];

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../provision/container").join(name)
}

fn shells() -> impl Iterator<Item = &'static [&'static str]> {
    let works = |shell: &&[&str]| {
        let mut command = Command::new(shell[0]);
        command.args(&shell[1..]).args(["-c", "exit 0"]).output().is_ok_and(|output| output.status.success())
    };
    SHELLS.into_iter().filter(works)
}

/// A directory with a `provision` of this text.
fn provision(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("provision");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// Prints its arguments and directories, and ends with `$CODE`.
const ECHO: &str = "echo \"[$*]\" \"$PROVISION_LOCK $PROVISION_DEST $PROVISION_BAKED\"; exit ${CODE:-0}";
/// [`ECHO`]'s line for the defaults.
const DEFAULTS: &str = "[ensure] /opt/provision/models.lock /workspace/ComfyUI/models /opt/models\n";

fn run(shell: &[&str], programs: &TempDir, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", programs.path().display());
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).args(arguments).env_clear().env("PATH", path);
    command.envs(variables.iter().copied()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn pre_start_calls_ensure_with_default_or_given_directories() {
    let programs = provision(ECHO);
    for shell in shells() {
        let path = script("pre_start.sh");
        let output = run(shell, &programs, &[path.to_str().unwrap()], &[]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), DEFAULTS.to_owned()), "{shell:?}");
        assert_eq!(text(&output.stderr), "", "{shell:?}");
        let places = [("PROVISION_LOCK", "/l"), ("PROVISION_DEST", "/d e"), ("PROVISION_BAKED", "/b")];
        let output = run(shell, &programs, &[path.to_str().unwrap()], &places);
        assert_eq!(text(&output.stdout), "[ensure] /l /d e /b\n", "{shell:?}");
    }
}

#[test]
fn sourcing_it_keeps_a_strict_script_running_and_unchanged() {
    let programs = provision(ECHO);
    let path = script("pre_start.sh");
    let start = format!("set -eu; . {}; echo \"started ${{PROVISION_DEST-}}\"; trap", path.display());
    for shell in shells() {
        let output = run(shell, &programs, &["-c", &start], &[]);
        // Bash lists the signal settings of the test process, too: under nohup, or in the background.
        let inherited = ["HUP", "INT", "QUIT"].map(|signal| format!("trap -- '' SIG{signal}\n"));
        let said = inherited.iter().fold(text(&output.stdout), |said, line| said.replace(line, ""));
        assert_eq!(said, format!("{DEFAULTS}started \n"), "{shell:?} {}", text(&output.stderr));
    }
}

#[test]
fn a_failure_stops_the_start_with_its_code_or_is_a_warning() {
    let programs = provision(ECHO);
    let path = script("pre_start.sh");
    let start = format!("set -eu; . {}; echo started", path.display());
    for shell in shells() {
        for code in ["4", "6", "143"] {
            let output = run(shell, &programs, &["-c", &start], &[("CODE", code)]);
            let (said, complained) = (text(&output.stdout), text(&output.stderr));
            assert_eq!(output.status.code(), Some(code.parse().unwrap()), "{shell:?}: {complained}");
            assert!(!said.contains("started"), "{shell:?}");
            assert!(
                complained.contains("INCOMPLETE") && complained.contains("PROVISION_REQUIRED=0"),
                "{complained}"
            );

            let tolerant = [("CODE", code), ("PROVISION_REQUIRED", "0")];
            let output = run(shell, &programs, &["-c", &start], &tolerant);
            assert_eq!(output.status.code(), Some(0), "{shell:?}");
            assert!(text(&output.stdout).contains("started"), "{shell:?}");
            assert!(text(&output.stderr).contains("starting without them"), "{shell:?}");
        }
    }
}

#[test]
fn a_terminated_start_ends_provision_and_keeps_its_exit_code() {
    // It tells the script's process to end, as the container engine would. Then it waits for the signal to come back,
    // for a limited time: the signal may come before the script knows its child.
    let programs = provision(
        "trap 'echo told; exit 143' TERM\nkill -TERM \"$PPID\"\ni=0\n\
         while [ $i -lt 200 ]; do sleep 0.05; i=$((i + 1)); done",
    );
    let path = script("pre_start.sh");
    for shell in shells() {
        let output = run(shell, &programs, &[path.to_str().unwrap()], &[]);
        assert_eq!(
            (output.status.code(), text(&output.stdout)),
            (Some(143), "told\n".to_owned()),
            "{shell:?}"
        );
    }
}

#[test]
fn a_start_told_to_stop_never_goes_on() {
    let path = script("pre_start.sh");
    let start = format!(". {}; echo started", path.display());
    // The second one is done when the signal comes, and succeeds.
    for code in ["143", "0"] {
        let programs = provision(&format!(
            "trap 'exit {code}' TERM\nkill -TERM \"$PPID\"\ni=0\n\
             while [ $i -lt 200 ]; do sleep 0.05; i=$((i + 1)); done"
        ));
        for shell in shells() {
            let output = run(shell, &programs, &["-c", &start], &[("PROVISION_REQUIRED", "0")]);
            let (said, complained) = (text(&output.stdout), text(&output.stderr));
            assert_eq!(output.status.code(), Some(143), "{shell:?} {code}: {complained}");
            assert!(
                !said.contains("started") && !complained.contains("INCOMPLETE"),
                "{shell:?} {code}: {complained}"
            );
        }
    }
}

#[test]
fn the_manual_trigger_passes_only_models_and_force() {
    let programs = provision(ECHO);
    let path = script("download_qwen_models.sh");
    let path = path.to_str().unwrap();
    for shell in shells() {
        for (arguments, passed) in [
            (&[][..], "[ensure --]"),
            (&["--force"], "[ensure --force --]"),
            (&["vae/*", "--force", "a b"], "[ensure --force -- vae/* a b]"),
        ] {
            let output = run(shell, &programs, &[&[path], arguments].concat(), &[("CODE", "5")]);
            assert!(text(&output.stdout).starts_with(passed), "{shell:?} {}", text(&output.stdout));
            assert_eq!(output.status.code(), Some(5), "{shell:?}");
        }
        let output = run(shell, &programs, &[path, "--help"], &[]);
        assert!(text(&output.stdout).contains("Usage:") && output.status.success(), "{shell:?}");
        let output = run(shell, &programs, &[path, "--froce"], &[]);
        assert!(text(&output.stderr).contains("--froce") && output.status.code() == Some(2), "{shell:?}");
    }
}
