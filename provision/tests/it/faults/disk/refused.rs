//! Refusals by a disk or the system: a read-only volume, no permission, no descriptors (fault 72), a broken disk (70),
//! a rename across file systems (83), and volumes that lack what an install needs (84).

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use provision_core::piece_list::{MAX_PIECE, PieceList};
use provision_engine::fetch::Verify;
use provision_testbed::{Content, Shape};

use super::machine::{Volume, after, environment, strace};
use crate::fixture::{Fixture, PATIENCE, list_of};
use crate::program::{Ended, copy_program, fetch, program, run, start};
use crate::resume;
use crate::skip::{needs_root, needs_tool};

const MARKER: &str = ".models-installed";

fn small() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.file("d/x", &Content::generated(1, 3_000_000));
    fixture
}

fn part_of(fixture: &Fixture) -> String {
    format!("d/.x.{}.part", fixture.lock().models()[0].sha256.short())
}

/// Runs under strace, which makes `call` fail with `error`, for `path` only if there is one.
fn failing(fixture: &Fixture, arguments: &[&str], call: &str, error: &str, path: Option<&str>) -> Ended {
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:error={error}:when=1+"));
    let mut options = vec!["-e", &trace, "-e", &inject];
    options.extend(path.into_iter().flat_map(|path| ["-P", path]));
    run(&mut strace(&fetch(fixture, arguments), &fixture.beside("strace.log"), &options))
}

fn assert_refused(fixture: &Fixture, ended: &Ended, says: &[&str]) {
    assert_eq!(ended.code, Some(7), "{}", ended.err);
    for said in says {
        assert!(ended.err.contains(said), "{said}: {}", ended.err);
    }
    fixture.assert_nothing_wrong();
    assert!(!fixture.path(MARKER).exists(), "a marker was written");
}

fn assert_finishes(fixture: &Fixture) {
    fixture.origin.shape(Shape::default());
    let ended = run(&mut fetch(fixture, &[]));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    fixture.assert_installed();
}

#[test]
fn fault_70_bytes_that_failed_to_sync_are_dropped_and_refetched() {
    const SIZE: u64 = 12_000_000;
    if !needs_tool("strace", "-V") {
        return;
    }
    // The sync of a checkpoint on the way, and that of the install: "d/x" is long enough for the first.
    for call in ["fdatasync", "fsync"] {
        let mut fixture = Fixture::new();
        fixture.file("d/x", &Content::generated(1, SIZE));
        fixture.origin.shape(Shape::rate(2_000_000));
        let part = part_of(&fixture);
        let path = fixture.path(&part);
        let ended = failing(&fixture, &["--connections", "2"], call, "EIO", path.to_str());
        assert_refused(&fixture, &ended, &[&part, "syncing it", "Input/output error"]);
        assert_eq!(fixture.listing(), Vec::<String>::new(), "{call}: no byte of it is trusted again");
        // The same bytes are never synced a second time.
        let log = std::fs::read_to_string(fixture.beside("strace.log")).unwrap();
        assert_eq!(log.matches("INJECTED").count(), 1, "{log}");
        let before = fixture.origin.wait_for(PATIENCE, |counters| counters.connections_open == 0).unwrap();
        assert_finishes(&fixture);
        let again = fixture.origin.counters().body_bytes_sent - before.body_bytes_sent;
        assert!(again >= SIZE, "{call}: {again} of {SIZE} bytes were fetched again");
    }
}

#[test]
fn fault_71_writes_interrupted_at_their_start_are_retried() {
    if !needs_tool("strace", "-V") {
        return;
    }
    let fixture = small();
    let calls = "pwrite64,write,pread64,read";
    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:error=EINTR:when=2+3"));
    // Only files below the destination: the runtime's own pipes are not under test.
    let models =
        [fixture.path(&part_of(&fixture)), fixture.path(&part_of(&fixture).replace(".part", ".journal"))];
    let mut options = vec!["-e", &trace, "-e", &inject];
    options.extend(models.iter().flat_map(|path| ["-P", path.to_str().unwrap()]));
    let log = fixture.beside("strace.log");
    let ended = run(&mut strace(&fetch(&fixture, &[]), &log, &options));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    fixture.assert_installed();
    assert!(std::fs::read_to_string(log).unwrap().contains("(INJECTED)"));
}

