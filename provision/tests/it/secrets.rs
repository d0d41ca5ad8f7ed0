//! Canaries in every test, and who looks for them (I6, fault 53).
//!
//! Each origin of a test has a token and a signature of its own, and each begins with [`MARK`]. Every lock of a
//! [`World`](crate::world::World) carries signatures in its addresses, every run has the token of the world's own origin,
//! and every run of the program has more of them in its environment. None may be seen: not in what a run says, returns,
//! or leaves on the disk, not in what a panic prints, and no origin may be told what belongs to another. A world looks
//! when a run has ended and when it goes; whoever runs the program calls [`assert_none`] with what it said.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use provision_testbed::{Control, SIGNATURE_PREFIX};

use crate::requirement::needs;
use crate::world::Recorder;

/// What every canary begins with.
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

fn encode(text: &str) -> String {
    let mut bits = bits(text);
    bits.resize(bits.len().next_multiple_of(6), 0);
    digits(&bits)
}

/// What the mark looks like in Base64, as in `Basic …`: it depends on what stands before it, and these are the digits
/// that hold bits of the mark alone.
fn encoded() -> [String; 3] {
    [0, 4, 2].map(|skipped| digits(&bits(MARK)[skipped..]))
}

/// The first secret in `text`, with what stands around it.
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

/// An error, and every one that it came of, in each way in which somebody may print it.
pub(crate) fn said(error: &dyn std::error::Error) -> String {
    let mut text = format!("{error}\n{error:?}\n{error:#?}\n");
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, "{error}\n{error:?}\n");
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
    /// It passes on what others are told, and is told it.
    is_proxy: bool,
}

/// Has the origin looked at in the end.
pub(crate) fn watch(control: Control, is_proxy: bool) {
    ORIGINS.with_borrow_mut(|origins| origins.push(Origin { control, is_proxy }));
}

/// The address with a signature in its query: that of the origin that it leads to, or else of `own`.
pub(crate) fn signed(url: &str, own: &Control) -> String {
    if url.contains('?') {
        return url.to_owned();
    }
    // Under its address, or else under a name, with its port.
    let by_address = |origin: &&Origin| url.contains(&format!("//{}/", origin.control.addr()));
    let by_port = |origin: &&Origin| url.contains(&format!(":{}/", origin.control.addr().port()));
    let signature = ORIGINS.with_borrow(|origins| {
        let owner = origins.iter().find(by_address).or_else(|| origins.iter().find(by_port));
        signature(owner.map_or(own, |owner| &owner.control))
    });
    format!("{url}?X-Amz-Date=20260101&X-Amz-Signature={signature}")
}

/// The same addresses without what [`signed`] added.
pub(crate) fn unsigned(target: &str) -> &str {
    target.split_once("?X-Amz-Date=").map_or(target, |(target, _)| target)
}

/// What origins were told that is not theirs.
fn told_to_others() -> Vec<String> {
    let mut found = Vec::new();
    ORIGINS.with_borrow(|origins| {
        for Origin { control, .. } in origins.iter().filter(|origin| !origin.is_proxy) {
            let mut own = vec![token(control), signature(control)];
            if control.addr().ip() == Ipv4Addr::LOCALHOST {
                // A netrc file knows hosts, no ports.
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
                    found.push(format!("{} was told what is not its own: {text}", control.addr()));
                }
            }
        }
    });
    found
}

/// Looks when a world goes.
pub(crate) struct Watch {
    root: PathBuf,
    events: Arc<Recorder>,
}

impl Watch {
    pub(crate) fn new(root: &Path, events: Arc<Recorder>) -> Self {
        Self { root: root.to_owned(), events }
    }

