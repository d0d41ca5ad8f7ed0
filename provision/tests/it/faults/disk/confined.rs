//! Directories that are swapped during a run (fault 74): no write leaves the destination, and no marker covers a file
//! that is not there.
//!
//! The kernel's `openat2` and the walk by components must agree, so the program runs in both modes.

use std::os::unix::fs::symlink;

use provision_disk::{DiskError, FollowLinks};
use provision_engine::fetch::FetchError;

use super::durability::Stracing;
use crate::prelude::*;

const MARKER: &str = ".models-installed";

/// A fixture whose file comes slowly, and a directory outside it with the same layout.
fn slow() -> (Fixture, PathBuf) {
    let mut fixture = Fixture::with(&[("sub/deep/x", 1, 5_000_000)]);
    fixture.origin.shape(Shape::rate(1_250_000));
    fixture.config.transfer.limits = Limits { connections: 1, per_host: 1 };
    let outside = fixture.beside("outside");
    std::fs::create_dir_all(outside.join("deep")).unwrap();
    (fixture, outside)
}

/// Moves `sub` away once bytes arrive, and puts a symlink to the outside directory in its place.
fn swap(fixture: &Fixture, outside: &Path) {
    fixture.wait_for_bytes(500_000);
    std::fs::rename(fixture.path("sub"), fixture.beside("kept")).unwrap();
    symlink(outside, fixture.path("sub")).unwrap();
}

fn assert_untouched(fixture: &Fixture, outside: &Path) {
    assert_eq!(std::fs::read_dir(outside.join("deep")).unwrap().count(), 0, "something was written outside");
    assert_eq!(std::fs::read_dir(outside).unwrap().count(), 1, "something was written outside");
    assert!(!fixture.path(MARKER).exists(), "the marker lists a missing file");
}

#[test]
fn fault_74_a_directory_swapped_for_a_symlink_cannot_be_escaped() {
    let (mut fixture, outside) = slow();
    let error = std::thread::scope(|scope| {
        let run = scope.spawn(|| fixture.fetch());
        swap(&fixture, &outside);
        run.join().unwrap().unwrap_err()
    });
    assert!(matches!(error, FetchError::Disk(DiskError::Moved { .. })), "{error}");
    assert!(error.to_string().contains("sub/deep/x"), "{error}");
    assert_untouched(&fixture, &outside);

    // The next run refuses the symlink by its name, before the first byte, if it follows none.
    fixture.config.links = FollowLinks::Never;
    let requests = fixture.requests();
    let error = fixture.fetch_refused().reason();
    assert!(error.contains("models/sub is a symlink, not a directory"), "{error}");
    assert_untouched(&fixture, &outside);
    assert_eq!(fixture.requests(), requests);

    // With the directory back, the file is there.
    std::fs::remove_file(fixture.path("sub")).unwrap();
    std::fs::rename(fixture.beside("kept"), fixture.path("sub")).unwrap();
    fixture.origin.shape(Shape::default());
    assert_eq!(fixture.fetch_all().files[0].fetched, 0);
}

#[test]
fn fault_74_both_resolve_modes_accept_and_refuse_the_same_paths() {
    let both_ways = |failing: Option<&str>| {
        let Some((fixture, outside)) = with_strace(slow()) else { return };
        let mut run = Stracing::new(&fixture, "fetch", "openat2");
        run.with(&["--connections", "1"]);
        if let Some(errno) = failing {
            run.inject(&format!("openat2:error={errno}"));
        }
        let child = run.start();
        swap(&fixture, &outside);
        child.end().row(format!("{failing:?}")).exits(7).err_has(&["sub/deep/x is not where it was"]);
        assert_untouched(&fixture, &outside);
        let asked = run.log().matches("openat2(").count();
        assert!(asked > 0 && (failing.is_none() || asked == 1), "{failing:?}: asked {asked} times");
        assert!(failing.is_some() || run.log().contains("RESOLVE_BENEATH"), "{}", run.log());
    };
    std::thread::scope(|scope| {
        scope.spawn(|| both_ways(None));
        both_ways(Some("ENOSYS"));
    });
}

#[test]
fn fault_74_a_replaced_destination_gets_no_marker() {
    let (fixture, _) = slow();
    let error = std::thread::scope(|scope| {
        let run = scope.spawn(|| fixture.fetch());
        fixture.wait_for_bytes(500_000);
        std::fs::rename(fixture.destination(), fixture.beside("moved")).unwrap();
        std::fs::create_dir(fixture.destination()).unwrap();
        run.join().unwrap().unwrap_err()
    });
    assert!(matches!(error, FetchError::Disk(DiskError::Moved { .. })), "{error}");
    assert!(error.to_string().contains(fixture.destination().as_str()), "{error}");
    assert!(!fixture.path(MARKER).exists() && !fixture.beside("moved").join(MARKER).exists());
    fixture.origin.shape(Shape::default());
    fixture.fetch_all();
}

#[test]
fn fault_74_no_follow_allows_a_symlink_as_destination_only() {
    let mut fixture = Fixture::with(&[("sub/x", 1, 100_000)]);
    let real = fixture.beside("real");
    std::fs::create_dir(&real).unwrap();
    symlink(&real, fixture.destination()).unwrap();
    fixture.fetch_all();
    assert!(real.join("sub/x").is_file());
    // A symlink inside, to a directory inside: even a valid file is not reached through it.
    std::fs::rename(real.join("sub"), real.join("other")).unwrap();
    symlink("other", real.join("sub")).unwrap();
    fixture.config.links = FollowLinks::Never;
    let error = fixture.fetch().unwrap().files.remove(0).result.unwrap_err().reason();
    assert!(error.contains("is a symlink, not a directory"), "{error}");
}
