//! Directories of models that are symlinks (fault 120): the user's own are followed, and no others.

use std::os::unix::fs::{lchown, symlink};

use crate::prelude::*;
use crate::program::assert_take_turns;

const SIZE: u64 = 400_000;

/// A fixture with `checkpoints/x`, and `y` in the destination itself.
fn fixture() -> (Fixture, Content) {
    let (mut fixture, content) = Fixture::of("checkpoints/x", Content::generated(1, SIZE));
    fixture.file("y", &Content::generated(2, 1000));
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
        run_verb(&fixture, "fetch", &["--dry-run"]).row(kind).exits(0);
        run_verb(&fixture, "status", &[]).exits(9).out_has(&["missing    checkpoints/x"]);
        run_verb(&fixture, "fetch", &[]).row(kind).exits(0);
        assert_eq!(std::fs::read_link(&at).unwrap(), target);
        assert_eq!(std::fs::read(volume.join("x")).unwrap(), content.to_vec());
        assert_eq!(names(&volume), ["x"], "{kind}");
        for (name, more) in
            [("fetch", &["--offline"][..]), ("ensure", &["--offline"]), ("verify", &[]), ("status", &[])]
        {
            run_verb(&fixture, name, more).row(format!("{kind} {name}")).exits(0);
        }
        // What `verify` finds wrong is mended through the link.
        std::fs::write(volume.join("x"), content.flipped(7, 1).to_vec()).unwrap();
        run_verb(&fixture, "verify", &[]).exits(5);
        run_verb(&fixture, "fetch", &[]).exits(0);
        assert_eq!(std::fs::read(volume.join("x")).unwrap(), content.to_vec());
    }
}

#[test]
fn fault_120_a_link_of_another_user_is_refused_and_named() {
    let Some((fixture, _)) = with_root(fixture()) else { return };
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
            let ended = run_verb(&fixture, name, &[]).row(format!("{of} {name}")).exits(7);
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
        let ended = run_verb(&fixture, name, &[more]).exits(7);
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
    let run = start(&mut verb(&fixture, "fetch", &["--connections", "1"]));
    fixture.wait_for_bytes(100_000);
    std::fs::remove_file(at).unwrap();
    link(&fixture, &other);
    run.end().exits(7).err_has(&["checkpoints/x is not where it was"]);
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
    let mut first = verb(&fixture, "fetch", &["--connections", "1"]);
    let mut other = program(&fixture);
    other.arg("fetch").arg("--lock").arg(fixture.write_lock()).arg("--dest").arg(&second);
    assert_take_turns(&fixture, ("/checkpoints/x", SIZE), &mut first, &mut other);
    assert_eq!(std::fs::read(volume.join("x")).unwrap(), content.to_vec());
    assert_eq!(names(&volume), ["x"]);
}

#[test]
fn fault_120_links_within_the_destination_do_not_deadlock() {
    for target in [".", "real", "real/deeper"] {
        let (mut fixture, _) = fixture();
        fixture.file("more/z", &Content::generated(3, 1000));
        std::fs::create_dir_all(fixture.path("real/deeper")).unwrap();
        link(&fixture, target);
        symlink("real", fixture.path("more")).unwrap();
        run_verb(&fixture, "fetch", &["--wait", "5s"]).row(target).exits(0).err_lacks(&["waiting"]);
        run_verb(&fixture, "verify", &[]).exits(0);
    }
}

#[test]
fn fault_120_a_link_to_nothing_is_named_with_its_target() {
    let (fixture, _) = fixture();
    let gone = fixture.beside("unmounted");
    link(&fixture, &gone);
    run_verb(&fixture, "status", &[]).exits(9);
    let ended = run_verb(&fixture, "fetch", &[]).exits(7);
    let target = gone.to_str().unwrap();
    ended.err_has(&[&format!("is a symlink to {target}, which is not there")]);
    assert!(!gone.exists());
    // Two links in a circle end, too.
    std::fs::remove_file(fixture.path("checkpoints")).unwrap();
    link(&fixture, "checkpoints");
    run_verb(&fixture, "fetch", &[]).exits(7);
}

