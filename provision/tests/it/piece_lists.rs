//! Piece lists: their places, their digests, and the copies that a destination keeps.

use provision_core::store_address::StoreAddress;

use crate::prelude::*;

/// What the lock pins for a file and what lies beside the lock, and words of the warning.
type Case<'c> = (&'c dyn Fn(u64) -> (Vec<u8>, Vec<u8>), &'c str);

const SIZE: u64 = 9 << 20;

/// The names of the kept lists.
fn kept(fixture: &Fixture) -> Vec<String> {
    let listing = fixture.listing();
    let names = listing.iter().filter_map(|name| name.strip_prefix(".provision.pieces/"));
    names.map(str::to_owned).collect()
}

/// A file whose list is not beside the lock, and the list.
fn elsewhere() -> (Fixture, Vec<u8>, String) {
    let (mut fixture, content) = (Fixture::in_memory(), Content::generated(1, SIZE));
    fixture.file_with_list("a", &content);
    let list = list_of(&content);
    let name = list.digest().unwrap().to_string();
    std::fs::remove_file(fixture.beside("models.pieces").join(&name)).unwrap();
    (fixture, list.write().unwrap(), name)
}

#[test]
fn a_list_is_kept_until_another_version_is_installed() {
    let mut fixture = Fixture::in_memory();
    let [first, second] = [1, 2].map(|seed| Content::generated(seed, SIZE));
    fixture.file_with_list("a", &first).fetch_all();
    let list = list_of(&first);
    assert_eq!(kept(&fixture), [list.digest().unwrap().to_string()]);
    let bytes = std::fs::read(fixture.path(".provision.pieces").join(&kept(&fixture)[0])).unwrap();
    assert_eq!(bytes, list.write().unwrap());
    std::fs::write(
        fixture.path(".provision.pieces").join(format!(".{}.0123abcd.tmp", kept(&fixture)[0])),
        "x",
    )
    .unwrap();
    fixture.file_with_list("a", &second).fetch_all();
    assert_eq!(kept(&fixture), [list_of(&second).digest().unwrap().to_string()]);
    assert_eq!(fixture.warnings(), [""; 0]);
}

#[test]
fn fault_166_a_wrong_list_is_one_warning_and_the_files_right() {
    let other = list_of(&Content::generated(9, SIZE)).write().unwrap();
    let own = |n| list_of(&Content::generated(n, SIZE)).write().unwrap();
    // What the lock pins, and what lies beside it.
    let cut = |n: u64| (own(n), own(n)[..100].to_vec());
    let flipped = |n: u64| {
        let mut list = own(n);
        list[120] ^= 1;
        (own(n), list)
    };
    let others = |_: u64| (other.clone(), other.clone());
    let noise = |_: u64| (vec![7; 500], vec![7; 500]);
    let endless = |n: u64| (own(n), vec![0; 40 << 20]);
    let cases: [Case<'_>; 5] = [
        (&cut, "the lock says"),
        (&flipped, "restore it"),
        (&others, "lock check --pieces"),
        (&noise, "does not begin with"),
        (&endless, "the lock says"),
    ];
    for (case, words) in cases {
        let mut fixture = Fixture::in_memory();
        for n in 0..2 {
            let (pinned, found) = case(n);
            let name = Sha256::of(&pinned).to_string();
            let path = format!("f{n}");
            fixture.file(&path, &Content::generated(n, SIZE)).list(&path, &pinned);
            std::fs::write(fixture.beside("models.pieces").join(name), found).unwrap();
        }
        fixture.fetch_all();
        let warnings = fixture.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("f0, f1") && warnings[0].contains(words), "{warnings:?}");
        assert_eq!(kept(&fixture), [""; 0]);
    }
}

#[test]
fn a_missing_list_is_a_warning_that_says_the_way_out() {
    let (fixture, _, name) = elsewhere();
    fixture.fetch_all();
    let warnings = fixture.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains(&name) && warnings[0].contains("lock pieces"));
}