#[test]
fn fault_72_a_read_only_volume_only_works_with_a_complete_set() {
    let Some(mut volume) = Volume::tmpfs("size=20m") else { return };
    let mut fixture = volume.fixture();
    fixture.file("d/x", &Content::generated(1, 3_000_000));
    let destination = fixture.destination();
    let refused = |fixture: &Fixture| {
        let ended = run(&mut fetch(fixture, &[]));
        assert_refused(fixture, &ended, &[destination.as_str(), "read-only", "mount it writable"]);
    };
    // A bind mount that is read-only, like a container's volume.
    let read_only = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\"";
    let writable = "umount \"$1\"";
    assert!(volume.order(read_only));
    refused(&fixture);
    assert!(volume.order(writable));
    std::fs::create_dir(&destination).unwrap();
    assert!(volume.order(read_only));
    refused(&fixture);
    assert_eq!(fixture.origin.counters().connections_accepted, 0);

    assert!(volume.order(writable));
    assert_finishes(&fixture);
    assert!(volume.order(read_only));
    let ended = run(&mut fetch(&fixture, &[]));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("nothing to do"), "{}", ended.err);
}

/// `command` as the user `nobody`, which may reach the fixture's directory.
fn as_nobody(fixture: &Fixture, command: &Command) -> Command {
    let program = fixture.beside("provision");
    if !program.exists() {
        copy_program(&program);
        let home = program.parent().unwrap();
        std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(program);
    nobody.args(command.get_args()).env_clear().envs(environment(command));
    nobody
}

/// Gives `nobody` these paths of the destination.
fn give_to_nobody(fixture: &Fixture, paths: &[&str]) {
    std::fs::create_dir_all(fixture.destination()).unwrap();
    for path in paths {
        std::os::unix::fs::chown(fixture.path(path), Some(65534), None).unwrap();
    }
}

#[test]
fn fault_72_missing_permission_is_reported_with_a_remedy() {
    if !needs_root() || !needs_tool("setpriv", "--version") {
        return;
    }
    let nobody = Some(65534);
    // The directory that root owns: the one above the destination, the destination, or one within it.
    for foreign in ["", "models", "models/d"] {
        let fixture = small();
        for directory in ["", "models", "models/d"] {
            let path = fixture.beside(directory);
            std::fs::create_dir_all(&path).unwrap();
            let owner = if directory == foreign { Some(0) } else { nobody };
            std::os::unix::fs::chown(&path, owner, owner).unwrap();
            if directory == foreign {
                break;
            }
        }
        let ended = run(&mut as_nobody(&fixture, &fetch(&fixture, &[])));
        let says = [fixture.beside(foreign).to_str().unwrap().to_owned(), "no permission".to_owned()];
        let says: Vec<&str> = says.iter().map(String::as_str).chain(["check the owner and mode"]).collect();
        assert_refused(&fixture, &ended, &says);
        assert!(!fixture.path("d/x").exists());
    }
}

/// Installs the set without its marker, and with a second file that is missing if `is_complete` is false.
fn without_marker(fixture: &mut Fixture, is_complete: bool) {
    assert_finishes(fixture);
    std::fs::remove_file(fixture.path(MARKER)).unwrap();
    if !is_complete {
        fixture.file("e/y", &Content::generated(2, 1000)).file("f/z", &Content::generated(3, 1000));
    }
}

#[test]
fn fault_118_a_complete_set_on_a_read_only_volume_needs_no_marker() {
    for is_complete in [true, false] {
        let Some(mut volume) = Volume::tmpfs("size=20m") else { return };
        let mut fixture = volume.fixture();
        fixture.file("d/x", &Content::generated(1, 3_000_000));
        without_marker(&mut fixture, is_complete);
        assert!(volume.order("mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\""));
        let requests = fixture.origin.counters().requests;
        for command in ["fetch", "ensure"] {
            let mut start = program(&fixture);
            start
                .arg(command)
                .arg("--lock")
                .arg(fixture.write_lock())
                .arg("--dest")
                .arg(fixture.destination());
            let ended = run(&mut start);
            if is_complete {
                assert_eq!(ended.code, Some(0), "{}", ended.err);
                assert!(ended.err.contains("warning: no marker could be written"), "{}", ended.err);
            } else {
                let missing = "2 of 3 files are missing or wrong: e/y, f/z; ";
                assert_refused(&fixture, &ended, &[missing, "read-only", "mount it writable"]);
            }
        }
        assert_eq!(fixture.origin.counters().requests, requests);
    }
}

#[test]
fn fault_118_a_complete_set_of_another_user_needs_no_marker() {
    if !needs_root() || !needs_tool("setpriv", "--version") {
        return;
    }
    for is_complete in [true, false] {
        let mut fixture = small();
        without_marker(&mut fixture, is_complete);
        let ended = run(&mut as_nobody(&fixture, &fetch(&fixture, &[])));
        if is_complete {
            assert_eq!(ended.code, Some(0), "{}", ended.err);
            assert!(ended.err.contains("warning: no marker could be written"), "{}", ended.err);
            assert!(ended.err.contains("done: 1 file"), "{}", ended.err);
        } else {
            assert_refused(
                &fixture,
                &ended,
                &["2 of 3 files are missing or wrong: e/y, f/z; ", "no permission"],
            );
        }
        assert_eq!(fixture.listing(), ["d/x"]);
    }
}

#[test]
fn fault_118_another_users_marker_in_a_sticky_directory_may_stay() {
    if !needs_root() || !needs_tool("setpriv", "--version") {
        return;
    }
    let fixture = small();
    assert_finishes(&fixture);
    std::fs::write(fixture.path(MARKER), b"{}").unwrap();
    std::fs::set_permissions(fixture.path(""), std::fs::Permissions::from_mode(0o1777)).unwrap();
    let ended = run(&mut as_nobody(&fixture, &fetch(&fixture, &[])));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("warning: no marker could be written"), "{}", ended.err);
    assert_eq!(std::fs::read(fixture.path(MARKER)).unwrap(), b"{}");
    assert_eq!(fixture.listing(), [MARKER, "d/x"], "no temporary file is left");
}

