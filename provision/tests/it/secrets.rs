//! Canary secrets in every test, and the search for them (I6, fault 53).
//!
//! Each origin of a test has its own token and signature, and each begins with [`MARK`]. Every lock of a
//! [`Fixture`](crate::fixture::Fixture) has signatures in its URLs, every run has the token of the fixture's origin, and every
//! process of the program has more of them in its environment. The search covers output, returned errors, files on
//! disk and panic messages, and each origin may receive only its own secrets. A fixture searches after each run and
//! when it is dropped. The program is started in one place, [`crate::program::start`], which searches all its output;
//! a test below enforces that.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use provision_testbed::{Control, SIGNATURE_PREFIX};

use crate::fixture::Recorder;
use crate::skip::needs;

/// The prefix of every canary.
pub(crate) const MARK: &str = "CanaryNeverShown";
/// The password in the netrc file.
const NETRC: &str = "CanaryNeverShown-netrc";

/// The token that belongs to the origin at this address.
pub(crate) fn token(origin: &Control) -> String {
    format!("{MARK}-token-of-{}", origin.addr())
}

fn signature(origin: &Control) -> String {
    format!("{MARK}-signature-of-{}", origin.addr())
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 (RFC 4648 section 4) of these bits, without padding.
fn digits(bits: &[u8]) -> String {
    let digit = |six: &[u8]| char::from(DIGITS[six.iter().fold(0, |sum, bit| sum << 1 | usize::from(*bit))]);
    bits.chunks_exact(6).map(digit).collect()
}

fn bits(text: &str) -> Vec<u8> {
    text.bytes().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect()
}

pub(crate) fn encode(text: &str) -> String {
    let mut bits = bits(text);
    bits.resize(bits.len().next_multiple_of(6), 0);
    digits(&bits)
}

/// The mark in Base64, as in `Basic …`. Its form depends on the preceding bytes; these digits hold bits of the mark
/// alone.
fn encoded() -> [String; 3] {
    [0, 4, 2].map(|skipped| digits(&bits(MARK)[skipped..]))
}

/// The first secret in `text`, with its surroundings.
fn find(text: &str) -> Option<String> {
    let marks = [MARK.to_owned(), MARK.to_lowercase(), SIGNATURE_PREFIX.to_owned()];
    let at = marks.iter().chain(&encoded()).find_map(|mark| text.find(mark.as_str()))?;
    let from = (0..=at.saturating_sub(80)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    Some(text[from..].chars().take(240).collect())
}

/// Fails if `text` holds a secret.
#[track_caller]
pub(crate) fn assert_none(what: &str, text: &str) {
    if let Some(found) = find(text) {
        panic!("a secret is in {what}: {found}");
    }
}

/// An error and its sources, in each format that a caller may print.
pub(crate) fn formats(error: &dyn std::error::Error) -> String {
    let mut text = format!("{error}\n{error:?}\n{error:#?}\n");
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = writeln!(text, "{error}\n{error:?}");
        cause = error.source();
    }
    text
}

thread_local! {
    /// The origins of the test that runs on this thread.
    static ORIGINS: RefCell<Vec<Origin>> = const { RefCell::new(Vec::new()) };
}

struct Origin {
    control: Control,
    /// It forwards requests to other hosts, so it receives their secrets.
    is_proxy: bool,
    /// Additional secrets that it may receive.
    own: Vec<String>,
}

/// Adds the origin to the search at the end of the test.
pub(crate) fn watch(control: Control, is_proxy: bool) {
    ORIGINS.with_borrow_mut(|origins| origins.push(Origin { control, is_proxy, own: Vec::new() }));
}

/// Adds a secret that this origin may receive.
pub(crate) fn belongs_to(origin: &Control, secret: &str) {
    ORIGINS.with_borrow_mut(|origins| {
        // The last one: an earlier origin may have had the same port.
        let known = origins.iter_mut().rev().find(|known| known.control.addr() == origin.addr());
        known.unwrap().own.push(secret.to_owned());
    });
}

/// The URL with a signature in its query: that of the origin that it leads to, or else that of `own`.
pub(crate) fn signed(url: &str, own: &Control) -> String {
    // A file of this machine has no signature, and the form of a store no query that is free.
    if url.contains('?') || !url.starts_with("http") {
        return url.to_owned();
    }
    // By its address, or else by its port under any name.
    let by_address = |origin: &&Origin| url.contains(&format!("//{}/", origin.control.addr()));
    let by_port = |origin: &&Origin| url.contains(&format!(":{}/", origin.control.addr().port()));
    let signature = ORIGINS.with_borrow(|origins| {
        let owner = origins.iter().find(by_address).or_else(|| origins.iter().find(by_port));
        signature(owner.map_or(own, |owner| &owner.control))
    });
    format!("{url}?X-Amz-Date=20260101&X-Amz-Signature={signature}")
}

/// The target without the query that [`signed`] added.
pub(crate) fn unsigned(target: &str) -> &str {
    target.split_once("?X-Amz-Date=").map_or(target, |(target, _)| target)
}

/// Secrets that an origin received although they belong to another.
fn received_by_others() -> Vec<String> {
    let mut found = Vec::new();
    ORIGINS.with_borrow(|origins| {
        for Origin { control, own: more, .. } in origins.iter().filter(|origin| !origin.is_proxy) {
            let mut own = [&more[..], &[token(control), signature(control)]].concat();
            if control.addr().ip() == Ipv4Addr::LOCALHOST {
                // A netrc file has hosts, but no ports.
                own.push(encode(&format!("user:{NETRC}")));
            }
            for request in control.requests() {
                let mut text = request.target.clone();
                for (name, value) in &request.headers {
                    let _ = write!(text, "\n{name}: {value}");
                }
                for own in &own {
                    text = text.replace(own.as_str(), "");
                }
                if text.contains(MARK) || encoded().iter().any(|mark| text.contains(mark.as_str())) {
                    found.push(format!("{} received another origin's secret: {text}", control.addr()));
                }
            }
        }
    });
    found
}

/// Searches for secrets when a fixture is dropped.
pub(crate) struct Watch {
    roots: Vec<PathBuf>,
    events: Arc<Recorder>,
    /// Lengths of models in the fixture's locks.
    models: BTreeSet<u64>,
}

impl Watch {
    pub(crate) fn new(root: &Path, events: Arc<Recorder>) -> Self {
        Self { roots: vec![root.to_owned()], events, models: BTreeSet::new() }
    }

    /// Adds a directory to the search.
    pub(crate) fn also(&mut self, root: PathBuf) {
        self.roots.push(root);
    }

    /// Declares that a large file of this length is a model, which a test has generated.
    pub(crate) fn knows_model_of(&mut self, size: u64) {
        self.models.insert(size);
    }

    /// Every secret that is found in a forbidden place.
    fn leaks(&self) -> Vec<String> {
        let mut found = received_by_others();
        let events = self.events.filter_map(|event| {
            let texts = [format!("{event:?}"), serde_json::to_string(event).unwrap()];
            texts.iter().find_map(|text| find(text))
        });
        found.extend(events.into_iter().map(|event| format!("in an event: {event}")));
        for root in &self.roots {
            self.look(root, root, &mut found);
        }
        found
    }

    /// Searches every file below `at` except locks and large models, and every name.
    fn look(&self, root: &Path, at: &Path, found: &mut Vec<String>) {
        // A file that a test has made unreadable was not written by a run.
        for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            if find(&name).is_some() {
                found.push(format!("in a file's name: {name}"));
            }
            let Ok(metadata) = path.symlink_metadata() else { continue };
            if metadata.is_dir() {
                self.look(root, &path, found);
            }
            if metadata.is_symlink()
                && let Ok(end) = std::fs::read_link(&path)
                && find(&end.to_string_lossy()).is_some()
            {
                found.push(format!("in where {name} leads"));
            }
            let ends = |wanted: &str| path.extension().is_some_and(|ending| ending == wanted);
            let is_lock = name.starts_with("models.lock") || name.starts_with("netrc") || ends("toml");
            let is_model = self.models.contains(&metadata.size()) || ends("part");
            let is_passed_over = is_lock || (is_model && metadata.size() > LARGE);
            if metadata.is_file()
                && !is_passed_over
                && let Some(secret) = find_in(&path)
            {
                found.push(format!("in {name}: {secret}"));
            }
        }
    }
}

