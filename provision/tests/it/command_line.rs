//! The command line: arguments, exit codes, messages. Signals and kill -9 are in `faults::disk::kills`.

use std::io::Write as _;
use std::process::Command;

use provision_disk::{Destination, PartFile, PartNames};
use provision_testbed::{Content, Fault, Shape};
use rustix::process::Signal;

use crate::fixture::{Fixture, installed_mtime};
use crate::program::{PATIENCE, fetch, program, run, signal, start, start_with_input};

/// A fixture with a rate-limited set of 96 MB in three files.
fn capped() -> Fixture {
    let mut fixture = Fixture::in_memory();
    for (name, seed, size) in
        [("a/large", 1, 64_000_000), ("b/middle", 2, 24_000_000), ("c/small", 3, 8_000_000)]
    {
        fixture.file(name, &Content::generated(seed, size));
    }
    fixture.origin.shape(Shape::rate(8_000_000));
    fixture
}

#[test]
fn a_fetch_reports_its_work_and_a_second_one_does_nothing() {
    let mut fixture = Fixture::new();
    fixture.file("vae/x.safetensors", &Content::generated(1, 3_000_000));
    let first = run(&mut fetch(&fixture, &[]));
    assert_eq!(first.code, Some(0), "{}", first.err);
    assert!(first.err.contains("vae/x.safetensors") && first.err.contains("done: 1 file"), "{}", first.err);
    assert_eq!(first.out, "");
    assert!(!first.err.contains('\r') && !first.err.contains('\x1b'), "{:?}", first.err);
    fixture.assert_installed();
    let requests = fixture.origin.counters().requests;
    let second = run(&mut fetch(&fixture, &[]));
    assert_eq!(second.code, Some(0));
    assert_eq!(fixture.origin.counters().requests, requests);
}

#[test]
fn usage_errors_name_the_expected_value_and_exit_with_2() {
    let mut fixture = Fixture::new();
    fixture.file("x", &Content::generated(1, 10));
    std::fs::create_dir_all(fixture.destination()).unwrap();
    std::fs::write(fixture.path("a-file"), b"").unwrap();
    let a_file = fixture.path("a-file");
    for (arguments, expected) in [
        (&["--limit-rate", "fast"][..], "50M"),
        (&["--limit-rate", "0"], "at least 1"),
        (&["--connections", "0"], "1..=1024"),
        (&["--retries", "0"], "1..=1000"),
        (&["--verify", "maybe"], "marker, quick, full"),
        (&["--wait", "soon"], "10m"),
        (&["--progress", "loud"], "auto, bars, plain, json, none"),
        (&["--group", "nothing"], "no model in the lock belongs to the group"),
        (&["--only", "nothing"], "no model in the lock belongs to the group"),
        (&["--groups", "nothing"], "--group"),
        (&["--local-dir", "x"], "--dest DIR"),
        (&["-x16"], "--connections N"),
        (&["--token=canary-of-a-token"], "HF_TOKEN"),
        (&["nothing"], "no model in the lock is called"),
        (&["--no-such-option"], "--no-such-option"),
        (&["--dest", a_file.to_str().unwrap()], "not a directory"),
        (&["--lock", "/nowhere/models.lock"], "--lock"),
        (&["--report", "/nowhere/report.json"], "--report"),
    ] {
        let ended = run(&mut fetch_overriding(&fixture, arguments));
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains(expected), "{arguments:?}: {}", ended.err);
        assert!(!ended.err.contains("canary-of-a-token"), "{}", ended.err);
    }
    assert_eq!(fixture.origin.counters().requests, 0);
}

#[test]
fn a_command_of_another_tool_gets_a_suggestion() {
    let fixture = Fixture::new();
    for (command, expected) in [
        ("download", "`fetch`"),
        ("import", "below `lock`"),
        ("prune", "`cache prune`"),
        ("new", "`init`"),
        ("verfy", "'verify'"),
    ] {
        let ended = run(program(&fixture).arg(command));
        assert_eq!(ended.code, Some(2), "{command}: {}", ended.err);
        assert!(ended.err.contains(expected), "{command}: {}", ended.err);
    }
}

