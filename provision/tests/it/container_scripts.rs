//! The image's scripts, in every installed shell, with a `provision` that only prints its call.

use std::fs;

use tempfile::TempDir;

use crate::prelude::*;

/// The programs behind `/bin/sh` on Debian, Alpine and elsewhere.
const SHELLS: [&[&str]; 4] = [&["sh"], &["dash"], &["bash"], &["busybox", "sh"]];

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("container").join(name)
}

pub(crate) fn shells() -> impl Iterator<Item = &'static [&'static str]> {
    let works = |shell: &&[&str]| {
        let mut command = Command::new(shell[0]);
        command.args(&shell[1..]).args(["-c", "exit 0"]).output().is_ok_and(|output| output.status.success())
    };
    SHELLS.into_iter().filter(works)
}

/// A directory with a program `provision` that has this script.
fn provision(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("provision");
    write_program(&path, format!("#!/bin/sh\n{text}\n"));
    folder
}

/// Prints its arguments and paths, and exits with `$CODE`.
const ECHO: &str = "echo \"[$*]\" \"$PROVISION_LOCK $PROVISION_DEST $PROVISION_BAKED\"; exit ${CODE:-0}";
/// The output of [`ECHO`] for the defaults.
const DEFAULTS: &str = "[ensure] /opt/provision/models.lock /workspace/ComfyUI/models /opt/models\n";

fn run(shell: &[&str], programs: &TempDir, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", programs.path().display());
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).args(arguments).env_clear().env("PATH", path);
    command.envs(variables.iter().copied()).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn pre_start_passes_the_paths_of_the_image_or_the_user() {
    let programs = provision(ECHO);
    for shell in shells() {
        let path = script("pre_start.sh");
        let output = run(shell, &programs, &[path.to_str().unwrap()], &[]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), DEFAULTS.to_owned()), "{shell:?}");
        assert_eq!(text(&output.stderr), "", "{shell:?}");
        let paths = [("PROVISION_LOCK", "/l"), ("PROVISION_DEST", "/d e"), ("PROVISION_BAKED", "/b")];
        let output = run(shell, &programs, &[path.to_str().unwrap()], &paths);
        assert_eq!(text(&output.stdout), "[ensure] /l /d e /b\n", "{shell:?}");
    }
}

#[test]
fn a_sourced_pre_start_leaves_no_variable_and_no_trap() {
    let programs = provision(ECHO);
    let path = script("pre_start.sh");
    let start = format!("set -eu; . {}; echo \"started ${{PROVISION_DEST-}}\"; trap", path.display());
    for shell in shells() {
        let output = run(shell, &programs, &["-c", &start], &[]);
        // Bash also lists the signals that the tests inherited as ignored: under nohup, or in the background.
        let inherited = ["HUP", "INT", "QUIT"].map(|signal| format!("trap -- '' SIG{signal}\n"));
        let stdout = inherited.iter().fold(text(&output.stdout), |text, line| text.replace(line, ""));
        assert_eq!(stdout, format!("{DEFAULTS}started \n"), "{shell:?} {}", text(&output.stderr));
    }
}

#[test]
fn a_failure_ends_the_start_with_its_code_or_is_a_warning() {
    let programs = provision(ECHO);
    let path = script("pre_start.sh");
    let start = format!("set -eu; . {}; echo started", path.display());
    for shell in shells() {
        for code in ["4", "6", "143"] {
            let output = run(shell, &programs, &["-c", &start], &[("CODE", code)]);
            let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
            assert_eq!(output.status.code(), Some(code.parse().unwrap()), "{shell:?}: {stderr}");
            assert!(!stdout.contains("started"), "{shell:?}");
            assert!(stderr.contains("INCOMPLETE") && stderr.contains("PROVISION_REQUIRED=0"), "{stderr}");

            let tolerant = [("CODE", code), ("PROVISION_REQUIRED", "0")];
            let output = run(shell, &programs, &["-c", &start], &tolerant);
            assert_eq!(output.status.code(), Some(0), "{shell:?}");
            assert!(text(&output.stdout).contains("started"), "{shell:?}");
            assert!(text(&output.stderr).contains("starting without the models"), "{shell:?}");
        }
    }
}