#[test]
fn fault_118_a_set_that_is_not_found_at_the_end_is_an_error() {
    if !needs_root() || !needs_tool("setpriv", "--version") {
        return;
    }
    let mut fixture = small();
    without_marker(&mut fixture, true);
    fixture.file("e/y", &Content::generated(2, 3_000_000));
    give_to_nobody(&fixture, &["", "d"]);
    fixture.origin.shape(Shape::rate(1_500_000));
    let before = fixture.origin.counters().body_bytes_sent;
    let running = start(&mut as_nobody(&fixture, &fetch(&fixture, &[])));
    fixture.origin.wait_for(PATIENCE, |now| now.body_bytes_sent > before + 1_000_000).unwrap();
    let close =
        |mode| std::fs::set_permissions(fixture.path("d"), std::fs::Permissions::from_mode(mode)).unwrap();
    close(0);
    let ended = running.end();
    close(0o755);
    assert_refused(&fixture, &ended, &["models/d", "no permission"]);
    assert_finishes(&fixture);
}

#[test]
fn fault_121_a_link_whose_file_cannot_be_read_is_kept() {
    if !needs_tool("strace", "-V") {
        return;
    }
    let content = Content::generated(1, 3_000_000);
    for call in ["read,pread64,readv,preadv", "fsync,fdatasync,syncfs"] {
        let fixture = small();
        let target = fixture.beside("x");
        std::fs::write(&target, content.to_vec()).unwrap();
        std::fs::create_dir_all(fixture.path("d")).unwrap();
        std::os::unix::fs::symlink(&target, fixture.path("d/x")).unwrap();
        let ended = failing(&fixture, &[], call, "EIO", target.to_str());
        assert_refused(&fixture, &ended, &["d/x"]);
        assert_eq!(std::fs::read_link(fixture.path("d/x")).unwrap(), target, "{call}");
        assert_eq!(fixture.origin.counters().requests, 0, "{call}");
        assert_finishes(&fixture);
    }
}

