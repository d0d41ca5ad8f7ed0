//! Files that are symlinks of the user's own (fault 121).

use std::os::unix::fs::symlink;

use crate::prelude::*;
use crate::resume::SIZE;

/// A fixture whose file `d/x` is a symlink to a file with these bytes, by an absolute or a relative path.
fn linked(bytes: &[u8], relative: bool) -> (Fixture, Content, PathBuf) {
    let (mut fixture, content) = Fixture::of("d/x", Content::generated(1, SIZE));
    fixture.file("y", &Content::generated(2, 1000));
    let target = fixture.beside("store/x");
    std::fs::create_dir_all(fixture.path("d")).unwrap();
    std::fs::create_dir_all(fixture.beside("store")).unwrap();
    std::fs::write(&target, bytes).unwrap();
    let written = if relative { PathBuf::from("../../store/x") } else { target.clone() };
    symlink(written, fixture.path("d/x")).unwrap();
    (fixture, content, target)
}

fn content() -> Vec<u8> {
    Content::generated(1, SIZE).to_vec()
}

#[test]
fn fault_121_a_link_to_the_right_bytes_is_kept() {
    for relative in [false, true] {
        let (fixture, content, target) = linked(&content(), relative);
        run_verb(&fixture, "status", &[]).exits(9).out_has(&["unverified d/x"]);
        let ended = run_verb(&fixture, "verify", &[]);
        assert!(!ended.out.contains("d/x"), "verify follows it: {}", ended.out);
        let before = std::fs::read_link(fixture.path("d/x")).unwrap();
        for command in ["fetch", "ensure"] {
            run_verb(&fixture, command, &[]).exits(0);
            assert_eq!(std::fs::read_link(fixture.path("d/x")).unwrap(), before);
        }
        assert!(run_verb(&fixture, "fetch", &[]).err.contains("nothing to do"), "the marker lists it");
        assert_eq!(fixture.origin.counters().path("/d/x").requests, 0);
        for command in ["verify", "status"] {
            run_verb(&fixture, command, &[]).exits(0);
        }
        // Later it leads to other bytes: what verify advises works.
        std::fs::write(&target, content.flipped(7, 1).to_vec()).unwrap();
        run_verb(&fixture, "verify", &[]).exits(5);
        run_verb(&fixture, "fetch", &[]).exits(0);
        fixture.assert_installed();
        assert!(std::fs::symlink_metadata(fixture.path("d/x")).unwrap().is_file());
        assert!(
            std::fs::read(&target).unwrap() == content.flipped(7, 1).to_vec(),
            "what it led to is the user's"
        );
    }
}

#[test]
fn fault_121_a_link_to_wrong_bytes_is_replaced_by_the_file() {
    let wrong = Content::generated(1, SIZE).flipped(SIZE / 2, 1).to_vec();
    for (bytes, arguments) in [
        (b"short".to_vec(), &[][..]),
        (wrong.clone(), &[]),
        (wrong.clone(), &["--verify", "quick"]),
        (wrong, &["--verify", "full"]),
        (content(), &["--force"]),
    ] {
        for relative in [false, true] {
            let (fixture, _, target) = linked(&bytes, relative);
            run_verb(&fixture, "fetch", arguments).exits(0);
            assert!(std::fs::symlink_metadata(fixture.path("d/x")).unwrap().is_file(), "{arguments:?}");
            fixture.assert_installed();
            assert!(
                std::fs::read(&target).unwrap() == bytes,
                "{arguments:?}: it was written through the link"
            );
        }
    }
}

#[test]
fn fault_121_a_link_to_no_file_is_replaced_by_the_file() {
    for kind in ["nothing", "a directory", "itself", "a device"] {
        let (fixture, ..) = linked(b"", false);
        let (path, directory) = (fixture.path("d/x"), fixture.beside("theirs"));
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("file"), b"theirs").unwrap();
        std::fs::remove_file(&path).unwrap();
        match kind {
            "nothing" => symlink(fixture.beside("nowhere"), &path).unwrap(),
            "a directory" => symlink(&directory, &path).unwrap(),
            "itself" => symlink("x", &path).unwrap(),
            _ => symlink("/dev/zero", &path).unwrap(),
        }
        let status = run_verb(&fixture, "status", &[]);
        assert!(status.out.contains("wrong      d/x"), "{kind}: {}", status.out);
        assert_eq!(run_verb(&fixture, "verify", &[]).code, Some(5), "{kind}");
        run_verb(&fixture, "fetch", &[]).row(kind).exits(0);
        fixture.assert_installed();
        assert_eq!(std::fs::read(directory.join("file")).unwrap(), b"theirs");
        assert!(!fixture.beside("nowhere").exists(), "{kind}: it was written through the link");
    }
}
