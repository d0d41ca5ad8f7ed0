//! `provision lock pieces`, `lock check --pieces` and `lock add --pieces`: lists of files that are on this machine.

use std::fs;
use std::time::SystemTime;

use provision_core::piece_list::Piece;

use crate::prelude::*;

/// A length of three pieces.
pub(crate) const LONG: u64 = 9_000_001;

/// A lock verb with the fixture's lock, which is written before, and its destination.
pub(crate) fn lock_verb(fixture: &Fixture, arguments: &[&str]) -> Command {
    let mut command = program(fixture);
    command.arg("lock").args(arguments).arg("--lock").arg(fixture.beside("models.lock"));
    if arguments[0] != "list" {
        command.arg("--dest").arg(fixture.destination());
    }
    command
}

pub(crate) fn said(fixture: &Fixture, code: i32, arguments: &[&str]) -> Ended {
    run(&mut lock_verb(fixture, arguments)).exits(code)
}

pub(crate) fn lock_text(fixture: &Fixture) -> String {
    fs::read_to_string(fixture.beside("models.lock")).unwrap()
}

/// The lock's text without queries, for a place where no secret may be.
fn bare_lock_text(fixture: &Fixture) -> String {
    let is_secret = |line: &&str| line.starts_with("url") || line.starts_with("mirrors");
    let text = lock_text(fixture);
    let lines =
        text.lines().map(|line| if is_secret(&line) { line.split('?').next().unwrap() } else { line });
    let text: Vec<_> = lines.collect();
    text.join("\n").replace("\nmirrors", "\"\nmirrors")
}

