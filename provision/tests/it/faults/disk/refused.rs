//! Refusals by a disk or the system: a read-only volume, no permission, no descriptors (fault 72), a broken disk (70),
//! a rename across file systems (83), and volumes that lack what an install needs (84).

use provision_engine::fetch::Verify;

use super::machine::{Volume, after};
use crate::prelude::*;
use crate::resume;

const MARKER: &str = ".models-installed";

fn small() -> Fixture {
    Fixture::with(&[("d/x", 1, 3_000_000)])
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
    run(&mut fetch(fixture, &[])).exits(0);
    fixture.assert_installed();
}

#[test]
fn fault_70_bytes_that_failed_to_sync_are_dropped_and_refetched() {
    const SIZE: u64 = 12_000_000;
    // The sync of a checkpoint on the way, and that of the install: "d/x" is long enough for the first.
    for call in ["fdatasync", "fsync"] {
        let Some(fixture) = with_strace(Fixture::with(&[("d/x", 1, SIZE)])) else { return };
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
        let again = fixture.sent() - before.body_bytes_sent;
        assert!(again >= SIZE, "{call}: {again} of {SIZE} bytes were fetched again");
    }
}

#[test]
fn fault_71_writes_interrupted_at_their_start_are_retried() {
    let Some(fixture) = with_strace(small()) else { return };
    let calls = "pwrite64,write,pread64,read";
    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:error=EINTR:when=2+3"));
    // Only files below the destination: the runtime's own pipes are not under test.
    let models =
        [fixture.path(&part_of(&fixture)), fixture.path(&part_of(&fixture).replace(".part", ".journal"))];
    let mut options = vec!["-e", &trace, "-e", &inject];
    options.extend(models.iter().flat_map(|path| ["-P", path.to_str().unwrap()]));
    let log = fixture.beside("strace.log");
    run(&mut strace(&fetch(&fixture, &[]), &log, &options)).exits(0);
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
    run(&mut fetch(&fixture, &[])).exits(0).err_has(&["nothing to do"]);
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
    let nobody = Some(65534);
    // The directory that root owns: the one above the destination, the destination, or one within it.
    for foreign in ["", "models", "models/d"] {
        let Some(fixture) = with_nobody(small()) else { return };
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
fn fault_118_a_read_only_complete_set_needs_no_marker() {
    for is_complete in [true, false] {
        let Some(mut volume) = Volume::tmpfs("size=20m") else { return };
        let mut fixture = volume.fixture();
        fixture.file("d/x", &Content::generated(1, 3_000_000));
        without_marker(&mut fixture, is_complete);
        assert!(volume.order("mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\""));
        let requests = fixture.requests();
        for command in ["fetch", "ensure"] {
            let ended = run_verb(&fixture, command, &[]);
            if is_complete {
                ended.exits(0).err_has(&["warning: no marker could be written"]);
            } else {
                let missing = "2 of 3 files are missing or wrong: e/y, f/z; ";
                assert_refused(&fixture, &ended, &[missing, "read-only", "mount it writable"]);
            }
        }
        assert_eq!(fixture.requests(), requests);
    }
}

#[test]
fn fault_118_a_complete_set_of_another_user_needs_no_marker() {
    for is_complete in [true, false] {
        let Some(mut fixture) = with_nobody(small()) else { return };
        without_marker(&mut fixture, is_complete);
        let ended = run(&mut as_nobody(&fixture, &fetch(&fixture, &[])));
        if is_complete {
            assert_eq!(ended.code, Some(0), "{}", ended.err);
            ended.err_has(&["warning: no marker could be written", "done: 1 file"]);
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
fn fault_118_another_users_marker_in_a_sticky_folder_may_stay() {
    let Some(fixture) = with_nobody(small()) else { return };
    assert_finishes(&fixture);
    std::fs::write(fixture.path(MARKER), b"{}").unwrap();
    chmod(fixture.path(""), 0o1777);
    run(&mut as_nobody(&fixture, &fetch(&fixture, &[])))
        .exits(0)
        .err_has(&["warning: no marker could be written"]);
    assert_eq!(std::fs::read(fixture.path(MARKER)).unwrap(), b"{}");
    assert_eq!(fixture.listing(), [MARKER, "d/x"], "no temporary file is left");
}

#[test]
fn fault_118_a_set_that_is_not_found_at_the_end_is_an_error() {
    let Some(mut fixture) = with_nobody(small()) else { return };
    without_marker(&mut fixture, true);
    fixture.file("e/y", &Content::generated(2, 3_000_000));
    give_to_nobody(&fixture, &["", "d"]);
    fixture.origin.shape(Shape::rate(1_500_000));
    let before = fixture.sent();
    let running = start(&mut as_nobody(&fixture, &fetch(&fixture, &[])));
    fixture.wait_for_bytes(before + 1_000_000);
    let close = |mode| chmod(fixture.path("d"), mode);
    close(0);
    let ended = running.end();
    close(0o755);
    assert_refused(&fixture, &ended, &["models/d", "no permission"]);
    assert_finishes(&fixture);
}

#[test]
fn fault_121_a_link_whose_file_cannot_be_read_is_kept() {
    let content = Content::generated(1, 3_000_000);
    for call in ["read,pread64,readv,preadv", "fsync,fdatasync,syncfs"] {
        let Some(fixture) = with_strace(small()) else { return };
        let target = fixture.beside("x");
        std::fs::write(&target, content.to_vec()).unwrap();
        std::fs::create_dir_all(fixture.path("d")).unwrap();
        std::os::unix::fs::symlink(&target, fixture.path("d/x")).unwrap();
        let ended = failing(&fixture, &[], call, "EIO", target.to_str());
        assert_refused(&fixture, &ended, &["d/x"]);
        assert_eq!(std::fs::read_link(fixture.path("d/x")).unwrap(), target, "{call}");
        assert_eq!(fixture.requests(), 0, "{call}");
        assert_finishes(&fixture);
    }
}

#[test]
fn fault_88_another_users_part_is_removed_only_if_it_is_idle() {
    for has_journal in [true, false] {
        let Some((fixture, content)) = with_nobody(resume::fixture()) else { return };
        resume::plant_part(&fixture, &content, resume::SIZE / 2);
        let part = resume::only(&fixture, ".part");
        let journal = resume::only(&fixture, ".journal");
        if has_journal {
            chmod(&journal, 0o644);
        } else {
            std::fs::remove_file(&journal).unwrap();
        }
        give_to_nobody(&fixture, &[""]);
        for (mode, is_held) in [(0o644, true), (0o600, false), (0o644, false)] {
            chmod(&part, mode);
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
    let Some(mut fixture) = with_nobody(small()) else { return };
    fixture.file("e/y", &Content::generated(2, 1000));
    assert_finishes(&fixture);
    give_to_nobody(&fixture, &["", "d", "e", "d/x"]);
    chmod(fixture.path("e/y"), 0o664);
    let layers = fixture.beside("layers");
    std::fs::create_dir(&layers).unwrap();
    std::os::unix::fs::chown(&layers, Some(65534), None).unwrap();
    let fetch = fetch(&fixture, &["--layers", layers.to_str().unwrap()]);
    run(&mut as_nobody(&fixture, &fetch)).exits(7).err_has(&["e/y: no permission while setting its mode"]);
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
    let digest = Sha256::of(fixture.lock_text().as_bytes()).to_string();
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
            ended.err_has(&[&limit]);
        }
    }
    assert!(named > 0, "no limit of descriptors hit the connection");
}

#[test]
fn fault_83_a_rename_across_file_systems_is_refused_not_copied() {
    let Some(fixture) = with_strace(small()) else { return };
    let ended = failing(&fixture, &[], "renameat,renameat2,rename", "EXDEV", None);
    assert_refused(&fixture, &ended, &["models/d/", "another file system"]);
    assert!(!fixture.path("d/x").exists(), "it was copied");
    assert_finishes(&fixture);
}

#[test]
fn fault_84_no_atomic_rename_or_random_writes_is_refused() {
    for (call, error) in [
        ("renameat,renameat2", "EINVAL"),
        ("renameat,renameat2", "EOPNOTSUPP"),
        ("pwrite64", "EOPNOTSUPP"),
        ("pwrite64", "ESPIPE"),
    ] {
        let Some(fixture) = with_strace(small()) else { return };
        let ended = failing(&fixture, &[], call, error, None);
        assert_refused(&fixture, &ended, &[fixture.destination().as_str()]);
        assert!(!fixture.path("d/x").exists(), "{call}, {error}");
        assert_finishes(&fixture);
    }
}

#[test]
fn a_read_only_run_proves_files_by_the_kept_lists() {
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
