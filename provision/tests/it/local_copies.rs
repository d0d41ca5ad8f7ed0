//! Local copies of files with piece lists: right ones are verified by them, wrong ones give their right pieces, and a
//! list that lies is named.

use provision_core::store_address::StoreAddress;
use provision_engine::fetch::{Baked, BakedMode};

use crate::prelude::*;
use crate::updates::{SIZE, plain, reused};

/// Gives a fixture with the file `m` a local copy of it that has `bytes`. The directory is removed with the result.
fn put_copy(fixture: &mut Fixture, place: &str, bytes: &[u8]) -> Option<tempfile::TempDir> {
    // Another file system, where no link is possible.
    let distant = (place == "distant cache").then(|| tempfile::tempdir().unwrap());
    let directory = distant.as_ref().map_or_else(|| fixture.beside(place), |distant| distant.path().into());
    let directory: camino::Utf8PathBuf = directory.try_into().unwrap();
    let digest = fixture.lock().models()[0].sha256.to_string();
    let name = match place {
        "baked" | "linked" => "m".to_owned(),
        "shelf" => digest,
        _ => format!("sha256/{}/{digest}", &digest[..2]),
    };
    write(directory.join(&name), bytes);
    match place {
        "baked" => fixture.local.baked = Some(Baked { directory, mode: BakedMode::Copy }),
        "linked" => fixture.local.baked = Some(Baked { directory, mode: BakedMode::Symlink }),
        "shelf" => fixture.stores.push(StoreAddress::Directory(directory)),
        _ => fixture.local.cache = Some(directory),
    }
    distant
}

const PLACES: [&str; 5] = ["baked", "linked", "shelf", "cache", "distant cache"];

#[test]
fn a_right_local_copy_is_proven_by_its_list() {
    for place in PLACES {
        let (mut fixture, content) = plain();
        let _distant = put_copy(&mut fixture, place, &content.to_vec());
        let report = fixture.fetch_all();
        assert_eq!(fixture.requests(), 0, "{place}");
        assert_eq!(report.files[0].verified_by, Some(VerifiedBy::Pieces), "{place}");
    }
}

#[test]
fn wrong_local_copies_cost_the_pieces_that_none_has() {
    for (first, second) in PLACES.into_iter().flat_map(|one| PLACES.map(|other| (one, other))) {
        let (mut fixture, content) = plain();
        let directories = ["baked", "linked"].contains(&first) && ["baked", "linked"].contains(&second);
        let caches = first.ends_with("cache") && second.ends_with("cache");
        if first == second || directories || caches {
            continue;
        }
        let wrong = content.flipped(SIZE - 3, 1).to_vec();
        let _first = put_copy(&mut fixture, first, &wrong);
        let _second = put_copy(&mut fixture, second, &content.flipped(5, 1).flipped(SIZE - 3, 1).to_vec());
        let report = fixture.fetch_all();
        assert_eq!(fixture.sent(), 1000, "{first}, {second}");
        assert_eq!(reused(&report), SIZE - 1000, "{first}, {second}");
    }
}

#[test]
fn a_wrong_local_copy_costs_no_byte_of_a_part() {
    for (place, has_list) in PLACES.into_iter().flat_map(|place| [(place, true), (place, false)]) {
        let (mut fixture, content) = (Fixture::in_memory(), Content::generated(7, SIZE));
        if has_list {
            fixture.file_with_list("m", &content);
        } else {
            fixture.file("m", &content);
        }
        fixture.origin.shape(Shape::rate(8_000_000));
        fixture.config.transfer.limits.connections = 2;
        fixture.fetch_and_interrupt_at(3 * MAX_PIECE);
        fixture.origin.shape(Shape::default());
        let destination = Destination::open(&fixture.destination()).unwrap().unwrap();
        let list = has_list.then(|| list_of(&content));
        let model = fixture.lock().models()[0].clone();
        let held = PartFile::resumable_bytes(&destination, &model, list.as_ref(), || true).unwrap();
        let _distant = put_copy(&mut fixture, place, &Content::generated(8, SIZE).to_vec());
        let report = fixture.fetch_all();
        assert_eq!((report.files[0].resumed, held > 0), (held, true), "{place}, list: {has_list}");
    }
}

#[test]
fn a_wrong_object_of_the_cache_stays_until_its_pieces_are_used() {
    let (mut fixture, content) = plain();
    let wrong = content.flipped(SIZE - 3, 1).to_vec();
    put_copy(&mut fixture, "cache", &wrong);
    fixture.origin.inject("*", Fault::status(404));
    fixture.fetch_refused();
    let digest = content.sha256_hex();
    let object = fixture.beside("cache/sha256").join(&digest[..2]).join(&digest);
    assert!(std::fs::read(&object).unwrap() == wrong);
    fixture.origin.clear_faults("*");
    fixture.fetch_all();
    assert!(std::fs::read(&object).unwrap() == content.to_vec());
}

