//! Several locks as one set, and remote locks: their pins, their limits, and the kept copies.

use crate::prelude::*;

/// A fixture with two files, each in its own lock.
pub(crate) struct Two {
    pub(crate) fixture: Fixture,
    pub(crate) contents: [Content; 2],
}

pub(crate) const PATHS: [&str; 2] = ["vae/x", "loras/y"];

impl Two {
    pub(crate) fn new() -> Self {
        let mut fixture = Fixture::new();
        let contents = [1, 2].map(|seed| Content::generated(seed, 300_000));
        for (path, content) in PATHS.iter().zip(&contents) {
            fixture.file(path, content);
        }
        Self { fixture, contents }
    }

    /// The text of a lock with one of the two.
    fn text(&self, head: &str, at: usize, content: &Content) -> String {
        let url = self.fixture.origin.url(&format!("/{}", PATHS[at]));
        format!(
            "version = 1\n{head}\n[[model]]\npath = {:?}\nurl = {url:?}\nsize = {}\nsha256 = {:?}\n",
            PATHS[at],
            content.size(),
            content.sha256_hex()
        )
    }

    fn own(&self, at: usize) -> String {
        self.text("", at, &self.contents[at])
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.fixture.beside(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Serves a lock; its URL has a signature.
    fn serve(&self, path: &str, text: &str) -> String {
        self.fixture.origin.put(path, Content::bytes(text.to_owned()));
        secrets::signed(&self.fixture.origin.url(path), &self.fixture.origin)
    }

    /// A lock of one model at `path`, with a marker of its own.
    fn version(&self, marker: &str, path: &str, content: &Content) -> String {
        let url = self.fixture.origin.url(&format!("/{}", content.sha256_hex()));
        self.fixture.origin.put(&format!("/{}", content.sha256_hex()), content.clone());
        let text = format!(
            "version = 1\nmarker = {marker:?}\n[[model]]\npath = {path:?}\nurl = {url:?}\nsize = {}\nsha256 = {:?}\n",
            content.size(),
            content.sha256_hex()
        );
        self.write(&format!("{}{}.lock", marker.replace('.', ""), path.len()), &text)
    }

    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = program(&self.fixture);
        command.arg(name).arg("--dest").arg(self.fixture.destination()).args(arguments);
        command
    }

    pub(crate) fn run(&self, name: &str, arguments: &[&str]) -> Ended {
        run(&mut self.command(name, arguments))
    }

    fn requests(&self) -> u64 {
        self.fixture.requests()
    }

    /// Entries directly below the destination that are no models.
    fn beside_models(&self) -> Vec<String> {
        let mut names = self.fixture.listing();
        names.retain(|name| !name.contains('/'));
        names
    }

    /// The kept texts of locks.
    fn kept(&self) -> Vec<String> {
        let is_one = |name: &&str| name.starts_with(".provision.") && name.len() > ".provision.lock".len();
        let names = self.beside_models();
        names.iter().map(String::as_str).filter(is_one).map(str::to_owned).collect()
    }
}

fn digest(text: &str) -> String {
    Sha256::of(text.as_bytes()).to_string()
}

#[test]
fn several_locks_are_one_set_with_one_marker() {
    let two = Two::new();
    let (one, other) = (two.write("one.toml", &two.own(0)), two.write("two.toml", &two.own(1)));
    let locks = ["--lock", &one, "--lock", &other];
    two.run("ensure", &locks).exits(0);
    two.fixture.assert_installed();
    let requests = two.requests();
    let mut again = two.command("fetch", &["--report", two.fixture.beside("report").to_str().unwrap()]);
    again.env("PROVISION_LOCK", format!("{one},{other}"));
    for ended in [two.run("ensure", &locks), run(&mut again), two.run("verify", &locks)] {
        assert_eq!(ended.code, Some(0), "{}", ended.err);
    }
    let status = two.run("status", &locks).out;
    assert!(status.contains("2 of 2 files installed") && status.contains("vouches for all"), "{status}");
    assert_eq!(two.requests(), requests);
    // A marker of both locks covers each of them.
    two.run("ensure", &["--lock", &one, "--offline"]).exits(0);
}

#[test]
fn one_path_with_two_digests_is_an_error_naming_both_locks() {
    let two = Two::new();
    let one = two.write("one.toml", &two.own(0));
    let other = two.write("two.toml", &two.text("", 0, &two.contents[1]));
    for name in ["fetch", "ensure", "verify", "status"] {
        let ended = two.run(name, &["--lock", &one, "--lock", &other]).exits(3);
        for part in ["one.toml", "two.toml", "vae/x", &two.contents[0].sha256_hex()] {
            assert!(ended.err.contains(part), "{part} is missing: {}", ended.err);
        }
    }
    assert_eq!(two.requests(), 0);
    assert!(!two.fixture.destination().exists());
}

#[test]
fn names_from_a_lock_are_printed_without_terminal_controls() {
    let two = Two::new();
    let groups = two.own(0) + "groups = [\"\\u001b[2Jred\"]\n";
    let lock = two.write("one.toml", &groups);
    let ended = two.run("fetch", &["--lock", &lock, "--group", "none"]).exits(2);
    assert!(ended.err.contains("·[2Jred") && !ended.err.contains('\u{1b}'), "{:?}", ended.err);
}

#[test]
fn a_model_in_two_locks_is_fetched_once_from_either_url() {
    let two = Two::new();
    let broken = two.own(0).replace("/vae/x\"\nsize", "/gone\"\nsize");
    let (one, other) = (two.write("one.toml", &broken), two.write("two.toml", &two.own(0)));
    two.run("fetch", &["--lock", &one, "--lock", &other]).exits(0).err_has(&["done: 1 file"]);
    assert_eq!(std::fs::read(two.fixture.path("vae/x")).unwrap(), two.contents[0].to_vec());
}

#[test]
fn a_run_of_several_locks_uses_the_marker_of_the_first() {
    let two = Two::new();
    let one = two.write("one.toml", &two.own(0));
    let other = two.write("two.toml", &two.text("marker = \".second\"\n", 1, &two.contents[1]));
    let third = two.write("three.toml", "version = 1\nmarker = \".third\"\n");
    let locks = ["--lock", &one, "--lock", &other, "--lock", &third];
    two.run("fetch", &locks).exits(0);
    let beside = two.beside_models();
    assert!(beside.iter().any(|name| name == ".second"), "{beside:?}");
    assert!(!beside.iter().any(|name| name == ".third" || name == ".models-installed"), "{beside:?}");
    let requests = two.requests();
    two.run("ensure", &locks).exits(0);
    assert_eq!(two.requests(), requests);
}

#[test]
fn a_remote_lock_that_matches_its_pin_is_used_and_kept() {
    let two = Two::new();
    let text = two.own(0);
    let url = two.serve("/lists/models.lock", &text);
    let pin = digest(&text);
    let locks = ["--lock", &url, "--lock-sha256", &pin];
    two.run("ensure", &locks).exits(0);
    let requests = two.requests();
    // The kept copy matches the pin, so no request is sent, whatever the URL serves now.
    two.fixture.origin.put("/lists/models.lock", Content::bytes("version = 1\n"));
    let mut by_environment = two.command("ensure", &[]);
    by_environment.env("PROVISION_LOCK", &url).env("PROVISION_LOCK_SHA256", &pin);
    let again = [
        run(&mut by_environment),
        two.run("fetch", &[&locks[..], &["--offline"]].concat()),
        two.run("verify", &locks),
        two.run("status", &locks),
    ];
    for ended in again {
        assert_eq!(ended.code, Some(0), "{}", ended.err);
    }
    assert_eq!(two.requests(), requests);
    let kept = two.kept();
    assert_eq!(kept.len(), 1);
    // A kept copy that was changed is not used: the URL is requested, which now serves another text.
    std::fs::write(two.fixture.path(&kept[0]), text.replace("vae/x", "vae/z")).unwrap();
    two.run("ensure", &locks).exits(3);
    assert!(two.requests() > requests);
}

#[test]
fn fault_53_a_remote_lock_that_may_hold_signed_urls_is_not_kept() {
    let two = Two::new();
    let address = two.fixture.origin.url("/vae/x");
    let text = two.own(0).replace(&address, &secrets::signed(&address, &two.fixture.origin));
    assert!(text.contains(MARK));
    let url = two.serve("/models.lock", &text);
    let locks = ["--lock", &url, "--lock-sha256", &digest(&text)];
    two.run("ensure", &locks).exits(0);
    let kept = two.kept();
    assert_eq!(kept, [""; 0]);
    let requests = two.requests();
    two.run("ensure", &locks).exits(0);
    assert_eq!(two.requests(), requests + 1, "only the lock is requested again");
}

#[test]
fn a_remote_lock_with_another_digest_than_its_pin_is_refused() {
    let two = Two::new();
    let (pinned, text) = (two.own(0), two.own(1));
    let url = two.serve("/lists/models.lock", &text);
    let ended = two.run("fetch", &["--lock", &url, "--lock-sha256", &digest(&pinned)]).exits(3);
    for part in ["/lists/models.lock?…", &digest(&pinned), &digest(&text), "Read what is there"] {
        assert!(ended.err.contains(part), "{part} is missing: {}", ended.err);
    }
    assert!(!two.fixture.destination().exists());
    assert_eq!(two.requests(), 1);
}

#[test]
fn mismatched_lock_urls_and_pins_are_usage_errors() {
    let two = Two::new();
    let (file, pin) = (two.write("one.toml", &two.own(0)), digest("x"));
    let url = two.serve("/models.lock", &two.own(0));
    let canary = format!("https://user:{MARK}@models.example/models.lock");
    for (arguments, expected) in [
        (&["--lock", &url][..], "--lock-sha256 HEX"),
        (&["--lock", &url, "--lock", &url, "--lock-sha256", &pin], "--lock-sha256 HEX"),
        (&["--lock", &file, "--lock-sha256", &pin], "0 of the locks are addresses"),
        (&["--lock-sha256", &pin], "0 of the locks are addresses"),
        (&["--lock", &url, "--lock-sha256", &pin, "--lock-sha256", &pin], "1 of the locks are addresses"),
        (&["--lock", &url, "--lock-sha256", "12ab"], "64 hex digits"),
        (&["--lock", "http://models.example/x?token=secret", "--lock-sha256", &pin], "https address"),
        (&["--lock", "ftp://models.example/x", "--lock-sha256", &pin], "only https"),
        (&["--lock", &canary, "--lock-sha256", &pin], "netrc"),
        (&["--lock", "-", "--lock", "-"], "give it once"),
    ] {
        two.run("fetch", arguments).exits(2).err_has(&[expected]).err_lacks(&["token=secret"]);
    }
    assert_eq!(two.requests(), 0);
}

#[test]
fn an_unavailable_remote_lock_is_retried_and_then_explained() {
    let two = Two::new();
    let text = two.own(0);
    let url = two.serve("/models.lock", &text);
    let pin = digest(&text);
    let locks = ["--lock", &url, "--lock-sha256", &pin, "--retries", "3"];
    let origin = &two.fixture.origin;
    for (fault, code, expected) in [
        (Fault::status(404), 4, "answered 404"),
        (Fault::status(403), 6, "answered 403"),
        (Fault::CutBody(20), 4, "cut short"),
    ] {
        origin.inject("/models.lock", fault);
        two.run("ensure", &locks).exits(code).err_has(&[expected, "cannot be fetched"]);
        origin.clear_faults("/models.lock");
    }
    two.run("ensure", &[&locks[..], &["--offline"]].concat()).exits(4).err_has(&["is not kept in"]);
    origin.inject("/models.lock", Fault::status(500).when(When::First(2)));
    two.run("ensure", &locks).exits(0);
}

#[test]
fn a_remote_lock_has_the_size_limits_of_a_local_one() {
    let two = Two::new();
    let huge = Content::generated(9, 9 << 20);
    two.fixture.origin.put("/models.lock", huge.clone());
    let url = two.fixture.origin.url("/models.lock");
    for fault in [None, Some(Fault::Chunked), Some(Fault::Endless { chunked: true })] {
        two.fixture.origin.clear_faults("/models.lock");
        if let Some(fault) = fault {
            two.fixture.origin.inject("/models.lock", fault);
        }
        two.run("fetch", &["--lock", &url, "--lock-sha256", &huge.sha256_hex()])
            .exits(3)
            .err_has(&["larger than 8 MiB"]);
    }
    let noise = Content::bytes(vec![0xff; 10]);
    two.fixture.origin.clear_faults("/models.lock");
    two.fixture.origin.put("/models.lock", noise.clone());
    two.run("fetch", &["--lock", &url, "--lock-sha256", &noise.sha256_hex()])
        .exits(3)
        .err_has(&["not UTF-8"]);
}

#[test]
fn fault_87_a_marker_does_not_vouch_for_a_replaced_file() {
    let two = Two::new();
    let [old, new] = &two.contents;
    let (above, below) = (two.fixture.destination(), two.fixture.destination().join("sub"));
    // The other run has another marker, or a destination that lies above or below.
    for (name, first, second) in [
        ("another marker", (&above, ".a", "sub/x"), (&above, ".b", "sub/x")),
        ("a destination below", (&above, ".c", "sub/x"), (&below, ".d", "x")),
        ("a destination above", (&below, ".e", "x"), (&above, ".f", "sub/x")),
    ] {
        let [first, second] = [(first, old), (second, new)]
            .map(|((dest, marker, path), content)| (dest, two.version(marker, path, content)));
        let run_in = |command: &str, (dest, lock): &(&camino::Utf8PathBuf, String), more: &[&str]| {
            let mut program = program(&two.fixture);
            run(program.arg(command).args(["--lock", lock, "--dest", dest.as_str()]).args(more))
        };
        let bytes = || std::fs::read(two.fixture.path("sub/x")).unwrap();
        for (lock, content) in [(&first, old), (&second, new), (&first, old)] {
            run_in("fetch", lock, &[]).exits(0);
            assert!(bytes() == content.to_vec(), "{name}: exit 0, and the bytes are of another version");
            let status = run_in("status", lock, &[]).out;
            assert!(status.contains("vouches for all of them"), "{name}: {status}");
        }
        assert_eq!(run_in("fetch", &second, &[]).code, Some(0), "{name}");
        let status = run_in("status", &first, &[]).out;
        assert!(status.contains("unverified") && !status.contains("vouches for all"), "{name}: {status}");
        assert_eq!(run_in("ensure", &first, &[]).code, Some(0), "{name}");
        assert!(bytes() == old.to_vec(), "{name}: ensure");
    }
}