#[test]
fn fault_88_another_users_part_is_removed_only_if_it_is_idle() {
    if !needs_root() || !needs_tool("setpriv", "--version") {
        return;
    }
    for has_journal in [true, false] {
        let (fixture, content) = resume::fixture();
        resume::plant_part(&fixture, &content, resume::SIZE / 2);
        let part = resume::only(&fixture, ".part");
        let journal = resume::only(&fixture, ".journal");
        if has_journal {
            std::fs::set_permissions(&journal, std::fs::Permissions::from_mode(0o644)).unwrap();
        } else {
            std::fs::remove_file(&journal).unwrap();
        }
        give_to_nobody(&fixture, &[""]);
        for (mode, is_held) in [(0o644, true), (0o600, false), (0o644, false)] {
            std::fs::set_permissions(&part, std::fs::Permissions::from_mode(mode)).unwrap();
            let file = std::fs::File::open(&part).unwrap();
            if is_held {
                rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
            }
            let ended = run(&mut as_nobody(&fixture, &fetch(&fixture, &[])));
            if mode == 0o644 && !is_held {
                assert_eq!(ended.code, Some(0), "{}", ended.err);
                fixture.assert_installed();
            } else {
                assert_refused(&fixture, &ended, &["is being written by another process"]);
                assert!(part.exists(), "{mode:o}, {is_held}");
            }
        }
    }
}

#[test]
fn fault_122_no_file_moves_if_one_refuses_its_layers_mode() {
    if !needs_root() || !needs_tool("setpriv", "--version") {
        return;
    }
    let mut fixture = small();
    fixture.file("e/y", &Content::generated(2, 1000));
    assert_finishes(&fixture);
    give_to_nobody(&fixture, &["", "d", "e", "d/x"]);
    std::fs::set_permissions(fixture.path("e/y"), std::fs::Permissions::from_mode(0o664)).unwrap();
    let layers = fixture.beside("layers");
    std::fs::create_dir(&layers).unwrap();
    std::os::unix::fs::chown(&layers, Some(65534), None).unwrap();
    let fetch = fetch(&fixture, &["--layers", layers.to_str().unwrap()]);
    let ended = run(&mut as_nobody(&fixture, &fetch));
    assert_eq!(ended.code, Some(7), "{}", ended.err);
    assert!(ended.err.contains("e/y: no permission while setting its mode"), "{}", ended.err);
    assert_eq!(std::fs::read_dir(&layers).unwrap().count(), 0);
    assert!(fixture.path("d/x").exists(), "it has moved");
}

#[test]
fn fault_72_too_few_descriptors_are_reported() {
    let mut refused = 0;
    for descriptors in 8..40 {
        let fixture = small();
        let few = fetch(&fixture, &["--connections", "4"]);
        let ended = run(&mut after(&format!("ulimit -n {descriptors}"), &few));
        fixture.assert_nothing_wrong();
        if ended.code == Some(0) {
            fixture.assert_installed();
            break;
        }
        refused += 1;
        assert_eq!(ended.code, Some(7), "{descriptors}: {}", ended.err);
        assert!(ended.err.contains("ulimit -n"), "{descriptors}: {}", ended.err);
    }
    assert!(refused > 0);
}