/// The files in `models.pieces`, sorted.
pub(crate) fn lists(fixture: &Fixture) -> Vec<String> {
    let Ok(entries) = fixture.beside("models.pieces").read_dir() else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub(crate) fn install(fixture: &Fixture, path: &str, content: &Content) {
    write(fixture.path(path), content.to_vec());
}

/// The list of a file that is cut every 4 MiB. `change` changes the digests of its pieces.
pub(crate) fn list_of(bytes: &[u8], change: impl Fn(usize, Sha256) -> Sha256) -> Vec<u8> {
    let mut start = 0;
    let pieces = bytes.chunks(4 << 20).enumerate().map(|(at, chunk)| {
        let range = provision_core::byte_range::ByteRange::new(start, start + chunk.len() as u64);
        start = range.end;
        Piece { range, sha256: change(at, Sha256::of(chunk)) }
    });
    let pieces = pieces.collect();
    PieceList::new(bytes.len() as u64, Sha256::of(bytes), pieces).unwrap().write().unwrap()
}

/// Puts a list beside the lock, and its digest into the entry that has this file's digest.
pub(crate) fn pin(fixture: &Fixture, file: &Content, list: &[u8]) {
    let digest = Sha256::of(list).to_string();
    fs::create_dir_all(fixture.beside("models.pieces")).unwrap();
    fs::write(fixture.beside("models.pieces").join(&digest), list).unwrap();
    let sha256 = format!("sha256 = \"{}\"\n", file.sha256_hex());
    let text = lock_text(fixture).replace(&sha256, &format!("{sha256}pieces = \"{digest}\"\n"));
    fs::write(fixture.beside("models.lock"), text).unwrap();
}

/// A fixture with a model of three pieces and one of one piece, both installed, and a lock with hints.
fn installed() -> (Fixture, Content) {
    let mut fixture = Fixture::new();
    let (long, short) = (Content::generated(1, LONG), Content::generated(2, 3));
    fixture.file("loras/a.bin", &long).file("vae/b.bin", &short);
    install(&fixture, "loras/a.bin", &long);
    install(&fixture, "vae/b.bin", &short);
    let text = fixture.lock_text() + "hint-x = { y = 1 } # stays\n";
    fs::write(fixture.beside("models.lock"), text).unwrap();
    (fixture, long)
}

#[test]
fn lists_are_written_once_and_the_lock_names_them() {
    let (fixture, long) = installed();
    let before = lock_text(&fixture);
    let Ended { out, err, .. } = said(&fixture, 0, &["pieces", "--dry-run"]);
    assert!(out.contains("would write   loras/a.bin") && err.contains("(exit 3)"), "{out}{err}");
    assert_eq!((lock_text(&fixture), lists(&fixture)), (before.clone(), vec![]));

    let Ended { out, err, .. } = said(&fixture, 0, &["pieces"]);
    let list = list_of(&long.to_vec(), |_, digest| digest);
    let digest = Sha256::of(&list).to_string();
    assert!(out.contains("written    loras/a.bin  9 MB  3 pieces  models.pieces/"), "{out}");
    assert!(out.contains("one piece  vae/b.bin"), "{out}");
    assert!(err.contains("Programs from before piece lists cannot read it (exit 3)"), "{err}");
    assert_eq!(lists(&fixture), std::slice::from_ref(&digest));
    let path = fixture.beside("models.pieces").join(&digest);
    assert_eq!(fs::read(&path).unwrap(), list);
    let sha256 = format!("sha256 = \"{}\"\n", long.sha256_hex());
    let after = before.replace(&sha256, &format!("{sha256}pieces = \"{digest}\"\n"));
    assert_eq!(lock_text(&fixture), after);

    let written = fs::metadata(&path).unwrap().modified().unwrap();
    said(&fixture, 0, &["pieces"]).out_has(&["unchanged  loras/a.bin"]).err_lacks(&["exit 3"]);
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
    assert_eq!(lock_text(&fixture), after);
    said(&fixture, 0, &["list", "--json"]).out_has(&[&format!("\"pieces\": \"{digest}\"")]);

    let out = said(&fixture, 0, &["check", "--pieces"]).out;
    assert!(out.contains("right        loras/a.bin") && out.contains("no list      vae/b.bin"), "{out}");
    assert_eq!(fixture.requests(), 0, "no host is asked");
}

#[test]
fn what_is_missing_or_wrong_is_named_and_the_others_have_lists() {
    let (mut fixture, _) = installed();
    let (wrong, missing) = (Content::generated(3, LONG), Content::generated(4, LONG));
    fixture.file("unet/wrong.bin", &wrong).file("unet/missing.bin", &missing);
    fixture.write_lock();
    install(&fixture, "unet/wrong.bin", &Content::generated(5, LONG));
    let Ended { out, err, .. } = said(&fixture, 5, &["pieces"]);
    assert!(out.contains("written    loras/a.bin"), "{out}");
    assert!(err.contains("no piece list: 2 failures") && err.contains("unet/missing.bin: missing"), "{err}");
    assert!(
        err.contains("unet/wrong.bin: has SHA-256") && err.contains("run `fetch`, then this again"),
        "{err}"
    );
    assert_eq!(lists(&fixture).len(), 1);
    assert_eq!(lock_text(&fixture).matches("pieces = ").count(), 1);
}

#[test]
fn a_file_of_the_cache_has_a_list_and_is_checked_too() {
    let (fixture, long) = installed();
    fs::remove_file(fixture.path("loras/a.bin")).unwrap();
    let cache = fixture.beside("cache");
    let object = cache.join(format!("sha256/{}/{}", &long.sha256_hex()[..2], long.sha256_hex()));
    write(&object, long.to_vec());
    let cache = cache.to_str().unwrap().to_owned();
    said(&fixture, 0, &["pieces", "--cache", &cache]);
    assert_eq!(lists(&fixture).len(), 1);
    said(&fixture, 0, &["check", "--pieces", "--cache", &cache]);
    // A list that lies about the cached file.
    let right = lock_text(&fixture);
    let lie = list_of(&long.to_vec(), |at, digest| if at == 1 { Sha256::of(b"lie") } else { digest });
    let [lied, listed] = [Sha256::of(&lie).to_string(), lists(&fixture)[0].clone()];
    fs::write(fixture.beside("models.pieces").join(&lied), &lie).unwrap();
    fs::write(fixture.beside("models.lock"), right.replace(&listed, &lied)).unwrap();
    let Ended { out, err, .. } = said(&fixture, 5, &["check", "--pieces", "--cache", &cache]);
    assert!(
        out.contains("differs") && err.contains("`lock pieces loras/a.bin` writes a right"),
        "{out}{err}"
    );
    fs::write(fixture.beside("models.lock"), right).unwrap();
    let Ended { out, err, .. } = said(&fixture, 5, &["check", "--pieces"]);
    assert!(out.contains("no file      loras/a.bin") && err.contains("check again"), "{out}{err}");
}

#[test]
fn bytes_that_an_add_or_a_fetch_reads_have_a_list() {
    let fixture = Fixture::new();
    let content = Content::generated(1, LONG);
    fixture.origin.put("/big.bin", content.clone());
    let url = fixture.origin.url("/big.bin");
    let cache = fixture.beside("cache").to_str().unwrap().to_owned();
    said(&fixture, 0, &["add", &url, "--path", "vae/big.bin", "--cache", &cache, "--pieces"]);
    assert_eq!(lists(&fixture), [Sha256::of(&list_of(&content.to_vec(), |_, digest| digest)).to_string()]);
    assert_eq!(lock_text(&fixture).matches("pieces = ").count(), 1);
    // One byte for the question whether the host sends ranges.
    let bytes = fixture.origin.counters().path("/big.bin").body_bytes;
    assert!((LONG..=LONG + 1).contains(&bytes), "the bytes come once: {bytes}");

    let other = Content::generated(2, LONG);
    let declared = [other.sha256_hex(), LONG.to_string()];
    let url = fixture.origin.url("/other.bin");
    fixture.origin.put("/other.bin", other);
    let add = [
        "add",
        &url,
        "--path",
        "vae/other.bin",
        "--sha256",
        &declared[0],
        "--size",
        &declared[1],
        "--pieces",
    ];
    said(&fixture, 0, &add).err_has(&["`lock pieces vae/other.bin` writes it after the next fetch"]);
    assert_eq!(lists(&fixture).len(), 1);
}

#[test]
fn bytes_that_an_add_reads_make_the_list_in_any_place() {
    let fixture = Fixture::new();
    let content = Content::generated(1, LONG);
    fixture.origin.put("/big.bin", content.clone());
    let url = fixture.origin.url("/big.bin");
    let cache = fixture.beside("cache").to_str().unwrap().to_owned();
    // The cache has no room, so the bytes wait in a part, which no list could be made of later.
    let add = ["add", &url, "--path", "vae/big.bin", "--cache", &cache, "--cache-size", "1M", "--pieces"];
    let Ended { out, err, .. } = said(&fixture, 0, &add);
    assert!(out.contains("written    vae/big.bin  9 MB  3 pieces"), "{out}{err}");
    assert!(!err.contains("has no piece list yet"), "{err}");
    assert_eq!(lists(&fixture), [Sha256::of(&list_of(&content.to_vec(), |_, digest| digest)).to_string()]);
    let bytes = fixture.origin.counters().path("/big.bin").body_bytes;
    assert!((LONG..=LONG + 1).contains(&bytes), "the bytes come once: {bytes}");
}

#[test]
fn lists_lie_beside_the_file_that_a_symlinked_lock_leads_to() {
    let (fixture, _) = installed();
    let shared: PathBuf = fixture.beside("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("models.lock"), bare_lock_text(&fixture)).unwrap();
    fs::remove_file(fixture.beside("models.lock")).unwrap();
    std::os::unix::fs::symlink("shared/models.lock", fixture.beside("models.lock")).unwrap();
    said(&fixture, 0, &["pieces"]);
    assert_eq!(lists(&fixture).len(), 0);
    assert_eq!(shared.join("models.pieces").read_dir().unwrap().count(), 1);
    said(&fixture, 0, &["check", "--pieces"]);
}

#[test]
fn dry_runs_and_checks_change_no_file() {
    let (fixture, long) = installed();
    said(&fixture, 0, &["pieces"]);
    // A wrong byte that no marker has to know of.
    let path = fixture.path("loras/a.bin");
    let mut bytes = long.to_vec();
    bytes[5_000_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let hour = SystemTime::UNIX_EPOCH + Duration::from_hours(1);
    let modified = || fs::metadata(&path).unwrap().modified().unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(hour).unwrap();
    for verb in [&["pieces", "--dry-run"][..], &["check", "--pieces"]] {
        said(&fixture, 5, verb).err_has(&["loras/a.bin: ", "run `fetch --verify full`, then "]);
        assert_eq!(modified(), hour, "{verb:?}");
    }
    said(&fixture, 5, &["pieces"]).err_has(&["run `fetch`, then this again"]);
    assert!(modified() > hour, "no marker vouches for the file");
}

#[test]
fn lists_of_a_lock_that_is_no_file_are_not_checked() {
    let (fixture, _) = installed();
    said(&fixture, 0, &["pieces"]);
    let (url, digest) =
        (fixture.origin.url("/models.lock"), Sha256::of(lock_text(&fixture).as_bytes()).to_string());
    for lock in [&["--lock", "-"][..], &["--lock", &url, "--lock-sha256", &digest]] {
        let mut command = program(&fixture);
        command.args(["lock", "check", "--pieces"]).args(lock).arg("--dest").arg(fixture.destination());
        let ended = run(&mut command).exits(2);
        ended.out_is("");
        ended.err_has(&["give the lock's file with --lock", "`verify --full`"]);
    }
    assert_eq!(fixture.requests(), 0);
}

#[test]
fn each_lock_of_a_shared_file_has_its_list_checked() {
    let (fixture, long) = installed();
    said(&fixture, 0, &["pieces"]);
    let other = fixture.beside("other");
    let lists_of_other = other.join("models.pieces");
    fs::create_dir_all(&lists_of_other).unwrap();
    let check = |code: i32| {
        let mut command = program(&fixture);
        command.args(["lock", "check", "--pieces", "--lock"]).arg(fixture.beside("models.lock"));
        command.arg("--lock").arg(other.join("models.lock")).arg("--dest").arg(fixture.destination());
        run(&mut command).exits(code)
    };
    // The same digest, and no list beside the second lock.
    let pinned = &lists(&fixture)[0];
    fs::write(other.join("models.lock"), bare_lock_text(&fixture)).unwrap();
    let Ended { out, err, .. } = check(5);
    assert!(out.contains("missing      loras/a.bin") && out.contains("right        loras/a.bin"), "{out}");
    assert!(err.contains("other/models.lock") && err.contains(pinned), "{err}");
    fs::copy(fixture.beside("models.pieces").join(pinned), lists_of_other.join(pinned)).unwrap();
    let out = check(0).out;
    assert_eq!(out.matches("right        loras/a.bin").count(), 1, "one list is compared once: {out}");
    // A list of its own, which lies.
    let lie = list_of(&long.to_vec(), |at, digest| if at == 1 { Sha256::of(b"lie") } else { digest });
    let digest = Sha256::of(&lie).to_string();
    fs::write(lists_of_other.join(&digest), lie).unwrap();
    fs::write(other.join("models.lock"), bare_lock_text(&fixture).replace(pinned, &digest)).unwrap();
    let Ended { out, err, .. } = check(5);
    assert!(out.contains("right        loras/a.bin") && out.contains("differs      loras/a.bin"), "{out}");
    assert!(err.contains("does not describe the file with SHA-256"), "{err}");
}
