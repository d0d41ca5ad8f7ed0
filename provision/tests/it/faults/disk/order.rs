//! The order of writes (fault 67), which alone decides what a power cut leaves.
//!
//! The program runs under strace, and the test reads the log. A machine without strace skips it; CI must have it.

use crate::prelude::*;

/// A system call that succeeded, with the lines at which it began and ended: threads overlap.
struct Call {
    began: usize,
    ended: usize,
    text: String,
}

impl Call {
    fn is(&self, name: &str, argument: &str) -> bool {
        self.text.split_once('(').is_some_and(|(call, rest)| call == name && rest.contains(argument))
    }
}

/// Joins the two halves of calls that were logged in parts.
fn parse(log: &str) -> Vec<Call> {
    let mut open: Vec<(&str, usize, String)> = Vec::new();
    let mut calls = Vec::new();
    for (line, text) in log.lines().enumerate() {
        let Some((thread, text)) = text.split_once(' ') else { continue };
        let text = text.trim_start();
        let (began, text) = if let Some(begun) = text.strip_suffix("<unfinished ...>") {
            open.push((thread, line, begun.to_owned()));
            continue;
        } else if text.starts_with("<... ") {
            let Some(at) = open.iter().position(|(other, ..)| *other == thread) else { continue };
            let (_, began, begun) = open.remove(at);
            (began, begun + text)
        } else {
            (line, text.to_owned())
        };
        if !text.contains("= -1 ") {
            calls.push(Call { began, ended: line, text });
        }
    }
    calls
}

#[test]
fn fault_67_bytes_are_durable_before_journal_name_and_marker() {
    let Some(fixture) = with_strace(Fixture::with(&[("d/x.bin", 1, 24_000_000), ("e/y.bin", 2, 3_000_000)]))
    else {
        return;
    };
    // Slow enough for a checkpoint or two on the way.
    fixture.origin.shape(Shape::rate(2_000_000));
    let log = fixture.beside("strace.log");
    let calls = ["-e", "trace=write,pwrite64,fdatasync,fsync,renameat,renameat2"];
    run(&mut strace(&fetch(&fixture, &["--connections", "4"]), &log, &calls)).exits(0);
    fixture.assert_installed();
    let calls = parse(&std::fs::read_to_string(log).unwrap());
    let all =
        |name: &str, argument: &str| calls.iter().filter(|call| call.is(name, argument)).collect::<Vec<_>>();

    // I3: the part is synced between any write of data and the record that lists it.
    let durable: Vec<&Call> =
        all("write", ".x.bin.").into_iter().filter(|call| call.text.contains("\"durable ")).collect();
    assert!(!durable.is_empty(), "there was no checkpoint");
    let mut last = 0;
    for record in durable {
        let synced = all("fdatasync", ".part>")
            .into_iter()
            .filter(|s| s.text.contains(".x.bin."))
            .any(|sync| sync.began >= last && sync.ended < record.began);
        assert!(synced, "a record without a sync before it: {}", record.text);
        last = record.ended;
    }

    // I1: every byte, then fsync of the part, then the rename, then fsync of the directory.
    let mut named = 0;
    for (directory, name) in [("d", "x.bin"), ("e", "y.bin")] {
        let renames = all("renameat", &format!("\"{name}\""));
        let [rename] = renames.as_slice() else { panic!("{} renames to {name}", renames.len()) };
        let is_part =
            |call: &&&Call| call.text.contains(&format!(".{name}.")) && call.text.contains(".part>");
        let writes = all("pwrite64", ".part>");
        let last_write = writes.iter().filter(is_part).map(|call| call.ended).max().unwrap();
        let syncs = all("fsync", ".part>");
        let synced =
            syncs.iter().filter(is_part).any(|sync| sync.began > last_write && sync.ended < rename.began);
        assert!(synced, "{name} got its name before its bytes were durable");
        let directories = all("fsync", &format!("/models/{directory}>"));
        let named_at =
            directories.iter().filter(|sync| sync.began > rename.ended).map(|sync| sync.ended).min();
        named = named.max(named_at.unwrap_or_else(|| panic!("{directory} was not synced after the rename")));
    }

    // I2: the durable marker is renamed into place after all of that, then its directory is synced.
    let markers = all("renameat", "\".models-installed\"");
    let [marker] = markers.as_slice() else { panic!("{} markers", markers.len()) };
    assert!(marker.began > named, "the marker precedes a durable file name");
    let synced = all("fsync", ".models-installed.").iter().any(|sync| sync.ended < marker.began);
    assert!(synced, "the marker's bytes were not durable before its name");
    assert!(all("fsync", "/models>").iter().any(|sync| sync.began > marker.ended), "its name was not synced");
}
