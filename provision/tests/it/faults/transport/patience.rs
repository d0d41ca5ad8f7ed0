//! Hosts that do not answer yet, or ask for a wait (faults 96 to 98).

use super::{SIZE, fixture};
use crate::prelude::*;

fn busy(wait: &str) -> Fault {
    Fault::RetryAfter { status: 503, value: wait.to_owned() }
}

/// A fixture whose only file has a mirror without a fault.
fn mirrored(fault: Fault, when: When) -> (Fixture, BlockingOrigin) {
    let mut fixture = fixture(fault, when);
    let mirror = start_origin("127.0.0.1");
    let content = Content::generated(1, SIZE);
    mirror.put("/x", content.clone());
    let sources = [fixture.origin.url("/x"), mirror.url("/x")];
    fixture.model("x", &content, &sources);
    (fixture, mirror)
}

#[test]
fn fault_96_a_host_that_comes_late_is_waited_for() {
    for fault in [Fault::status(500), busy("0"), Fault::HangUp, Fault::NoAnswer] {
        let mut fixture = fixture(fault.clone(), When::First(12));
        fixture.config.transfer.retry.give_up_after = Duration::from_secs(20);
        fixture.http.head_timeout = Duration::from_millis(100);
        let report = fixture.fetch_all();
        assert!(report.files[0].retries > 5, "{fault:?}: {}", report.files[0].retries);
    }
}

#[test]
fn fault_96_the_program_outlasts_more_failures_than_it_retries() {
    let fixture = fixture(Fault::status(503), When::Always);
    let mut command = fetch(&fixture, &["--progress", "plain"]);
    let mut run = start(command.env_remove("PROVISION_GIVE_UP_AFTER"));
    run.wait_for_message("(failure 6, ");
    fixture.origin.clear_faults("/x");
    run.end().exits(0);
}

#[test]
fn fault_96_retries_alone_are_a_count_and_the_time_is_an_option() {
    let fixture = fixture(Fault::status(500), When::Always);
    let took = |arguments: &[&str]| {
        let started = Instant::now();
        let ended = run(fetch(&fixture, arguments).env_remove("PROVISION_GIVE_UP_AFTER")).exits(4);
        (started.elapsed(), ended.err.matches("retry:").count())
    };
    let (time, retries) = took(&["--retries", "2"]);
    assert!(time < Duration::from_secs(10) && retries == 1, "{time:?}, {retries} retries");
    let (time, retries) = took(&["--retries", "1", "--give-up-after", "3s"]);
    assert!((3..15).contains(&time.as_secs()) && retries > 1, "{time:?}, {retries} retries");
}

#[test]
fn fault_96_another_source_is_used_at_once() {
    for fault in [Fault::status(500), Fault::HangUp, busy("1")] {
        for when in [When::Always, When::After(3)] {
            let (mut fixture, mirror) = mirrored(fault.clone(), when.clone());
            fixture.config.transfer.retry.base = Duration::from_secs(20);
            fixture.config.transfer.retry.longest_asked = Duration::from_secs(20);
            let started = Instant::now();
            let report = fixture.fetch_all();
            // One wait at most, after bytes had come.
            let most = if matches!(when, When::Always) { 3 } else { 25 };
            assert!(
                started.elapsed() < Duration::from_secs(most),
                "{fault:?}, {when:?}: {:?}",
                started.elapsed()
            );
            assert!(report.files[0].source.as_deref().unwrap().starts_with(&mirror.url("/x")[..20]));
        }
    }
}

#[test]
fn fault_96_the_first_source_is_asked_again_after_the_mirror() {
    let (mut fixture, mirror) = mirrored(Fault::status(503), When::First(4));
    mirror.inject("/x", Fault::status(503).when(When::Always));
    fixture.config.transfer.retry.give_up_after = Duration::from_secs(20);
    fixture.fetch_all();
}

#[test]
fn fault_97_another_source_makes_a_long_wait_unnecessary() {
    for status in [429, 503] {
        let fault = Fault::RetryAfter { status, value: "100".to_owned() };
        for when in [When::Always, When::After(3)] {
            let (mut fixture, _mirror) = mirrored(fault.clone(), when.clone());
            fixture.config.transfer.retry.longest_asked = Duration::from_mins(5);
            let started = Instant::now();
            fixture.fetch_all();
            assert!(
                started.elapsed() < Duration::from_secs(5),
                "{status}, {when:?}: {:?}",
                started.elapsed()
            );
        }
    }
}