#[test]
fn a_list_below_the_locks_url_is_fetched_once_without_query() {
    let (mut fixture, list, name) = elsewhere();
    let at = format!("/locks/models.pieces/{name}");
    fixture.origin.put(&at, Content::bytes(list));
    fixture.lists.locks = vec![fixture.origin.url("/locks/models.lock?sig=1").parse().unwrap()];
    fixture.fetch_all();
    let asked = || fixture.origin.requests().iter().filter(|one| one.target.contains(&name)).count();
    assert!(fixture.origin.requests().iter().any(|one| one.target == at));
    assert_eq!((asked(), kept(&fixture)), (1, vec![name.clone()]));
    // A complete set, then a missing file whose list is kept.
    fixture.fetch_all();
    std::fs::remove_file(fixture.path("a")).unwrap();
    fixture.fetch_all();
    assert_eq!((asked(), fixture.warnings()), (1, Vec::new()));
}

#[test]
fn offline_asks_for_no_list() {
    let (mut fixture, _, name) = elsewhere();
    fixture.fetch_all();
    std::fs::write(fixture.path("a"), Content::generated(1, SIZE).to_vec()).unwrap();
    fixture.lists.locks = vec![fixture.origin.url("/locks/models.lock").parse().unwrap()];
    fixture.config.offline = true;
    fixture.fetch_all();
    assert!(fixture.origin.requests().iter().all(|one| !one.target.contains(&name)));
}

#[test]
fn a_store_has_a_list_under_its_digest() {
    for is_directory in [false, true] {
        let (mut fixture, list, name) = elsewhere();
        let store = start_origin("127.0.0.3");
        let address = if is_directory {
            std::fs::create_dir(fixture.beside("store")).unwrap();
            std::fs::write(fixture.beside("store").join(&name), list).unwrap();
            format!("file://{}", fixture.beside("store").display())
        } else {
            store.put(&format!("/{name}"), Content::bytes(list));
            store.url("/{sha256}").replace("%7B", "{").replace("%7D", "}")
        };
        fixture.stores = vec![StoreAddress::parse(&address, &|_| None).unwrap()];
        fixture.fetch_all();
        assert_eq!((kept(&fixture), fixture.warnings()), (vec![name], Vec::new()), "{address}");
    }
}

#[test]
fn a_kept_list_comes_before_the_stores() {
    let (mut fixture, list, name) = elsewhere();
    std::fs::create_dir_all(fixture.path(".provision.pieces")).unwrap();
    std::fs::write(fixture.path(".provision.pieces").join(&name), list).unwrap();
    std::fs::create_dir(fixture.beside("store")).unwrap();
    std::fs::write(fixture.beside("store").join(&name), "another list").unwrap();
    let store = format!("file://{}", fixture.beside("store").display());
    fixture.stores = vec![StoreAddress::parse(&store, &|_| None).unwrap()];
    fixture.fetch_all();
    assert_eq!(fixture.warnings(), [""; 0]);
}

#[test]
fn offline_names_a_missing_file_before_the_wait_for_the_cache() {
    let (mut fixture, ..) = elsewhere();
    let cache: camino::Utf8PathBuf = fixture.beside("cache").try_into().unwrap();
    let place = Destination::create(&cache).unwrap();
    let Acquire::Acquired(_held) = DestinationLock::try_acquire(&place).unwrap() else {
        panic!("it is free")
    };
    fixture.local.cache = Some(cache);
    (fixture.config.offline, fixture.config.wait) = (true, Duration::from_millis(1));
    let refused = fixture.fetch().unwrap_err().to_string();
    assert!(refused.starts_with("--offline is set and 1 files are missing: a"), "{refused}");
    assert_eq!(fixture.warnings().iter().filter(|warning| warning.contains("cache")).count(), 0);
}

#[test]
fn a_stop_ends_the_questions_for_lists_at_once() {
    let mut fixture = Fixture::in_memory();
    fixture.http.head_timeout = Duration::from_secs(9);
    for n in 0..12 {
        let content = Content::generated(n, SIZE);
        let (path, list) = (format!("f{n}"), list_of(&content));
        fixture.file_with_list(&path, &content);
        let at = format!("/locks/models.pieces/{}", list.digest().unwrap());
        fixture.origin.put(&at, Content::bytes(list.write().unwrap()));
        fixture.origin.inject(&at, Fault::NoAnswer);
    }
    std::fs::remove_dir_all(fixture.beside("models.pieces")).unwrap();
    fixture.lists.locks = vec![fixture.origin.url("/locks/models.lock").parse().unwrap()];
    let (stop, stopped) = watch::channel(false);
    std::thread::scope(|scope| {
        let run = scope.spawn(|| fixture.fetch_until(stopped));
        fixture.origin.wait_for(PATIENCE, |now| now.requests >= 8).unwrap();
        let began = Instant::now();
        stop.send(true).unwrap();
        assert!(matches!(run.join().unwrap(), Err(provision_engine::fetch::FetchError::Interrupted)));
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    });
}

