//! Locks that the program refuses: exit code 3, the line, and no effect (faults 56 to 61). A row stands for its message;
//! the unit tests of `core` have every path, digest and size.

use crate::prelude::*;

/// A fixture that serves the URLs of these locks, so that a request would be seen.
pub(super) fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.origin.put("/x", Content::generated(1, 5));
    fixture
}

/// A valid entry, except for the given keys.
pub(super) fn entry(fixture: &Fixture, path: &str, size: &str) -> String {
    let (url, sha256) = (fixture.origin.url("/x"), Content::generated(1, 5).sha256_hex());
    format!("[[model]]\npath = {path}\nurl = \"{url}\"\nsize = {size}\nsha256 = \"{sha256}\"\n")
}

pub(super) fn fetch(fixture: &Fixture, text: &[u8]) -> Ended {
    let lock = fixture.beside("models.lock");
    std::fs::write(&lock, text).unwrap();
    let mut command = program(fixture);
    command.args(["fetch", "--lock"]).arg(lock).arg("--dest").arg(fixture.destination());
    run(&mut command)
}

/// The lock ends the program with 3 and a message that has the line and these words. No request is sent, and no file
/// is created.
pub(super) fn refused(fixture: &Fixture, text: &str, line: usize, says: &str) -> String {
    let ended = fetch(fixture, text.as_bytes()).row(text).exits(3);
    assert!(ended.err.contains(&format!("models.lock:{line}:")), "line {line} of\n{text}\n{}", ended.err);
    ended.err_has(&[&format!("\n{line} | ")]);
    assert!(ended.err.contains(says), "{says:?} of\n{text}\n{}", ended.err);
    nothing_done(fixture);
    ended.err
}

pub(super) fn nothing_done(fixture: &Fixture) {
    assert!(!fixture.destination().exists(), "{:?}", fixture.listing());
    assert_eq!(fixture.origin.counters().connections_accepted, 0);
}

#[test]
fn fault_56_a_path_that_could_leave_the_destination_is_refused() {
    let fixture = fixture();
    let long = format!("\"{}\"", "n".repeat(256));
    for (path, says) in [
        ("\"../x\"", "\"..\" would leave"),
        ("\"./x\"", "would leave or repeat"),
        ("\"/etc/passwd\"", "absolute"),
        ("\"~/x\"", "home directory"),
        ("'C:\\x'", "':' is not allowed"),
        ("\"a\\u0000b\"", "'\\0' is not allowed"),
        ("\"a\\u001bb\"", "is not allowed"),
        ("\"\"", "empty"),
        (long.as_str(), "256 bytes"),
    ] {
        refused(&fixture, &format!("version = 1\n{}", entry(&fixture, path, "5")), 3, says);
    }
}

#[test]
fn fault_57_paths_that_collide_on_some_systems_are_refused() {
    let fixture = fixture();
    for (path, says) in [
        ("\"CON\"", "reserved"),
        ("\"x \"", "ends with a dot or a space"),
        ("\".x.safetensors.part\"", "part files"),
    ] {
        refused(&fixture, &format!("version = 1\n{}", entry(&fixture, path, "5")), 3, says);
    }
    // Case; case of the decomposed; a file and a directory.
    for (first, second, says) in [
        ("\"vae/X\"", "\"VAE/x\"", "are one file"),
        ("\"É/x\"", "\"e\\u0301/X\"", "are one file"),
        ("\"a\"", "\"a/b\"", "is a file, so"),
        ("\"é\"", "\"e\\u0301/x\"", "is a file, so"),
        ("\".models-installed\"", "\"x\"", ".models-installed"),
    ] {
        let text = format!("version = 1\n{}{}", entry(&fixture, first, "5"), entry(&fixture, second, "5"));
        let line = if first.contains("installed") { 3 } else { 8 };
        refused(&fixture, &text, line, says);
    }
}