#[test]
fn fault_120_the_space_is_that_of_the_linked_volume() {
    let Some((mut fixture, _)) = with_mount(fixture()) else { return };
    fixture.file("checkpoints/big", &Content::generated(3, 3_000_000));
    let (small, volume) = (folder(&fixture, "small"), folder(&fixture, "volume"));
    let mount =
        |at: &Path| run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(at));
    let unmount = |at: &Path| drop(run(Command::new("umount").arg(at)));
    // The linked volume is too small: known before the first byte.
    assert_eq!(mount(&small).code, Some(0));
    link(&fixture, &small);
    let full = run_verb(&fixture, "fetch", &[]);
    unmount(&small);
    assert_eq!(full.code, Some(7), "{}", full.err);
    full.err_has(&["models/checkpoints: 3.41 MB are needed"]);
    assert_eq!(fixture.sent(), 0);
    // The destination is too small, and the linked volume has room.
    std::fs::remove_dir_all(fixture.destination()).unwrap();
    std::fs::create_dir(fixture.destination()).unwrap();
    assert_eq!(mount(fixture.destination().as_std_path()).code, Some(0));
    link(&fixture, &volume);
    let fits = run_verb(&fixture, "fetch", &[]);
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
    run_verb(&fixture, "clean", &["--yes"]).exits(0).out_has(&["checkpoints/.x.01234567.part"]);
    assert_eq!(names(&volume), ["mine"]);
}

#[test]
fn fault_120_clean_leaves_installed_files_behind_a_link() {
    let (fixture, _) = fixture();
    let volume = folder(&fixture, "volume");
    link(&fixture, &volume);
    run_verb(&fixture, "fetch", &[]).exits(0);
    let rest = Fixture::with(&[("y", 2, 1000)]);
    let lock = fixture.write_lock();
    std::fs::write(&lock, rest.lock_text()).unwrap();
    let mut clean = program(&fixture);
    clean.args(["clean", "--unlisted", "--yes", "--lock"]).arg(&lock);
    run(clean.arg("--dest").arg(fixture.destination()))
        .exits(0)
        .err_has(&["checkpoints/x was installed earlier"]);
    assert!(volume.join("x").exists());
}

#[test]
fn fault_120_two_models_that_are_one_file_by_a_link_are_refused() {
    let (mut fixture, _) = fixture();
    fixture.file("unet/x", &Content::generated(5, 1000));
    std::fs::create_dir(fixture.path("unet")).unwrap();
    link(&fixture, "unet");
    run_verb(&fixture, "fetch", &[]).exits(7).err_has(&["unet/x", "checkpoints/x are one file"]);
    assert_eq!(fixture.requests(), 0);
}

#[test]
fn fault_120_a_partial_run_keeps_the_entries_behind_links() {
    let (fixture, _) = fixture();
    let volume = folder(&fixture, "volume");
    link(&fixture, &volume);
    run_verb(&fixture, "fetch", &[]).exits(0);
    std::fs::remove_file(fixture.path("y")).unwrap();
    run_verb(&fixture, "fetch", &["y"]).exits(0);
    run_verb(&fixture, "status", &[]).exits(0);
}

#[test]
fn fault_120_an_unwritable_linked_folder_stops_no_other() {
    let Some((fixture, content)) = with_nobody(fixture()) else { return };
    let volume = folder(&fixture, "volume");
    std::fs::write(volume.join("x"), content.to_vec()).unwrap();
    link(&fixture, &volume);
    chmod(fixture.destination(), 0o777);
    let ended = run(&mut as_nobody(&fixture, &fetch(&fixture, &[]))).exits(0);
    assert!(fixture.path("y").exists() && fixture.path(".models-installed").exists(), "{}", ended.err);
}

#[test]
fn fault_120_destinations_linked_both_ways_do_not_deadlock() {
    let (fixture, _) = fixture();
    let second = folder(&fixture, "second");
    std::fs::create_dir_all(fixture.path("checkpoints")).unwrap();
    std::fs::create_dir_all(second.join("more")).unwrap();
    // `models/other -> second` and `second/checkpoints -> models/checkpoints`.
    symlink(&second, fixture.path("other")).unwrap();
    symlink(fixture.path("checkpoints"), second.join("checkpoints")).unwrap();
    for _ in 0..5 {
        let first = start(&mut verb(&fixture, "fetch", &["--wait", "20s", "--force"]));
        let mut other = program(&fixture);
        other.arg("fetch").arg("--lock").arg(fixture.write_lock()).arg("--dest").arg(&second);
        let second = run(other.args(["--wait", "20s", "--force"]));
        let first = first.end();
        assert_eq!((first.code, second.code), (Some(0), Some(0)), "{}{}", first.err, second.err);
    }
}