#[test]
fn fault_72_running_out_of_descriptors_midway_is_reported() {
    for descriptors in [18, 40] {
        let mut fixture = Fixture::new();
        for seed in 0..6 {
            fixture.file(&format!("d/x{seed}"), &Content::generated(seed, 3_000_000));
        }
        fixture.origin.shape(Shape::rate(1_500_000));
        let many = fetch(&fixture, &["--connections", "64"]);
        let ended = run(&mut after(&format!("ulimit -n {descriptors}"), &many));
        // The limit may not be reached, since the number of connections depends on timing.
        if ended.code != Some(0) {
            assert_refused(&fixture, &ended, &["ulimit -n"]);
        }
        assert_finishes(&fixture);
    }
}

/// The run fetches a remote lock before it opens any other file, so the connection is the first to lack a descriptor.
#[test]
fn fault_72_a_connection_without_a_descriptor_names_the_limit() {
    let fixture = small();
    fixture.origin.put("/models.lock", Content::bytes(fixture.lock_text()));
    let digest = provision_core::digest::Sha256::of(fixture.lock_text().as_bytes()).to_string();
    let mut named = 0;
    for descriptors in 4..20 {
        let mut remote = program(&fixture);
        remote.args(["fetch", "--dry-run", "--lock-sha256", &digest, "--retries", "1"]);
        remote.arg("--lock").arg(fixture.origin.url("/models.lock")).arg("--dest").arg(fixture.destination());
        let ended = run(&mut after(&format!("ulimit -n {descriptors}"), &remote));
        assert!(!ended.err.contains("no connection could be made"), "{descriptors}: {}", ended.err);
        if ended.err.contains("no file descriptor left for a connection") {
            named += 1;
            assert_eq!(ended.code, Some(7), "{}", ended.err);
            let limit = format!("(the limit is {descriptors}); raise `ulimit -n` or lower --connections");
            assert!(ended.err.contains(&limit), "{}", ended.err);
        }
    }
    assert!(named > 0, "no limit of descriptors hit the connection");
}

#[test]
fn fault_83_a_rename_across_file_systems_is_refused_not_copied() {
    if !needs_tool("strace", "-V") {
        return;
    }
    let fixture = small();
    let ended = failing(&fixture, &[], "renameat,renameat2,rename", "EXDEV", None);
    assert_refused(&fixture, &ended, &["models/d/", "another file system"]);
    assert!(!fixture.path("d/x").exists(), "it was copied");
    assert_finishes(&fixture);
}

#[test]
fn fault_84_no_atomic_rename_or_random_writes_is_refused() {
    if !needs_tool("strace", "-V") {
        return;
    }
    for (call, error) in [
        ("renameat,renameat2", "EINVAL"),
        ("renameat,renameat2", "EOPNOTSUPP"),
        ("pwrite64", "EOPNOTSUPP"),
        ("pwrite64", "ESPIPE"),
    ] {
        let fixture = small();
        let ended = failing(&fixture, &[], call, error, None);
        assert_refused(&fixture, &ended, &[fixture.destination().as_str()]);
        assert!(!fixture.path("d/x").exists(), "{call}, {error}");
        assert_finishes(&fixture);
    }
}

#[test]
fn a_run_that_may_not_write_proves_files_by_the_lists_that_the_destination_keeps() {
    let Some(mut volume) = Volume::tmpfs("size=40m") else { return };
    let mut fixture = volume.fixture();
    let [right, other] = [1, 2].map(|seed| Content::generated(seed, 2 * MAX_PIECE));
    // A list that lies shows what proves the file.
    let digest = right.sha256_hex().parse().unwrap();
    let lie = PieceList::new(right.size(), digest, list_of(&other).pieces().to_vec()).unwrap();
    fixture.file("m", &right).list("m", &lie.write().unwrap());
    fixture.origin.put("/m", other);
    assert!(fixture.fetch().unwrap().is_complete());
    fixture.lists.directories.clear();
    fixture.config.verify = Verify::Full;
    assert!(volume.order("mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\""));
    assert!(fixture.fetch().unwrap().is_complete());
}