#[test]
fn a_terminated_start_terminates_provision() {
    // `provision` terminates the script, as an engine does, and waits ten seconds at most for the signal to be passed
    // on. The signal may arrive before the script knows its child.
    let programs = provision(
        "trap 'echo terminated; exit 143' TERM\nkill -TERM \"$PPID\"\ni=0\n\
         while [ $i -lt 200 ]; do sleep 0.05; i=$((i + 1)); done",
    );
    let path = script("pre_start.sh");
    for shell in shells() {
        let output = run(shell, &programs, &[path.to_str().unwrap()], &[]);
        assert_eq!(
            (output.status.code(), text(&output.stdout)),
            (Some(143), "terminated\n".to_owned()),
            "{shell:?}"
        );
    }
}

#[test]
fn a_signal_ends_the_start_even_if_no_model_is_required() {
    let path = script("pre_start.sh");
    let start = format!(". {}; echo started", path.display());
    // The second one exits with 0 in spite of the signal.
    for code in ["143", "0"] {
        let programs = provision(&format!(
            "trap 'exit {code}' TERM\nkill -TERM \"$PPID\"\ni=0\n\
             while [ $i -lt 200 ]; do sleep 0.05; i=$((i + 1)); done"
        ));
        for shell in shells() {
            let output = run(shell, &programs, &["-c", &start], &[("PROVISION_REQUIRED", "0")]);
            let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
            assert_eq!(output.status.code(), Some(143), "{shell:?} {code}: {stderr}");
            assert!(
                !stdout.contains("started") && !stderr.contains("INCOMPLETE"),
                "{shell:?} {code}: {stderr}"
            );
        }
    }
}

#[test]
fn the_download_script_passes_models_and_force_only() {
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

/// Runs compile.sh with this host and programs that print their calls, and no others that compile or install.
fn compile(host: &str, arguments: &[&str], programs: &[&str]) -> String {
    let bin = provision("");
    for tool in ["find", "touch", "tr"] {
        let path = ["/usr/bin", "/bin"].map(|directory| Path::new(directory).join(tool));
        std::os::unix::fs::symlink(path.iter().find(|path| path.exists()).unwrap(), bin.path().join(tool))
            .unwrap();
    }
    let rustc = "case \"$*\" in *host-tuple*) echo $HOST ;; *) echo /no/such/library ;; esac";
    let cargo = "echo \"cargo $*\"; env | grep -e ^CC_ -e _LINKER= | sort";
    for (name, text) in [("rustc", rustc), ("cargo", cargo), ("install", "echo install $*")]
        .into_iter()
        .chain(programs.iter().map(|name| (*name, "echo ${0##*/} $* >&2")))
    {
        let path = bin.path().join(name);
        write_program(&path, format!("#!/bin/sh\nPATH=/usr/bin:/bin\n{text}\n"));
    }
    fs::create_dir(bin.path().join("context")).unwrap();
    fs::create_dir(bin.path().join("context/provision")).unwrap();
    let mut command = Command::new("/bin/sh");
    command.arg(script("compile.sh")).args(arguments).current_dir(bin.path().join("context"));
    let output = command.env_clear().env("PATH", bin.path()).env("HOST", host).output().unwrap();
    format!("{}{}{:?}", text(&output.stderr), text(&output.stdout), output.status.code())
}

#[test]
fn the_image_compiles_for_its_own_machine_and_for_another() {
    const ARM: &str = "aarch64-unknown-linux-gnu";
    const INTEL: &str = "x86_64-unknown-linux-gnu";
    let compiled =
        |target: &str| format!("cargo build --locked --profile dist --package provision --target {target}\n");
    let installed =
        |target: &str| format!("install -D target/{target}/dist/provision /out/provision\nSome(0)");
    for (host, arguments) in [(INTEL, &[][..]), (ARM, &[]), (INTEL, &["amd64"]), (ARM, &["arm64"])] {
        assert_eq!(compile(host, arguments, &[]), compiled(host) + &installed(host), "{arguments:?}");
    }
    let variables = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc\n\
                     CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc\n";
    let expected = format!("rustup target add {ARM}\n{}{variables}{}", compiled(ARM), installed(ARM));
    assert_eq!(compile(INTEL, &["arm64"], &["rustup", "aarch64-linux-gnu-gcc"]), expected);
    // Without the compiler: Debian's packages.
    let said = compile(ARM, &["amd64"], &["rustup", "apt-get"]);
    assert!(said.contains("--no-install-recommends gcc-x86-64-linux-gnu libc6-dev-amd64-cross"), "{said}");
    assert!(said.contains("CC_x86_64_unknown_linux_gnu=x86_64-linux-gnu-gcc\n"), "{said}");
    assert!(compile(INTEL, &["riscv64"], &[]).contains("for amd64 and arm64, not for riscv64"));
}
