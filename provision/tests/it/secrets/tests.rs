//! The search finds what is planted in each place, and no output of the program has a secret.

use std::io::Write as _;

use provision_core::event::Observer as _;

use super::*;
use crate::prelude::*;

/// Plants a secret in each place, checks that the search finds it, and removes it again.
#[test]
fn fault_53_the_search_finds_planted_secrets() {
    let fixture = Fixture::with(&[("x", 1, 100_000)]);
    fixture.fetch_all();
    let watch = Watch::new(&fixture.beside(""), Arc::default());
    assert_eq!(watch.leaks(), Vec::<String>::new());
    let finds = |watch: &Watch, where_: &str| {
        let leaks = watch.leaks();
        assert!(leaks.len() == 1 && leaks[0].contains(where_), "{where_}: {leaks:?}");
    };

    let marker = fixture.path(".models-installed");
    let before = std::fs::read(&marker).unwrap();
    for text in [format!("a {MARK}-b"), MARK.to_lowercase(), encode(&format!("u:{MARK}"))] {
        std::fs::write(&marker, text).unwrap();
        finds(&watch, ".models-installed");
    }
    std::fs::write(&marker, before).unwrap();
    // A journal, a report, a small part, and files larger than the buffer: at the end, and across a border.
    for (name, before) in [
        (".x.0123abcd.journal", 0),
        (".x.0123abcd.part", 100),
        ("report.json", 10),
        ("log", LARGE as usize + 1_000_003),
        ("log", 2 * BLOCK - 7),
    ] {
        let planted = fixture.path(name);
        std::fs::write(&planted, [vec![b' '; before], MARK.into()].concat()).unwrap();
        finds(&watch, name);
        std::fs::remove_file(&planted).unwrap();
    }
    let link = fixture.path("link");
    std::os::unix::fs::symlink(format!("/nowhere/{MARK}"), &link).unwrap();
    finds(&watch, "link leads");
    std::fs::remove_file(&link).unwrap();
    let named = fixture.path(&format!("{MARK}.part"));
    std::fs::write(&named, "").unwrap();
    finds(&watch, "name");
    std::fs::remove_file(&named).unwrap();

    watch.events.observe(&Event::Warning { message: format!("for {MARK}") });
    finds(&watch, "an event");
    std::mem::forget(watch);

    let foreign = start_origin("127.0.0.2");
    let watch = Watch::new(&fixture.beside(""), Arc::default());
    let mut told = std::net::TcpStream::connect(foreign.addr()).unwrap();
    write!(
        told,
        "GET /?{} HTTP/1.0\r\nAuthorization: Bearer {}\r\n\r\n",
        signature(&foreign),
        token(&foreign)
    )
    .unwrap();
    told.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(watch.leaks(), Vec::<String>::new(), "an origin may receive its own secrets");
    let mut told = std::net::TcpStream::connect(foreign.addr()).unwrap();
    write!(told, "GET / HTTP/1.0\r\nAuthorization: Bearer {}\r\n\r\n", token(&fixture.origin)).unwrap();
    told.read_to_end(&mut Vec::new()).unwrap();
    finds(&watch, "127.0.0.2");
    std::mem::forget(watch);
    forget();
}

/// The same for a destination outside the fixture's directory.
#[test]
fn fault_53_the_search_covers_every_destination() {
    let elsewhere = tempfile::tempdir().unwrap();
    let path = camino::Utf8Path::from_path(elsewhere.path()).unwrap().join("models");
    let mut fixture = Fixture::at(path.clone());
    fixture.file("d/x", &Content::generated(1, 100_000));
    fixture.fetch_all();
    std::fs::write(path.join(".models-installed"), MARK).unwrap();
    assert_reported(|| drop(fixture), "in .models-installed: CanaryNeverShown");
}

