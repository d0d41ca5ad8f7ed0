//! Directories of models that are symlinks (fault 120): the user's own are followed, and no others.

use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use provision_testbed::{Content, Shape};

use crate::fixture::{Fixture, PATIENCE};
use crate::program::{Ended, assert_take_turns, copy_program, program, run, start};
use crate::skip::{needs_root, needs_tool};

const SIZE: u64 = 400_000;

/// A fixture with `checkpoints/x`, and `y` in the destination itself.
fn fixture() -> (Fixture, Content) {
    let (mut fixture, content) = (Fixture::new(), Content::generated(1, SIZE));
    fixture.file("checkpoints/x", &content).file("y", &Content::generated(2, 1000));
    std::fs::create_dir(fixture.destination()).unwrap();
    (fixture, content)
}

/// A folder beside the destination.
fn folder(fixture: &Fixture, name: &str) -> PathBuf {
    let path = fixture.beside(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn link(fixture: &Fixture, target: impl AsRef<Path>) -> PathBuf {
    let path = fixture.path("checkpoints");
    symlink(target, &path).unwrap();
    path
}

fn verb(fixture: &Fixture, name: &str, more: &[&str]) -> Ended {
    run(&mut command(fixture, name, more))
}

fn command(fixture: &Fixture, name: &str, more: &[&str]) -> Command {
    let mut command = program(fixture);
    command.arg(name).arg("--lock").arg(fixture.write_lock()).arg("--dest").arg(fixture.destination());
    command.args(more);
    command
}

fn names(directory: &Path) -> Vec<String> {
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}

#[test]
fn fault_120_a_linked_model_directory_is_followed() {
    for kind in ["absolute", "relative", "chain"] {
        let (fixture, content) = fixture();
        let volume = folder(&fixture, "volume/checkpoints");
        let target = match kind {
            "absolute" => volume.clone(),
            "relative" => "../volume/checkpoints".into(),
            _ => {
                symlink("checkpoints", fixture.beside("volume/other")).unwrap();
                fixture.beside("volume/other")
            }
        };
        let at = link(&fixture, &target);
        let dry = verb(&fixture, "fetch", &["--dry-run"]);
        assert_eq!(dry.code, Some(0), "{kind}: {}", dry.err);
        let status = verb(&fixture, "status", &[]);
        assert!(status.code == Some(9) && status.out.contains("missing    checkpoints/x"), "{}", status.out);
        let ended = verb(&fixture, "fetch", &[]);
        assert_eq!(ended.code, Some(0), "{kind}: {}", ended.err);
        assert_eq!(std::fs::read_link(&at).unwrap(), target);
        assert_eq!(std::fs::read(volume.join("x")).unwrap(), content.to_vec());
        assert_eq!(names(&volume), ["x"], "{kind}");
        for (name, more) in
            [("fetch", &["--offline"][..]), ("ensure", &["--offline"]), ("verify", &[]), ("status", &[])]
        {
            let ended = verb(&fixture, name, more);
            assert_eq!(ended.code, Some(0), "{kind} {name}: {}{}", ended.out, ended.err);
        }
        // What `verify` finds wrong is mended through the link.
        std::fs::write(volume.join("x"), content.flipped(7, 1).to_vec()).unwrap();
        assert_eq!(verb(&fixture, "verify", &[]).code, Some(5));
        assert_eq!(verb(&fixture, "fetch", &[]).code, Some(0));
        assert_eq!(std::fs::read(volume.join("x")).unwrap(), content.to_vec());
    }
}

#[test]
fn fault_120_a_link_of_another_user_is_refused_and_named() {
    if !needs_root() {
        return;
    }
    let (fixture, _) = fixture();
    let volume = folder(&fixture, "volume");
    // A link of root's leads to a link of the other user.
    symlink(&volume, fixture.beside("theirs")).unwrap();
    lchown(fixture.beside("theirs"), Some(1234), None).unwrap();
    for of in ["their own", "through root's"] {
        let at = link(&fixture, if of == "their own" { volume.clone() } else { fixture.beside("theirs") });
        if of == "their own" {
            lchown(&at, Some(1234), None).unwrap();
        }
        for name in ["fetch", "ensure", "verify"] {
            let ended = verb(&fixture, name, &[]);
            assert_eq!(ended.code, Some(7), "{of} {name}: {}{}", ended.out, ended.err);
            let said = ended.out + &ended.err;
            assert!(said.contains("checkpoints is a symlink of user 1234"), "{of} {name}: {said}");
            assert!(said.contains("chown -h 0"), "{of} {name}: {said}");
        }
        assert!(names(&volume).is_empty());
        assert_eq!(fixture.origin.counters().path("/checkpoints/x").requests, 0);
        std::fs::remove_file(at).unwrap();
    }
}

#[test]
fn fault_120_no_follow_refuses_every_linked_directory() {
    let (fixture, _) = fixture();
    let volume = folder(&fixture, "volume");
    link(&fixture, &volume);
    for (name, more) in [("fetch", "--no-follow"), ("fetch", "--layers=layers"), ("verify", "--no-follow")] {
        let ended = verb(&fixture, name, &[more]);
        assert_eq!(ended.code, Some(7), "{name} {more}: {}{}", ended.out, ended.err);
        assert!(
            (ended.out + &ended.err).contains("checkpoints is a symlink, not a directory"),
            "{name} {more}"
        );
    }
    assert!(names(&volume).is_empty());
}

#[test]
fn fault_120_a_link_that_changes_during_the_run_leads_nowhere() {
    let (fixture, _) = fixture();
    fixture.origin.shape(Shape::rate(200_000));
    let (volume, other) = (folder(&fixture, "volume"), folder(&fixture, "other"));
    let at = link(&fixture, &volume);
    let run = start(&mut command(&fixture, "fetch", &["--connections", "1"]));
    fixture.origin.wait_for(PATIENCE, |counters| counters.body_bytes_sent > 100_000).unwrap();
    std::fs::remove_file(at).unwrap();
    link(&fixture, &other);
    let ended = run.end();
    assert_eq!(ended.code, Some(7), "{}", ended.err);
    assert!(ended.err.contains("checkpoints/x is not where it was"), "{}", ended.err);
    assert!(names(&other).is_empty() && !fixture.path(".models-installed").exists());
}

#[test]
fn fault_120_destinations_that_share_a_folder_take_turns() {
    let (fixture, content) = fixture();
    fixture.origin.shape(Shape::rate(400_000));
    let volume = folder(&fixture, "volume");
    link(&fixture, &volume);
    let second = folder(&fixture, "second");
    symlink(&volume, second.join("checkpoints")).unwrap();
    let mut first = command(&fixture, "fetch", &["--connections", "1"]);
    let mut other = program(&fixture);
    other.arg("fetch").arg("--lock").arg(fixture.write_lock()).arg("--dest").arg(&second);
    assert_take_turns(&fixture, ("/checkpoints/x", SIZE), &mut first, &mut other);
    assert_eq!(std::fs::read(volume.join("x")).unwrap(), content.to_vec());
    assert_eq!(names(&volume), ["x"]);
}

#[test]
fn fault_120_links_within_the_destination_do_not_wait_for_each_other() {
    for target in [".", "real", "real/deeper"] {
        let (mut fixture, _) = fixture();
        fixture.file("more/z", &Content::generated(3, 1000));
        std::fs::create_dir_all(fixture.path("real/deeper")).unwrap();
        link(&fixture, target);
        symlink("real", fixture.path("more")).unwrap();
        let ended = verb(&fixture, "fetch", &["--wait", "5s"]);
        assert_eq!(ended.code, Some(0), "{target}: {}", ended.err);
        assert!(!ended.err.contains("waiting"), "{target}: {}", ended.err);
        assert_eq!(verb(&fixture, "verify", &[]).code, Some(0));
    }
}

#[test]
fn fault_120_a_link_to_nothing_is_named_with_its_target() {
    let (fixture, _) = fixture();
    let gone = fixture.beside("unmounted");
    link(&fixture, &gone);
    assert_eq!(verb(&fixture, "status", &[]).code, Some(9));
    let ended = verb(&fixture, "fetch", &[]);
    assert_eq!(ended.code, Some(7), "{}", ended.err);
    let target = gone.to_str().unwrap();
    assert!(ended.err.contains(&format!("is a symlink to {target}, which is not there")), "{}", ended.err);
    assert!(!gone.exists());
    // Two links in a circle end, too.
    std::fs::remove_file(fixture.path("checkpoints")).unwrap();
    link(&fixture, "checkpoints");
    assert_eq!(verb(&fixture, "fetch", &[]).code, Some(7));
}

#[test]
fn fault_120_the_space_is_that_of_the_linked_volume() {
    if !needs_root() || !needs_tool("mount", "--version") {
        return;
    }
    let (mut fixture, _) = fixture();
    fixture.file("checkpoints/big", &Content::generated(3, 3_000_000));
    let (small, volume) = (folder(&fixture, "small"), folder(&fixture, "volume"));
    let mount =
        |at: &Path| run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(at));
    let unmount = |at: &Path| drop(run(Command::new("umount").arg(at)));
    // The linked volume is too small: known before the first byte.
    assert_eq!(mount(&small).code, Some(0));
    link(&fixture, &small);
    let full = verb(&fixture, "fetch", &[]);
    unmount(&small);
    assert_eq!(full.code, Some(7), "{}", full.err);
    assert!(full.err.contains("models/checkpoints: 3.41 MB are needed"), "{}", full.err);
    assert_eq!(fixture.origin.counters().body_bytes_sent, 0);
    // The destination is too small, and the linked volume has room.
    std::fs::remove_dir_all(fixture.destination()).unwrap();
    std::fs::create_dir(fixture.destination()).unwrap();
    assert_eq!(mount(fixture.destination().as_std_path()).code, Some(0));
    link(&fixture, &volume);
    let fits = verb(&fixture, "fetch", &[]);
    let installed = names(&volume).len();
    unmount(fixture.destination().as_std_path());
    assert_eq!((fits.code, installed), (Some(0), 2), "{}", fits.err);
}

#[test]
fn fault_120_clean_finds_parts_behind_a_link() {
    let (fixture, _) = fixture();
    let volume = folder(&fixture, "volume");
    link(&fixture, &volume);
    std::fs::write(volume.join(".x.01234567.part"), "of an earlier run").unwrap();
    std::fs::write(volume.join("mine"), "the user's").unwrap();
    let ended = verb(&fixture, "clean", &["--yes"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.out.contains("checkpoints/.x.01234567.part"), "{}", ended.out);
    assert_eq!(names(&volume), ["mine"]);
}

#[test]
fn fault_120_clean_leaves_installed_files_behind_a_link() {
    let (fixture, _) = fixture();
    let volume = folder(&fixture, "volume");
    link(&fixture, &volume);
    assert_eq!(verb(&fixture, "fetch", &[]).code, Some(0));
    let mut rest = Fixture::new();
    rest.file("y", &Content::generated(2, 1000));
    let lock = fixture.write_lock();
    std::fs::write(&lock, rest.lock_text()).unwrap();
    let mut clean = program(&fixture);
    clean.args(["clean", "--unlisted", "--yes", "--lock"]).arg(&lock);
    let ended = run(clean.arg("--dest").arg(fixture.destination()));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("checkpoints/x was installed earlier"), "{}{}", ended.out, ended.err);
    assert!(volume.join("x").exists());
}

#[test]
fn fault_120_two_models_that_are_one_file_by_a_link_are_refused() {
    let (mut fixture, _) = fixture();
    fixture.file("unet/x", &Content::generated(5, 1000));
    std::fs::create_dir(fixture.path("unet")).unwrap();
    link(&fixture, "unet");
    let ended = verb(&fixture, "fetch", &[]);
    assert_eq!(ended.code, Some(7), "{}", ended.err);
    assert!(
        ended.err.contains("unet/x") && ended.err.contains("checkpoints/x are one file"),
        "{}",
        ended.err
    );
    assert_eq!(fixture.origin.counters().requests, 0);
}

#[test]
fn fault_120_a_run_of_some_models_keeps_the_entries_behind_links() {
    let (fixture, _) = fixture();
    let volume = folder(&fixture, "volume");
    link(&fixture, &volume);
    assert_eq!(verb(&fixture, "fetch", &[]).code, Some(0));
    std::fs::remove_file(fixture.path("y")).unwrap();
    assert_eq!(verb(&fixture, "fetch", &["y"]).code, Some(0));
    let status = verb(&fixture, "status", &[]);
    assert_eq!(status.code, Some(0), "{}", status.out);
}

#[test]
fn fault_120_a_linked_folder_that_cannot_be_written_does_not_stop_the_others() {
    if !needs_root() || !needs_tool("setpriv", "--version") {
        return;
    }
    let (fixture, content) = fixture();
    let volume = folder(&fixture, "volume");
    std::fs::write(volume.join("x"), content.to_vec()).unwrap();
    link(&fixture, &volume);
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(fixture.destination(), open).unwrap();
    let binary = fixture.beside("provision");
    copy_program(&binary);
    std::fs::set_permissions(binary.parent().unwrap(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(binary);
    nobody.arg("fetch").arg("--lock").arg(fixture.write_lock()).arg("--dest").arg(fixture.destination());
    let ended = run(&mut nobody);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(fixture.path("y").exists() && fixture.path(".models-installed").exists(), "{}", ended.err);
}

#[test]
fn fault_120_destinations_that_link_into_each_other_do_not_wait_for_ever() {
    let (fixture, _) = fixture();
    let second = folder(&fixture, "second");
    std::fs::create_dir_all(fixture.path("checkpoints")).unwrap();
    std::fs::create_dir_all(second.join("more")).unwrap();
    // `models/other -> second` and `second/checkpoints -> models/checkpoints`.
    symlink(&second, fixture.path("other")).unwrap();
    symlink(fixture.path("checkpoints"), second.join("checkpoints")).unwrap();
    for _ in 0..5 {
        let first = start(&mut command(&fixture, "fetch", &["--wait", "20s", "--force"]));
        let mut other = program(&fixture);
        other.arg("fetch").arg("--lock").arg(fixture.write_lock()).arg("--dest").arg(&second);
        let second = run(other.args(["--wait", "20s", "--force"]));
        let first = first.end();
        assert_eq!((first.code, second.code), (Some(0), Some(0)), "{}{}", first.err, second.err);
    }
}
