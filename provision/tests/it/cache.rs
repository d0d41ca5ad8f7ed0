//! The cache: each file is downloaded once.

use std::os::unix::fs::MetadataExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use provision_engine::cache::{Bounds, Cache};

use crate::prelude::*;

fn content(n: u64) -> Content {
    Content::generated(n, 3_000_000 + n)
}

/// A fixture with two files and a cache on the destination's file system.
fn fixture() -> Fixture {
    with_cache_at(|fixture| fixture.beside("cache").to_str().unwrap().into())
}

/// A fixture whose cache is on another file system, where hard links are impossible.
fn distant_fixture() -> (Fixture, tempfile::TempDir) {
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let path: Utf8PathBuf = memory.path().join("cache").to_str().unwrap().into();
    let mut fixture = with_cache_at(|_| path.clone());
    fixture.watch_also(memory.path());
    (fixture, memory)
}

/// Both of them.
fn both_places() -> [(Fixture, Option<tempfile::TempDir>); 2] {
    let (distant, memory) = distant_fixture();
    [(fixture(), None), (distant, Some(memory))]
}

fn with_cache_at(path: impl Fn(&Fixture) -> Utf8PathBuf) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.file("loras/a", &content(1)).file("vae/b", &content(2));
    fixture.local.cache = Some(path(&fixture));
    fixture
}

fn cache(fixture: &Fixture) -> Cache {
    Cache::open(fixture.local.cache.as_deref().unwrap()).unwrap()
}

fn object(fixture: &Fixture, path: &str) -> PathBuf {
    object_in(fixture, fixture.local.cache.as_deref().unwrap(), path)
}

fn object_in(fixture: &Fixture, cache: &Utf8Path, path: &str) -> PathBuf {
    let lock = fixture.lock();
    let model = lock.models().iter().find(|model| model.path.as_str() == path).unwrap();
    cache.join(Cache::object(model).path.as_str()).into()
}

/// As another project that needs the same bytes.
fn start_over(fixture: &Fixture) {
    std::fs::remove_dir_all(fixture.destination()).unwrap();
}

#[test]
fn a_cached_file_is_not_fetched_again() {
    let fixture = fixture();
    assert_eq!(outcomes(&fixture.fetch_all()), [Outcome::Fetched; 2]);
    let requests = fixture.requests();
    // One file with two names: the cache takes no extra space.
    assert_eq!(
        std::fs::metadata(object(&fixture, "vae/b")).unwrap().ino(),
        std::fs::metadata(fixture.path("vae/b")).unwrap().ino()
    );
    start_over(&fixture);
    assert_eq!(outcomes(&fixture.fetch_all()), [Outcome::Cached; 2]);
    assert_eq!(fixture.requests(), requests);
}

#[test]
fn on_another_file_system_the_bytes_are_copied_and_verified() {
    let (fixture, _memory) = distant_fixture();
    assert_eq!(outcomes(&fixture.fetch_all()), [Outcome::Fetched; 2]);
    start_over(&fixture);
    assert_eq!(outcomes(&fixture.fetch_all()), [Outcome::Cached; 2]);
    assert_eq!(std::fs::metadata(object(&fixture, "vae/b")).unwrap().nlink(), 1);
}

#[test]
fn a_cache_object_with_wrong_bytes_is_removed_and_refetched() {
    for (fixture, _memory) in both_places() {
        fixture.fetch_all();
        start_over(&fixture);
        let path = object(&fixture, "vae/b");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[1_000_000] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(outcomes(&fixture.fetch_all()), [Outcome::Cached, Outcome::Fetched]);
        let refused =
            |event: &Event| matches!(event, Event::Warning { message } if message.contains("is not used"));
        assert!(fixture.events.count(refused) > 0);
        assert_eq!(std::fs::read(&path).unwrap(), content(2).to_vec());
    }
}

#[test]
fn an_object_of_another_length_is_no_candidate() {
    let fixture = fixture();
    fixture.fetch_all();
    start_over(&fixture);
    std::fs::write(object(&fixture, "loras/a"), b"short").unwrap();
    assert_eq!(outcomes(&fixture.fetch_all()), [Outcome::Fetched, Outcome::Cached]);
}

#[test]
fn an_interrupted_fetch_resumes_from_its_part_in_the_cache() {
    for (fixture, _memory) in both_places() {
        fixture.origin.shape(Shape::rate(4 << 20));
        fixture.fetch_and_interrupt_at(2_500_000);
        // As a build that discards its layer.
        std::fs::remove_dir_all(fixture.destination()).unwrap();
        fixture.origin.shape(Shape::default());
        let sent = fixture.sent();
        let report = fixture.fetch_all();
        assert!(report.files.iter().map(|file| file.resumed).sum::<u64>() > 0);
        let again = fixture.sent() - sent;
        assert!(again < 6_000_003 - 1_000_000, "{again} bytes again");
        assert!(cache(&fixture).entries().unwrap().iter().all(|entry| !entry.is_partial));
    }
}

