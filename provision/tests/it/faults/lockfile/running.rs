//! Locks that change during a run, and locks with another digest for an installed file (faults 63 and 64).

use crate::prelude::*;

fn fetch(fixture: &Fixture) -> Command {
    let mut command = program(fixture);
    command.args(["fetch", "--connections", "4", "--lock"]).arg(fixture.beside("models.lock"));
    command.arg("--dest").arg(fixture.destination());
    command
}

#[test]
fn fault_63_a_lock_edited_during_a_run_does_not_affect_it() {
    let (first, second) = (Content::generated(1, 4_000_000), Content::generated(2, 3_000_000));
    let mut fixture = Fixture::new();
    fixture.file("x", &first);
    fixture.write_lock();
    let text = fixture.lock_text();
    fixture.origin.shape(Shape::rate(1_000_000));
    let running = start(&mut fetch(&fixture));
    fixture.wait_for_bytes(100_000);

    // Another digest under the same path, another file, and an edit in place rather than a rename.
    let mut edited = Fixture::new();
    edited.file("x", &second).file("y", &second);
    std::fs::write(fixture.beside("models.lock"), edited.lock_text()).unwrap();
    running.end().exits(0);
    fixture.assert_installed();

    // The marker describes the lock as it was read.
    let dry_run = |text: &str| {
        std::fs::write(fixture.beside("models.lock"), text).unwrap();
        run(fetch(&fixture).arg("--dry-run")).out
    };
    assert!(dry_run(&text).contains("present  x"));
    let plan = dry_run(&edited.lock_text());
    assert!(plan.contains("fetch    x") && plan.contains("copy     y"), "{plan}");
    let requests = fixture.requests();
    std::fs::write(fixture.beside("models.lock"), &text).unwrap();
    run(&mut fetch(&fixture)).err_has(&["marker .models-installed is valid"]);
    assert_eq!(fixture.requests(), requests);
}

/// A fixture where `x` is installed and the lock now names another digest for it.
fn changed() -> (Fixture, Content) {
    let (first, second) = (Content::generated(1, 1_000_000), Content::generated(2, 1_500_000));
    let mut fixture = Fixture::new();
    fixture.file("x", &first).file("y", &Content::generated(3, 1000));
    fixture.fetch_all();
    fixture.file("x", &second);
    fixture.write_lock();
    (fixture, first)
}

#[test]
fn fault_64_the_marker_is_removed_before_the_old_file() {
    let (mut fixture, first) = changed();
    fixture.config.transfer.stall = Duration::from_secs(30);
    fixture.origin.inject("/x", Fault::Stall(1000));
    let (stop, stopped) = watch::channel(false);
    let report = std::thread::scope(|scope| {
        let run = scope.spawn(|| fixture.fetch_until(stopped));
        fixture.origin.wait_for(PATIENCE, |counters| counters.path("/x").body_bytes > 1_000_000).unwrap();
        assert!(!fixture.path(".models-installed").exists(), "it lists a file that is about to be replaced");
        assert_eq!(std::fs::read(fixture.path("x")).unwrap(), first.to_vec(), "the old version is untouched");
        stop.send(true).unwrap();
        run.join().unwrap().unwrap()
    });
    assert!(report.interrupted);
    fixture.origin.clear_faults("/x");
    fixture.fetch_all();
}

#[test]
fn fault_64_the_marker_removal_is_durable_before_any_change() {
    let Some((fixture, _)) = with_strace(changed()) else { return };
    let log = fixture.beside("strace.log");
    let calls = ["-e", "trace=unlinkat,unlink,fsync,renameat,renameat2,rename,pwrite64"];
    run(&mut strace(&fetch(&fixture), &log, &calls)).exits(0);
    fixture.assert_installed();
    let log = std::fs::read_to_string(log).unwrap();
    let first = |what: &str, is: &dyn Fn(&str) -> bool| {
        log.lines().position(is).unwrap_or_else(|| panic!("no {what} in\n{log}"))
    };
    let removed =
        first("removal", &|line| line.contains("unlinkat(") && line.contains("\".models-installed\""));
    let synced = log
        .lines()
        .enumerate()
        .skip(removed)
        .find(|(_, line)| line.contains("fsync(") && line.contains("/models>"))
        .unwrap_or_else(|| panic!("no fsync of the directory in\n{log}"))
        .0;
    let written = first("write", &|line| line.contains("pwrite64(") && line.contains(".part>"));
    let renamed = first("rename", &|line| line.contains("renameat") && line.contains("\"x\""));
    assert!(removed < synced && synced < written && synced < renamed, "{log}");
}
