//! `provision lock torrent`: from installed files to torrents that every client reads.

use std::os::unix::fs::MetadataExt as _;

use provision_core::torrent::InfoHash;

use crate::prelude::*;

fn lock_torrent(fixture: &Fixture, arguments: &[&str]) -> Command {
    let mut command = program(fixture);
    command.args(["lock", "torrent", "-o"]).arg(fixture.beside("torrents"));
    command.arg("--lock").arg(fixture.write_lock()).arg("--dest").arg(fixture.destination()).args(arguments);
    command
}

/// A fixture with two models, the first of which has an address without a query as its mirror.
fn installed() -> Fixture {
    let mut fixture = Fixture::new();
    let (a, b) = (Content::generated(1, 700_001), Content::generated(2, 3));
    fixture.file("loras/a.bin", &a).file("vae/b.bin", &b);
    for (path, content) in [("loras/a.bin", a), ("vae/b.bin", b)] {
        write(fixture.path(path), content.to_vec());
    }
    fixture
}

fn names(fixture: &Fixture) -> Vec<String> {
    let Ok(entries) = fixture.beside("torrents").read_dir() else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn torrent_name(name: &str, content: &Content) -> String {
    format!("{name}.{}.torrent", &content.sha256_hex()[..8])
}

fn read(fixture: &Fixture, name: &str) -> Vec<u8> {
    std::fs::read(fixture.beside("torrents").join(name)).unwrap()
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn torrents_are_written_once_and_name_their_info_hash() {
    let fixture = installed();
    let Ended { out, .. } = run(&mut lock_torrent(&fixture, &[])).exits(0);
    let [a, b] = [("a.bin", Content::generated(1, 700_001)), ("b.bin", Content::generated(2, 3))]
        .map(|(name, content)| torrent_name(name, &content));
    assert_eq!(names(&fixture), [a.clone(), b.clone()]);
    let first = read(&fixture, &a);
    // Three pieces of 256 KiB, and no time.
    assert!(has(
        &first,
        "d10:created by9:provision4:infod6:lengthi700001e4:name5:a.bin12:piece lengthi262144e6:pieces60:"
    ));
    for name in [&a, &b] {
        let hash = InfoHash::of(&read(&fixture, name)).unwrap();
        assert!(out.contains(&format!("written    {hash}  ")), "{out}");
    }
    let inode = || std::fs::metadata(fixture.beside("torrents").join(&a)).unwrap().ino();
    let before = inode();
    let again = run(&mut lock_torrent(&fixture, &[]));
    assert_eq!((again.code, again.out), (Some(0), out.replace("written  ", "unchanged")));
    assert_eq!(inode(), before);
    // A web seed and a tracker are no part of the info hash.
    let more = ["a.bin", "--web-seed", "https://h.example/m", "--tracker", "http://t.example/announce"];
    run(&mut lock_torrent(&fixture, &["loras/*", more[1], more[2], more[3], more[4]])).exits(0);
    let now = read(&fixture, &a);
    assert!(has(&now, "d8:announce25:http://t.example/announce10:"));
    assert!(has(&now, "8:url-listl31:https://h.example/m/loras/a.binee"));
    assert_eq!(InfoHash::of(&now), InfoHash::of(&first));
}

#[test]
fn a_base_for_all_files_gives_a_torrent_of_the_set() {
    let fixture = installed();
    let seeds = ["--web-seed", "https://h.example/team/models/", "--web-seed", "http://i.example/models"];
    run(&mut lock_torrent(&fixture, &seeds)).exits(0);
    let set = read(&fixture, "models.torrent");
    assert!(has(
        &set,
        "4:infod5:filesld6:lengthi700001e4:pathl5:loras5:a.bineed6:lengthi3e4:pathl3:vae5:b.bineee4:name6:models"
    ));
    assert!(has(&set, "8:url-listl23:https://h.example/team/17:http://i.example/ee"));
    let apart = ["--web-seed", "https://h.example/one", "--web-seed", "https://h.example/two"];
    std::fs::remove_file(fixture.beside("torrents/models.torrent")).unwrap();
    let ended = run(&mut lock_torrent(&fixture, &apart));
    assert_eq!((ended.code, names(&fixture).len()), (Some(0), 2));
    ended.err_has(&["no torrent of the set is made"]);
}

#[test]
fn fault_150_no_secret_and_no_other_bytes_reach_a_torrent() {
    let fixture = installed();
    // The lock's addresses are signed.
    run(&mut lock_torrent(&fixture, &[]))
        .exits(0)
        .err_has(&["is no web seed of vae/b.bin: its query may be a secret"]);
    assert!(names(&fixture).iter().all(|name| !has(&read(&fixture, name), "url-list")));
    run(&mut lock_torrent(&fixture, &["--web-seed", "https://h.example/x?sig=secret"]))
        .exits(2)
        .err_lacks(&["sig="]);
    // A file with other bytes, and one that is not there.
    std::fs::remove_dir_all(fixture.beside("torrents")).unwrap();
    std::fs::write(fixture.path("vae/b.bin"), "abc").unwrap();
    let ended = run(&mut lock_torrent(&fixture, &["--web-seed", "https://h.example/models/"]));
    assert_eq!((ended.code, names(&fixture).len()), (Some(5), 1));
    ended.err_has(&["vae/b.bin: has SHA-256"]);
    std::fs::remove_file(fixture.path("vae/b.bin")).unwrap();
    run(&mut lock_torrent(&fixture, &["vae/b.bin"]))
        .exits(5)
        .err_has(&["vae/b.bin: missing; run `fetch`, then this again"]);
}

#[test]
fn a_client_that_serves_files_is_a_store_by_info_hash() {
    let fixture = installed();
    run(&mut lock_torrent(&fixture, &[])).exits(0);
    let a = Content::generated(1, 700_001);
    let infohash = InfoHash::of(&read(&fixture, &torrent_name("a.bin", &a))).unwrap();
    fixture.origin.put(&format!("/torrents/{infohash}/stream/0"), a);
    // The other model has no torrent any more, so the store is not asked for it.
    std::fs::remove_file(fixture.beside("torrents").join(torrent_name("b.bin", &Content::generated(2, 3))))
        .unwrap();
    std::fs::remove_dir_all(fixture.destination()).unwrap();
    let store = fixture.origin.url("") + "/torrents/{infohash}/stream/0";
    run(&mut fetch(&fixture, &["--store", &store])).exits(2).err_has(&["give --torrents"]);
    let torrents = fixture.beside("torrents");
    let ended =
        run(&mut fetch(&fixture, &["--store", &store, "--torrents", torrents.to_str().unwrap()])).exits(0);
    fixture.assert_installed();
    let counters = fixture.origin.counters();
    assert_eq!(counters.path("/loras/a.bin").requests, 0, "{}", ended.err);
    assert_eq!(counters.path("/vae/b.bin").body_bytes, 3);
    assert_eq!(counters.paths.keys().filter(|path| path.starts_with("/torrents/")).count(), 1);
}