#[test]
fn fault_117_paths_that_fold_into_one_are_refused() {
    let fixture = fixture();
    for (first, second, says) in [
        ("\"straße\"", "\"STRASSE\"", "are one file"),
        ("\"a\\u200Db\"", "\"ab\"", "are one file"),
        ("\"STRASSE\"", "\"straße/x\"", "is a file, so"),
        ("\".Models-In\\u200Bstalled\"", "\"x\"", "are one file"),
    ] {
        let text = format!("version = 1\n{}{}", entry(&fixture, first, "5"), entry(&fixture, second, "5"));
        let line = if first.contains("stalled") { 3 } else { 8 };
        refused(&fixture, &text, line, says);
    }
    for (path, says) in [("\".provision.loc\\u212A\"", "part files"), ("\"a/.\\u200B/x\"", "would leave")] {
        refused(&fixture, &format!("version = 1\n{}", entry(&fixture, path, "5")), 3, says);
    }
}

#[test]
fn fault_58_an_invalid_digest_is_refused() {
    let fixture = fixture();
    let sha256 = Content::generated(1, 5).sha256_hex();
    for (bad, says) in [
        (sha256[1..].to_owned(), "this has 63"),
        (sha256.to_uppercase(), "0-9 and a-f"),
        (format!("sha256:{}", &sha256[7..]), "this has 's'"),
    ] {
        let text = format!("version = 1\n{}", entry(&fixture, "\"x\"", "5").replace(&sha256, &bad));
        refused(&fixture, &text, 6, says);
    }
}

#[test]
fn fault_59_a_duplicate_path_is_refused() {
    let fixture = fixture();
    let twice = entry(&fixture, "\"x\"", "5").repeat(2);
    refused(&fixture, &format!("version = 1\n{twice}"), 8, "\"x\" is listed twice");
}

#[test]
fn fault_60_invalid_sizes_are_refused_with_their_numbers() {
    let fixture = fixture();
    for (size, says) in [
        ("-5", "-5 is below zero"),
        ("5e3", "size = 5e3"),
        ("99999999999999999999999999", "99999999999999999999999999"),
        ("nan", "expected"),
        ("true", "expected"),
    ] {
        refused(&fixture, &format!("version = 1\n{}", entry(&fixture, "\"x\"", size)), 5, says);
    }
    let most = "9223372036854775807";
    let text = format!("version = 1\n{}{}", entry(&fixture, "\"a\"", most), entry(&fixture, "\"b\"", most));
    refused(&fixture, &text, 8, "18446744073709551614 bytes");
}

#[test]
fn fault_60_a_set_larger_than_the_disk_is_refused_up_front() {
    let fixture = fixture();
    // 4 EiB: no disk of a test machine is that large.
    let text = format!("version = 1\n{}", entry(&fixture, "\"x\"", "4611686018427387904"));
    fetch(&fixture, text.as_bytes()).exits(7).err_has(&["4.61 EB", "free"]);
    assert_eq!(fixture.origin.counters().connections_accepted, 0);
    assert!(fixture.listing().iter().all(|name| name == ".provision.lock"), "{:?}", fixture.listing());
}

#[test]
fn fault_61_missing_or_unknown_keys_are_refused_with_their_line() {
    let fixture = fixture();
    let good = entry(&fixture, "\"x\"", "5");
    let without = |key: &str| {
        let lines = good.split_inclusive('\n').filter(|line| !line.starts_with(key));
        format!("version = 1\n{}", lines.collect::<String>())
    };
    for key in ["path", "url", "size", "sha256"] {
        refused(&fixture, &without(key), 2, &format!("missing field `{key}`"));
    }
    refused(&fixture, &format!("version = 1\n{good}shasum = \"x\"\n"), 7, "unknown field `shasum`");
    refused(&fixture, &format!("version = 1\nmarkers = \"x\"\n{good}"), 2, "unknown field `markers`");
    refused(&fixture, &format!("version = 1\n{}", good.replace("size", "sise")), 5, "`sise`");
    refused(&fixture, &format!("version = 2\nnew = true\n{good}"), 1, "the lock's version is 2");
    refused(&fixture, &format!("version = 1.0\n{good}"), 1, "version");
    refused(&fixture, &format!("version = 1\n{good}size = 5\n"), 7, "duplicate key");
    refused(&fixture, &format!("version = 1\n{}", good.replace("size = 5", "size = ")), 5, "");
    for (text, says) in [(good.as_bytes(), "version"), (b"", "version"), (b"version = 1\n\xff", "UTF-8")] {
        fetch(&fixture, text).exits(3).err_has(&[says, "models.lock"]);
        nothing_done(&fixture);
    }
}
