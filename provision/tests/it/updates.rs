//! Updates and repairs: what this machine has of a new or damaged file is copied piece by piece, and the rest alone is
//! fetched.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;

use provision_engine::fetch::{Baked, BakedMode, Report};

use crate::prelude::*;

/// A tensor: a seed and a length in bytes.
type Tensor = (u64, u64);

/// Forty tensors of 100 to 139 KB.
fn forty() -> Vec<Tensor> {
    (0..40).map(|n| (n + 1, 100_000 + n * 1000)).collect()
}

/// A safetensors file with these tensors, and `metadata` bytes of free text in its header.
fn safetensors(tensors: &[Tensor], metadata: usize) -> Content {
    let mut header = format!(r#"{{"__metadata__":{{"note":"{}"}}"#, "x".repeat(metadata));
    let mut at = 0;
    for (seed, len) in tensors {
        let end = at + len;
        let _ =
            write!(header, r#","layer.{seed}":{{"dtype":"U8","shape":[{len}],"data_offsets":[{at},{end}]}}"#);
        at = end;
    }
    header.push('}');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    for (seed, len) in tensors {
        bytes.extend(Content::generated(*seed, *len).to_vec());
    }
    Content::bytes(bytes)
}

/// Files with their tensors and the length of their metadata.
type Files<'a> = &'a [(&'a str, Vec<Tensor>, usize)];

fn serve(fixture: &mut Fixture, files: Files<'_>) -> u64 {
    let contents = files.iter().map(|(path, tensors, metadata)| (path, safetensors(tensors, *metadata)));
    let sizes = contents.map(|(path, content)| {
        fixture.file_with_list(path, &content);
        content.size()
    });
    sizes.sum()
}

fn assert_right(fixture: &Fixture, files: Files<'_>) {
    for (path, tensors, metadata) in files {
        let found = std::fs::read(fixture.path(path)).unwrap();
        assert!(found == safetensors(tensors, *metadata).to_vec(), "{path} is wrong");
    }
}

pub(crate) fn reused(report: &Report) -> u64 {
    report.files.iter().map(|file| file.reused).sum()
}

/// Installs `old`, then `new`. Asserts that at least nine tenths of the bytes of equal tensors are reused, and that no
/// other byte but the rest is sent.
fn update(old: Files<'_>, new: Files<'_>) -> u64 {
    let mut fixture = Fixture::in_memory();
    serve(&mut fixture, old);
    fixture.fetch_all();
    for (path, ..) in old {
        fixture.forget(path);
    }
    let size = serve(&mut fixture, new);
    let before: Vec<Tensor> = old.iter().flat_map(|(_, tensors, _)| tensors.clone()).collect();
    let equal: u64 = new
        .iter()
        .flat_map(|(_, tensors, _)| tensors)
        .filter(|tensor| before.contains(tensor))
        .map(|(_, len)| len)
        .sum();
    let sent = fixture.sent();
    let report = fixture.fetch().unwrap();
    assert!(report.is_complete(), "{:?}", report.files);
    assert_right(&fixture, new);
    let (sent, reused) = (fixture.sent() - sent, reused(&report));
    assert!(reused * 10 >= equal * 9, "{reused} of {equal} bytes of equal tensors are reused");
    assert_eq!(sent + reused, size, "bytes are fetched that are here");
    let here: u64 = report.plan.iter().map(|file| file.here).sum();
    assert_eq!(here, reused, "the plan says another number");
    reused
}

#[test]
fn a_header_that_grew_by_a_kilobyte_costs_the_header() {
    let size = safetensors(&forty(), 1000).size();
    assert!(update(&[("m", forty(), 0)], &[("m", forty(), 1000)]) * 100 > size * 98);
}

#[test]
fn one_tensor_of_forty_costs_that_tensor() {
    let mut new = forty();
    new[17].0 = 1000;
    update(&[("m", forty(), 0)], &[("m", new, 0)]);
}

#[test]
fn a_longer_vocabulary_costs_its_end() {
    let with_vocabulary = |len| [vec![(500, len)], forty()].concat();
    let (old, new) = (with_vocabulary(9_000_000), with_vocabulary(9_064_000));
    let reused = update(&[("m", old, 0)], &[("m", new, 0)]);
    let others: u64 = forty().iter().map(|(_, len)| len).sum();
    assert_eq!(reused, others + 2 * MAX_PIECE, "whole pieces of the vocabulary");
}

#[test]
fn two_shards_become_three() {
    let all = forty();
    let old = [("m-1-of-2", all[..20].to_vec(), 0), ("m-2-of-2", all[20..].to_vec(), 0)];
    let part = |range: std::ops::Range<usize>| all[range].to_vec();
    let new = [("m-1-of-3", part(0..13), 0), ("m-2-of-3", part(13..27), 0), ("m-3-of-3", part(27..40), 0)];
    update(&old, &new);
}

/// Removes every list beside the lock, changes one tensor of the ten of `m`, and fetches. Returns the bytes that were
/// sent.
fn update_without_the_old_list(fixture: &mut Fixture, mut tensors: Vec<Tensor>) -> u64 {
    std::fs::remove_dir_all(fixture.beside("models.pieces")).unwrap();
    tensors[3].0 = 77;
    serve(fixture, &[("m", tensors.clone(), 0)]);
    let sent = fixture.sent();
    run(&mut fetch(fixture, &[])).exits(0);
    assert_right(fixture, &[("m", tensors, 0)]);
    fixture.sent() - sent
}

#[test]
fn lists_of_a_covered_set_are_kept_for_its_next_version() {
    let tensors: Vec<Tensor> = (1..11).map(|n| (n, 1_000_000)).collect();
    let without_list = || {
        let mut fixture = Fixture::in_memory();
        fixture.file("m", &safetensors(&tensors, 0));
        run(&mut fetch(&fixture, &[])).exits(0);
        fixture
    };
    let up_to_date = |fixture: &Fixture, arguments: &[&str]| {
        let (requests, ended) = (fixture.requests(), run(&mut fetch(fixture, arguments)));
        assert!(ended.code == Some(0) && ended.err.contains("nothing to do: marker"), "{}", ended.err);
        assert_eq!(fixture.requests(), requests);
    };
    // Installed with its list, then a start that changes nothing.
    let mut fixture = Fixture::in_memory();
    serve(&mut fixture, &[("m", tensors.clone(), 0)]);
    run(&mut fetch(&fixture, &[])).exits(0);
    up_to_date(&fixture, &[]);
    assert!(update_without_the_old_list(&mut fixture, tensors.clone()) < 1_010_000);
    // The lock gets its first list when the file is there, as after `lock pieces`.
    for arguments in [&[][..], &["m"]] {
        let mut fixture = without_list();
        serve(&mut fixture, &[("m", tensors.clone(), 0)]);
        up_to_date(&fixture, arguments);
        assert!(update_without_the_old_list(&mut fixture, tensors.clone()) < 1_010_000);
    }
    // Another run has installed the file meanwhile.
    let mut fixture = without_list();
    serve(&mut fixture, &[("m", tensors.clone(), 0)]);
    assert!(fixture.fetch_all().by_marker);
    assert!(update_without_the_old_list(&mut fixture, tensors.clone()) < 1_010_000);
    // The list comes beside the lock after the install, which names it already.
    let mut fixture = Fixture::in_memory();
    serve(&mut fixture, &[("m", tensors.clone(), 0)]);
    std::fs::rename(fixture.beside("models.pieces"), fixture.beside("forgotten")).unwrap();
    run(&mut fetch(&fixture, &[])).exits(0);
    std::fs::rename(fixture.beside("forgotten"), fixture.beside("models.pieces")).unwrap();
    up_to_date(&fixture, &[]);
    assert!(update_without_the_old_list(&mut fixture, tensors) < 1_010_000);
}

#[test]
fn an_older_image_gives_an_empty_volume_its_equal_pieces() {
    let tensors: Vec<Tensor> = (1..11).map(|n| (n, 1_000_000)).collect();
    // Lists that the image has beside its own lock, and those that a fetch kept in the baked directory.
    for lists in ["image/models.pieces", "image/models/.provision.pieces"] {
        let mut fixture = Fixture::in_memory();
        serve(&mut fixture, &[("m", tensors.clone(), 0)]);
        write(fixture.beside("image/models/m"), safetensors(&tensors, 0).to_vec());
        std::fs::rename(fixture.beside("models.pieces"), fixture.beside(lists)).unwrap();
        let mut newer = tensors.clone();
        newer[3].0 = 77;
        serve(&mut fixture, &[("m", newer.clone(), 500)]);
        let mut ensure = verb(&fixture, "ensure", &[]);
        ensure.arg("--baked").arg(fixture.beside("image/models"));
        ensure.arg("--baked-pieces").arg(fixture.beside("image/models.pieces"));
        run(&mut ensure).exits(0);
        assert_right(&fixture, &[("m", newer, 500)]);
        let sent = fixture.sent();
        assert!(sent < 1_010_000, "{lists}: {sent} bytes sent");
    }
}

#[test]
fn another_precision_and_an_unrelated_file_are_fetched_whole() {
    let half = forty().iter().map(|(seed, len)| (seed + 100, len / 2)).collect();
    assert_eq!(update(&[("m", forty(), 0)], &[("m", half, 0)]), 0);
    let unrelated = forty().iter().map(|(seed, len)| (seed + 200, *len)).collect();
    assert_eq!(update(&[("m", forty(), 0), ("n", forty(), 0)], &[("o", unrelated, 0)]), 0);
}

#[test]
fn tensors_of_other_models_cache_and_baked_files_count() {
    let [old, new] = [0, 1000].map(|metadata| safetensors(&forty(), metadata));
    for place in ["elsewhere", "cache", "baked"] {
        let mut fixture = Fixture::in_memory();
        match place {
            "elsewhere" => drop(fixture.file_with_list("other/path", &old)),
            "cache" => fixture.local.cache = Some(fixture.beside("cache").try_into().unwrap()),
            _ => {
                let directory: camino::Utf8PathBuf = fixture.beside("baked").try_into().unwrap();
                std::fs::create_dir(&directory).unwrap();
                std::fs::write(directory.join("m"), old.to_vec()).unwrap();
                fixture.local.baked = Some(Baked { directory, mode: BakedMode::Symlink });
            }
        }
        fixture.file_with_list("m", &old);
        fixture.fetch_all();
        if place == "elsewhere" {
            std::fs::remove_file(fixture.path("m")).unwrap();
        } else if place == "cache" {
            std::fs::remove_dir_all(fixture.destination()).unwrap();
        }
        let sent = fixture.sent();
        fixture.file_with_list("m", &new);
        let report = fixture.fetch_all();
        let sent = fixture.sent() - sent;
        assert!(sent < 20_000 && reused(&report) + sent == new.size(), "{place}: {sent} bytes sent");
    }
}

/// Bytes without a format: pieces of 4 MiB.
pub(crate) const SIZE: u64 = 6 * MAX_PIECE + 1000;

pub(crate) fn plain() -> (Fixture, Content) {
    let (mut fixture, content) = (Fixture::in_memory(), Content::generated(7, SIZE));
    fixture.file_with_list("m", &content);
    (fixture, content)
}

/// Puts `bytes` into the place of the file, fetches, and returns the bytes that were sent.
fn repair(fixture: &Fixture, bytes: &[u8]) -> (u64, Report) {
    std::fs::write(fixture.path("m"), bytes).unwrap();
    let sent = fixture.sent();
    let report = fixture.fetch_all();
    (fixture.sent() - sent, report)
}

#[test]
fn fault_169_a_flipped_bit_costs_one_piece() {
    let (fixture, content) = plain();
    fixture.fetch_all();
    let (sent, report) = repair(&fixture, &content.flipped(2 * MAX_PIECE + 5, 3).to_vec());
    assert_eq!((sent, reused(&report)), (MAX_PIECE, SIZE - MAX_PIECE));
    assert_eq!(report.files[0].result.as_ref().unwrap(), &Some(Outcome::Fetched));
    assert_eq!(report.plan[0].here, SIZE - MAX_PIECE, "the plan has read the file");
}

#[test]
fn fault_169_a_link_is_replaced_and_not_written_through() {
    let (fixture, content) = plain();
    let wrong = content.flipped(5, 3).to_vec();
    std::fs::create_dir(fixture.destination()).unwrap();
    std::fs::write(fixture.beside("baked"), &wrong).unwrap();
    std::os::unix::fs::symlink(fixture.beside("baked"), fixture.path("m")).unwrap();
    let report = fixture.fetch_all();
    assert_eq!(fixture.sent(), MAX_PIECE);
    assert_eq!(reused(&report), SIZE - MAX_PIECE);
    assert!(std::fs::read(fixture.beside("baked")).unwrap() == wrong);
    assert!(!fixture.path("m").is_symlink());
}

#[test]
fn fault_170_a_file_of_another_length_keeps_its_right_pieces() {
    let (fixture, content) = plain();
    fixture.fetch_all();
    let bytes = content.to_vec();
    let cut = (3 * MAX_PIECE + 77) as usize;
    assert_eq!(repair(&fixture, &bytes[..cut]).0, SIZE - 3 * MAX_PIECE);
    let longer = [&bytes[..], b"more"].concat();
    assert_eq!(repair(&fixture, &longer).0, 0);
    // Other bytes: none is right, and all are fetched.
    assert_eq!(repair(&fixture, &Content::generated(8, SIZE).to_vec()).0, SIZE);
    assert_eq!(repair(&fixture, b"").0, SIZE);
}

#[test]
fn fault_171_a_kept_list_of_another_file_costs_time_only() {
    let [old, new] = [0, 1000].map(|metadata| safetensors(&forty(), metadata));
    let mut fixture = Fixture::in_memory();
    fixture.file_with_list("m", &old);
    fixture.fetch_all();
    // It has the length that the old list says, and none of its bytes.
    let other = Content::generated(99, old.size());
    std::fs::write(fixture.path("m"), other.to_vec()).unwrap();
    fixture.file_with_list("m", &new);
    let sent = fixture.sent();
    let report = fixture.fetch_all();
    assert_eq!(fixture.sent() - sent, new.size());
    assert_eq!(reused(&report), 0);
}

#[test]
fn fault_172_a_killed_update_keeps_the_old_file_and_resumes() {
    let old: Vec<Tensor> = (1..40).map(|n| (n, 1_000_000)).collect();
    let new: Vec<Tensor> = (1..40).map(|n| (if n % 2 == 0 { n + 900 } else { n }, 1_000_000)).collect();
    let mut fixture = Fixture::in_memory();
    serve(&mut fixture, &[("m", old.clone(), 0)]);
    run(&mut fetch(&fixture, &[])).exits(0);
    let size = serve(&mut fixture, &[("m", new.clone(), 1000)]);
    let before = fixture.origin.counters();
    fixture.origin.shape(Shape::rate(4_000_000));
    let child = start(&mut fetch(&fixture, &["--connections", "2"]));
    let enough = before.body_bytes_sent + 8_000_000;
    fixture.origin.wait_for(PATIENCE, |now| now.body_bytes_sent >= enough).unwrap();
    assert_right(&fixture, &[("m", old, 0)]);
    signal(&child, Signal::KILL);
    assert_eq!(child.end().code, None);
    fixture.origin.shape(Shape::default());
    run(&mut fetch(&fixture, &[])).exits(0);
    assert_right(&fixture, &[("m", new.clone(), 1000)]);
    let sent = fixture.sent() - before.body_bytes_sent;
    let changed = new.iter().filter(|(seed, _)| *seed > 900).map(|(_, len)| len).sum::<u64>();
    // A kill costs the pieces in flight of two connections.
    assert!(sent < changed + 100_000 + 8_000_000, "{sent} sent, {changed} changed, {size} in all");
}

#[test]
fn fault_173_a_wrong_object_of_the_cache_gives_its_right_pieces() {
    let (mut fixture, content) = plain();
    fixture.local.cache = Some(fixture.beside("cache").try_into().unwrap());
    let digest = content.sha256_hex();
    let object = fixture.beside("cache/sha256").join(&digest[..2]).join(&digest);
    write(&object, content.flipped(SIZE - 3, 1).to_vec());
    let report = fixture.fetch_all();
    assert_eq!(fixture.sent(), 1000, "the last piece");
    assert_eq!(reused(&report), SIZE - 1000);
    assert!(Sha256::of(&std::fs::read(&object).unwrap()).to_string() == digest, "the object is replaced");
}

#[test]
fn an_offline_run_is_complete_if_every_piece_is_here() {
    let all = forty();
    let mut fixture = Fixture::in_memory();
    serve(&mut fixture, &[("m", all.clone(), 0)]);
    fixture.fetch_all();
    std::fs::rename(fixture.path("m"), fixture.path("old")).unwrap();
    std::fs::copy(fixture.path("old"), fixture.path("m")).unwrap();
    let mut bytes = std::fs::read(fixture.path("m")).unwrap();
    bytes.push(0);
    std::fs::write(fixture.path("m"), bytes).unwrap();
    std::fs::remove_file(fixture.path("old")).unwrap();
    fixture.config.offline = true;
    let requests = fixture.requests();
    fixture.fetch_all();
    assert_eq!(fixture.requests(), requests);
    std::fs::write(fixture.path("m"), b"").unwrap();
    let refused = fixture.fetch().unwrap_err().to_string();
    assert!(refused.starts_with("--offline is set and 1 files are missing: m"), "{refused}");
}

#[test]
fn force_reuses_nothing() {
    let (mut fixture, content) = plain();
    fixture.fetch_all();
    fixture.config.force = true;
    let (sent, report) = repair(&fixture, &content.flipped(5, 3).to_vec());
    assert_eq!((sent, reused(&report)), (SIZE, 0));
}

#[test]
fn the_program_says_how_much_is_here_and_how_much_was_reused() {
    let mut fixture = Fixture::in_memory();
    let tensors: Vec<Tensor> = (1..11).map(|n| (n, 1_000_000)).collect();
    serve(&mut fixture, &[("m", tensors.clone(), 0)]);
    run(&mut fetch(&fixture, &[])).exits(0);
    let inode = std::fs::metadata(fixture.path("m")).unwrap().ino();
    let new: Vec<Tensor> = tensors.iter().map(|(seed, len)| (seed % 10 + 1, *len)).collect();
    let new = [new, vec![(77, 2_000_000)]].concat();
    serve(&mut fixture, &[("m", new, 500)]);
    let requests = fixture.requests();
    run(&mut fetch(&fixture, &["--dry-run"])).exits(0).out_has(&[
        "fetch    m  2 MB of 12 MB to go, 10 MB are here\n",
        "2 MB to fetch, 10 MB here by piece lists, 12 MB needed",
    ]);
    assert_eq!(std::fs::metadata(fixture.path("m")).unwrap().ino(), inode);
    assert_eq!(fixture.requests(), requests);
    let report = fixture.beside("report.json");
    run(&mut fetch(&fixture, &["--report", report.to_str().unwrap()]))
        .exits(0)
        .err_has(&["taking pieces of m from ", ", 10 MB reused from files on this machine"]);
    let json = std::fs::read_to_string(report).unwrap();
    assert!(json.contains("\"reused\": 10000000") && json.contains("\"proven_by\": \"pieces\""), "{json}");
}

#[test]
fn fault_173_a_source_that_changes_midway_gives_no_wrong_byte() {
    let tensors: Vec<Tensor> = (1..60).map(|n| (n, 1_000_000)).collect();
    let mut fixture = Fixture::in_memory();
    fixture.file_with_list("old", &safetensors(&tensors, 0));
    fixture.fetch_all();
    fixture.forget("old");
    fixture.file_with_list("new", &safetensors(&tensors, 1000));
    std::thread::scope(|scope| {
        let (path, events) = (fixture.path("old"), fixture.events.clone());
        scope.spawn(move || {
            events.wait_for(|event| matches!(event, Event::Reusing { .. }));
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.set_len(20_000_000).unwrap();
        });
        assert!(fixture.fetch().unwrap().is_complete());
    });
    assert_right(&fixture, &[("new", tensors, 1000)]);
}

#[test]
fn a_wrong_piece_of_a_file_costs_no_other_piece_of_it() {
    let tensors: Vec<Tensor> = (1..41).map(|n| (n, 1_000_000)).collect();
    let mut fixture = Fixture::in_memory();
    // One file after the other: the first one finds the wrong piece.
    fixture.config.threads = 1;
    serve(&mut fixture, &[("a", tensors.clone(), 0)]);
    fixture.fetch_all();
    // One byte of the installed file flips, in the first tensor that is copied for each of two files.
    let mut bytes = std::fs::read(fixture.path("a")).unwrap();
    let at = bytes.len() - 40_000_000;
    bytes[at] ^= 1;
    std::fs::write(fixture.path("a"), &bytes).unwrap();
    fixture.forget("a");
    let (first, second) = (tensors[..20].to_vec(), [&tensors[..1], &tensors[20..]].concat());
    let size = serve(&mut fixture, &[("b", first.clone(), 0), ("c", second.clone(), 0)]);
    let sent = fixture.sent();
    let report = fixture.fetch().unwrap();
    assert_right(&fixture, &[("b", first, 0), ("c", second, 0)]);
    let sent = fixture.sent() - sent;
    assert_eq!(sent + reused(&report), size);
    assert!(sent < 2_010_000, "{sent} bytes sent: the wrong tensor, twice, and the headers");
}

#[test]
fn a_wrong_piece_in_one_place_is_taken_from_another() {
    let [old, new] = [0, 1000].map(|metadata| safetensors(&forty(), metadata));
    let mut fixture = Fixture::in_memory();
    fixture.file_with_list("m", &old).file_with_list("n", &old);
    fixture.fetch_all();
    // A wrong byte in each of the five last tensors of `m`: it is left out for the rest.
    let mut bytes = old.to_vec();
    for (at, wrong) in bytes.iter_mut().rev().step_by(130_000).take(5).enumerate() {
        *wrong ^= 1 << at;
    }
    std::fs::write(fixture.path("m"), &bytes).unwrap();
    let sent = fixture.sent();
    fixture.file_with_list("m", &new);
    let report = fixture.fetch().unwrap();
    assert!(std::fs::read(fixture.path("m")).unwrap() == new.to_vec());
    let sent = fixture.sent() - sent;
    assert!(sent < 20_000 && reused(&report) + sent == new.size(), "{sent} bytes sent");
}

#[test]
fn a_dry_run_counts_the_right_pieces_of_a_part_only() {
    for has_cache in [false, true] {
        let (mut fixture, content) = plain();
        fixture.local.cache = has_cache.then(|| fixture.beside("cache").try_into().unwrap());
        fixture.origin.shape(Shape::rate(8_000_000));
        fixture.fetch_and_interrupt_at(4 * MAX_PIECE);
        let place = if has_cache { fixture.beside("cache") } else { fixture.destination().into() };
        let part = walk(&place).into_iter().find(|path| path.extension().is_some_and(|it| it == "part"));
        let part = std::fs::File::options().write(true).open(part.unwrap()).unwrap();
        // As after a kill: the pages are there, and have other bytes.
        std::os::unix::fs::FileExt::write_all_at(&part, &vec![7; SIZE as usize], 0).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&part, &content.to_vec()[..MAX_PIECE as usize], 0).unwrap();
        fixture.config.dry_run = true;
        assert_eq!(fixture.fetch().unwrap().plan[0].held, MAX_PIECE, "cache: {has_cache}");
    }
}

/// Every file below a directory.
fn walk(directory: &Path) -> Vec<PathBuf> {
    let entries = directory.read_dir().unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn a_dry_run_says_which_lists_it_has_not_asked_for() {
    let (mut fixture, _) = plain();
    fixture.config.dry_run = true;
    let says = |event: &Event| matches!(event, Event::Warning { message } if message.contains("the piece lists of 1 file to fetch are not on this"));
    fixture.fetch().unwrap();
    assert_eq!(fixture.events.count(says), 0);
    fixture.lists.directories.clear();
    fixture.lists.locks = vec![fixture.origin.url("/models.lock").parse().unwrap()];
    fixture.fetch().unwrap();
    assert_eq!(fixture.events.count(says), 1);
    assert_eq!(fixture.requests(), 0);
}
