//! `provision lock` through the binary, with an emulated Hub behind `HF_ENDPOINT` and a lock on disk.

use std::os::unix::fs::{PermissionsExt as _, chown};

use provision_testbed::hosts::hub::Hub;

use crate::prelude::*;

pub(crate) struct Fixture {
    pub(crate) site: BlockingOrigin,
    pub(crate) store: BlockingOrigin,
    pub(crate) hub: Hub,
    directory: tempfile::TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let start = || BlockingOrigin::start(OriginConfig::default()).unwrap();
        let (site, store) = (start(), start());
        let hub = Hub::mount(&site, &store);
        Self { site, store, hub, directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn lock(&self) -> String {
        std::fs::read_to_string(self.path("models.lock")).unwrap_or_default()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.command_of(Command::new(BINARY), args)
    }

    /// As `command`, through another program, such as one that drops its rights first.
    fn command_of(&self, mut command: Command, args: &[&str]) -> Command {
        // The machine's own tokens, proxies and options must not affect the test.
        command.env_clear();
        command.env("HOME", self.directory.path()).env("HF_ENDPOINT", self.site.url(""));
        command.env("PROVISION_LOCK", self.path("models.lock")).env("PROVISION_DEST", self.path("models"));
        command.current_dir(self.directory.path()).args(args);
        command
    }

    /// Runs it; asserts the exit code.
    pub(crate) fn run(&self, code: i32, args: &[&str]) -> Ended {
        run(&mut self.command(args)).exits(code)
    }
}

pub(crate) fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

#[test]
fn mirrors_are_added_only_for_equal_bytes() {
    let fixture = Fixture::new();
    let (old, new) = (Content::generated(1, 300_000), Content::generated(2, 400_000));
    let (source, path) = ("hf:o/r/vae/x.safetensors", "vae/x.safetensors");
    let [one, two] = ["/one", "/two"].map(|path| {
        fixture.site.put(path, old.clone());
        fixture.site.url(path)
    });
    let add = ["lock", "add", source, "--mirror", &one, "--mirror", &two];
    fixture.hub.commit("o/r", "main", &[(path, old.clone())]);
    fixture.run(0, &add);
    has(&fixture.lock(), &[&one, &two]);
    let first = fixture.lock();

    fixture.hub.commit("o/r", "main", &[(path, new.clone())]);
    fixture.site.put("/two", new.clone());
    let Ended { out, err, .. } = fixture.run(0, &["lock", "add", source, "--mirror", &two]);
    has(&out, &["updated    vae/x.safetensors"]);
    has(&err, &[&format!("note: {one} is no longer a mirror of vae/x.safetensors"), "--mirror"]);
    assert!(!err.contains(&two), "{err}");
    assert!(fixture.lock().contains(&two) && !fixture.lock().contains(&one), "{}", fixture.lock());
    fixture.run(0, &["lock", "check"]);

    std::fs::write(fixture.path("models.lock"), first).unwrap();
    fixture.run(0, &["lock", "update"]).out_has(&["2 → 0 mirrors"]).err_has(&[&one, &two]);
    assert!(!fixture.lock().contains("mirrors"), "{}", fixture.lock());
    // Other groups do not change the bytes.
    fixture.run(0, &["lock", "add", source, "--mirror", &two]);
    fixture.run(0, &["lock", "add", source, "--group", "g"]).err_is("");
    has(&fixture.lock(), &[&two]);
}

#[test]
fn concurrent_writers_report_their_wait_and_lose_no_entry() {
    const WRITERS: usize = 5;
    let fixture = Fixture::new();
    let path = |writer: usize, n: usize| format!("vae/w{writer}-{n}");
    let paths: Vec<String> = (0..WRITERS).flat_map(|w| [path(w, 0), path(w, 1)]).collect();
    let files: Vec<(&str, Content)> =
        paths.iter().zip(0..).map(|(path, seed)| (path.as_str(), Content::generated(seed, 1_000))).collect();
    fixture.hub.commit("o/r", "main", &files);
    // A writer that was stopped midway.
    let draft = fixture.path(".models.lock.tmp");
    std::fs::write(&draft, "# a draft of process 7 on elsewhere\u{7}\n").unwrap();
    let held = std::fs::File::open(&draft).unwrap();
    held.lock().unwrap();
    let start_writer = |writer: usize| {
        let sources = [path(writer, 0), path(writer, 1)].map(|path| format!("hf:o/r/{path}"));
        let mut command = fixture.command(&["lock", "add", &sources[0], &sources[1]]);
        start(&mut command)
    };
    let mut writers: Vec<_> = (0..WRITERS).map(start_writer).collect();
    for writer in &mut writers {
        let said = writer.wait_for_message("waiting for process 7 on elsewhere·, which is changing the lock");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    assert_eq!(fixture.lock(), "");
    // All of them at once.
    drop(held);
    for writer in writers {
        writer.end().exits(0);
    }
    let lock = fixture.lock();
    assert_eq!(lock.matches("[[model]]").count(), 2 * WRITERS, "{lock}");
    assert!(!draft.exists());
}

/// Root may open a temporary file of any mode; other users may not.
#[test]
fn a_read_only_lock_is_edited_and_stays_read_only() {
    let nobody = Some(65534);
    let Some(fixture) = with_nobody(Fixture::new()) else { return };
    let program = fixture.path("provision");
    copy_program(&program);
    let sha = "0".repeat(64);
    let model = |path: &str| {
        format!("\n[[model]]\npath = \"{path}\"\nurl = \"http://h/x\"\nsize = 1\nsha256 = \"{sha}\"\n")
    };
    std::fs::write(fixture.path("models.lock"), format!("version = 1\n{}{}", model("a"), model("b")))
        .unwrap();
    // The temporary file of a writer that was killed right before the rename.
    std::fs::write(fixture.path(".models.lock.tmp"), "version = 1\n").unwrap();
    for name in ["models.lock", ".models.lock.tmp"] {
        chmod(fixture.path(name), 0o444);
        chown(fixture.path(name), nobody, nobody).unwrap();
    }
    chown(fixture.directory.path(), nobody, nobody).unwrap();
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(program);
    let mut command = fixture.command_of(setpriv, &["lock", "remove", "a"]);
    run(command.env("PATH", "/usr/bin:/bin")).exits(0);
    assert_eq!(fixture.lock(), format!("version = 1\n{}", model("b")));
    let mode = std::fs::metadata(fixture.path("models.lock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o444);
    assert!(!fixture.path(".models.lock.tmp").exists());
}

#[test]
fn a_model_is_added_updated_and_checked() {
    let fixture = Fixture::new();
    let (old, new) = (Content::generated(1, 1_000_000), Content::generated(2, 2_000_000));
    let first = fixture.hub.commit("o/r", "main", &[("vae/x.safetensors", old.clone())]);
    let source = "hf:o/r@main/vae/x.safetensors";
    let comment = "version = 1\n\n# mine\n";
    std::fs::write(fixture.path("models.lock"), comment).unwrap();
    let Ended { out, err, .. } = fixture.run(0, &["lock", "add", source, "--group", "a"]);
    has(&out, &["added      vae/x.safetensors  1 MB", source]);
    assert_eq!(err, "");
    has(&fixture.lock(), &["# mine", &old.sha256_hex(), &first, "groups = [\"a\"]", source]);
    let before = fixture.lock();
    fixture.run(0, &["lock", "add", source]).out_has(&["unchanged  vae/x.safetensors"]);
    assert_eq!(fixture.lock(), before, "its groups stay, and nothing was rewritten");
    fixture.run(0, &["lock", "check"]).out_has(&["right", "vae/x.safetensors", "1 source"]);
    fixture.run(0, &["lock", "update"]).out_has(&["unchanged  vae/x.safetensors"]);

    let second = fixture.hub.commit("o/r", "main", &[("vae/x.safetensors", new.clone())]);
    let out = fixture.run(0, &["lock", "update"]).out;
    let digests = format!("{} → {}", &old.sha256_hex()[..8], &new.sha256_hex()[..8]);
    let commits = format!("commit {} → {}", &first[..8], &second[..8]);
    has(&out, &["updated    vae/x.safetensors", &digests, "1 MB → 2 MB", &commits]);
    has(&fixture.lock(), &[&new.sha256_hex(), &second, "size = 2000000"]);

    // By branch, as users write it: replaced, missing, refused.
    let moving = fixture.lock().replace(&second, "main");
    std::fs::write(fixture.path("models.lock"), &moving).unwrap();
    fixture.run(0, &["lock", "check"]);
    fixture.hub.commit("o/r", "main", &[("vae/x.safetensors", old.clone())]);
    let Ended { out, err, .. } = fixture.run(5, &["lock", "check"]);
    has(&out, &["differs", "vae/x.safetensors"]);
    has(&err, &[&old.sha256_hex(), &new.sha256_hex()]);
    fixture.hub.remove("o/r", "main", "vae/x.safetensors");
    fixture.run(4, &["lock", "check", "x"]).out_has(&["gone"]);
    fixture.hub.hide("o/r", "hf_good");
    fixture.run(6, &["lock", "check"]).err_has(&["HF_TOKEN"]);
    assert_eq!(fixture.lock(), moving, "a check writes nothing");
    let mut with_token = fixture.command(&["lock", "check"]);
    run(with_token.env("HF_TOKEN", "hf_good")).exits(4);
}

#[test]
fn a_failed_add_has_its_exit_code_and_keeps_the_lock() {
    let fixture = Fixture::new();
    let signed = fixture.site.url("/vae/x.bin") + "?X-Amz-Expires=3600&X-Amz-Signature=canary-signature";
    for (code, args, parts) in [
        (2, vec!["lock", "add", "nothing"], &["hf:OWNER/REPO"][..]),
        (2, vec!["lock", "add", &signed], &["--allow-expiring", "3600"]),
        (2, vec!["lock", "add", "hf:o/r/x.bin"], &["--path"]),
        (2, vec!["lock", "add", "hf:o/r/vae/x", "hf:o/r/vae/y", "--sha256", &"0".repeat(64)], &["one file"]),
        (6, vec!["lock", "add", "hf:o/r/vae/x.bin"], &["HF_TOKEN", "/o/r"]),
    ] {
        let Ended { out, err, .. } = fixture.run(code, &args);
        has(&err, parts);
        assert!(out.is_empty() && !err.contains("canary"), "{out}{err}");
    }
    assert!(!fixture.path("models.lock").exists() && !fixture.path("models").exists());
    std::fs::write(fixture.path("models.lock"), "version = 2\n").unwrap();
    fixture.run(3, &["lock", "add", "hf:o/r/vae/x.bin"]);
}

#[test]
fn a_check_tells_an_unreachable_host_from_a_missing_file() {
    let fixture = Fixture::new();
    fixture.hub.commit("o/r", "main", &[("vae/x.safetensors", Content::generated(1, 1000))]);
    fixture.run(0, &["lock", "add", "hf:o/r@main/vae/x.safetensors"]);
    let with_token = |args: &[&str], code| run(fixture.command(args).env("HF_TOKEN", "hf_other")).exits(code);
    fixture.hub.hide("o/r", "hf_owner");
    let Ended { out, err, .. } = with_token(&["lock", "check"], 4);
    has(&out, &["gone", "vae/x.safetensors"]);
    has(&err, &["no such repository"]);
    with_token(&["lock", "update"], 4).err_has(&["no such repository"]);
    with_token(&["lock", "add", "hf:o/none/vae/x.safetensors"], 4).err_has(&["no such repository"]);
    // Without a token the check cannot tell a private repository from a missing one.
    let Ended { out, err, .. } = fixture.run(6, &["lock", "check"]);
    has(&out, &["refused"]);
    has(&err, &["no such repository", "private", "HF_TOKEN"]);
    fixture.site.inject("*", Fault::RetryAfter { status: 429, value: "3600".to_owned() });
    fixture.run(4, &["lock", "check"]).out_has(&["unreachable"]).err_has(&["answers again at", "3600 s"]);
}

#[test]
fn each_resolved_entry_is_written_before_the_next_request() {
    let fixture = Fixture::new();
    let content = Content::generated(1, 300_000);
    fixture.site.put("/vae/a.bin", content.clone());
    fixture.site.put("/vae/b.bin", content.clone());
    // The probe, then a body that does not end.
    fixture.site.inject("/vae/b.bin", Fault::Stall(1000).when(When::After(1)));
    let [a, b] = ["/vae/a.bin", "/vae/b.bin"].map(|path| fixture.site.url(path));
    std::fs::write(fixture.path("list"), format!("{a}\n{b}\n")).unwrap();
    for args in [&["lock", "add", &a, &b][..], &["lock", "import", "list", "--allow-private"]] {
        let mut running = start(&mut fixture.command(args));
        let said = running.wait_for_line("added      vae/a.bin");
        assert_eq!(said.lines().count(), 1, "{said}");
        signal(&running, Signal::KILL);
        running.end();
        has(&fixture.lock(), &["vae/a.bin", &content.sha256_hex()]);
        std::fs::remove_file(fixture.path("models.lock")).unwrap();
    }
}

#[test]
fn an_unwritable_lock_hides_no_other_failure() {
    let fixture = Fixture::new();
    fixture.hub.commit("o/r", "main", &[("vae/x.safetensors", Content::generated(1, 1000))]);
    fixture.site.put("/vae/a.bin", Content::generated(2, 1000));
    std::os::unix::fs::symlink(fixture.path("nowhere"), fixture.path("models.lock")).unwrap();
    let (good, refused) = ("hf:o/r/vae/x.safetensors", "hf:o/none/vae/y.safetensors");
    let err = fixture.run(6, &["lock", "add", refused, good]).err;
    has(&err, &["2 failures", "HF_TOKEN", "is a symlink to a file that does not exist"]);
    std::fs::write(fixture.path("list"), format!("{good}\nsome prose here\n{refused}\n")).unwrap();
    let err = fixture.run(6, &["lock", "import", "list"]).err;
    has(&err, &["3 failures", "list:2", "list:3", "is a symlink to a file that does not exist"]);
    // The lock cannot be written, so no body is read for its digest.
    let read = fixture.site.url("/vae/a.bin");
    fixture.run(7, &["lock", "add", &read, good]).err_has(&["is a symlink to a file that does not exist"]);
}

#[test]
fn a_remote_lock_is_listed_and_checked_but_never_written() {
    let fixture = Fixture::new();
    fixture.hub.commit("o/r", "main", &[("vae/x.safetensors", Content::generated(1, 1000))]);
    fixture.run(0, &["lock", "add", "hf:o/r/vae/x.safetensors"]);
    let text = Content::bytes(fixture.lock());
    std::fs::remove_file(fixture.path("models.lock")).unwrap();
    fixture.site.put("/team.lock", text.clone());
    let (url, pin) = (fixture.site.url("/team.lock"), text.sha256_hex());
    for verb in ["list", "check"] {
        let out = fixture.run(0, &["lock", verb, "--lock", &url, "--lock-sha256", &pin]).out;
        has(&out, &["vae/x.safetensors"]);
        fixture.run(3, &["lock", verb, "--lock", &url, "--lock-sha256", &"0".repeat(64)]);
        fixture.run(2, &["lock", verb, "--lock", &url]).err_has(&["--lock-sha256"]);
    }
    for verb in [&["add", "hf:o/r/vae/x.safetensors"][..], &["update"], &["remove", "x"]] {
        let args = [&["lock"][..], verb, &["--lock", &url]].concat();
        fixture.run(2, &args).err_has(&["this command edits one lock file"]);
    }
}

/// The lock names the Hub's own address; every message names the address that the run asks.
#[test]
fn messages_show_the_endpoint_in_place_of_the_hub() {
    let fixture = Fixture::new();
    let at = "/o/r/resolve/main/vae/x";
    let (asked, mirror) = (fixture.site.url(at), fixture.store.url("/x"));
    fixture.site.put(at, Content::generated(1, 1000));
    let sha256 = Content::generated(1, 1000).sha256_hex();
    let lock = |mirrors: &str| {
        let entry =
            format!("url = \"https://huggingface.co{at}\"\nsize = 1000\nsha256 = \"{sha256}\"\n{mirrors}");
        let text = format!("version = 1\n[[model]]\npath = \"vae/x\"\n{entry}\n");
        std::fs::write(fixture.path("models.lock"), text).unwrap();
    };
    let fetch = |code, mode| {
        let Ended { out, err, .. } =
            fixture.run(code, &["fetch", "--retries", "2", "--progress", mode, "--report", "r.json"]);
        let report = std::fs::read_to_string(fixture.path("r.json")).unwrap();
        for text in [&out, &err, &report] {
            assert!(!text.contains("huggingface.co"), "{text}");
        }
        // The last one that was asked.
        let is_shown = |url| report.contains(&format!("\"source\": \"{url}\""));
        assert!(is_shown(&asked) || is_shown(&mirror), "{report}");
        out + &err
    };
    let from = format!("from {asked}");
    for (fault, code, part) in [
        (Fault::status(404), 4, format!("{asked} answered 404")),
        (Fault::status(500), 4, format!("{asked} answered 500")),
        // As long as the file, so that only the digest is wrong.
        (Fault::OtherContent(Content::generated(2, 1000)), 5, format!("{asked}: the bytes have SHA-256")),
    ] {
        fixture.site.inject(at, fault);
        lock("");
        has(&fetch(code, "plain"), &[&from, &part]);
        lock(&format!("mirrors = [\"{mirror}\"]"));
        has(&fetch(code, "plain"), &[&format!(": {asked}"), &format!("going on with {mirror}")]);
        has(&fetch(code, "json"), &[&format!("\"event\":\"started\",\"file\":0,\"source\":\"{asked}\"")]);
        fixture.site.clear_faults(at);
    }
    let err = fixture.run(6, &["lock", "check"]).err;
    has(&err, &[&format!("vae/x: {asked}: hf:o/r@main/vae/x: ")]);
    assert!(!err.contains("huggingface.co"), "{err}");
}

#[test]
fn a_lock_at_the_hub_is_shown_as_it_is_asked() {
    let fixture = Fixture::new();
    let hub = "https://huggingface.co/o/r/resolve/main/models.lock";
    let asked = fixture.site.url("/o/r/resolve/main/models.lock");
    fixture.site.inject("/o/r/resolve/main/models.lock", Fault::status(404));
    let err = fixture.run(4, &["fetch", "--lock", hub, "--lock-sha256", &"0".repeat(64)]).err;
    has(&err, &[&format!("the lock {asked} cannot be fetched: {asked} answered 404")]);
    assert!(!err.contains("huggingface.co"), "{err}");
}

#[test]
fn a_file_without_a_digest_is_read_from_the_endpoint_shown() {
    let fixture = Fixture::new();
    fixture.hub.commit("o/r", "main", &[("vae/x.json", Content::bytes("{}"))]);
    let Ended { out, err, .. } = fixture.run(0, &["lock", "add", "hf:o/r/vae/x.json"]);
    has(&err, &[&format!("from {}", fixture.site.url("/o/r/resolve/"))]);
    assert!(!(out + &err).contains("huggingface.co"), "{err}");
}

#[test]
fn a_group_is_chosen_in_the_same_way_by_every_command() {
    let fixture = Fixture::new();
    let files = ["vae/x", "loras/y"].map(|path| (path, Content::generated(1, 1000)));
    fixture.hub.commit("o/r", "main", &files);
    std::fs::write(fixture.path("list"), "hf:o/r@main/loras/y\n").unwrap();
    fixture.run(0, &["lock", "add", "hf:o/r@main/vae/x", "--only", "a,both"]);
    fixture.run(0, &["lock", "import", "list", "--only", "b", "--group", "both"]);
    has(&fixture.lock(), &["groups = [\"a\", \"both\"]", "groups = [\"b\", \"both\"]"]);
    fixture.run(0, &["fetch"]);
    for option in ["--group", "--only"] {
        for verb in [
            &["lock", "list"][..],
            &["lock", "check"],
            &["lock", "update"],
            &["status"],
            &["verify", "--verbose"],
            &["fetch", "--dry-run"],
            &["ensure", "--dry-run"],
        ] {
            let Ended { out, err, .. } = fixture.run(0, &[verb, &[option, "a"]].concat());
            assert!(!(out + &err).contains("loras/y"), "{verb:?} {option}");
            let err = fixture.run(2, &[verb, &[option, "c"]].concat()).err;
            has(&err, &["no model in the lock belongs to the group \"c\""]);
        }
    }
    // A variable that is set for fetches must not choose what is removed.
    let mut command = fixture.command(&["lock", "remove"]);
    run(command.env("PROVISION_GROUP", "a")).exits(2);
    fixture.run(0, &["lock", "remove", "--only", "b"]).out_is("removed loras/y\n");
    has(&fixture.lock(), &["vae/x"]);
}
