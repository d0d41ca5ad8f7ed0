//! Piece lists at stores: sent with their files, counted, and never needed. A push reads no more of a list than its
//! digest.

use std::collections::HashMap;

use crate::prelude::*;
use crate::store_server::{Repository, Server, file, reply};

const LIST: &[u8] = b"the piece list of a file";

/// A fixture with an installed model, whose lock pins a list and has it beside itself.
fn fixture() -> Fixture {
    let mut fixture = Fixture::in_memory();
    let content = Content::generated(7, 40_000);
    fixture.model("a", &content, &["https://models.example/a".to_owned()]);
    write(fixture.path("a"), content.to_vec());
    let lock = fixture.lock_text() + &format!("pieces = \"{}\"\n", digest());
    std::fs::write(fixture.beside("models.lock"), lock).unwrap();
    std::fs::create_dir(fixture.beside("models.pieces")).unwrap();
    std::fs::write(list(&fixture), LIST).unwrap();
    fixture
}

fn digest() -> String {
    Sha256::of(LIST).to_string()
}

fn list(fixture: &Fixture) -> PathBuf {
    fixture.beside("models.pieces").join(digest())
}

fn command(fixture: &Fixture, what: &str, to: &str) -> Command {
    let mut command = program(fixture);
    command.args(["store", what, "--to", to, "--retries", "1", "--lock"]).arg(fixture.beside("models.lock"));
    command.arg("--dest").arg(fixture.destination());
    command
}

fn push(fixture: &Fixture, to: &str) -> Ended {
    run(command(fixture, "push", to).arg("--cache").arg(fixture.beside("cache"))).exits(0)
}

fn check(fixture: &Fixture, to: &str) -> String {
    let ended = run(&mut command(fixture, "check", to)).exits(0);
    ended.out
}