#[test]
fn fault_167_a_failing_place_costs_seconds_and_one_warning() {
    let (_, list, name) = elsewhere();
    let at = format!("/locks/models.pieces/{name}");
    let mut lie = list.clone();
    lie[70] ^= 1;
    let faults = [
        Fault::status(404),
        Fault::status(503),
        Fault::RetryAfter { status: 503, value: "0".to_owned() },
        Fault::NoAnswer,
        Fault::Endless { chunked: true },
        Fault::WrongLength { delta: 10_000_000_000 },
        Fault::CutBody(50),
        Fault::OtherContent(Content::bytes(lie)),
        Fault::redirect("http://127.0.0.9:1/x"),
    ];
    for fault in faults {
        let (mut fixture, ..) = elsewhere();
        fixture.origin.put(&at, Content::bytes(list.clone()));
        fixture.origin.inject(&at, fault.clone());
        fixture.lists.locks = vec![fixture.origin.url("/locks/models.lock").parse().unwrap()];
        let report = fixture.fetch().unwrap();
        fixture.assert_installed();
        assert!(report.is_complete() && report.elapsed < Duration::from_secs(8), "{fault:?}");
        let asked = fixture.origin.requests().iter().filter(|request| request.target == at).count();
        assert!((1..=2).contains(&asked), "{fault:?}: {asked} requests");
        assert_eq!((fixture.warnings().len(), kept(&fixture).len()), (1, 0), "{:?}", fixture.warnings());
    }
}

#[test]
fn a_damaged_list_with_another_copy_is_not_said_to_be_missing() {
    let (mut fixture, list, name) = elsewhere();
    let directory = fixture.beside("models.pieces");
    std::fs::write(directory.join(&name), &list[..100]).unwrap();
    let store = fixture.beside("store");
    std::fs::create_dir(&store).unwrap();
    std::fs::write(store.join(&name), &list).unwrap();
    fixture.stores.push(StoreAddress::Directory(store.try_into().unwrap()));
    let report = fixture.fetch_all();
    assert_eq!(report.files[0].verified_by, Some(VerifiedBy::Pieces));
    let said = fixture.warnings();
    assert_eq!(said.len(), 1);
    assert!(said[0].starts_with("a: used with another copy of the piece list: "), "{said:?}");
    assert!(said[0].ends_with("restore it, or write it again with `lock pieces`"), "{said:?}");
    // Another file's list is damaged and nowhere else: the warning is about that one.
    let other = Content::generated(2, SIZE);
    fixture.file_with_list("b", &other);
    let other = list_of(&other).digest().unwrap().to_string();
    std::fs::write(directory.join(&other), "x").unwrap();
    std::fs::remove_dir_all(fixture.destination()).unwrap();
    fixture.fetch_all();
    let said = fixture.warnings();
    assert!(said[1].starts_with("b: used without a piece list: ") && said[1].contains(&other), "{said:?}");
    assert_eq!(said.len(), 2);
}

#[test]
fn fault_168_links_planted_among_kept_lists_are_not_followed() {
    for is_directory in [false, true] {
        let (mut fixture, content) = (Fixture::in_memory(), Content::generated(1, SIZE));
        fixture.file_with_list("a", &content);
        let (outside, name) = (fixture.beside("outside"), list_of(&content).digest().unwrap().to_string());
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("theirs"), "x").unwrap();
        let directory = fixture.path(".provision.pieces");
        if is_directory {
            std::fs::create_dir_all(fixture.destination()).unwrap();
            std::os::unix::fs::symlink(&outside, &directory).unwrap();
        } else {
            std::fs::create_dir_all(&directory).unwrap();
            std::os::unix::fs::symlink(outside.join("theirs"), directory.join(&name)).unwrap();
        }
        assert!(fixture.fetch().unwrap().is_complete());
        let names = outside.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
        assert_eq!(names, ["theirs"]);
        assert_eq!(std::fs::read(outside.join("theirs")).unwrap(), b"x");
        assert!(is_directory || !directory.join(&name).is_symlink(), "replaced by the list itself");
        assert_eq!(fixture.warnings(), [""; 0]);
    }
}

