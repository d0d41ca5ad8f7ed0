use super::super::testing::*;
use super::super::text::Paint;
use super::super::{Verbosity, Work, clock};
use super::*;
use provision_core::event::{Outcome, Planned};
use provision_core::terminal_text::is_unsafe;

fn plain(verbosity: Verbosity, colour: bool) -> (Plain, FakeClock, Written) {
    let (clock, out) = (FakeClock::default(), Written::default());
    let lines = Lines::words(verbosity, Paint { colour });
    (Plain::without_ticker(lines, Box::new(out.clone()), clock.clock()), clock, out)
}

fn retry() -> Event {
    Event::Retry {
        file: 0,
        files: 1,
        left: Duration::ZERO,
        source: SOURCE.to_owned(),
        reason: "connection reset by peer".to_owned(),
        failures: 2,
        limit: 5,
        wait: Duration::from_millis(1_300),
    }
}

fn source_ended(next: Option<&str>) -> Event {
    Event::SourceEnded {
        file: 0,
        files: 1,
        for_now: false,
        is_miss: false,
        source: SOURCE.to_owned(),
        reason: "404 Not Found".to_owned(),
        next: next.map(str::to_owned),
    }
}

/// A run with something of everything.
fn run(plain: &Plain, clock: &FakeClock) {
    let connections = |file, count| Event::Connections { file, count };
    observe_all(
        plain,
        &[
            Event::Checking { path: "vae/qwen_image_vae.safetensors".parse().unwrap(), size: 254 * MB },
            qwen(),
            started(0),
            connections(0, 48),
            started(2),
            connections(2, 12),
            started(3),
            connections(3, 4),
            received(3, 254 * MB),
            connections(3, 0),
            finished(3, 254 * MB, 3_100),
            connections(0, 52),
        ],
    );
    clock.forward(9_999);
    plain.log.tick();
    observe_all(plain, &[received(0, 2_346 * MB)]);
    clock.forward(1);
    plain.log.tick();
    observe_all(plain, &[retry(), source_ended(Some("https://mirror.example/m")), started(0)]);
    // Nothing comes for a while.
    clock.forward(10_000);
    plain.log.tick();
    observe_all(
        plain,
        &[
            received(2, 1_416 * MB),
            finished(2, 1_416 * MB, 21_000),
            Event::Dropped {
                file: 0,
                bytes: 12 * MB,
                reason: "the bytes do not have the lock's digest".to_owned(),
            },
            Event::Warning { message: "the disk is slow".to_owned() },
            source_ended(None),
            failed(0, "no source is left; try again later"),
        ],
    );
    plain.finish();
}

#[test]
fn a_run_reads_well_in_a_log() {
    let (plain, clock, out) = plain(Verbosity::Normal, false);
    run(&plain, &clock);
    assert_eq!(
        out.text(),
        "\
4 files, 31.8 GB: 1 present, 1 to resume, 2 to fetch; 22.1 GB to go, 120 GB free
fetching diffusion_models/qwen_image_fp8_e4m3fn.safetensors, 20.4 GB, from https://h.example/m
resuming text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors at 8.00 of 9.42 GB from https://h.example/m
fetching vae/qwen_image_vae.safetensors, 254 MB, from https://h.example/m
fetched vae/qwen_image_vae.safetensors: 254 MB in 3.1 s (81.9 MB/s)
12.3 of 31.8 GB (38 %), 260 MB/s, 1 min 15 s left, 64 connections
retry: diffusion_models/qwen_image_fp8_e4m3fn.safetensors: connection reset by peer; next try in 1.3 s (failure 2 of 5)
source: diffusion_models/qwen_image_fp8_e4m3fn.safetensors: https://h.example/m: 404 Not Found; given up; going on \
with https://mirror.example/m
fetched text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors: 9.42 GB, of which 1.42 GB fetched in 21 s (67.4 MB/s)
fetching diffusion_models/qwen_image_fp8_e4m3fn.safetensors: 12 MB again: the bytes do not have the lock's digest
warning: the disk is slow
source: diffusion_models/qwen_image_fp8_e4m3fn.safetensors: https://h.example/m: 404 Not Found; given up; there is no \
other source
failed diffusion_models/qwen_image_fp8_e4m3fn.safetensors: no source is left; try again later
"
    );
    assert!(out.text().is_ascii());
}

