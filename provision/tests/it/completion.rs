//! Completion in the shells themselves: each runs the script of `provision completions` and asks it for candidates.

use crate::prelude::*;

/// Each shell with its options and a script, which completes the words of its arguments and prints a candidate a line.
const SHELLS: [(&str, &[&str], &str); 3] = [
    (
        "bash",
        &["--norc", "-c"],
        "source <(provision completions bash)
         COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMP_TYPE=9
         _clap_complete_provision provision \"${@: -1}\"; printf '%s\\n' \"${COMPREPLY[@]}\"",
    ),
    // Its completion needs a terminal, so the two functions that the script calls are replaced. The script is a
    // function, as in a directory of functions.
    (
        "zsh",
        &["-f", "-c"],
        "compdef() { }; _describe() { print -l -- ${${(P)argv[-1]}%%:*} }
         functions[_provision]=$(provision completions zsh)
         words=(\"$@\"); CURRENT=$#; _provision",
    ),
    (
        "fish",
        &["--no-config", "-c"],
        "provision completions fish | source; complete --do-complete \"$argv[2..]\" | string split --fields 1 \\t",
    ),
];

/// A fixture with two models, one of which is in a group, and the directory of its lock.
fn fixture() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.file("loras/style.safetensors", &Content::bytes("style"));
    fixture.file("vae/small.safetensors", &Content::bytes("small"));
    let lock = fixture.lock_text().replacen("[[model]]", "[[model]]\ngroups = [\"portraits\"]", 1);
    std::fs::write(fixture.write_lock(), lock).unwrap();
    std::fs::write(fixture.beside("broken.lock"), "version = 1\n[[model]]\npath = \"vae/x\"\n").unwrap();
    fixture
}

/// The answer of the shell's script, beside the lock.
fn asked(fixture: &Fixture, (shell, options, script): (&str, &[&str], &str), words: &str) -> Ended {
    let binaries = Path::new(BINARY).parent().unwrap().display();
    let mut command = Command::new(shell);
    command.env_clear().env("PATH", format!("{binaries}:/usr/bin:/bin")).env("HOME", fixture.beside("home"));
    command.current_dir(fixture.beside("")).args(options).args([script, shell]);
    // An empty last word is what follows a space.
    command.arg("provision").args(words.split(' '));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    run(&mut command)
}

#[test]
fn each_shell_completes_commands_models_and_groups() {
    for shell in SHELLS {
        if !needs_tool(shell.0, "--version") {
            continue;
        }
        let fixture = fixture();
        let cases = [
            ("fet", "fetch"),
            ("fetch vae/", "vae/small.safetensors"),
            ("lock remove sty", "style"),
            ("fetch --group por", "portraits"),
            ("fetch --only por", "portraits"),
            ("fetch --lock models.lock lo", "loras/style.safetensors"),
        ];
        for (words, candidate) in cases {
            let answer = asked(&fixture, shell, words);
            assert_eq!((answer.out.trim_end(), &*answer.err), (candidate, ""), "{}: {words}", shell.0);
        }
    }
}

#[test]
fn a_lock_that_cannot_be_read_completes_nothing_in_silence() {
    for shell in SHELLS {
        if !needs_tool(shell.0, "--version") {
            continue;
        }
        let fixture = fixture();
        let address = format!("fetch --lock {} vae", fixture.origin.url("/models.lock"));
        let locks = ["fetch --lock broken.lock vae", "fetch --lock none vae", "fetch --lock - vae", &address];
        for words in locks {
            let answer = asked(&fixture, shell, words);
            assert_eq!((answer.out.trim_end(), &*answer.err), ("", ""), "{}: {words}", shell.0);
        }
        assert_eq!(fixture.requests(), 0);
    }
}

#[test]
fn the_completion_variable_alone_changes_no_command() {
    let fixture = fixture();
    let listed = run(program(&fixture).args(["lock", "list"]).current_dir(fixture.beside("")));
    let command = &mut program(&fixture);
    let again =
        run(command.args(["lock", "list"]).current_dir(fixture.beside("")).env("PROVISION_COMPLETE", "bash"));
    listed.out_has(&["vae/small.safetensors"]);
    assert_eq!(again.out, listed.out);
}
