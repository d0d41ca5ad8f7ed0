//! Directories that are swapped during a run (fault 74): no write leaves the destination, and no marker covers a file
//! that is not there.
//!
//! The kernel's `openat2` and the walk by components must agree, so the program runs in both modes.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use provision_core::schedule::Limits;
use provision_disk::StoreError;
use provision_engine::fetch::FetchError;
use provision_testbed::{Content, Shape};

use super::durable::Stracing;
use crate::requirement::needs_tool;
use crate::world::{PATIENCE, World};

const MARKER: &str = ".models-installed";

/// A fixture whose file comes slowly, and a directory outside it with the same layout.
fn slow() -> (World, PathBuf) {
    let mut world = World::new();
    world.file("sub/deep/x", &Content::generated(1, 5_000_000));
    world.origin.shape(Shape::rate(1_250_000));
    world.config.transfer.limits = Limits { connections: 1, per_host: 1 };
    let outside = world.beside("outside");
    std::fs::create_dir_all(outside.join("deep")).unwrap();
    (world, outside)
}

/// Moves `sub` away once bytes arrive, and puts a symlink to the outside directory in its place.
fn swap(world: &World, outside: &std::path::Path) {
    world.origin.wait_for(PATIENCE, |counters| counters.body_bytes_sent > 500_000).unwrap();
    std::fs::rename(world.path("sub"), world.beside("kept")).unwrap();
    symlink(outside, world.path("sub")).unwrap();
}

fn assert_untouched(world: &World, outside: &std::path::Path) {
    assert_eq!(std::fs::read_dir(outside.join("deep")).unwrap().count(), 0, "something was written outside");
    assert_eq!(std::fs::read_dir(outside).unwrap().count(), 1, "something was written outside");
    assert!(!world.path(MARKER).exists(), "a marker over a file that is not there");
}

#[test]
fn fault_74_a_directory_swapped_for_a_symlink_cannot_be_escaped() {
    let (world, outside) = slow();
    let error = std::thread::scope(|scope| {
        let run = scope.spawn(|| world.fetch());
        swap(&world, &outside);
        run.join().unwrap().unwrap_err()
    });
    assert!(matches!(error, FetchError::Store(StoreError::Moved { .. })), "{error}");
    assert!(error.to_string().contains("sub/deep/x"), "{error}");
    assert_untouched(&world, &outside);

    // The next run refuses the symlink by its name, before the first byte.
    let requests = world.origin.counters().requests;
    let error = world.fetch_refused().reason();
    assert!(error.contains("models/sub is a symlink, not a directory"), "{error}");
    assert_untouched(&world, &outside);
    assert_eq!(world.origin.counters().requests, requests);

    // With the directory back, the file is there.
    std::fs::remove_file(world.path("sub")).unwrap();
    std::fs::rename(world.beside("kept"), world.path("sub")).unwrap();
    world.origin.shape(Shape::default());
    assert_eq!(world.fetch_all().files[0].fetched, 0);
}

#[test]
fn fault_74_both_resolve_modes_accept_and_refuse_the_same_paths() {
    if !needs_tool("strace", "-V") {
        return;
    }
    let both_ways = |failing: Option<&str>| {
        let (world, outside) = slow();
        let mut run = Stracing::new(&world, "fetch", "openat2");
        run.with(&["--connections", "1"]);
        if let Some(errno) = failing {
            run.inject(&format!("openat2:error={errno}"));
        }
        let child = run.start();
        swap(&world, &outside);
        let (code, said) = child.end();
        assert_eq!(code, Some(7), "{failing:?}: {said}");
        assert!(said.contains("sub/deep/x is not where it was"), "{failing:?}: {said}");
        assert_untouched(&world, &outside);
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
    let (world, _) = slow();
    let error = std::thread::scope(|scope| {
        let run = scope.spawn(|| world.fetch());
        world.origin.wait_for(PATIENCE, |counters| counters.body_bytes_sent > 500_000).unwrap();
        std::fs::rename(world.destination(), world.beside("moved")).unwrap();
        std::fs::create_dir(world.destination()).unwrap();
        run.join().unwrap().unwrap_err()
    });
    assert!(matches!(error, FetchError::Store(StoreError::Moved { .. })), "{error}");
    assert!(error.to_string().contains(world.destination().as_str()), "{error}");
    assert!(!world.path(MARKER).exists() && !world.beside("moved").join(MARKER).exists());
    world.origin.shape(Shape::default());
    world.fetch_all();
}

#[test]
fn fault_74_only_the_destination_itself_may_be_a_symlink() {
    let mut world = World::new();
    world.file("sub/x", &Content::generated(1, 100_000));
    let real = world.beside("real");
    std::fs::create_dir(&real).unwrap();
    symlink(&real, world.destination()).unwrap();
    world.fetch_all();
    assert!(real.join("sub/x").is_file());
    // A symlink inside, to a directory inside: even a valid file is not reached through it.
    std::fs::rename(real.join("sub"), real.join("other")).unwrap();
    symlink("other", real.join("sub")).unwrap();
    let error = world.fetch().unwrap().files.remove(0).result.unwrap_err().reason();
    assert!(error.contains("is a symlink, not a directory"), "{error}");
}