#[test]
fn an_update_says_where_its_pieces_are_and_fetches_the_rest() {
    let (plain, clock, out) = plain(Verbosity::Normal, false);
    let reusing = |files| Event::Reusing { file: 0, from: "/models/vae/x".to_owned(), files };
    observe_all(
        &plain,
        &[
            planned(&[("vae/x", 100 * MB, 0, Planned::Fetch)]),
            reusing(1),
            reusing(3),
            Event::Brought { file: 0, bytes: 90 * MB },
        ],
    );
    clock.forward(10_000);
    plain.log.tick();
    observe_all(&plain, &[started(0), received(0, 10 * MB), finished(0, 10 * MB, 1000)]);
    assert_eq!(
        out.text(),
        "\
1 file, 100 MB: 1 to fetch; 100 MB to go, 120 GB free
taking pieces of vae/x from /models/vae/x
taking pieces of vae/x from /models/vae/x and 2 other files
90 of 100 MB (90 %), 9 MB/s, 2 s left
fetching 10 of 100 MB of vae/x from https://h.example/m
fetched vae/x: 100 MB, of which 10 MB fetched in 1 s (10 MB/s)
"
    );
}

#[test]
fn quiet_is_warnings_and_failures() {
    let (plain, clock, out) = plain(Verbosity::Quiet, false);
    run(&plain, &clock);
    assert_eq!(
        out.text(),
        "\
warning: the disk is slow
failed diffusion_models/qwen_image_fp8_e4m3fn.safetensors: no source is left; try again later
"
    );
}

#[test]
fn verbose_has_connections_checks_and_what_is_present() {
    let (plain, clock, out) = plain(Verbosity::Verbose, false);
    run(&plain, &clock);
    let present = Event::Finished {
        file: 1,
        outcome: Outcome::Present,
        fetched: 0,
        elapsed: Duration::ZERO,
        sources: Vec::new(),
    };
    observe_all(&plain, &[present, Event::MarkerWritten { name: ".models-installed".to_owned() }]);
    let text = out.text();
    for line in [
        "checking vae/qwen_image_vae.safetensors, 254 MB\n",
        "\ndiffusion_models/qwen_image_fp8_e4m3fn.safetensors: 48 connections\n",
        "\npresent loras/Qwen-Image-Lightning-4steps-V1.0.safetensors: 1.7 GB\n",
        "\nmarker .models-installed written\n",
    ] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
}

#[test]
fn escapes_are_written_only_with_colour() {
    for colour in [false, true] {
        let (plain, clock, out) = plain(Verbosity::Verbose, colour);
        run(&plain, &clock);
        assert_eq!(out.text().contains('\u{1b}'), colour);
        assert!(!out.text().contains('\r'));
    }
    let (plain, _, out) = plain(Verbosity::Normal, true);
    observe_all(&plain, &[warning("x")]);
    assert_eq!(out.text(), "\u{1b}[33mwarning:\u{1b}[0m x\n");
}

#[test]
fn five_thousand_files_are_shown_in_sums_unless_verbose() {
    let names: Vec<_> = (0..5000).map(|n| format!("shards/{n:04}")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), MB, 0, Planned::Fetch)).collect();
    let fetch = |plain: &Plain, files: std::ops::Range<usize>| {
        for file in files {
            observe_all(plain, &[started(file), received(file, MB), finished(file, MB, 20)]);
        }
    };
    let (few, clock, out) = plain(Verbosity::Normal, false);
    observe_all(&few, &[planned(&files)]);
    fetch(&few, 0..312);
    observe_all(&few, &[failed(400, "the server says 404")]);
    clock.forward(10_000);
    few.log.tick();
    clock.forward(10_000);
    few.log.tick();
    assert_eq!(
        out.take(),
        "\
5000 files, 5 GB: 5000 to fetch; 5 GB to go, 120 GB free
failed shards/0400: the server says 404
0.31 of 5.00 GB (6 %), 31.2 MB/s, 2 min 31 s left, 312 of 5000 files, 1 failed
"
    );

    let (verbose, _, out) = plain(Verbosity::Verbose, false);
    observe_all(&verbose, &[planned(&files)]);
    fetch(&verbose, 0..2);
    assert_eq!(out.text().lines().count(), 5);
}

