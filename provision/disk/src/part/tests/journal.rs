//! Resuming: the bytes that the journal lists, and planted files.

use std::fs::{self, File};
use std::sync::Arc;

use rustix::io::Errno;

use crate::error::DiskError;
use crate::part::PartFile;
use crate::part::journal_file::MAX_JOURNAL_BYTES;
use crate::part::part_file::SYNCING;
use crate::testing::{CONTENT, Fixture, model, plant, write};
use provision_core::byte_range::ByteRange;
use provision_core::journal;

#[test]
fn a_reopened_part_has_the_checkpointed_bytes_only() {
    let fixture = Fixture::new();
    let model = model("d/x", CONTENT);
    {
        let part = fixture.open(&model);
        write(&part, 0..10, CONTENT);
        write(&part, 20..30, CONTENT);
        assert_eq!(part.checkpoint().unwrap(), 20);
        write(&part, 30..35, CONTENT);
        assert_eq!(part.unjournaled(), 5);
    }
    assert_eq!(PartFile::claimed_bytes(&fixture.destination, &model, None).unwrap(), 20);
    assert_eq!(PartFile::resumable_bytes(&fixture.destination, &model, None, || true).unwrap(), 20);
    let part = Arc::new(fixture.open(&model));
    assert_eq!(part.missing(), [ByteRange::new(10, 20), ByteRange::new(30, 43)]);
    write(&part, 10..20, CONTENT);
    part.checkpoint().unwrap();
    write(&part, 30..43, CONTENT);
    part.verify().unwrap().install().unwrap();
    assert_eq!(fs::read(fixture.file("d/x")).unwrap(), CONTENT);
}

#[test]
fn journaled_bytes_survive_reopening_and_become_durable() {
    let fixture = Fixture::new();
    let model = model("d/x", CONTENT);
    {
        let part = fixture.open(&model);
        write(&part, 0..10, CONTENT);
        part.journal_written().unwrap();
        write(&part, 10..20, CONTENT);
        part.checkpoint().unwrap();
        write(&part, 20..30, CONTENT);
        part.journal_written().unwrap();
    }
    let journal = || fs::read_to_string(fixture.part(&model, "journal")).unwrap();
    assert!(journal().contains("\nwritten 0 10 ") && journal().contains("\ndurable 0 20 "), "{}", journal());
    assert_eq!(fixture.open(&model).held(), 30);
    assert!(!journal().contains("written"), "{}", journal());
}

#[test]
fn fault_66_a_long_journal_is_rewritten_without_a_loss() {
    const SIZE: usize = 60_000;
    let fixture = Fixture::new();
    let content: Vec<u8> = (0..SIZE).map(|at| (at / 7) as u8).collect();
    let model = model("d/x", &content);
    let journal = || fs::read_to_string(fixture.part(&model, "journal")).unwrap();
    {
        let part = fixture.open(&model);
        for at in 0..SIZE {
            part.write(at as u64, &content[at..=at]).unwrap();
            part.journal_written().unwrap();
            if at % 5_000 == 0 {
                part.checkpoint().unwrap();
                assert!(journal().len() as u64 <= MAX_JOURNAL_BYTES, "{} bytes at {at}", journal().len());
            }
        }
    }
    let held = |text: &str| -> u64 {
        let records = journal::parse(text.as_bytes(), &model.sha256, model.size);
        records.iter().map(|record| record.range.len()).sum()
    };
    assert_eq!(held(&journal()), model.size, "also the ranges journaled after the rewrite");
    let part = Arc::new(fixture.open(&model));
    assert_eq!(part.held(), model.size);
    part.verify().unwrap().install().unwrap();
}

#[test]
fn fault_75_a_planted_part_is_verified_and_dropped() {
    let fixture = Fixture::new();
    let model = model("d/x", CONTENT);
    {
        let part = fixture.open(&model);
        write(&part, 0..43, CONTENT);
        part.checkpoint().unwrap();
    }
    fs::write(fixture.part(&model, "part"), vec![0; 43]).unwrap();
    assert_eq!(fixture.open(&model).held(), 0, "wrong bytes with a matching journal");
    fs::remove_file(fixture.part(&model, "journal")).ok();
    fs::write(fixture.part(&model, "part"), CONTENT).unwrap();
    assert_eq!(fixture.open(&model).held(), 0, "right bytes without a journal");
    File::create(fixture.part(&model, "part")).unwrap().set_len(1 << 40).unwrap();
    let part = fixture.open(&model);
    assert_eq!(
        (part.held(), fs::metadata(fixture.part(&model, "part")).unwrap().len()),
        (0, 43),
        "sparse and too long"
    );
}

#[test]
fn fault_75_a_planted_link_is_replaced_and_its_target_stays() {
    let fixture = Fixture::new();
    let model = model("d/x", CONTENT);
    fs::create_dir(fixture.file("d")).unwrap();
    fs::write(fixture.file("victim"), b"precious").unwrap();
    for planted in ["symlink", "link"] {
        let name = fixture.part(&model, "part");
        fs::remove_file(&name).ok();
        plant(planted, &name, &fixture.file("victim"));
        let part = fixture.open(&model);
        write(&part, 0..43, CONTENT);
        assert_eq!(fs::read(fixture.file("victim")).unwrap(), b"precious", "{planted}");
    }
}

#[test]
fn fault_70_a_part_whose_sync_failed_is_given_up() {
    let fixture = Fixture::new();
    let model = model("d/x", CONTENT);
    let part = fixture.complete_part();
    // What `sync_data` does when the kernel says that it sync_error pages.
    part.state().sync_error = Some(Errno::IO);
    fs::remove_file(fixture.part(&model, "part")).unwrap();
    let is_the_sync = |error: &DiskError| matches!(error, DiskError::Io { doing: SYNCING, .. });
    assert!(is_the_sync(&part.checkpoint().unwrap_err()));
    part.journal_written().unwrap();
    assert!(!fixture.part(&model, "journal").exists(), "a journal without a part");
    assert!(is_the_sync(&part.reset().unwrap_err()));
    let error = part.verify().unwrap_err();
    assert!(is_the_sync(&error), "the sync error, not PartReplaced: {error}");
}

#[test]
fn fault_119_a_journal_that_is_planted_during_a_download_is_not_written() {
    for kind in ["link", "symlink", "fifo"] {
        let fixture = Fixture::new();
        let model = model("d/x", CONTENT);
        let part = fixture.open(&model);
        write(&part, 0..10, CONTENT);
        let (journal, victim) = (fixture.part(&model, "journal"), fixture.file("victim"));
        fs::write(&victim, b"precious").unwrap();
        plant(kind, &journal, &victim);
        part.journal_written().unwrap();
        part.checkpoint().unwrap();
        drop(part);
        assert_eq!(fs::read(&victim).unwrap(), b"precious", "{kind}");
        assert!(fs::symlink_metadata(&journal).unwrap().is_file(), "{kind}");
        assert_eq!(fixture.open(&model).held(), 10, "{kind}");
    }
}