    /// Every secret that can be found where none may be.
    fn leaks(&self) -> Vec<String> {
        let mut found = told_to_others();
        let events = self.events.filter_map(|event| {
            let texts = [format!("{event:?}"), serde_json::to_string(event).unwrap()];
            texts.iter().find_map(|text| find(text))
        });
        found.extend(events.into_iter().map(|event| format!("in an event: {event}")));
        look(&self.root, &self.root, &mut found);
        found
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

/// Looks into every file below `at` but models and locks, and at every name.
fn look(root: &Path, at: &Path, found: &mut Vec<String>) {
    // What a test has made unreadable was not written by a run.
    for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        if find(&name).is_some() {
            found.push(format!("in a file's name: {name}"));
        }
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if metadata.is_dir() {
            look(root, &path, found);
        }
        let is_toml = path.extension().is_some_and(|ending| ending == "toml");
        let is_lock = name.starts_with("models.lock") || name.starts_with("netrc") || is_toml;
        // A model is generated, and is large or small; nothing else that a run leaves is larger than this.
        if metadata.is_file() && !is_lock && metadata.size() <= 4 << 20 {
            let bytes = std::fs::read(&path).unwrap_or_default();
            if let Some(secret) = find(&String::from_utf8_lossy(&bytes)) {
                found.push(format!("in {name}: {secret}"));
            }
        }
    }
}

/// A `program` with secrets wherever the environment may hold one. `netrc` is written, for the hosts that are named.
pub(crate) fn in_environment(command: &mut Command, netrc: &Path, hosts: &[&str]) {
    let line = |host: &&str| format!("machine {host} login user password {NETRC}\n");
    std::fs::write(netrc, hosts.iter().map(line).collect::<String>()).unwrap();
    command
        .env("NETRC", netrc)
        .env("HF_TOKEN", format!("{MARK}-hub"))
        .env("CIVITAI_TOKEN", format!("{MARK}-civitai"))
        .env("https_proxy", format!("http://user:{MARK}-proxy@127.0.0.1:9"))
        .env("RUST_BACKTRACE", "full");
}

mod tests {
    use std::io::{Read as _, Write as _};

    use provision::event::{Event, Observer as _};
    use provision::origin::Origin;
    use provision_testbed::{Content, Fault, Shape, When};

    use super::*;
    use crate::program::{program, run};
    use crate::world::{World, start_origin};

    /// A secret that is planted is found, in each place; then it is taken away, so that the world may go.
    #[test]
    fn fault_53_the_search_finds_what_is_planted() {
        let mut world = World::new();
        world.file("x", &Content::generated(1, 100_000));
        world.fetch_all();
        let watch = Watch::new(&world.beside(""), Arc::default());
        assert_eq!(watch.leaks(), Vec::<String>::new());
        let finds = |watch: &Watch, where_: &str| {
            let leaks = watch.leaks();
            assert!(leaks.len() == 1 && leaks[0].contains(where_), "{where_}: {leaks:?}");
        };

        let marker = world.path(".models-installed");
        let before = std::fs::read(&marker).unwrap();
        for text in [format!("a {MARK}-b"), MARK.to_lowercase(), encode(&format!("u:{MARK}"))] {
            std::fs::write(&marker, text).unwrap();
            finds(&watch, ".models-installed");
        }
        std::fs::write(&marker, before).unwrap();
        let named = world.path(&format!("{MARK}.part"));
        std::fs::write(&named, "").unwrap();
        finds(&watch, "name");
        std::fs::remove_file(&named).unwrap();

        watch.events.observe(&Event::Warning { message: format!("for {MARK}") });
        finds(&watch, "an event");
        std::mem::forget(watch);

        let foreign = start_origin("127.0.0.2");
        let watch = Watch::new(&world.beside(""), Arc::default());
        let mut told = std::net::TcpStream::connect(foreign.addr()).unwrap();
        write!(
            told,
            "GET /?{} HTTP/1.0\r\nAuthorization: Bearer {}\r\n\r\n",
            signature(&foreign),
            token(&foreign)
        )
        .unwrap();
        told.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(watch.leaks(), Vec::<String>::new(), "its own are its own");
        let mut told = std::net::TcpStream::connect(foreign.addr()).unwrap();
        write!(told, "GET / HTTP/1.0\r\nAuthorization: Bearer {}\r\n\r\n", token(&world.origin)).unwrap();
        told.read_to_end(&mut Vec::new()).unwrap();
        finds(&watch, "127.0.0.2");
        std::mem::forget(watch);
        forget();
    }