#[test]
fn a_directory_gets_lists_by_their_digest() {
    let fixture = fixture();
    let store = fixture.beside("store");
    let to = format!("file://{}", store.to_str().unwrap());
    push(&fixture, &to).err_has(&["with 1 piece list;"]);
    assert_eq!(std::fs::read(store.join(digest())).unwrap(), LIST);
    assert!(check(&fixture, &to).contains("1 of 1 piece list"));
    run(command(&fixture, "check", &to).arg("--json")).out_has(&[r#""pieces": "there""#]);
    // The list of a destination whose lock came from an address.
    std::fs::remove_file(store.join(digest())).unwrap();
    std::fs::create_dir(fixture.destination().join(".provision.pieces")).unwrap();
    std::fs::rename(list(&fixture), fixture.destination().join(".provision.pieces").join(digest())).unwrap();
    push(&fixture, &to);
    assert_eq!(std::fs::read(store.join(digest())).unwrap(), LIST);
}

#[test]
fn fault_177_a_store_without_a_list_has_its_files_all_the_same() {
    let fixture = fixture();
    let store = fixture.beside("store");
    let to = format!("file://{}", store.to_str().unwrap());
    for other in [None, Some(&b"another list"[..]), Some(&[0; 24])] {
        std::fs::remove_file(list(&fixture)).ok();
        if let Some(bytes) = other {
            std::fs::write(list(&fixture), bytes).unwrap();
        }
        push(&fixture, &to).err_has(&["its piece list is neither on this machine nor at the store"]);
        assert!(!store.join(digest()).exists());
        let checked = check(&fixture, &to);
        assert!(
            checked.contains("its piece list: missing") && checked.contains("0 of 1 piece list"),
            "{checked}"
        );
        // One of other bytes under its name.
        std::fs::write(store.join(digest()), "wrong").unwrap();
        assert!(check(&fixture, &to).contains("0 of 1 piece list"));
        std::fs::remove_file(store.join(digest())).unwrap();
    }
    // A server that takes files, and no list.
    let to = format!("http://127.0.0.1:{}/{{sha256}}", web_server(digest()).port);
    std::fs::write(list(&fixture), LIST).unwrap();
    assert!(push(&fixture, &to).err.contains("its piece list is not at the store"));
    assert!(check(&fixture, &to).contains("0 of 1 piece list"));
}

#[test]
fn a_bad_directory_of_lists_fails_no_push() {
    type Case<'c> = (&'c dyn Fn(&Path), &'c str);
    let is_no_file = |directory: &Path| {
        std::fs::create_dir_all(directory.join(digest())).unwrap();
        std::fs::create_dir_all(directory.join(Content::generated(7, 40_000).sha256_hex())).unwrap();
    };
    let is_closed = |directory: &Path| {
        std::fs::create_dir(directory).unwrap();
        chmod(directory, 0o000);
    };
    let is_file = |directory: &Path| std::fs::write(directory, "no directory").unwrap();
    let cases: [Case<'_>; 3] = [
        (&is_no_file, "is something else"),
        (&is_closed, "Permission denied"),
        (&is_file, "neither on this machine nor at the store"),
    ];
    for (make, why) in cases {
        let fixture = fixture();
        let directory = fixture.beside("models.pieces");
        std::fs::remove_dir_all(&directory).unwrap();
        make(&directory);
        let is_root = why.starts_with("Permission") && directory.read_dir().is_ok();
        let ended = push(&fixture, &format!("file://{}", fixture.beside("store").display()));
        ended.err_has(&["1 pushed"]);
        let is_said = |line: &str| line.contains("its piece list") && (is_root || line.contains(why));
        assert!(ended.err.lines().any(is_said), "{why}: {}", ended.err);
        if why.starts_with("Permission") {
            chmod(directory, 0o755);
        }
    }
}

/// A server that takes PUT, but not of this name.
fn web_server(refused: String) -> Server {
    let files = Mutex::new(HashMap::new());
    Server::start(move |request| {
        let mut files = files.lock().unwrap();
        if request.method != "PUT" {
            return file(request, files.get(&request.target));
        }
        if request.target.trim_start_matches('/') == refused {
            return reply(405);
        }
        files.insert(request.target.clone(), request.body.clone());
        reply(201)
    })
}

#[test]
fn a_registry_holds_lists_in_the_manifest_of_their_set() {
    let fixture = fixture();
    let content = Arc::new(Mutex::new(Repository::default()));
    let shared = content.clone();
    let server = Server::start(move |request| shared.lock().unwrap().answer(request));
    let to = format!("oci://127.0.0.1:{}/r", server.port);
    push(&fixture, &to);
    let tags = || content.lock().unwrap().manifests.clone();
    let (first, blob) = (tags(), format!("blobs/sha256:{}", digest()));
    assert_eq!(content.lock().unwrap().blobs[&blob], LIST);
    let manifest = first.values().next().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap();
    assert!(manifest.contains(&digest()) && manifest.contains("models.pieces/"), "{manifest}");
    assert!(check(&fixture, &to).contains("1 of 1 piece list"));
    // Another machine has no list: the set is the same, since the registry has it.
    std::fs::remove_file(list(&fixture)).unwrap();
    let sent = server.bytes("");
    assert!(!push(&fixture, &to).err.contains("warning"));
    assert_eq!((server.bytes(""), tags()), (sent, first));
    // The registry has lost it: another tag, and the first manifest stays.
    content.lock().unwrap().blobs.remove(&blob);
    assert!(push(&fixture, &to).err.contains("neither on this machine nor at the store"));
    assert_eq!(tags().len(), 2);
}

#[test]
fn an_address_by_path_or_size_gets_no_list() {
    let fixture = fixture();
    let server = web_server(String::new());
    for name in ["{path}", "{size}/{sha256}"] {
        let to = format!("http://127.0.0.1:{}/{name}", server.port);
        assert!(!push(&fixture, &to).err.contains("piece list"));
        assert!(!check(&fixture, &to).contains("piece list"));
    }
    assert_eq!(server.count("PUT"), 2);
}
