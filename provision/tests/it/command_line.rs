//! The command line: arguments, exit codes, messages. Signals and kill -9 are in `faults::disk::kills`.

use std::io::Write as _;

use crate::ensure::bake;
use crate::fixture::installed_mtime;
use crate::prelude::*;

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
    let fixture = Fixture::with(&[("vae/x.safetensors", 1, 3_000_000)]);
    let first = run(&mut fetch(&fixture, &[])).exits(0);
    first.err_has(&["vae/x.safetensors", "done: 1 file"]);
    first.out_is("");
    assert!(!first.err.contains('\r') && !first.err.contains('\x1b'), "{:?}", first.err);
    fixture.assert_installed();
    let requests = fixture.requests();
    run(&mut fetch(&fixture, &[])).exits(0);
    assert_eq!(fixture.requests(), requests);
}

#[test]
fn usage_errors_name_the_expected_value_and_exit_with_2() {
    let fixture = Fixture::with(&[("x", 1, 10)]);
    write(fixture.path("a-file"), b"");
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
        run(&mut fetch_overriding(&fixture, arguments))
            .exits(2)
            .err_has(&[expected])
            .err_lacks(&["canary-of-a-token"]);
    }
    assert_eq!(fixture.requests(), 0);
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
        run(program(&fixture).arg(command)).exits(2).err_has(&[expected]);
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
        let ended = run(program(&fixture).arg(command).env(&variable, "many")).exits(2);
        let expected = format!("invalid value 'many' for '{variable} (--{option} <{value_name}>)'");
        assert!(ended.err.contains(&expected), "{option}: {}", ended.err);
        // The command line wins, and its error is its own.
        for typed in [&[&*format!("--{option}"), "much"][..], &[&format!("--{option}=much")]] {
            let ended = run(program(&fixture).arg(command).args(typed).env(&variable, "many"));
            let expected = format!("invalid value 'much' for '--{option} <{value_name}>'");
            assert!(ended.err.contains(&expected), "{option}: {}", ended.err);
        }
    }
    run(program(&fixture).args(["fetch", "-q"]).env("PROVISION_VERBOSE", "1"))
        .err_has(&["'PROVISION_VERBOSE (--verbose)'"])
        .err_lacks(&["PROVISION_QUIET"]);
}