#[test]
fn a_wrong_value_of_a_variable_names_the_variable() {
    let fixture = Fixture::new();
    for (command, option, value_name) in [
        ("fetch", "connections", "N"),
        ("fetch", "connections-per-host", "N"),
        ("fetch", "limit-rate", "RATE"),
        ("fetch", "retries", "N"),
        ("fetch", "verify", "WHAT"),
        ("fetch", "wait", "TIME"),
        ("fetch", "progress", "HOW"),
        ("fetch", "lock-sha256", "HEX"),
        ("ensure", "connections", "N"),
        ("ensure", "baked-mode", "HOW"),
        ("status", "lock-sha256", "HEX"),
    ] {
        let variable = format!("PROVISION_{}", option.replace('-', "_").to_uppercase());
        let ended = run(program(&fixture).arg(command).env(&variable, "many"));
        assert_eq!(ended.code, Some(2), "{option}: {}", ended.err);
        let expected = format!("invalid value 'many' for '{variable} (--{option} <{value_name}>)'");
        assert!(ended.err.contains(&expected), "{option}: {}", ended.err);
        // The command line wins, and its error is its own.
        for typed in [&[&*format!("--{option}"), "much"][..], &[&format!("--{option}=much")]] {
            let ended = run(program(&fixture).arg(command).args(typed).env(&variable, "many"));
            let expected = format!("invalid value 'much' for '--{option} <{value_name}>'");
            assert!(ended.err.contains(&expected), "{option}: {}", ended.err);
        }
    }
    let ended = run(program(&fixture).args(["fetch", "-q"]).env("PROVISION_VERBOSE", "1"));
    assert!(ended.err.contains("'PROVISION_VERBOSE (--verbose)'"), "{}", ended.err);
    assert!(!ended.err.contains("PROVISION_QUIET"), "{}", ended.err);
}

#[test]
fn groups_come_from_the_new_variable_or_else_from_the_old_one() {
    let mut fixture = Fixture::new();
    fixture.file("x", &Content::generated(1, 10));
    for (variables, expected) in [
        (&[("PROVISION_ONLY", "old")][..], "\"old\""),
        (&[("PROVISION_ONLY", "old"), ("PROVISION_GROUP", "new")], "\"new\""),
        (&[("PROVISION_ONLY", "old"), ("PROVISION_GROUP", "")], "\"old\""),
    ] {
        let ended = run(fetch(&fixture, &[]).envs(variables.iter().copied()));
        assert_eq!(ended.code, Some(2), "{variables:?}: {}", ended.err);
        assert!(ended.err.contains(expected), "{variables:?}: {}", ended.err);
    }
}

/// As `fetch`, without the options that `arguments` hold.
fn fetch_overriding(fixture: &Fixture, arguments: &[&str]) -> Command {
    let mut command = program(fixture);
    command.arg("fetch").args(arguments);
    if !arguments.contains(&"--lock") {
        command.arg("--lock").arg(fixture.write_lock());
    }
    if !arguments.contains(&"--dest") {
        command.arg("--dest").arg(fixture.destination());
    }
    command
}

#[test]
fn a_broken_lock_exits_with_3_and_shows_the_line() {
    let fixture = Fixture::new();
    let mut command = program(&fixture);
    command.args(["fetch", "--lock", "-", "--dest"]).arg(fixture.destination());
    let (run, mut input) = start_with_input(&mut command);
    input.write_all(b"version = 1\n[[model]]\npath = \"../x\"\n").unwrap();
    drop(input);
    let ended = run.end();
    assert_eq!(ended.code, Some(3), "{}", ended.err);
    assert!(ended.err.contains("standard input:") && ended.err.contains('^'), "{}", ended.err);
    assert!(!fixture.destination().exists(), "nothing was touched");
}

