//! `store push` and `store check`: what leaves, what stays, and who gets a login.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;

use crate::prelude::*;
use crate::store_server::{Reply, Repository, Request, Server, file, reply};

/// Two parts of an upload, and a bit.
const SIZE: u64 = (16 << 20) + 5000;

/// A fixture whose one model is there, as if it were installed.
fn fixture() -> (Fixture, Vec<u8>) {
    fixture_of(SIZE)
}

fn fixture_of(size: u64) -> (Fixture, Vec<u8>) {
    let mut fixture = Fixture::in_memory();
    let content = Content::generated(7, size);
    fixture.model("a", &content, &["https://models.example/a".to_owned()]);
    write(fixture.path("a"), content.to_vec());
    (fixture, content.to_vec())
}

fn command(fixture: &Fixture, what: &str, to: &str) -> Command {
    let mut command = program(fixture);
    command.args(["store", what, "--to", to, "--retries", "2", "--lock"]).arg(fixture.write_lock());
    command.arg("--dest").arg(fixture.destination());
    if what == "push" {
        command.arg("--cache").arg(fixture.beside("cache"));
    }
    command
}

fn push(fixture: &Fixture, to: &str) -> Ended {
    run(&mut command(fixture, "push", to))
}

/// A registry, its content, and a hook that may answer in its place.
fn registry(
    hook: impl Fn(&Request, &mut Repository) -> Option<Reply> + Send + Sync + 'static,
) -> (Server, Arc<Mutex<Repository>>, String) {
    let content = Arc::<Mutex<Repository>>::default();
    let shared = content.clone();
    let server = Server::start(move |request| {
        let mut repository = shared.lock().unwrap();
        let answer = hook(request, &mut repository);
        answer.unwrap_or_else(|| repository.answer(request))
    });
    let to = format!("oci://127.0.0.1:{}/r", server.port);
    (server, content, to)
}

#[test]
fn a_push_fills_a_registry_once() {
    let (fixture, bytes) = fixture();
    let (server, content, to) = registry(|_, _| None);
    run(&mut command(&fixture, "check", &to)).exits(9);
    push(&fixture, &to).exits(0);
    assert!(content.lock().unwrap().blobs.values().any(|blob| *blob == bytes));
    let sent = server.bytes("");
    let again = push(&fixture, &to);
    assert_eq!((again.code, server.bytes("")), (Some(0), sent), "{}", again.err);
    run(command(&fixture, "check", &to).arg("--full")).exits(0);
    // The tag follows from the set, and the first set's stays.
    content.lock().unwrap().manifests.insert("other".to_owned(), Vec::new());
    let tags: Vec<String> = content.lock().unwrap().manifests.keys().cloned().collect();
    assert!(tags.len() == 2 && tags.iter().any(|tag| tag.starts_with("provision-")), "{tags:?}");
}

#[test]
fn fault_138_a_killed_push_goes_on_where_it_was() {
    let (fixture, _) = fixture();
    let held = Arc::new(AtomicU32::new(0));
    let parts = held.clone();
    let (killed, is_killed) = mpsc::channel();
    let is_killed = Mutex::new(is_killed);
    let (server, _, to) = registry(move |request, _| {
        // The second part of the first push has no answer while that push lives.
        if request.method == "PATCH" && parts.fetch_add(1, Ordering::SeqCst) == 1 {
            let _ = is_killed.lock().unwrap().recv_timeout(Duration::from_secs(20));
            return Some(reply(500));
        }
        None
    });
    let process = start(&mut command(&fixture, "push", &to));
    wait_until(Duration::from_secs(20), "the second part", || held.load(Ordering::SeqCst) == 2);
    // SIGKILL.
    drop(process);
    killed.send(()).unwrap();
    let before = server.bytes("PATCH");
    let ended = push(&fixture, &to).exits(0);
    assert_eq!(server.bytes("PATCH") - before, SIZE - (8 << 20), "{}", ended.err);
    assert_eq!(server.count("POST"), 2, "one for the file, one for the config");
}