#[test]
fn groups_come_from_the_new_variable_or_else_from_the_old_one() {
    let fixture = Fixture::with(&[("x", 1, 10)]);
    for (variables, expected) in [
        (&[("PROVISION_ONLY", "old")][..], "\"old\""),
        (&[("PROVISION_ONLY", "old"), ("PROVISION_GROUP", "new")], "\"new\""),
        (&[("PROVISION_ONLY", "old"), ("PROVISION_GROUP", "")], "\"old\""),
    ] {
        run(fetch(&fixture, &[]).envs(variables.iter().copied()))
            .row(format!("{variables:?}"))
            .exits(2)
            .err_has(&[expected]);
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
    let ended = run.end().exits(3);
    assert!(ended.err.contains("standard input:") && ended.err.contains('^'), "{}", ended.err);
    assert!(!fixture.destination().exists(), "nothing was touched");
}

#[test]
fn the_lock_is_read_from_stdin_and_options_from_variables() {
    let fixture = Fixture::with(&[("a/x", 1, 1000), ("b/y", 2, 1000)]);
    let mut command = program(&fixture);
    command.args(["fetch", "--lock", "-", "b/*"]).env("PROVISION_DEST", fixture.destination());
    command.env("PROVISION_PROGRESS", "json");
    let (run, mut input) = start_with_input(&mut command);
    input.write_all(fixture.lock_text().as_bytes()).unwrap();
    drop(input);
    let ended = run.end().exits(0);
    assert!(fixture.path("b/y").exists() && !fixture.path("a/x").exists());
    for line in ended.out.lines() {
        let event: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(event["event"].is_string() && event["at"].is_number(), "{line}");
    }
    ended.out_has(&[r#""event":"finished""#]);
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
        run(&mut fetch(&fixture, &["--retries", "1"])).exits(code).err_has(&[name, says]);
        // The other file, and its verification; nothing else.
        assert_eq!(fixture.listing(), [".provision.journal", "good"], "{name}");
    }
}

#[test]
fn offline_fails_without_a_request_where_something_is_missing() {
    let fixture = Fixture::with(&[("x", 1, 1000)]);
    let ended = run(&mut fetch(&fixture, &["--offline"])).exits(4);
    assert!(ended.err.contains("--offline") && ended.err.contains('x'), "{}", ended.err);
    assert_eq!(fixture.origin.counters().connections_accepted, 0);
}

#[test]
fn offline_sends_no_request_even_when_a_part_is_wrong() {
    let (fixture, content) = Fixture::of("x", Content::generated(1, 3_000_000));
    let destination = Destination::create(&fixture.destination()).unwrap();
    let part =
        PartFile::open(&destination, &fixture.lock().models()[0], &PartNames::Shared, || true).unwrap();
    let _ = part.write(0, &content.flipped(7, 1).to_vec()).unwrap();
    part.checkpoint().unwrap();
    drop(part);
    run(&mut fetch(&fixture, &["--offline"])).exits(5);
    assert_eq!(fixture.origin.counters().connections_accepted, 0);
    assert!(fixture.listing().is_empty(), "{:?}", fixture.listing());
}

#[test]
fn a_dry_run_prints_the_plan_and_changes_nothing() {
    let fixture = Fixture::with(&[("a", 1, 2_000_000), ("b", 2, 1000)]);
    write(fixture.path("b"), Content::generated(2, 1000).to_vec());
    run(&mut fetch(&fixture, &["--dry-run"])).exits(0).out_has(&[
        "fetch    a  2 MB",
        "present  b  1 kB",
        "free",
    ]);
    assert_eq!(fixture.listing(), ["b"]);
    assert_eq!(fixture.origin.counters().connections_accepted, 0);
}

#[test]
fn force_fetches_installed_files_again() {
    let fixture = Fixture::with(&[("x", 1, 1000)]);
    run(&mut fetch(&fixture, &[])).exits(0);
    run(&mut fetch(&fixture, &["--force"])).exits(0);
    assert_eq!(fixture.origin.counters().path("/x").body_bytes, 2000);
    fixture.assert_installed();
}

#[test]
fn the_report_lists_the_source_of_every_byte() {
    let fixture = Fixture::with(&[("x", 1, 3_000_000)]);
    std::fs::create_dir_all(fixture.destination()).unwrap();
    let report = report_of(&fixture, &[]);
    assert_eq!(report["complete"], true);
    assert_eq!(report["files"][0]["outcome"], "fetched");
    assert_eq!(report["files"][0]["fetched"], 3_000_000);
    assert!(report["files"][0]["source"].as_str().unwrap().ends_with("/x?…"));
    assert_eq!(report["totals"]["fetched"], 3_000_000);
    assert!(report["files"][0]["connections"].as_u64().unwrap() >= 1);
}

#[test]
fn verify_exits_with_5_and_lists_what_is_wrong() {
    let (mut fixture, content) = Fixture::of("x", Content::generated(1, 100_000));
    fixture.file("y", &Content::generated(2, 5));
    run(&mut fetch(&fixture, &[])).exits(0);
    let verify = |fixture: &Fixture| run_verb(fixture, "verify", &[]);
    assert_eq!(verify(&fixture).code, Some(0));
    std::fs::write(fixture.path("x"), content.flipped(9, 1).to_vec()).unwrap();
    std::fs::remove_file(fixture.path("y")).unwrap();
    verify(&fixture).exits(5).out_has(&["x: has SHA-256", "y: missing"]);
    std::fs::write(fixture.path("x"), "a shorter file").unwrap();
    let ended = verify(&fixture);
    let expected = "x: has 14 bytes, the lock says 100 kB (100000 bytes)\n";
    ended.out_has(&[expected]);
}

#[test]
fn status_tells_installed_partial_and_missing_apart() {
    let fixture = Fixture::with(&[("x", 1, 1000), ("y", 2, 1000)]);
    run(&mut fetch(&fixture, &["x"])).exits(0);
    run_verb(&fixture, "status", &[]).exits(9).out_has(&[
        "installed  x",
        "missing    y",
        "1 of 2 files installed",
    ]);
    std::fs::write(fixture.path("y"), "a shorter file").unwrap();
    run_verb(&fixture, "status", &[]).out_has(&["wrong      y  14 bytes, the lock says 1 kB (1000 bytes)\n"]);
}

#[test]
fn a_second_run_waits_for_the_first_and_has_nothing_to_do() {
    let fixture = capped();
    let first = start(&mut fetch(&fixture, &["--connections", "8"]));
    fixture.wait_for_bytes(1_000_000);
    let second = start(&mut fetch(&fixture, &[]));
    run(&mut fetch(&fixture, &["--wait", "0"])).exits(8).err_has(&["held by process"]);
    first.end().exits(0);
    let second = second.end().exits(0);
    second.err_has(&["nothing to do: marker"]);
    assert_eq!(second.err.matches("waiting for another run").count(), 1, "{}", second.err);
    fixture.assert_installed();
    let sent = fixture.sent();
    assert!(sent < 96_000_000 + 96_000_000 / 10, "{sent} bytes were sent for 96,000,000");
}

/// `provision ensure` for the fixture's lock, with the baked directory beside the destination.
fn ensure(fixture: &Fixture, arguments: &[&str]) -> Command {
    let mut command = verb(fixture, "ensure", &[]);
    command.arg("--baked").arg(fixture.beside("baked")).args(arguments);
    command
}

#[test]
fn ensure_logs_its_steps_and_a_second_start_logs_one_line() {
    let mut fixture = Fixture::new();
    let (baked, missing) = (Content::generated(1, 3_000_000), Content::generated(2, 2_000_000));
    fixture.file("vae/x.safetensors", &baked).file("loras/y.safetensors", &missing);
    bake(&fixture, "vae/x.safetensors", &baked.to_vec());
    let first = run(&mut ensure(&fixture, &[])).exits(0);
    let lines: Vec<_> = first.err.lines().collect();
    assert!(lines[0].starts_with("models in ") && lines[0].ends_with(" free"), "{}", first.err);
    assert!(lines[1].starts_with("2 files, 5 MB: 1 to fetch, 1 to copy; 2 MB to go"), "{}", first.err);
    assert!(lines[2].starts_with("copying vae/x.safetensors, 3 MB, from "), "{}", first.err);
    assert!(lines[3].starts_with("copied vae/x.safetensors: 3 MB in "), "{}", first.err);
    assert!(lines[4].starts_with("fetching loras/y.safetensors, 2 MB, from http"), "{}", first.err);
    assert!(lines.last().unwrap().starts_with("done: 2 files, 5 MB (1 fetched, 1 copied from the baked"));
    fixture.assert_installed();

    let requests = fixture.requests();
    let second = run(&mut ensure(&fixture, &[])).exits(0);
    second.err_is("nothing to do: marker .models-installed is valid for 2 files\n");
    assert_eq!(fixture.requests(), requests);
}

#[test]
fn an_aborted_start_leaves_its_copied_bytes_for_the_next() {
    let (fixture, content) = Fixture::of("vae/x", Content::generated(1, 300_000_000));
    bake(&fixture, "vae/x", &content.to_vec());
    let mut copying = start(&mut ensure(&fixture, &["--progress", "json"]));
    // The stop comes at the first progress event of the copy.
    copying.wait_for_line("\"brought\"");
    signal(&copying, Signal::TERM);
    copying.end().exits(143);
    fixture.assert_nothing_wrong();
    let held = fixture.held();
    assert!(held > 0 && held < content.size(), "{held}");
    run(&mut ensure(&fixture, &["--offline"])).exits(0);
    fixture.assert_installed();
}

#[test]
fn of_two_starts_on_one_volume_one_copies_and_one_waits() {
    let fixture = Fixture::with(&[("vae/x", 1, 4_000_000)]);
    fixture.origin.shape(Shape::rate(1_000_000));
    let first = start(&mut ensure(&fixture, &[]));
    fixture.wait_for_bytes(0);
    run(&mut ensure(&fixture, &[]))
        .exits(0)
        .err_has(&["waiting for another run, which holds", "nothing to do: marker"]);
    first.end().exits(0);
    // On a busy machine a claim may be taken over, and its bytes in flight come twice: two seconds' worth at most.
    let sent = fixture.sent();
    assert!(sent <= 6_000_000, "{sent} bytes were sent for 4,000,000");
    fixture.assert_installed();
}

#[test]
fn layers_have_fixed_metadata_and_the_destination_is_removed() {
    use std::os::unix::fs::MetadataExt as _;
    let (mut fixture, content) = Fixture::of("vae/sub/x.safetensors", Content::generated(1, 1_000_000));
    fixture.file("loras/y.safetensors", &Content::generated(2, 10));
    let layers = fixture.beside("layers");
    let mut command = fetch(&fixture, &["--layers", layers.to_str().unwrap()]);
    run(&mut command).exits(0).err_has(&["layer vae: 1 file, 1 MB in "]);
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
    run(&mut fetch(&fixture, &["--layers", layers.to_str().unwrap()]))
        .exits(2)
        .err_has(&["layers/loras exists already"]);
}