#[test]
fn the_lock_is_read_from_stdin_and_options_from_variables() {
    let mut fixture = Fixture::new();
    fixture.file("a/x", &Content::generated(1, 1000)).file("b/y", &Content::generated(2, 1000));
    let mut command = program(&fixture);
    command.args(["fetch", "--lock", "-", "b/*"]).env("PROVISION_DEST", fixture.destination());
    command.env("PROVISION_PROGRESS", "json");
    let (run, mut input) = start_with_input(&mut command);
    input.write_all(fixture.lock_text().as_bytes()).unwrap();
    drop(input);
    let ended = run.end();
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(fixture.path("b/y").exists() && !fixture.path("a/x").exists());
    for line in ended.out.lines() {
        let event: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(event["event"].is_string() && event["at"].is_number(), "{line}");
    }
    assert!(ended.out.contains(r#""event":"finished""#), "{}", ended.out);
}

#[test]
fn failures_have_their_exit_codes_and_name_the_file() {
    let content = Content::generated(1, 50_000);
    let cases: [(&str, Option<Fault>, Content, i32, &str); 5] = [
        ("gone", Some(Fault::status(404)), content.clone(), 4, "404"),
        ("page", Some(Fault::LoginPage), content.clone(), 4, "HTML"),
        ("wrong", Some(Fault::OtherContent(content.flipped(5, 1))), content.clone(), 5, "SHA-256"),
        ("private", Some(Fault::status(401)), content.clone(), 6, "netrc"),
        (
            "longer",
            Some(Fault::OtherContent(Content::generated(1, 60_000))),
            content.clone(),
            5,
            "60000 bytes",
        ),
    ];
    for (name, fault, content, code, says) in cases {
        let mut fixture = Fixture::new();
        fixture.file(name, &content).file("good", &Content::generated(9, 1000));
        if let Some(fault) = fault {
            fixture.origin.inject(&format!("/{name}"), fault);
        }
        let ended = run(&mut fetch(&fixture, &["--retries", "1"]));
        assert_eq!(ended.code, Some(code), "{name}: {}", ended.err);
        assert!(ended.err.contains(name) && ended.err.contains(says), "{name}: {}", ended.err);
        // The other file, and its verification; nothing else.
        assert_eq!(fixture.listing(), [".provision.journal", "good"], "{name}");
    }
}

#[test]
fn offline_fails_without_a_request_where_something_is_missing() {
    let mut fixture = Fixture::new();
    fixture.file("x", &Content::generated(1, 1000));
    let ended = run(&mut fetch(&fixture, &["--offline"]));
    assert_eq!(ended.code, Some(4), "{}", ended.err);
    assert!(ended.err.contains("--offline") && ended.err.contains('x'), "{}", ended.err);
    assert_eq!(fixture.origin.counters().connections_accepted, 0);
}

#[test]
fn offline_sends_no_request_even_when_a_part_is_wrong() {
    let mut fixture = Fixture::new();
    let content = Content::generated(1, 3_000_000);
    fixture.file("x", &content);
    let destination = Destination::create(&fixture.destination()).unwrap();
    let part =
        PartFile::open(&destination, &fixture.lock().models()[0], &PartNames::Shared, || true).unwrap();
    let _ = part.write(0, &content.flipped(7, 1).to_vec()).unwrap();
    part.checkpoint().unwrap();
    drop(part);
    let ended = run(&mut fetch(&fixture, &["--offline"]));
    assert_eq!(ended.code, Some(5), "{}", ended.err);
    assert_eq!(fixture.origin.counters().connections_accepted, 0);
    assert!(fixture.listing().is_empty(), "{:?}", fixture.listing());
}

#[test]
fn a_dry_run_prints_the_plan_and_changes_nothing() {
    let mut fixture = Fixture::new();
    fixture.file("a", &Content::generated(1, 2_000_000)).file("b", &Content::generated(2, 1000));
    std::fs::create_dir_all(fixture.destination()).unwrap();
    std::fs::write(fixture.path("b"), Content::generated(2, 1000).to_vec()).unwrap();
    let ended = run(&mut fetch(&fixture, &["--dry-run"]));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(
        ended.out.contains("fetch    a  2 MB") && ended.out.contains("present  b  1 kB"),
        "{}",
        ended.out
    );
    assert!(ended.out.contains("free"), "{}", ended.out);
    assert_eq!(fixture.listing(), ["b"]);
    assert_eq!(fixture.origin.counters().connections_accepted, 0);
}

#[test]
fn force_fetches_installed_files_again() {
    let mut fixture = Fixture::new();
    fixture.file("x", &Content::generated(1, 1000));
    assert_eq!(run(&mut fetch(&fixture, &[])).code, Some(0));
    assert_eq!(run(&mut fetch(&fixture, &["--force"])).code, Some(0));
    assert_eq!(fixture.origin.counters().path("/x").body_bytes, 2000);
    fixture.assert_installed();
}

#[test]
fn the_report_lists_the_source_of_every_byte() {
    let mut fixture = Fixture::new();
    fixture.file("x", &Content::generated(1, 3_000_000));
    std::fs::create_dir_all(fixture.destination()).unwrap();
    let path = fixture.beside("report.json");
    assert_eq!(run(&mut fetch(&fixture, &["--report", path.to_str().unwrap()])).code, Some(0));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(report["complete"], true);
    assert_eq!(report["files"][0]["outcome"], "fetched");
    assert_eq!(report["files"][0]["fetched"], 3_000_000);
    assert!(report["files"][0]["source"].as_str().unwrap().ends_with("/x?…"));
    assert_eq!(report["totals"]["fetched"], 3_000_000);
    assert!(report["files"][0]["connections"].as_u64().unwrap() >= 1);
}

#[test]
fn verify_exits_with_5_and_lists_what_is_wrong() {
    let mut fixture = Fixture::new();
    let content = Content::generated(1, 100_000);
    fixture.file("x", &content).file("y", &Content::generated(2, 5));
    assert_eq!(run(&mut fetch(&fixture, &[])).code, Some(0));
    let verify = |fixture: &Fixture| {
        let mut command = program(fixture);
        command
            .arg("verify")
            .arg("--lock")
            .arg(fixture.write_lock())
            .arg("--dest")
            .arg(fixture.destination());
        run(&mut command)
    };
    assert_eq!(verify(&fixture).code, Some(0));
    std::fs::write(fixture.path("x"), content.flipped(9, 1).to_vec()).unwrap();
    std::fs::remove_file(fixture.path("y")).unwrap();
    let ended = verify(&fixture);
    assert_eq!(ended.code, Some(5), "{}", ended.err);
    assert!(ended.out.contains("x: has SHA-256") && ended.out.contains("y: missing"), "{}", ended.out);
    std::fs::write(fixture.path("x"), "a shorter file").unwrap();
    let ended = verify(&fixture);
    let expected = "x: has 14 bytes, the lock says 100 kB (100000 bytes)\n";
    assert!(ended.out.contains(expected), "{}", ended.out);
}

#[test]
fn status_tells_installed_partial_and_missing_apart() {
    let mut fixture = Fixture::new();
    fixture.file("x", &Content::generated(1, 1000)).file("y", &Content::generated(2, 1000));
    assert_eq!(run(&mut fetch(&fixture, &["x"])).code, Some(0));
    let mut command = program(&fixture);
    command.arg("status").arg("--lock").arg(fixture.write_lock()).arg("--dest").arg(fixture.destination());
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(9), "{}", ended.err);
    assert!(ended.out.contains("installed  x") && ended.out.contains("missing    y"), "{}", ended.out);
    assert!(ended.out.contains("1 of 2 files installed"), "{}", ended.out);
    std::fs::write(fixture.path("y"), "a shorter file").unwrap();
    let ended = run(&mut command);
    let expected = "wrong      y  14 bytes, the lock says 1 kB (1000 bytes)\n";
    assert!(ended.out.contains(expected), "{}", ended.out);
}

#[test]
fn a_second_run_waits_for_the_first_and_has_nothing_to_do() {
    let fixture = capped();
    let first = start(&mut fetch(&fixture, &["--connections", "8"]));
    fixture.origin.wait_for(PATIENCE, |counters| counters.body_bytes_sent > 1_000_000).unwrap();
    let second = start(&mut fetch(&fixture, &[]));
    let hurried = run(&mut fetch(&fixture, &["--wait", "0"]));
    assert_eq!(hurried.code, Some(8), "{}", hurried.err);
    assert!(hurried.err.contains("held by process"), "{}", hurried.err);
    assert_eq!(first.end().code, Some(0));
    let second = second.end();
    assert_eq!(second.code, Some(0), "{}", second.err);
    assert!(second.err.contains("wait"), "{}", second.err);
    fixture.assert_installed();
    let sent = fixture.origin.counters().body_bytes_sent;
    assert!(sent < 96_000_000 + 96_000_000 / 10, "{sent} bytes were sent for 96,000,000");
}

/// `provision ensure` for the fixture's lock, with the baked directory beside the destination.
fn ensure(fixture: &Fixture, arguments: &[&str]) -> Command {
    let mut command = program(fixture);
    command.arg("ensure").arg("--lock").arg(fixture.write_lock()).arg("--dest").arg(fixture.destination());
    command.arg("--baked").arg(fixture.beside("baked")).args(arguments);
    command
}

fn bake(fixture: &Fixture, path: &str, bytes: &[u8]) {
    let path = fixture.beside("baked").join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn ensure_logs_its_steps_and_a_second_start_logs_one_line() {
    let mut fixture = Fixture::new();
    let (baked, missing) = (Content::generated(1, 3_000_000), Content::generated(2, 2_000_000));
    fixture.file("vae/x.safetensors", &baked).file("loras/y.safetensors", &missing);
    bake(&fixture, "vae/x.safetensors", &baked.to_vec());
    let first = run(&mut ensure(&fixture, &[]));
    assert_eq!(first.code, Some(0), "{}", first.err);
    let lines: Vec<_> = first.err.lines().collect();
    assert!(lines[0].starts_with("models in ") && lines[0].ends_with(" free"), "{}", first.err);
    assert!(lines[1].starts_with("2 files, 5 MB: 1 to fetch, 1 to copy; 2 MB to go"), "{}", first.err);
    assert!(lines[2].starts_with("copying vae/x.safetensors, 3 MB, from "), "{}", first.err);
    assert!(lines[3].starts_with("copied vae/x.safetensors: 3 MB in "), "{}", first.err);
    assert!(lines[4].starts_with("fetching loras/y.safetensors, 2 MB, from http"), "{}", first.err);
    assert!(lines.last().unwrap().starts_with("done: 2 files, 5 MB (1 fetched, 1 copied from the baked"));
    fixture.assert_installed();

    let requests = fixture.origin.counters().requests;
    let second = run(&mut ensure(&fixture, &[]));
    assert_eq!(second.code, Some(0));
    assert_eq!(second.err, "nothing to do: marker .models-installed is valid for 2 files\n");
    assert_eq!(fixture.origin.counters().requests, requests);
}

#[test]
fn an_aborted_start_leaves_its_copied_bytes_for_the_next() {
    let mut fixture = Fixture::new();
    let content = Content::generated(1, 300_000_000);
    fixture.file("vae/x", &content);
    bake(&fixture, "vae/x", &content.to_vec());
    let mut copying = start(&mut ensure(&fixture, &["--progress", "json"]));
    // The stop comes at the first progress event of the copy.
    copying.wait_for_line("\"brought\"");
    signal(&copying, Signal::TERM);
    assert_eq!(copying.end().code, Some(143));
    fixture.assert_nothing_wrong();
    let held = fixture.held();
    assert!(held > 0 && held < content.size(), "{held}");
    assert_eq!(run(&mut ensure(&fixture, &["--offline"])).code, Some(0));
    fixture.assert_installed();
}

#[test]
fn of_two_starts_on_one_volume_one_copies_and_one_waits() {
    let mut fixture = Fixture::new();
    fixture.file("vae/x", &Content::generated(1, 4_000_000));
    fixture.origin.shape(Shape::rate(1_000_000));
    let first = start(&mut ensure(&fixture, &[]));
    fixture.origin.wait_for(PATIENCE, |counters| counters.body_bytes_sent > 0).unwrap();
    let second = run(&mut ensure(&fixture, &[]));
    assert_eq!(second.code, Some(0), "{}", second.err);
    assert!(second.err.contains("waiting for another run, which holds"), "{}", second.err);
    assert!(second.err.contains("nothing to do: marker"), "{}", second.err);
    assert_eq!(first.end().code, Some(0));
    // On a busy machine a claim may be taken over, and its bytes in flight come twice: two seconds' worth at most.
    let sent = fixture.origin.counters().body_bytes_sent;
    assert!(sent <= 6_000_000, "{sent} bytes were sent for 4,000,000");
    fixture.assert_installed();
}

#[test]
fn layers_have_fixed_metadata_and_the_destination_is_removed() {
    use std::os::unix::fs::MetadataExt as _;
    let mut fixture = Fixture::new();
    let content = Content::generated(1, 1_000_000);
    fixture.file("vae/sub/x.safetensors", &content).file("loras/y.safetensors", &Content::generated(2, 10));
    let layers = fixture.beside("layers");
    let mut command = fetch(&fixture, &["--layers", layers.to_str().unwrap()]);
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("layer vae: 1 file, 1 MB in "), "{}", ended.err);
    assert_eq!(fixture.listing(), Vec::<String>::new());
    let tree = layers.join("vae");
    let file = tree.join(fixture.path("vae/sub/x.safetensors").strip_prefix("/").unwrap());
    assert_eq!(std::fs::read(&file).unwrap(), content.to_vec());
    for at in file.ancestors().take_while(|at| at.starts_with(&tree)) {
        let found = std::fs::symlink_metadata(at).unwrap();
        let (mode, mtime) = if found.is_dir() {
            (0o755, provision_disk::EARLIEST_MTIME)
        } else {
            (0o644, installed_mtime(&content))
        };
        assert_eq!((found.mtime(), found.mode() & 0o7777), (mtime, mode), "{}", at.display());
    }
    assert!(layers.join("loras").is_dir());

    // A second run into it would mix two sets.
    let again = run(&mut fetch(&fixture, &["--layers", layers.to_str().unwrap()]));
    assert_eq!(again.code, Some(2), "{}", again.err);
    assert!(again.err.contains("layers/loras exists already"), "{}", again.err);
}
