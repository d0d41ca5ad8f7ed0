//! Texts that would control a terminal or turn the direction of what follows (fault 112).

use provision_core::terminal_text::is_unsafe;

use crate::prelude::*;

/// A name that erases the screen, and reads as `x…txt.exe` from its middle on.
const EVIL: &str = "x\u{1b}[2J\u{1b}[31m\u{9b}31m\u{7}\u{202e}exe.txt\u{2066}\u{feff}";

/// Runs it; asserts that nothing which it prints is harmful, and returns all of it.
fn assert_harmless(command: &mut Command) -> String {
    let ended = run(command);
    let text = ended.out + &ended.err;
    let harmful: Vec<_> = text.lines().filter(|line| line.contains(is_unsafe)).collect();
    assert!(harmful.is_empty(), "{:?} prints {harmful:?}", command.get_args());
    assert_ne!(text, "", "{:?} prints nothing", command.get_args());
    text
}

#[test]
fn fault_112_arguments_and_variables_are_shown_harmless() {
    let fixture = Fixture::with(&[("x", 1, 1000)]);
    let lock = fixture.write_lock();
    let lock = lock.to_str().unwrap();
    let dest = fixture.destination();
    let option = format!("--{EVIL}");
    for arguments in [
        &[EVIL][..],
        &["fetch", &option],
        &["fetch", "--connections", EVIL],
        &["fetch", "--lock-sha256", EVIL],
        &["fetch", "--lock", EVIL],
        &["fetch", "--lock", &format!("https://h/{EVIL}")],
        &["fetch", "--lock", lock, "--group", EVIL],
        &["fetch", "--lock", lock, "--dest", dest.as_str(), EVIL],
        &["fetch", "--lock", lock, "--report", &format!("/nowhere/{EVIL}")],
        &["ensure", "--lock", lock, "--baked", EVIL],
        &["status", "--lock", lock, "--dest", EVIL],
        &["verify", "--lock", lock, "--dest", EVIL],
        &["cache", "list", "--cache", EVIL],
        &["cache", "prune", "--cache", EVIL],
        &["lock", EVIL],
        &["lock", "add", EVIL],
        &["lock", "add", &format!("http://127.0.0.1:1/{EVIL}")],
        &["lock", "import", EVIL],
        &["lock", "list", "--lock", EVIL],
        &["lock", "remove", EVIL, "--lock", lock],
        &["lock", "update", EVIL, "--lock", lock],
        &["lock", "check", EVIL, "--lock", lock],
    ] {
        assert_harmless(program(&fixture).args(arguments).env("PROVISION_DEST", &dest));
    }
    for variable in ["PROVISION_CONNECTIONS", "PROVISION_LOCK", "HF_ENDPOINT", "HTTPS_PROXY", "NETRC"] {
        assert_harmless(program(&fixture).arg("fetch").env("PROVISION_DEST", &dest).env(variable, EVIL));
    }
}

#[test]
fn fault_112_paths_on_this_machine_are_shown_harmless() {
    let mut fixture = Fixture::with(&[("x", 1, 1000), ("y", 2, 1000)]);
    let dest = fixture.beside(EVIL);
    for (command, more) in [
        ("fetch", &["-v"][..]),
        ("fetch", &["--force", "--progress", "json"]),
        ("verify", &[]),
        ("status", &[]),
    ] {
        let mut command = fetch_like(&fixture, command);
        assert_harmless(command.arg("--dest").arg(&dest).args(more));
    }
    std::fs::write(dest.join("x"), "wrong").unwrap();
    let cache = fixture.beside(&format!("cache{EVIL}"));
    for (command, more) in
        [("verify", &[][..]), ("status", &[]), ("fetch", &["--dry-run"]), ("fetch", &["-v"])]
    {
        let mut command = fetch_like(&fixture, command);
        command.arg("--dest").arg(&dest).args(more);
        if command.get_args().any(|argument| argument == "fetch") {
            command.arg("--cache").arg(&cache);
        }
        assert_harmless(&mut command);
    }
    assert_harmless(program(&fixture).args(["cache", "list", "--cache"]).arg(&cache));
    fixture.watch_also(dest);
}

fn fetch_like(fixture: &Fixture, command: &str) -> Command {
    let mut program = program(fixture);
    program.arg(command).arg("--lock").arg(fixture.write_lock());
    program
}

#[test]
fn fault_112_a_hosts_words_are_shown_harmless() {
    let mut fixture = Fixture::new();
    let page = format!("<html><title>{EVIL}\nwarning: forged</title></html>");
    for (path, fault) in [
        ("page", Fault::OtherContent(Content::bytes(page.into_bytes()))),
        ("refused", Fault::status(403)),
        ("place", Fault::redirect(format!("http://127.0.0.1:1/{EVIL}"))),
    ] {
        fixture.file(path, &Content::generated(1, 90));
        fixture.origin.inject(&format!("/{path}"), fault);
    }
    for more in [&["-v"][..], &["--progress", "json"]] {
        let text = assert_harmless(fetch(&fixture, &["--retries", "1"]).args(more));
        assert!(!text.contains("\nwarning: forged"), "{text}");
    }
}

#[test]
fn fault_112_a_list_of_another_tool_is_shown_harmless() {
    let fixture = Fixture::new();
    let list = fixture.beside("workflow.json");
    let node = serde_json::json!({
        "nodes": [{ "id": 1, "type": EVIL, "widgets_values": [format!("{EVIL}.safetensors")], "properties": {
            "models": [{ "name": format!("{EVIL}.safetensors"), "url": format!("http://127.0.0.1:1/{EVIL}"),
                "directory": EVIL }] } }]
    });
    std::fs::write(&list, node.to_string()).unwrap();
    let lock = fixture.beside("models.lock");
    assert_harmless(program(&fixture).args(["lock", "import"]).arg(&list).arg("--lock").arg(&lock));
    let sha256 = "0".repeat(64);
    for text in [
        format!("version = 1\n[[model]]\npath = \"{}\"\n", EVIL.escape_unicode()),
        format!("version = 1\n# {}\n[[model]]\npath = 1\n", "\u{202e}"),
        format!(
            "version = 1\n[[model]]\npath = \"a/\\u202Eb\"\nurl = \"https://h/x\"\nsize = 1\nsha256 = \"{sha256}\"\n"
        ),
        format!(
            "version = 1\n[[model]]\npath = \"a\"\nurl = \"https://h/\\u202E\"\ngroups = [\"g\\u202E\"]\nsize = 1\n\
             sha256 = \"{sha256}\"\nsource = \"hf:\\u202E\"\n"
        ),
    ] {
        std::fs::write(&lock, text).unwrap();
        for command in [&["lock", "list"][..], &["status"], &["fetch", "--offline"]] {
            let mut program = program(&fixture);
            let command =
                program.args(command).arg("--lock").arg(&lock).env("PROVISION_DEST", fixture.destination());
            assert_harmless(command);
        }
    }
}