#[test]
fn pieces_keeps_a_list_of_each_downloaded_file_that_has_none() {
    let mut fixture = Fixture::in_memory();
    let contents = [1, 2].map(|seed| Content::generated(seed, SIZE));
    fixture.file("a", &contents[0]).file_with_list("b", &contents[1]);
    run(&mut fetch(&fixture, &["--pieces"])).exits(0);
    let mut lists = contents.map(|content| list_of(&content).digest().unwrap().to_string());
    lists.sort();
    assert_eq!(kept(&fixture), lists);
}

#[test]
fn clean_removes_the_lists_of_files_that_are_gone() {
    let (mut fixture, content) = (Fixture::in_memory(), Content::generated(1, SIZE));
    fixture.file_with_list("a", &content);
    run(&mut fetch(&fixture, &[])).exits(0);
    let stray = list_of(&Content::generated(2, SIZE));
    let path = fixture.path(".provision.pieces").join(stray.digest().unwrap().to_string());
    std::fs::write(&path, stray.write().unwrap()).unwrap();
    let clean = || run_verb(&fixture, "clean", &["--yes"]).exits(0).out;
    let out = clean();
    assert!(out.contains("piece list of a file that is not installed any more"), "{out}");
    assert_eq!(kept(&fixture), [list_of(&content).digest().unwrap().to_string()]);
    assert!(clean().contains("nothing to remove"));
}

#[test]
fn verify_reads_the_list_beside_the_lock() {
    let (mut fixture, content) = (Fixture::in_memory(), Content::generated(1, SIZE));
    fixture.file_with_list("a", &content);
    run(&mut fetch(&fixture, &[])).exits(0);
    run_verb(&fixture, "verify", &[]).exits(0).err_has(&["by piece lists"]);
}

#[test]
fn a_mistaken_list_installs_its_bytes_and_no_run_loops() {
    let (mut fixture, right) = (Fixture::in_memory(), Content::generated(1, SIZE));
    let other = Content::generated(2, SIZE);
    let pieces = list_of(&other).pieces().to_vec();
    let list = PieceList::new(SIZE, right.sha256_hex().parse().unwrap(), pieces).unwrap().write().unwrap();
    fixture.file("a", &right).list("a", &list);
    fixture.origin.put("/a", other.clone());
    let verify_full = |fixture: &Fixture| {
        let mut command = program(fixture);
        command.args(["verify", "--full", "--lock"]).arg(fixture.write_lock());
        run(command.arg("--dest").arg(fixture.destination()))
    };
    run(&mut fetch(&fixture, &[])).exits(0);
    verify_full(&fixture).exits(5).out_has(&["the piece list of a does not describe the file with SHA-256"]);
    let lock_pieces = |fixture: &Fixture| {
        let mut command = program(fixture);
        command.args(["lock", "pieces", "--lock"]).arg(fixture.write_lock());
        run(command.arg("--dest").arg(fixture.destination()))
    };
    lock_pieces(&fixture).exits(5).err_has(&["take its `pieces` out of the lock first"]);
    // Without the list, the source has other bytes than the lock says: each run asks twice at most, and the file stays.
    std::fs::remove_dir_all(fixture.beside("models.pieces")).unwrap();
    std::fs::remove_dir_all(fixture.path(".provision.pieces")).unwrap();
    for arguments in [&["--verify", "full"][..], &[]] {
        let sent = fixture.sent();
        run(&mut fetch(&fixture, arguments)).exits(5);
        let sent = fixture.sent() - sent;
        assert!(sent <= 2 * SIZE, "{sent} bytes sent");
        assert!(std::fs::read(fixture.path("a")).unwrap() == other.to_vec());
    }
    fixture.origin.put("/a", right);
    run(&mut fetch(&fixture, &[])).exits(0);
    fixture.assert_installed();
    // The mistaken list is back: it says that the right bytes are wrong, and no source has others.
    fixture.list("a", &list);
    let sent = fixture.sent();
    run(&mut fetch(&fixture, &["--verify", "full"])).exits(5);
    assert!(fixture.sent() - sent <= 4 * SIZE);
    fixture.assert_nothing_wrong();
}