/// All output of the program, for each way in which a test waits for its end.
#[test]
fn fault_53_the_search_reads_all_output() {
    let shell = |script: &str| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    };
    let [out, err] = [format!("echo {MARK}"), format!("echo {MARK} >&2")];
    assert_reported(|| drop(run(&mut shell(&out))), "in standard output");
    assert_reported(|| drop(run(&mut shell(&err))), "in standard error");
    assert_reported(|| drop(start(&mut shell(&err)).end()), "in standard error");
    // A run whose first line a test awaits and that it then drops: both lines are searched.
    for (said, place) in [(out, "in standard output"), (err, "in standard error")] {
        let mut command = shell(&format!("{said}; echo ready; read never"));
        let (mut forgotten, input) = start_with_input(&mut command);
        forgotten.wait_for_line("ready");
        assert_reported(|| drop(forgotten), place);
        drop(input);
    }
}

/// Errors that a run in this process returns, and panic messages.
#[test]
fn fault_53_the_search_reads_errors_and_their_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("it failed")]
    struct Outer(#[source] std::io::Error);
    let error = Outer(std::io::Error::other(format!("for {MARK}")));
    assert!(find(&error.to_string()).is_none());
    assert_reported(|| assert_none("an error", &formats(&error)), "in an error");
    assert_reported(|| assert_none("a panic", &format!("panicked at {error:?}")), "in a panic");
}

/// Fails unless `what` panics with a message that reports a secret in that place.
fn assert_reported(what: impl FnOnce(), place: &str) {
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(what)).unwrap_err();
    let said = panic.downcast_ref::<String>().unwrap();
    assert!(said.contains(place) && said.contains(MARK), "{said}");
}

/// Only the searching helper starts the program.
#[test]
fn fault_53_every_test_starts_the_program_through_the_search() {
    /// Files that may start a process: the helper, this file, and files that start other programs.
    const OTHERS: [&str; 7] = [
        "container_scripts.rs",
        "install_script.rs",
        "program.rs",
        "secrets/tests.rs",
        "skip.rs",
        "faults/disk/machine.rs",
        "faults/redirects/private.rs",
    ];
    fn sources(at: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let mut found = Vec::new();
    sources(&root, &mut found);
    assert!(found.len() > 30, "{found:?}");
    for path in found {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
        if OTHERS.contains(&name) {
            continue;
        }
        for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            let starts = ["CARGO_BIN_EXE", ".spawn()", ".output()", ".wait_with_output("];
            // A compiler, and fincore(1).
            let is_other =
                matches!(name, "faults/transport/clock.rs" | "warm.rs") && line.trim() == ".output()";
            assert!(
                is_other || !starts.iter().any(|start| line.contains(start)),
                "{name}:{}: {line}: use program::start or program::run",
                number + 1
            );
        }
    }
}

fn forget() {
    ORIGINS.with_borrow_mut(Vec::clear);
}

#[test]
fn fault_53_base64_is_found_at_any_alignment() {
    for before in ["", "u", "us", "use"] {
        assert!(find(&encode(&format!("{before}{MARK}-and-more"))).is_some(), "{before}");
    }
    assert!(find("no secret").is_none());
}