#[test]
fn twenty_files_are_few_and_those_that_are_present_do_not_count() {
    for (work, lines) in [(20, 2), (21, 1)] {
        let names: Vec<_> = (0..200).map(|n| format!("{n}")).collect();
        let plan = |n| if n < work { Planned::Fetch } else { Planned::Present };
        let files: Vec<_> =
            names.iter().enumerate().map(|(n, name)| (name.as_str(), 5, 0, plan(n))).collect();
        let (plain, _, out) = plain(Verbosity::Normal, false);
        observe_all(&plain, &[planned(&files), started(0)]);
        assert_eq!(out.text().lines().count(), lines, "{work}");
    }
}

#[test]
fn a_long_check_before_the_plan_is_not_silent() {
    let (plain, clock, out) = plain(Verbosity::Normal, false);
    observe_all(&plain, &[Event::Checking { path: "a".parse().unwrap(), size: 20 * GB }]);
    assert_eq!(out.take(), "");
    clock.forward(10_000);
    plain.log.tick();
    assert_eq!(out.take(), "checking files on disk: 1 file, 20 GB so far, now a\n");
    clock.forward(10_000);
    plain.log.tick();
    assert_eq!(out.take(), "");
}

#[test]
fn plans_are_put_in_words() {
    for (files, text) in [
        (vec![], "0 files; nothing to fetch\n"),
        (vec![("a", GB, GB, Planned::Present)], "1 file, 1 GB: 1 present; nothing to fetch\n"),
        (
            vec![("a", GB, 0, Planned::Fetch), ("b", GB, GB, Planned::Copy)],
            "2 files, 2 GB: 1 to fetch, 1 to copy; 1 GB to go, 120 GB free\n",
        ),
    ] {
        let (plain, _, out) = plain(Verbosity::Normal, false);
        observe_all(&plain, &[planned(&files)]);
        assert_eq!(out.text(), text);
    }
}

#[test]
fn a_valid_marker_is_said_in_one_line() {
    let valid = Event::MarkerValid { name: ".models-installed".to_owned(), files: 4 };
    let (plain, _, out) = plain(Verbosity::Normal, false);
    observe_all(&plain, &[valid]);
    assert_eq!(out.text(), "nothing to do: marker .models-installed is valid for 4 files\n");
}

#[test]
fn names_and_reasons_cannot_reach_the_terminal_or_forge_a_line() {
    let (plain, _, out) = plain(Verbosity::Verbose, false);
    let events = hostile();
    observe_all(&plain, &events);
    let text = out.text();
    assert!(!text.chars().any(|c| is_unsafe(c) && c != '\n'), "{text:?}");
    assert!(!text.lines().any(|line| line.starts_with("warning: forged")), "{text}");
    // All but the one that says nothing.
    assert_eq!(text.lines().count(), events.len() - 1);
}

#[test]
fn a_closed_standard_error_is_no_reason_to_fail() {
    let plain =
        Plain::new(Lines::words(Verbosity::Verbose, Paint { colour: false }), Box::new(Closed), clock());
    observe_all(&plain, &hostile());
    plain.finish();
}

#[test]
fn a_file_that_is_only_read_is_not_called_fetched() {
    let (written, clock) = (Written::default(), FakeClock::default());
    let lines = Lines::words(Verbosity::Normal, Paint { colour: false }).of(Work::Read("/cache".to_owned()));
    let plain = Plain::without_ticker(lines, Box::new(written.clone()), clock.clock());
    let one = |held, plan| planned(&[("vae/x", 2 * GB, held, plan)]);
    observe_all(&plain, &[one(0, Planned::Fetch), started(0), finished(0, 2 * GB, 2000)]);
    assert_eq!(
        written.take(),
        "vae/x: its host publishes no digest, so 2 GB are read once and kept in /cache for the next fetch; 120 GB free\n\
         reading vae/x, 2 GB, from https://h.example/m\n\
         read vae/x: 2 GB in 2 s (1 GB/s)\n"
    );
    observe_all(&plain, &[one(GB, Planned::Resume)]);
    assert!(written.take().contains("so the last 1 GB of 2 GB are read and kept"));
}