    fn forget() {
        ORIGINS.with_borrow_mut(Vec::clear);
    }

    #[test]
    fn fault_53_base64_is_found_whatever_stands_before() {
        for before in ["", "u", "us", "use"] {
            assert!(find(&encode(&format!("{before}{MARK}-and-more"))).is_some(), "{before}");
        }
        assert!(find("no secret").is_none());
    }

    /// What a run of the program says, at every verbosity, when all is well and when it is not.
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
        let mut world = World::new();
        let content = Content::generated(1, 300_000);
        let cdn = start_origin("127.0.0.2");
        let hub = world.origin.put_hub_on(&cdn, "o/r", "main", "x", content.clone());
        world.model("x", &content, &[hub]);
        let signed = Control::signed_path("/o/r/resolve/main/x");
        let report = world.beside("report.json");
        for fault in faults {
            cdn.behave(&signed);
            if let Some(fault) = &fault {
                cdn.misbehave(&signed, fault.clone());
            }
            for way in ways {
                let mut command = program(&world);
                command.args(["fetch", "--force", "--retries", "1", "--report"]).arg(&report).arg("--lock");
                command.arg(world.write_lock()).arg("--dest").arg(world.destination()).args(way);
                // It looks at both streams.
                let ended = run(&mut command);
                let is_well = fault.is_none() || way == ["--dry-run"];
                assert!(!is_well || ended.code == Some(0), "{way:?} {}", ended.err);
                if let Ok(text) = std::fs::read_to_string(&report) {
                    assert_none("the report", &text);
                }
            }
        }
        cdn.behave(&signed);
        cdn.shape(Shape::default());
    }

    /// A terminal is drawn on: bars, in the colours that there are.
    #[test]
    fn fault_53_bars_on_a_terminal_show_no_secret() {
        let mut world = World::new();
        world.file("x", &Content::generated(1, 300_000)).file("y", &Content::generated(2, 1000));
        world.origin.misbehave("/y", Fault::status(403));
        let plain = program(&world);
        // util-linux's `script` runs a command on a terminal of its own.
        let mut command = Command::new("script");
        for (name, value) in plain.get_envs().filter_map(|(name, value)| Some((name, value?))) {
            command.env(name, value);
        }
        let line = format!(
            "{} fetch -v --progress bars --lock {} --dest {}",
            env!("CARGO_BIN_EXE_provision"),
            world.write_lock().display(),
            world.destination()
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

    /// The inside of the next test, in a process of its own.
    #[test]
    #[ignore = "panics; the next test runs it"]
    fn a_panic_while_every_secret_is_held() {
        let mut world = World::new();
        world.http.proxies.http = Some(format!("http://user:{MARK}@p.example"));
        world.file("x", &Content::generated(1, 100_000));
        let (http, lock) = (world.http_with_token(), world.lock());
        let origin = Origin::new(http.clone()).unwrap();
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

    /// A refusal that repeats the request, as some do.
    #[test]
    fn fault_53_what_a_server_repeats_of_the_request_is_not_shown() {
        let mut world = World::new();
        world.file("x", &Content::generated(1, 100_000));
        let [token, signature] = [token(&world.origin), signature(&world.origin)];
        let headers = vec![
            ("X-Error-Message".to_owned(), format!("{token} may not get /x?X-Amz-Signature={signature}")),
            ("X-Error-Code".to_owned(), token.clone()),
        ];
        for code in [400, 401, 403, 404, 429, 500] {
            world.origin.behave("/x");
            world.origin.misbehave(
                "/x",
                Fault::Status { code, headers: headers.clone(), body: token.clone().into() },
            );
            world.config.transfer.retry.retries = 1;
            assert!(world.fetch_refused().to_string().contains("may not get"), "{code}");
        }
    }
}