#[test]
fn fault_97_files_that_wait_for_the_same_host_move_too() {
    let mut fixture = Fixture::new();
    let mirror = start_origin("127.0.0.1");
    for n in 0..8 {
        let (path, content) = (format!("/{n}"), Content::generated(n, 300_000));
        fixture.origin.put(&path, content.clone());
        mirror.put(&path, content.clone());
        let sources = [fixture.origin.url(&path), mirror.url(&path)];
        fixture.model(&path[1..], &content, &sources);
        fixture.origin.inject(&path, busy("100"));
    }
    fixture.config.transfer.retry.longest_asked = Duration::from_mins(5);
    within(5, || fixture.fetch_all());
}

/// A fixture with four files of one host.
fn four(fault: &Fault) -> Fixture {
    let mut fixture = Fixture::new();
    for n in 0..4 {
        fixture.file(&format!("{n}"), &Content::generated(n, SIZE));
        fixture.origin.inject(&format!("/{n}"), fault.clone());
    }
    fixture.http.head_timeout = Duration::from_millis(400);
    fixture
}

#[test]
fn fault_98_a_silent_host_costs_four_files_what_it_costs_one() {
    let fixture = four(&Fault::NoAnswer);
    let started = Instant::now();
    let report = fixture.fetch().unwrap();
    assert!(report.files.iter().all(|file| file.result.is_err()), "{report:?}");
    // Five waits for a head, where twenty had taken eight seconds in parallel pairs.
    assert!(started.elapsed() < Duration::from_millis(3500), "{:?}", started.elapsed());
    assert!(fixture.requests() <= 6, "{}", fixture.requests());
    let retries = fixture.events.filter_map(|event| match event {
        Event::Retry { files, .. } => Some(*files),
        _ => None,
    });
    assert!(retries.len() <= 4 && retries.iter().all(|files| *files >= 3), "{retries:?}");
}

#[test]
fn fault_98_a_silent_host_behind_redirects_is_asked_by_one() {
    let fixture = four(&Fault::redirect("/"));
    let store = start_origin("127.0.0.2");
    for n in 0..4 {
        fixture.origin.replace_faults(&format!("/{n}"), Fault::redirect(store.url(&format!("/{n}"))));
        store.inject(&format!("/{n}"), Fault::NoAnswer);
    }
    let started = Instant::now();
    let report = fixture.fetch().unwrap();
    assert!(report.files.iter().all(|file| file.result.is_err()), "{report:?}");
    assert!(started.elapsed() < Duration::from_millis(3500), "{:?}", started.elapsed());
    // Each file has to be asked to know where it leads, and two are asked at a time.
    assert!(store.counters().requests < 18, "{} {}", store.counters().requests, fixture.events.text());
}

#[test]
fn fault_98_a_file_that_is_silent_alone_ends_alone() {
    let fixture = four(&Fault::NoAnswer);
    (1..4).for_each(|n| fixture.origin.clear_faults(&format!("/{n}")));
    let report = fixture.fetch().unwrap();
    let failed: Vec<_> = report.files.iter().filter(|file| file.result.is_err()).collect();
    assert!(failed.len() == 1 && failed[0].path.as_str() == "0", "{failed:?}");
}

#[test]
fn fault_98_a_host_that_refuses_is_said_once() {
    let mut fixture = Fixture::new();
    let address = "http://127.0.0.1:1/a/very/long/path/to/show/that/addresses/are/not/repeated/in/each/line";
    for n in 0..4 {
        fixture.model(&format!("{n}"), &Content::generated(n, SIZE), &[format!("{address}/{n}")]);
    }
    let ended = run(&mut fetch(&fixture, &["--progress", "plain"])).exits(4);
    assert!(ended.err.matches("retry:").count() <= 4, "{}", ended.err);
    // The first line of each file has its address; the failure is said once, and once more at the end.
    assert!(ended.err.matches(address).count() <= 4, "{}", ended.err);
    assert_eq!(ended.err.matches("failed ").count(), 4, "{}", ended.err);
    assert_eq!(ended.err.matches("for the same reason").count(), 3, "{}", ended.err);
    assert_eq!(
        ended.err.lines().rev().take_while(|line| line.contains("refused")).count(),
        1,
        "{}",
        ended.err
    );
}

#[test]
fn fault_98_a_lock_verb_tells_a_dead_host_once() {
    let mut fixture = Fixture::new();
    for n in 0..6 {
        fixture.model(&format!("{n}"), &Content::generated(n, 10), &[format!("http://127.0.0.1:1/{n}")]);
    }
    let mut command = program(&fixture);
    let ended = run(command.args(["lock", "check", "--lock"]).arg(fixture.write_lock())).exits(4);
    let told = ended.err.lines().last().unwrap();
    assert_eq!(told.trim(), "0, 1, 2 and 3 more: 127.0.0.1:1: the connection was refused", "{}", ended.err);
    ended.err_has(&["not confirmed: 6 failures"]);
    assert_eq!(ended.out.matches("unreachable").count(), 6, "{}", ended.out);
}