/// A fixture whose list of `m` describes `other`, which its source sends.
fn lying(other: &Content) -> (Fixture, Content) {
    let (mut fixture, content) = plain();
    let right = content.sha256_hex().parse().unwrap();
    let lie = PieceList::new(SIZE, right, list_of(other).pieces().to_vec()).unwrap();
    fixture.list("m", &lie.write().unwrap());
    fixture.origin.put("/m", other.clone());
    (fixture, content)
}

#[test]
fn a_list_that_lies_proves_copies_into_the_cache_and_out_of_it() {
    let other = Content::generated(8, SIZE);
    for place in ["cache", "distant cache"] {
        let (mut fixture, content) = lying(&other);
        let _distant = put_copy(&mut fixture, place, b"another length");
        let report = fixture.fetch().unwrap();
        assert_eq!(report.files[0].verified_by, Some(VerifiedBy::Pieces), "{place}: {:?}", report.files[0]);
        let digest = content.sha256_hex();
        let cache = fixture.local.cache.clone().unwrap();
        assert!(
            std::fs::read(cache.join("sha256").join(&digest[..2]).join(&digest)).unwrap() == other.to_vec()
        );
        std::fs::remove_dir_all(fixture.destination()).unwrap();
        let report = fixture.fetch().unwrap();
        assert_eq!(report.files[0].result.as_ref().unwrap(), &Some(Outcome::Cached), "{place}");
        assert_eq!(report.files[0].verified_by, Some(VerifiedBy::Pieces), "{place}");
    }
}

#[test]
fn a_list_that_lies_proves_no_other_model() {
    let (mut fixture, content) = lying(&Content::generated(8, SIZE));
    // It has the same digest, and the lock pins no list for it.
    fixture.file("twin", &content);
    let ended = run(&mut fetch(&fixture, &[])).exits(5);
    let right = content.sha256_hex();
    let says = format!("the piece list of m does not describe the file with SHA-256 {right}: by the list ");
    ended.err_has(&[&says]);
    assert!(!fixture.path("twin").exists());
}

#[test]
fn a_list_that_lies_about_a_twin_is_the_one_that_is_blamed() {
    // `a` has the digest and no list. The list of its twin lists other bytes.
    let (mut fixture, content) = lying(&Content::generated(8, SIZE));
    fixture.file("a", &content);
    let ended = run(&mut fetch(&fixture, &[])).exits(5);
    let right = content.sha256_hex();
    let says = format!("the piece list of m does not describe the file with SHA-256 {right}: this file has ");
    ended.err_has(&[&says]);
}

#[test]
fn a_rotten_file_is_not_a_mistake_of_its_list() {
    let (mut fixture, content) = plain();
    fixture.fetch_all();
    let path = fixture.path("m");
    let mtime = path.metadata().unwrap().modified().unwrap();
    std::fs::write(&path, content.flipped(5, 1).to_vec()).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(mtime).unwrap();
    fixture.file("twin", &content);
    let ended = run(&mut fetch(&fixture, &[]));
    assert_ne!(ended.code, Some(0), "{}", ended.err);
    ended.err_lacks(&["does not describe"]);
}

#[test]
fn a_local_copy_without_a_right_piece_is_named_once() {
    for (place, cache) in [("baked", "cache"), ("shelf", "cache"), ("distant cache", "")] {
        let (mut fixture, content) = plain();
        let _distant = put_copy(&mut fixture, place, &Content::generated(8, SIZE).to_vec());
        if !cache.is_empty() {
            fixture.local.cache = Some(fixture.beside(cache).try_into().unwrap());
        }
        fixture.fetch_all();
        assert!(std::fs::read(fixture.path("m")).unwrap() == content.to_vec());
        let listing = fixture.listing();
        assert!(!listing.iter().any(|name| name.contains(".part")), "{place}: {listing:?}");
        let said = fixture.warnings();
        assert_eq!(said.len(), 1, "{place}: {said:?}");
    }
}

#[test]
fn a_wrong_file_that_is_the_caches_object_is_no_copy_of_itself() {
    for has_list in [true, false] {
        let (mut fixture, content) = (Fixture::in_memory(), Content::generated(7, SIZE));
        if has_list {
            fixture.file_with_list("m", &content);
        } else {
            fixture.file("m", &content);
        }
        fixture.local.cache = Some(fixture.beside("cache").try_into().unwrap());
        fixture.fetch_all();
        std::fs::write(fixture.path("m"), content.flipped(5, 3).to_vec()).unwrap();
        let sent = fixture.sent();
        fixture.config.dry_run = true;
        let here = if has_list { SIZE - MAX_PIECE } else { 0 };
        let planned = fixture.fetch().unwrap().plan.remove(0);
        assert_eq!((planned.here, planned.plan), (here, Planned::Fetch));
        fixture.config.dry_run = false;
        fixture.fetch_all();
        assert_eq!(fixture.sent() - sent, SIZE - here);
        assert_eq!(fixture.events.count(|event| matches!(event, Event::Copying { .. })), 0);
    }
}