#[test]
fn fault_139_an_upload_that_is_lost_is_sent_again_once() {
    for losses in [1, 9] {
        let (fixture, _) = fixture();
        let left = AtomicU32::new(losses);
        let (_server, _, to) = registry(move |request, repository| {
            let is_second =
                request.method == "PATCH" && repository.upload.as_ref().is_some_and(|u| !u.is_empty());
            if is_second && left.load(Ordering::SeqCst) > 0 {
                left.fetch_sub(1, Ordering::SeqCst);
                repository.upload = None;
                return Some(reply(404));
            }
            None
        });
        let ended = push(&fixture, &to);
        ended.err_has(&["lost the upload"]);
        assert_eq!(ended.code, Some(if losses == 1 { 0 } else { 4 }), "{}", ended.err);
    }
}

#[test]
fn fault_140_the_login_of_a_registry_goes_to_no_other_host() {
    let (fixture, bytes) = fixture();
    let taken = Arc::<Mutex<(Vec<u8>, Vec<String>)>>::default();
    let shared = taken.clone();
    let other = Server::start(move |request| {
        let mut taken = shared.lock().unwrap();
        taken.1.push(request.headers.to_ascii_lowercase());
        taken.0.extend(&request.body);
        let held = taken.0.len().saturating_sub(1);
        let headers = vec![("location", request.target.clone()), ("range", format!("0-{held}"))];
        Reply { status: if request.method == "PUT" { 201 } else { 202 }, headers, ..Reply::default() }
    });
    let place = format!("http://localhost:{}/elsewhere?signature=canary", other.port);
    let logins = Arc::<AtomicU32>::default();
    let (counted, is_first) = (logins.clone(), AtomicU32::new(0));
    let (_server, _, to) = registry(move |request, _| {
        let has_login = request.headers.to_ascii_lowercase().contains("authorization: ");
        counted.fetch_add(u32::from(has_login), Ordering::SeqCst);
        let is_upload = request.method == "POST" && is_first.fetch_add(1, Ordering::SeqCst) == 0;
        is_upload.then(|| Reply {
            status: 202,
            headers: vec![("location", place.clone())],
            ..Reply::default()
        })
    });
    push(&fixture, &to).exits(0);
    assert!(logins.load(Ordering::SeqCst) > 0, "the registry itself gets it");
    let taken = taken.lock().unwrap();
    assert!(taken.0 == bytes, "{} bytes", taken.0.len());
    assert!(!taken.1.iter().any(|headers| headers.contains("authorization") || headers.contains("cookie")));
}

#[test]
fn fault_141_a_blob_without_bytes_is_missing_and_sent_again() {
    let (fixture, _) = fixture();
    let (server, content, to) = registry(|request, repository| {
        let path = request.target.strip_prefix("/v2/r/")?;
        // As a registry whose collection ran beside it: the head is right, and no byte comes.
        let is_hollow = repository.blobs.get(path).is_some_and(Vec::is_empty);
        let headers = vec![("content-range", format!("bytes {}-{}/{SIZE}", SIZE - 1, SIZE - 1))];
        is_hollow.then(|| Reply { status: 206, headers, body: vec![0], cut: Some(0) })
    });
    let sha256 = fixture.lock().models()[0].sha256;
    content.lock().unwrap().blobs.insert(format!("blobs/sha256:{sha256}"), Vec::new());
    run(&mut command(&fixture, "check", &to)).exits(9);
    assert_eq!(push(&fixture, &to).code, Some(0));
    assert_eq!(server.bytes("PATCH"), SIZE);
}

/// A bucket with one object at most.
#[derive(Default)]
struct Bucket {
    object: Option<Vec<u8>>,
    parts: Vec<(u32, Vec<u8>)>,
    is_open: bool,
    /// The uploads that are lost after their first part.
    losses: u32,
    /// Completing fails behind a 200.
    is_failing: bool,
}