/// Longer files are read only if they are no models: generated ones hold no secret, and reading them all takes minutes.
const LARGE: u64 = 4 << 20;
/// The size of a search step, and the overlap with the next one: longer than any mark.
const BLOCK: usize = 1 << 20;
const OVERLAP: usize = 256;

/// The first secret in a file of any length.
fn find_in(path: &Path) -> Option<String> {
    let mut file = std::fs::File::open(path).ok()?;
    let mut block = Vec::new();
    loop {
        let kept = block.len().min(OVERLAP);
        block.drain(..block.len() - kept);
        let read = file.by_ref().take(BLOCK as u64).read_to_end(&mut block).ok()?;
        if let Some(secret) = find(&String::from_utf8_lossy(&block)) {
            return Some(secret);
        }
        if read == 0 {
            return None;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let leaks = self.leaks();
            assert!(leaks.is_empty(), "{leaks:#?}");
        }
    }
}

/// A `program` with secrets in every variable that may hold one. `netrc` is written for the given hosts.
pub(crate) fn in_environment(command: &mut Command, netrc: &Path, hosts: &[&str]) {
    let line = |host: &&str| format!("machine {host} login user password {NETRC}\n");
    std::fs::write(netrc, hosts.iter().map(line).collect::<String>()).unwrap();
    // The search passes over files whose names begin with `netrc`.
    let registries = netrc.with_file_name("netrc-registries.json");
    let login = encode(&format!("user:{MARK}-registry"));
    std::fs::write(
        &registries,
        format!("{{\"auths\": {{\"registry.example\": {{\"auth\": \"{login}\"}}}}}}"),
    )
    .unwrap();
    command
        .env("REGISTRY_AUTH_FILE", registries)
        .env("AWS_ACCESS_KEY_ID", "AKIATEST")
        .env("AWS_SECRET_ACCESS_KEY", format!("{MARK}-s3"))
        .env("AWS_CONTAINER_AUTHORIZATION_TOKEN", format!("{MARK}-container"))
        .env("NETRC", netrc)
        .env("HF_TOKEN", format!("{MARK}-hub"))
        .env("CIVITAI_TOKEN", format!("{MARK}-civitai"))
        .env("https_proxy", format!("http://user:{MARK}-proxy@127.0.0.1:9"))
        .env("RUST_BACKTRACE", "full");
}

mod tests {
    use std::io::Write as _;

    use provision_core::event::{Event, Observer as _};
    use provision_http::{HttpClient, ProxyVariable};
    use provision_testbed::{Content, Fault, Shape, When};

    use super::*;
    use crate::fixture::{Fixture, start_origin};
    use crate::program::{program, run, start, start_with_input};

    /// Plants a secret in each place, checks that the search finds it, and removes it again.
    #[test]
    fn fault_53_the_search_finds_planted_secrets() {
        let mut fixture = Fixture::new();
        fixture.file("x", &Content::generated(1, 100_000));
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
            "secrets.rs",
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
        let mut fixture = Fixture::new();
        fixture.file("x", &Content::generated(1, 300_000)).file("y", &Content::generated(2, 1000));
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
            !output.status.success()
                && text.contains("stack backtrace")
                && text.contains("authorization: ***"),
            "{text}"
        );
        assert_none("a panic", &text);
    }

    /// A refusal that echoes the request.
    #[test]
    fn fault_53_request_secrets_echoed_by_a_server_are_redacted() {
        let mut fixture = Fixture::new();
        fixture.file("x", &Content::generated(1, 100_000));
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
}
