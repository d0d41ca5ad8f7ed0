//! Standard output and standard error that are not read, are full, or are closed (fault 107).

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::prelude::*;
use crate::program::{self, start_into};

/// The longest time from a stop to the end.
const SECONDS: Duration = Duration::from_secs(3);

/// A pipe without room: its reader, which reads nothing, and its writer.
fn full_pipe() -> (OwnedFd, Stdio) {
    let (reader, writer) = std::io::pipe().unwrap();
    let (reader, writer): (OwnedFd, OwnedFd) = (reader.into(), writer.into());
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    let mut file = File::from(writer);
    while file.write(&[b'.'; 4096]).is_ok() {}
    while file.write(b".").is_ok() {}
    fcntl_setfl(&file, flags).unwrap();
    (reader, file.into())
}

fn set(size: u64) -> Fixture {
    let mut fixture = Fixture::in_memory();
    fixture.file("a", &Content::generated(1, size)).file("b", &Content::generated(2, size / 2));
    fixture
}

#[test]
fn fault_107_a_transfer_goes_on_though_its_output_is_not_read() {
    for mode in ["plain", "json"] {
        let fixture = set(8_000_000);
        let ((_out, out), (_err, err)) = (full_pipe(), full_pipe());
        let child = start_into(&mut fetch(&fixture, &["-v", "--progress", mode]), out, err);
        let marker = fixture.path(".models-installed");
        wait_until(PATIENCE, "the marker", || marker.exists());
        let stopped = Instant::now();
        signal(&child, Signal::TERM);
        let code = child.end().code;
        assert!(stopped.elapsed() < SECONDS, "{mode}: {:?}", stopped.elapsed());
        assert!(matches!(code, Some(0 | 143)), "{mode}: {code:?}");
        fixture.assert_installed();
    }
}

#[test]
fn fault_107_a_stop_is_obeyed_though_the_output_is_not_read() {
    for mode in ["plain", "json"] {
        for (wish, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
            let fixture = set(64_000_000);
            fixture.origin.shape(Shape::rate(1_000_000));
            let ((_out, out), (_err, err)) = (full_pipe(), full_pipe());
            let child = start_into(&mut fetch(&fixture, &["-v", "--progress", mode]), out, err);
            fixture.wait_for_bytes(1_000_000);
            let stopped = Instant::now();
            signal(&child, wish);
            assert_eq!(child.end().code, Some(code), "{mode}");
            assert!(stopped.elapsed() < SECONDS, "{mode}: {:?}", stopped.elapsed());
            assert!(fixture.held() > 0, "{mode}: the received bytes are kept");
        }
    }
}

#[test]
fn fault_107_a_stopped_terminal_stops_no_transfer_or_signal() {
    for is_over in [true, false] {
        let fixture = set(24_000_000);
        fixture.origin.shape(Shape::rate(if is_over { 4_000_000 } else { 500_000 }));
        let (mut terminal, end) = program::terminal();
        let mut command = fetch(&fixture, &["--connections", "2", "--progress", "bars"]);
        let child = start_into(command.env("TERM", "xterm"), Stdio::null(), end.into());
        fixture.wait_for_bytes(500_000);
        // Ctrl-S.
        terminal.write_all(b"\x13").unwrap();
        if is_over {
            wait_until(PATIENCE, "the marker", || fixture.path(".models-installed").exists());
        } else {
            fixture.wait_for_bytes(1_500_000);
        }
        let stopped = Instant::now();
        signal(&child, Signal::TERM);
        let code = child.end().code;
        assert!(stopped.elapsed() < SECONDS, "{:?}", stopped.elapsed());
        assert!(code == Some(143) || is_over && code == Some(0), "{code:?}");
        assert_eq!(fixture.path(".models-installed").exists(), is_over);
    }
}

#[test]
fn fault_107_a_slow_reader_gets_every_result() {
    let mut fixture = Fixture::in_memory();
    for n in 0..400 {
        fixture.file(&format!("{n}-{}", "x".repeat(200)), &Content::generated(n, 100));
    }
    let (reader, writer) = std::io::pipe().unwrap();
    let (errors, to_errors) = std::io::pipe().unwrap();
    let child = start_into(
        &mut fetch(&fixture, &["-v", "--progress", "json"]),
        OwnedFd::from(writer).into(),
        OwnedFd::from(to_errors).into(),
    );
    wait_until(PATIENCE, "the marker", || fixture.path(".models-installed").exists());
    // More than the pipes hold is still to be written.
    let read = |mut from: std::io::PipeReader| {
        let mut text = String::new();
        from.read_to_string(&mut text).unwrap();
        text
    };
    let lines = std::thread::spawn(move || read(errors));
    let events = read(reader);
    let lines = lines.join().unwrap();
    assert_eq!(child.end().code, Some(0), "{lines}");
    assert_eq!(events.matches(r#""event":"finished""#).count(), 400);
    assert!(events.ends_with('\n') && events.contains(r#""event":"marker-written""#));
    assert!(lines.lines().last().unwrap().starts_with("done: 400 files"), "{lines}");
    for line in events.lines() {
        let _: serde_json::Value = serde_json::from_str(line).expect(line);
    }
}

#[test]
fn fault_107_a_full_or_closed_output_changes_no_exit_code() {
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let closed = || Stdio::from(OwnedFd::from(std::io::pipe().unwrap().1));
    for stream in [&full as &dyn Fn() -> Stdio, &closed] {
        for mode in ["plain", "json"] {
            let fixture = set(1_000_000);
            let mut command = fetch(&fixture, &["--progress", mode]);
            assert_eq!(start_into(&mut command, stream(), stream()).end().code, Some(0), "{mode}");
            fixture.assert_installed();
            for arguments in [&["status"][..], &["verify"], &["lock", "list"], &["lock", "check"]] {
                let mut command = program(&fixture);
                command.args(arguments).arg("--lock").arg(fixture.write_lock());
                command.env("PROVISION_DEST", fixture.destination());
                let code = start_into(&mut command, stream(), stream()).end().code;
                assert_eq!(code, Some(0), "{arguments:?}");
            }
        }
    }
}