impl Bucket {
    fn answer(&mut self, request: &Request) -> Reply {
        let text = |body: &str| Reply { status: 200, body: body.into(), ..Reply::default() };
        let (_, query) = request.target.split_once('?').unwrap_or_default();
        match &*request.method {
            "POST" if query.contains("uploads=") => {
                (self.is_open, self.parts) = (true, Vec::new());
                text("<UploadId>one</UploadId>")
            }
            "GET" if !query.contains("uploadId=") => file(request, self.object.as_ref()),
            "DELETE" => reply(204),
            "PUT" if !query.contains("partNumber=") => {
                self.object = Some(request.body.clone());
                reply(200)
            }
            _ if !self.is_open => {
                Reply { status: 404, body: b"<Code>NoSuchUpload</Code>".into(), ..Reply::default() }
            }
            "GET" => text(&self.parts.iter().fold(String::new(), |list, (number, part)| {
                // Without names, as some stores list parts.
                let size = part.len();
                format!("{list}<Part><PartNumber>{number}</PartNumber><Size>{size}</Size></Part>")
            })),
            "PUT" => {
                let number = query.split("partNumber=").nth(1).unwrap().split('&').next().unwrap();
                let number = number.parse().unwrap();
                self.parts.retain(|(other, _)| *other != number);
                self.parts.push((number, request.body.clone()));
                self.is_open = self.losses == 0;
                self.losses = self.losses.saturating_sub(1);
                let headers = vec![("etag", format!("\"{number}\""))];
                Reply { status: 200, headers, ..Reply::default() }
            }
            _ if self.object.is_some() && request.headers.contains("if-none-match") => reply(412),
            _ if self.is_failing => text("<Error><Code>InternalError</Code></Error>"),
            _ => {
                self.parts.sort_by_key(|(number, _)| *number);
                self.object = Some(self.parts.iter().flat_map(|(_, part)| part.clone()).collect());
                text("<CompleteMultipartUploadResult/>")
            }
        }
    }
}

fn bucket(bucket: Bucket) -> (Server, Arc<Mutex<Bucket>>, String) {
    let content = Arc::new(Mutex::new(bucket));
    let shared = content.clone();
    let server = Server::start(move |request| shared.lock().unwrap().answer(request));
    let to = format!("s3://b/p?endpoint=http://127.0.0.1:{}&region=us-east-1", server.port);
    (server, content, to)
}

#[test]
fn fault_142_an_error_behind_a_200_is_a_failure() {
    let (fixture, bytes) = fixture();
    let (server, content, to) = bucket(Bucket { is_failing: true, ..Bucket::default() });
    push(&fixture, &to).exits(4).err_has(&["InternalError"]);
    content.lock().unwrap().is_failing = false;
    assert_eq!(push(&fixture, &to).code, Some(0));
    assert!(content.lock().unwrap().object.as_ref() == Some(&bytes));
    let sent = server.bytes("PUT");
    assert_eq!(push(&fixture, &to).code, Some(0));
    assert_eq!(server.bytes("PUT"), sent, "nothing is sent again");
}

#[test]
fn fault_143_a_bucket_that_lost_an_upload_gets_it_again() {
    let (fixture, bytes) = fixture();
    let (_server, content, to) = bucket(Bucket { losses: 1, ..Bucket::default() });
    push(&fixture, &to).exits(0).err_has(&["lost the upload"]);
    assert!(content.lock().unwrap().object.as_ref() == Some(&bytes));
}

#[test]
fn fault_144_a_wrong_file_never_arrives_whole() {
    let (fixture, mut bytes) = fixture();
    bytes[5] ^= 1;
    std::fs::write(fixture.path("a"), &bytes).unwrap();
    let whole = Arc::<AtomicU32>::default();
    let counted = whole.clone();
    let server = Server::start(move |request| {
        counted.fetch_add(u32::from(request.method == "PUT"), Ordering::SeqCst);
        reply(404)
    });
    let ended = push(&fixture, &format!("http://127.0.0.1:{}/{{sha256}}", server.port));
    assert_eq!((ended.code, whole.load(Ordering::SeqCst)), (Some(5), 0), "{}", ended.err);
    ended.err_has(&["provision fetch"]);
    let (server, _, to) = registry(|_, _| None);
    assert_eq!((push(&fixture, &to).code, server.count("PUT")), (Some(5), 0));
    assert_eq!(server.count("DELETE"), 1, "the upload is given up");
}