#[test]
fn a_part_beside_its_target_is_completed_and_fills_the_cache() {
    let mut fixture = fixture();
    let path = fixture.local.cache.take();
    fixture.origin.shape(Shape::rate(4 << 20));
    fixture.fetch_and_interrupt_at(2_500_000);
    fixture.origin.shape(Shape::default());
    fixture.local.cache = path;
    let report = fixture.fetch_all();
    assert!(report.files.iter().map(|file| file.resumed).sum::<u64>() > 0);
    start_over(&fixture);
    assert_eq!(outcomes(&fixture.fetch_all()), [Outcome::Cached; 2]);
}

#[test]
fn a_run_that_waited_for_the_cache_uses_the_fetched_objects() {
    let (first, mut second) = (fixture(), Fixture::new());
    second.model("other/name", &content(2), &[second.origin.url("/nowhere")]);
    second.local = first.local.clone();
    let place = Destination::create(second.local.cache.as_deref().unwrap()).unwrap();
    let Acquire::Acquired(guard) = DestinationLock::try_acquire(&place).unwrap() else { panic!("held") };
    let report = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| second.fetch().unwrap());
        second.events.wait_for(|event| matches!(event, Event::Waiting { .. }));
        // The lock holder's work.
        let model = first.lock().models()[1].clone();
        let object = Cache::object(&model);
        let path = place.root().path().join(object.path.as_str());
        write(&path, content(2).to_vec());
        drop(guard);
        waiting.join().unwrap()
    });
    assert_eq!(outcomes(&report), [Outcome::Cached]);
    assert_eq!(second.requests(), 0);
}

#[test]
fn a_source_with_wrong_bytes_leaves_nothing_in_the_cache() {
    let mut fixture = fixture();
    fixture.origin.put("/vae/b", content(2).flipped(1_000_000, 0));
    fixture.config.transfer.retry.retries = 1;
    let report = fixture.fetch().unwrap();
    assert!(report.files[1].result.as_ref().unwrap_err().is_integrity());
    assert!(!object(&fixture, "vae/b").exists());
    assert_eq!(cache(&fixture).entries().unwrap().len(), 1);
    fixture.assert_nothing_wrong();
}

#[test]
fn force_fetches_although_it_is_cached() {
    let mut fixture = fixture();
    fixture.fetch_all();
    fixture.config.force = true;
    assert_eq!(outcomes(&fixture.fetch_all()), [Outcome::Fetched; 2]);
}

#[test]
fn pruning_removes_the_least_recently_used_and_old_parts() {
    let fixture = fixture();
    fixture.fetch_all();
    let cache = cache(&fixture);
    let old = filetime(&object(&fixture, "loras/a"), 1_000_000_000);
    assert_eq!(old, 1_000_000_000);
    let mut other = Cache::object(&fixture.lock().models()[1]);
    other.sha256 = Sha256::of(b"never fetched");
    let other = Cache::object(&other);
    drop(PartFile::open(cache.place(), &other, &PartNames::Shared, || true).unwrap());
    let entries = cache.entries().unwrap();
    assert_eq!(entries.len(), 3);
    assert_eq!(entries.iter().filter(|entry| entry.is_partial).count(), 1);
    assert_eq!(entries.iter().filter(|entry| entry.links == 1).count(), 2);

    let bounds = Bounds { used_since: Some(1_500_000_000), ..Bounds::default() };
    let removed = cache.prune(bounds).unwrap();
    assert_eq!(removed.len(), 1);
    assert!(!object(&fixture, "loras/a").exists());
    // The hard link in the destination stays.
    assert!(fixture.path("loras/a").exists());

    let removed = cache.prune(Bounds { bytes: Some(0), ..Bounds::default() }).unwrap();
    assert_eq!(removed.len(), 2);
    assert_eq!(cache.entries().unwrap(), []);
}

/// Sets a file's access time, in seconds since 1970.
fn filetime(path: &Path, seconds: u64) -> u64 {
    let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
    let file = std::fs::File::open(path).unwrap();
    file.set_times(std::fs::FileTimes::new().set_accessed(time)).unwrap();
    std::fs::metadata(path).unwrap().atime() as u64
}

#[test]
fn a_cache_that_is_the_destination_is_refused() {
    let mut fixture = fixture();
    fixture.local.cache = Some(fixture.destination());
    let error = fixture.fetch().unwrap_err().to_string();
    assert!(error.contains("both the destination and the cache"), "{error}");
}

