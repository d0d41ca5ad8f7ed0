//! Locks that are built to cost time and memory (fault 62).

use std::io::Write as _;

use super::refused::{fixture, nothing_done};
use crate::faults::disk::machine::after;
use crate::prelude::*;

/// Far more than a run takes, even on a busy machine: work that grows with the square of the text would exceed it.
const SECONDS: Duration = Duration::from_mins(1);
/// The limit of the address space, in KiB, with the program's and its threads' own.
const MEMORY: u64 = 3 << 20;

/// Runs the program on the lock at `path`, with limited memory.
fn fetch(fixture: &Fixture, path: &Path) -> Ended {
    let mut command = program(fixture);
    command.args(["fetch", "--lock"]).arg(path).arg("--dest").arg(fixture.destination());
    let started = Instant::now();
    let ended = run(&mut after(&format!("ulimit -v {MEMORY}"), &command));
    assert!(started.elapsed() < SECONDS, "it took {:?}", started.elapsed());
    ended
}

fn refused(fixture: &Fixture, text: &str, says: &str) {
    let path = fixture.beside("models.lock");
    std::fs::write(&path, text).unwrap();
    let ended = fetch(fixture, &path);
    let begin: String = text.chars().take(40).collect();
    assert_eq!(ended.code, Some(3), "{begin}…: {}", ended.err);
    assert!(ended.err.contains(says), "{begin}…: {}", ended.err);
    assert!(ended.err.len() < 1000, "{begin}…: {} bytes are printed", ended.err.len());
    nothing_done(fixture);
}

#[test]
fn fault_62_a_gigabyte_lock_is_refused_unread() {
    let fixture = fixture();
    let path = fixture.beside("models.lock");
    std::fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
    fetch(&fixture, &path).exits(3).err_has(&["larger than"]);
    nothing_done(&fixture);
}

#[test]
fn fault_62_an_endless_lock_on_standard_input_is_cut() {
    let fixture = fixture();
    let mut command = program(&fixture);
    command.args(["fetch", "--lock", "-", "--dest"]).arg(fixture.destination());
    let (run, mut input) = start_with_input(&mut command);
    let line = "#".repeat(1 << 20) + "\n";
    let mut written = 0;
    while input.write_all(line.as_bytes()).is_ok() {
        written += line.len();
        assert!(written < 1 << 30, "it reads without a limit");
    }
    run.end().exits(3).err_has(&["larger than"]);
}

/// A text of this many lines.
fn lines(count: u32, line: impl Fn(u32) -> String) -> String {
    (0..count).fold(String::new(), |mut text, n| {
        text.push_str(&line(n));
        text.push('\n');
        text
    })
}

#[test]
fn fault_62_a_million_entries_are_refused() {
    let fixture = fixture();
    let whole = lines(1_000_000, |n| {
        format!("[[model]]\npath = \"m{n}\"\nurl = \"http://h/\"\nsize = 1\nsha256 = \"{n:064x}\"")
    });
    refused(&fixture, &format!("version = 1\n{whole}"), "larger than");
    refused(&fixture, &format!("version = 1\n{}", "[[model]]\n".repeat(800_000)), "more keys and values");
    // The largest number that a lock may have.
    refused(&fixture, &format!("version = 1\n{}", "[[model]]\n".repeat(200_000)), "missing field");
}

#[test]
fn fault_62_a_million_keys_are_refused() {
    let fixture = fixture();
    for (count, says) in [(1_000_000, "larger than"), (100_000, "unknown field")] {
        let keys = lines(count, |n| format!("k{n}=1"));
        refused(&fixture, &format!("version = 1\n{keys}"), says);
        let dotted = lines(count * 4 / 5, |n| format!("a.b{n}=1"));
        refused(&fixture, &format!("version = 1\n{dotted}"), if count > 100_000 { "" } else { says });
    }
    let tables = lines(100_000, |n| format!("[t{n}]"));
    refused(&fixture, &format!("version = 1\n{tables}"), "unknown field");
}

#[test]
fn fault_62_a_lock_of_punctuation_only_is_refused() {
    let fixture = fixture();
    for text in [",", "\n", "a ", "a,", "\"", "[]", "1,\n", ". "] {
        refused(
            &fixture,
            &format!("version = 1\nx = [{}", text.repeat((7 << 20) / text.len())),
            "more keys and values",
        );
    }
}

#[test]
fn fault_62_deep_nesting_is_refused() {
    let fixture = fixture();
    for depth in [300, 100_000] {
        let deep = |open: &str| open.repeat(depth);
        for text in [
            format!("marker = {}", deep("[")),
            format!("marker = {}", deep("{a=")),
            format!("marker = {}", deep("[{a=")),
            format!("{}a = 1", deep("a.")),
            format!("{}a = 1", deep("\"/\".")),
            format!("[{}a]", deep("a.")),
            format!("[[{}a]]", deep("a.")),
            format!("x = {{ {}a = 1 }}", deep("a.")),
            format!("x = [[[{{ {}a = 1 }}]]]", deep("'/'.")),
            format!("x = {}1{}", format!("{{{}a=", "a.".repeat(60)).repeat(70), "}".repeat(70)),
            deep("["),
            deep("\""),
            format!("x = \"{}", deep("a")),
        ] {
            // The parser refuses the first of many levels. The test is that the program survives them.
            refused(&fixture, &format!("version = 1\n{text}"), "");
        }
    }
}