/// Pushes a file that is wrong here, and kills the push before it gives the upload up. Then the file is repaired and
/// pushed again.
fn assert_repaired(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static, to: &str) -> (Server, Ended) {
    let (fixture, mut bytes) = fixture();
    bytes[5] ^= 1;
    std::fs::write(fixture.path("a"), &bytes).unwrap();
    let given_up = Arc::<AtomicU32>::default();
    let counted = given_up.clone();
    let (killed, is_killed) = mpsc::channel();
    let is_killed = Mutex::new(is_killed);
    let server = Server::start(move |request| {
        if request.method == "DELETE" && counted.fetch_add(1, Ordering::SeqCst) == 0 {
            let _ = is_killed.lock().unwrap().recv_timeout(Duration::from_secs(20));
            return reply(500);
        }
        answer(request)
    });
    let to = to.replace("PORT", &server.port.to_string());
    let process = start(&mut command(&fixture, "push", &to));
    wait_until(Duration::from_secs(20), "the end of a wrong file", || given_up.load(Ordering::SeqCst) == 1);
    drop(process);
    killed.send(()).unwrap();
    bytes[5] ^= 1;
    std::fs::write(fixture.path("a"), &bytes).unwrap();
    let ended = push(&fixture, &to).exits(0);
    run(command(&fixture, "check", &to).arg("--full")).exits(0);
    (server, ended)
}

#[test]
fn parts_of_a_file_that_was_wrong_do_not_count() {
    let bucket = Mutex::new(Bucket::default());
    let answer = move |request: &Request| bucket.lock().unwrap().answer(request);
    let to = "s3://b/p?endpoint=http://127.0.0.1:PORT&region=us-east-1";
    let (server, _) = assert_repaired(answer, to);
    assert_eq!(server.bytes("PUT"), SIZE + (16 << 20), "the first part twice");
    let repository = Mutex::new(Repository::default());
    let answer = move |request: &Request| repository.lock().unwrap().answer(request);
    let (_server, ended) = assert_repaired(answer, "oci://127.0.0.1:PORT/r");
    ended.err_has(&["other bytes of it"]);
}

#[test]
fn parts_of_a_file_are_sent_side_by_side() {
    let (fixture, bytes) = fixture();
    let content = Mutex::new(Bucket::default());
    let there = Arc::<Mutex<HashSet<String>>>::default();
    let shared = there.clone();
    let server = Server::start(move |request| {
        if let Some((_, number)) = request.target.split_once("partNumber=") {
            let number = number.split('&').next().unwrap().to_owned();
            shared.lock().unwrap().insert(number);
            let end = Instant::now() + Duration::from_secs(5);
            while shared.lock().unwrap().len() < 2 {
                if Instant::now() > end {
                    return reply(500);
                }
                std::thread::yield_now();
            }
        }
        content.lock().unwrap().answer(request)
    });
    let to = format!("s3://b/p?endpoint=http://127.0.0.1:{}&region=us-east-1", server.port);
    let ended = push(&fixture, &to);
    assert_eq!((ended.code, server.bytes("PUT")), (Some(0), bytes.len() as u64), "{}", ended.err);
    run(command(&fixture, "check", &to).arg("--full")).exits(0);
}

/// The parts of an interrupted upload cannot be listed: it is given up, and not left to cost money.
#[test]
fn fault_178_an_upload_that_cannot_be_listed_is_given_up() {
    for (status, code) in [(403, Some(6)), (400, Some(0))] {
        let (fixture, _) = fixture();
        let content = Mutex::new(Bucket::default());
        let is_second = Arc::<AtomicU32>::default();
        let shared = is_second.clone();
        let (killed, is_killed) = mpsc::channel();
        let is_killed = Mutex::new(is_killed);
        let server = Server::start(move |request| {
            // The first push is killed before it completes the upload.
            if request.method == "POST"
                && !request.target.contains("uploads=")
                && shared.load(Ordering::SeqCst) == 0
            {
                shared.store(1, Ordering::SeqCst);
                let _ = is_killed.lock().unwrap().recv_timeout(Duration::from_secs(20));
                return reply(500);
            }
            if request.method == "GET" && request.target.contains("uploadId=") {
                return reply(status);
            }
            content.lock().unwrap().answer(request)
        });
        let to = format!("s3://b/p?endpoint=http://127.0.0.1:{}&region=us-east-1", server.port);
        let process = start(&mut command(&fixture, "push", &to));
        wait_until(Duration::from_secs(20), "all parts", || is_second.load(Ordering::SeqCst) == 1);
        drop(process);
        killed.send(()).unwrap();
        let ended = push(&fixture, &to);
        assert_eq!((ended.code, server.count("DELETE")), (code, 1), "{status}: {}", ended.err);
        // The next one begins an upload of its own, and lists nothing.
        assert_eq!(push(&fixture, &to).code, Some(0), "{status}");
    }
}