#[test]
fn an_object_of_another_user_is_copied_and_not_linked() {
    let fixture = fixture();
    fixture.fetch_all();
    start_over(&fixture);
    if std::os::unix::fs::chown(object(&fixture, "vae/b"), Some(12345), None).is_err() {
        needs("the right to give files away", false);
        return;
    }
    fixture.fetch_all();
    let inode = |path: PathBuf| std::fs::metadata(path).unwrap().ino();
    assert_ne!(inode(object(&fixture, "vae/b")), inode(fixture.path("vae/b")));
    assert_eq!(inode(object(&fixture, "loras/a")), inode(fixture.path("loras/a")));
}

#[test]
fn an_unusable_cache_is_a_warning_and_the_fetch_succeeds() {
    let mut fixture = fixture();
    let refused =
        |event: &Event| matches!(event, Event::Warning { message } if message.contains("is not used"));
    // A file in place of the directory.
    std::fs::write(fixture.beside("cache"), b"").unwrap();
    assert_eq!(outcomes(&fixture.fetch_all()), [Outcome::Fetched; 2]);
    assert!(fixture.events.count(refused) > 0);
    start_over(&fixture);

    // Another run holds it for longer than this one waits.
    std::fs::remove_file(fixture.beside("cache")).unwrap();
    fixture.config.wait = Duration::from_millis(300);
    let place = Destination::create(fixture.local.cache.as_deref().unwrap()).unwrap();
    let Acquire::Acquired(guard) = DestinationLock::try_acquire(&place).unwrap() else { panic!("held") };
    let before = fixture.events.count(refused);
    assert_eq!(outcomes(&fixture.fetch_all()), [Outcome::Fetched; 2]);
    assert!(fixture.events.count(refused) > before);
    drop(guard);
}

#[test]
fn the_variable_for_a_dry_run_holds_for_a_prune_too() {
    let fixture = Fixture::with(&[("x", 1, 1000)]);
    let cache = fixture.beside("cache");
    let cache = cache.to_str().unwrap();
    run(&mut fetch(&fixture, &["--cache", cache])).exits(0);
    let prune = ["cache", "prune", "--all", "--cache", cache];
    run(program(&fixture).args(prune).env("PROVISION_DRY_RUN", "1")).out_has(&["would remove 1 file"]);
    run(program(&fixture).args(prune)).out_has(&["\nremoved 1 file"]);
}

#[test]
fn room_is_made_by_the_least_recently_used_but_not_the_own_part() {
    let fixture = fixture();
    fixture.fetch_all();
    let cache = cache(&fixture);
    filetime(&object(&fixture, "loras/a"), 1_000_000_000);
    let mut next = fixture.lock().models()[0].clone();
    (next.sha256, next.size) = (Sha256::of(b"next"), 3_000_000);
    let next = Cache::object(&next);
    let part = PartFile::open(cache.place(), &next, &PartNames::Shared, || true).unwrap();
    let mut keep = std::collections::HashSet::new();
    let excess = |most, keep: &_| cache.excess_beside(&next, most, keep).unwrap();
    assert_eq!(excess(10_000_000, &keep), Some(Vec::new()));
    let first = excess(7_000_000, &keep).unwrap();
    assert_eq!(first.len(), 1);
    keep.insert(first[0].sha256);
    assert_ne!(excess(7_000_000, &keep).unwrap()[0].sha256, first[0].sha256);
    assert_eq!(excess(3_000_000, &keep), None);
    cache.remove(&first).unwrap();
    assert!(!object(&fixture, "loras/a").exists() && object(&fixture, "vae/b").exists());
    keep.clear();
    cache.remove(&excess(3_000_000, &keep).unwrap()).unwrap();
    assert_eq!(cache.entries().unwrap().len(), 1, "the part of the next one");
    drop(part);
}

#[test]
fn a_cache_that_is_only_read_is_used_and_not_filled() {
    let mut fixture = fixture();
    fixture.fetch_all();
    start_over(&fixture);
    let path = fixture.local.cache.take();
    // The lock of another run does not matter.
    let place = Destination::create(path.as_deref().unwrap()).unwrap();
    let Acquire::Acquired(_guard) = DestinationLock::try_acquire(&place).unwrap() else { panic!("held") };
    fixture.local.other_cache = path;
    std::fs::remove_file(object_in(&fixture, fixture.local.other_cache.as_deref().unwrap(), "loras/a"))
        .unwrap();
    assert_eq!(outcomes(&fixture.fetch_all()), [Outcome::Fetched, Outcome::Cached]);
    let names = Cache::open(place.root().path()).unwrap().entries().unwrap();
    assert_eq!(names.len(), 1, "it is not filled: {names:?}");
    fixture.config.force = true;
    assert_eq!(outcomes(&fixture.fetch_all()), [Outcome::Fetched; 2]);
}