/// Output at every verbosity, of successful and failing runs.
#[test]
fn fault_53_the_program_shows_no_secret_at_any_verbosity() {
    let ways: [&[&str]; 8] = [
        &[],
        &["-q"],
        &["-v"],
        &["-v", "--progress", "plain"],
        &["-v", "--progress", "bars"],
        &["-v", "--progress", "json"],
        &["--progress", "none"],
        &["--dry-run"],
    ];
    let faults = [
        None,
        Some(Fault::status(503).when(When::First(2))),
        Some(Fault::status(403).into()),
        Some(Fault::status(404).into()),
        Some(Fault::FlippedBit { at: 5, bit: 1 }.into()),
        Some(Fault::LoginPage.into()),
    ];
    let mut fixture = Fixture::new();
    let content = Content::generated(1, 300_000);
    let cdn = start_origin("127.0.0.2");
    let hub = fixture.origin.put_hub_on(&cdn, "o/r", "main", "x", content.clone());
    fixture.model("x", &content, &[hub]);
    let signed = Control::signed_path("/o/r/resolve/main/x");
    let report = fixture.beside("report.json");
    for fault in faults {
        cdn.clear_faults(&signed);
        if let Some(fault) = &fault {
            cdn.inject(&signed, fault.clone());
        }
        for way in ways {
            let mut command = program(&fixture);
            command.args(["fetch", "--force", "--retries", "1", "--report"]).arg(&report).arg("--lock");
            command.arg(fixture.write_lock()).arg("--dest").arg(fixture.destination()).args(way);
            // `run` searches both streams.
            let ended = run(&mut command);
            let is_well = fault.is_none() || way == ["--dry-run"];
            assert!(!is_well || ended.code == Some(0), "{way:?} {}", ended.err);
            if let Ok(text) = std::fs::read_to_string(&report) {
                assert_none("the report", &text);
            }
        }
    }
    cdn.clear_faults(&signed);
    cdn.shape(Shape::default());
}

/// Terminal output: bars, in colour.
#[test]
fn fault_53_bars_on_a_terminal_show_no_secret() {
    let fixture = Fixture::with(&[("x", 1, 300_000), ("y", 2, 1000)]);
    fixture.origin.inject("/y", Fault::status(403));
    let plain = program(&fixture);
    // util-linux's `script` runs a command on a pseudo-terminal.
    let mut command = Command::new("script");
    for (name, value) in plain.get_envs().filter_map(|(name, value)| Some((name, value?))) {
        command.env(name, value);
    }
    let line = format!(
        "{} fetch -v --progress bars --lock {} --dest {}",
        env!("CARGO_BIN_EXE_provision"),
        fixture.write_lock().display(),
        fixture.destination()
    );
    command.env("TERM", "xterm").args(["-qec", &line, "/dev/null"]);
    let Ok(output) = command.output() else {
        needs("script", false);
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains('\x1b') && text.contains("403"), "{text}");
    assert_none("what is drawn", &text);
}

/// The body of the next test, in its own process.
#[test]
#[ignore = "panics; the next test runs it"]
fn a_panic_while_every_secret_is_held() {
    let mut fixture = Fixture::new();
    fixture.http.proxies.http =
        Some(ProxyVariable { name: "http_proxy", value: format!("http://user:{MARK}@p.example") });
    fixture.file("x", &Content::generated(1, 100_000));
    let (http, lock) = (fixture.http_with_token(), fixture.lock());
    let origin = HttpClient::new(http.clone()).unwrap();
    panic!("{http:#?} {lock:#?} {origin:#?} {:#?}", origin.connection());
}

#[test]
fn fault_53_a_panic_with_a_full_backtrace_shows_no_secret() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "secrets::tests::a_panic_while_every_secret_is_held"]);
    command.arg("--nocapture").env("RUST_BACKTRACE", "full");
    let output = command.output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        !output.status.success() && text.contains("stack backtrace") && text.contains("authorization: ***"),
        "{text}"
    );
    assert_none("a panic", &text);
}

/// A refusal that echoes the request.
#[test]
fn fault_53_request_secrets_echoed_by_a_server_are_redacted() {
    let mut fixture = Fixture::with(&[("x", 1, 100_000)]);
    let [token, signature] = [token(&fixture.origin), signature(&fixture.origin)];
    let headers = vec![
        ("X-Error-Message".to_owned(), format!("{token} may not get /x?X-Amz-Signature={signature}")),
        ("X-Error-Code".to_owned(), token.clone()),
    ];
    for code in [400, 401, 403, 404, 429, 500] {
        fixture.origin.clear_faults("/x");
        fixture
            .origin
            .inject("/x", Fault::Status { code, headers: headers.clone(), body: token.clone().into() });
        fixture.config.transfer.retry.retries = 1;
        assert!(fixture.fetch_refused().to_string().contains("may not get"), "{code}");
    }
}