#[test]
fn an_object_of_another_size_is_replaced() {
    let (fixture, bytes) = fixture();
    let (_server, content, to) = bucket(Bucket { object: Some(vec![0; 5]), ..Bucket::default() });
    push(&fixture, &to).exits(0);
    assert!(content.lock().unwrap().object.as_ref() == Some(&bytes));
}

#[test]
fn a_part_that_is_refused_where_it_belongs_is_not_sent_forever() {
    let (fixture, _) = fixture();
    let (server, _, to) = registry(|request, _| (request.method == "PATCH").then(|| reply(416)));
    let ended = push(&fixture, &to);
    assert_eq!((ended.code, server.count("PATCH")), (Some(4), 2), "{}", ended.err);
}

#[test]
fn the_smallest_files_are_pushed() {
    for size in [0, 1] {
        let (fixture, bytes) = fixture_of(size);
        let (_server, content, registry) = registry(|_, _| None);
        let (_other, _, bucket) = bucket(Bucket::default());
        for to in [registry, bucket] {
            assert_eq!(run(&mut command(&fixture, "check", &to)).code, Some(9), "{size} {to}");
            push(&fixture, &to).row(format!("{size} {to}")).exits(0);
            run(command(&fixture, "check", &to).arg("--full")).row(format!("{size} {to}")).exits(0);
        }
        assert!(content.lock().unwrap().blobs.values().any(|blob| *blob == bytes));
    }
}

#[test]
fn a_file_that_ends_early_at_the_store_is_wrong_at_once() {
    let (fixture, bytes) = fixture();
    let server = Server::start(move |request| {
        let answer = file(request, Some(&bytes));
        Reply { cut: (answer.status == 200).then_some(1000), ..answer }
    });
    let to = format!("http://127.0.0.1:{}/{{sha256}}", server.port);
    let checked = run(command(&fixture, "check", &to).arg("--full"));
    assert_eq!((checked.code, server.count("GET")), (Some(5), 2), "{}", checked.err);
}

#[test]
fn a_store_that_only_fails_is_left_after_two_files() {
    let (mut fixture, _) = fixture_of(1);
    for (seed, path) in [(8, "b"), (9, "c"), (10, "d")] {
        let content = Content::generated(seed, 1000);
        fixture.model(path, &content, &["https://models.example/a".to_owned()]);
        std::fs::write(fixture.path(path), content.to_vec()).unwrap();
    }
    let server = Server::start(|request| reply(if request.method == "PUT" { 503 } else { 404 }));
    let ended = push(&fixture, &format!("http://127.0.0.1:{}/{{sha256}}", server.port));
    assert_eq!((ended.code, server.count("PUT") % 2), (Some(4), 0), "{}", ended.err);
    ended.err_has(&["not tried"]);
}

#[test]
fn fault_145_a_server_without_put_is_named_with_its_setting() {
    let (fixture, _) = fixture();
    let server = Server::start(|request| reply(if request.method == "PUT" { 405 } else { 404 }));
    push(&fixture, &format!("http://127.0.0.1:{}/{{sha256}}", server.port))
        .exits(4)
        .err_has(&["dav_methods"]);
    std::fs::remove_file(fixture.path("a")).unwrap();
    push(&fixture, &format!("http://127.0.0.1:{}/{{sha256}}", server.port))
        .exits(9)
        .err_has(&["provision fetch"]);
}
