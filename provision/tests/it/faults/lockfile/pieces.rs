//! Piece lists that do not fit the lock or the file any more (faults 152 and 154 to 157).

use std::fs;

use rustix::fs::FlockOperation;

use crate::lock_pieces::{LONG, install, list_of, lists, lock_text, lock_verb, pin, said};
use crate::prelude::*;

/// An installed model of three pieces, and its lock.
fn installed() -> (Fixture, Content) {
    let (fixture, content) = Fixture::of("vae/x.bin", Content::generated(1, LONG));
    install(&fixture, "vae/x.bin", &content);
    fixture.write_lock();
    (fixture, content)
}

#[test]
fn fault_152_a_lying_tensor_header_leaves_fixed_pieces() {
    let tensors = |offsets: &str| {
        let header = format!(r#"{{"a":{{"dtype":"U8","shape":[1],"data_offsets":{offsets}}}}}"#);
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()
    };
    let table = [&b"GGUF\x03\0\0\0"[..], &[0xff; 16]].concat();
    let heads = [tensors("[0,99999999999]"), tensors("[70000,200000]"), [0xff; 9].to_vec(), table];
    for head in heads {
        let tail = Content::generated(3, LONG - head.len() as u64).to_vec();
        let content = Content::bytes([head, tail].concat());
        let mut fixture = Fixture::new();
        fixture.file("vae/x.bin", &content);
        install(&fixture, "vae/x.bin", &content);
        fixture.write_lock();
        said(&fixture, 0, &["pieces"]);
        let [list] = &lists(&fixture)[..] else { panic!("one list") };
        let list = PieceList::parse(&fs::read(fixture.beside("models.pieces").join(list)).unwrap()).unwrap();
        let starts: Vec<u64> = list.pieces().iter().map(|piece| piece.range.start).collect();
        assert_eq!(starts, [0, 4 << 20, 8 << 20]);
        said(&fixture, 0, &["check", "--pieces"]);
    }
}

#[test]
fn fault_154_a_list_of_old_bytes_leaves_the_lock_with_them() {
    let (fixture, old) = installed();
    said(&fixture, 0, &["pieces"]);
    let [stale] = &lists(&fixture)[..] else { panic!("one list") };
    let url = fixture.origin.url("/vae/x.bin");
    let size = LONG.to_string();
    let add = |content: &Content| {
        let sha256 = content.sha256_hex();
        said(&fixture, 0, &["add", &url, "--path", "vae/x.bin", "--sha256", &sha256, "--size", &size])
    };
    let out = add(&old).out;
    assert!(out.contains("unchanged") || out.contains("same bytes"), "{out}");
    assert!(lock_text(&fixture).contains(stale.as_str()), "the same bytes keep it");

    let new = Content::generated(2, LONG);
    add(&new).out_has(&["no piece list"]).err_has(&["describes the old bytes"]);
    assert!(!lock_text(&fixture).contains("pieces = "), "{}", lock_text(&fixture));

    // An update that reads the bytes again drops it, too.
    pin(&fixture, &new, &list_of(&new.to_vec(), |_, digest| digest));
    fixture.origin.put("/vae/x.bin", old.clone());
    let cache = fixture.beside("cache").to_str().unwrap().to_owned();
    said(&fixture, 0, &["update", "vae/x.bin", "--cache", &cache]);
    assert!(lock_text(&fixture).contains(&old.sha256_hex()) && !lock_text(&fixture).contains("pieces = "));

    // Old files that no lock names are removed, and only those.
    let names = ["hands-off", &"0".repeat(64), &"1".repeat(64)];
    let [keep, gone, object] = names.map(|name| fixture.beside("models.pieces").join(name));
    for (path, text) in [(&keep, "provision-pieces"), (&gone, "provision-pieces"), (&object, "a model")] {
        fs::write(path, text).unwrap();
        let hour_ago = fs::metadata(path).unwrap().modified().unwrap() - Duration::from_hours(1);
        fs::File::options().write(true).open(path).unwrap().set_modified(hour_ago).unwrap();
    }
    said(&fixture, 0, &["pieces"]).out_has(&["removed", "no *.lock or *.toml beside it names it"]);
    assert!(keep.exists() && object.exists() && !gone.exists());
    said(&fixture, 0, &["check", "--pieces"]);
}

#[test]
fn fault_155_a_list_that_lies_about_its_file_is_found() {
    let lie = |at: usize, digest: Sha256| if at == 1 { Sha256::of(b"lie") } else { digest };
    let (other, shorter) = (Content::generated(2, LONG), Content::generated(1, LONG - 1));
    for (make, why) in [
        (
            &(|content: &Content| list_of(&content.to_vec(), lie)) as &dyn Fn(&Content) -> Vec<u8>,
            "bytes 4194304 to 8388607",
        ),
        (&|_| list_of(&other.to_vec(), |_, digest| digest), "it is the list of 9000001 bytes with SHA-256"),
        (&|_| list_of(&shorter.to_vec(), |_, digest| digest), "it is the list of 9000000 bytes with SHA-256"),
    ] {
        let (fixture, content) = installed();
        pin(&fixture, &content, &make(&content));
        let Ended { out, err, .. } = said(&fixture, 5, &["check", "--pieces"]);
        let sentence = format!(
            "the piece list of vae/x.bin does not describe the file with SHA-256 {}",
            content.sha256_hex()
        );
        assert!(out.contains("differs      vae/x.bin"), "{out}");
        assert!(err.contains(&sentence) && err.contains(why), "{err}");
        assert!(err.contains("`lock pieces vae/x.bin` writes a right one"), "{err}");
        said(&fixture, 0, &["pieces", "vae/x.bin"]);
        said(&fixture, 0, &["check", "--pieces"]);
    }
}

#[test]
fn fault_156_a_list_that_is_missing_or_altered_is_named() {
    let (fixture, _) = installed();
    said(&fixture, 0, &["pieces"]);
    let text = lock_text(&fixture);
    let path = fixture.beside("models.pieces").join(&lists(&fixture)[0]);
    let list = fs::read(&path).unwrap();
    let altered = [&list[..list.len() - 1], &[list[list.len() - 1] ^ 1]].concat();
    for (state, word, why) in [
        (None, "missing", "it is not beside the lock"),
        (Some(&altered[..]), "differs", "so it is not the lock's list"),
        (Some(&list[..70]), "differs", "so it is not the lock's list"),
        (Some(&[]), "differs", "so it is not the lock's list"),
    ] {
        match state {
            None => fs::remove_file(&path).unwrap(),
            Some(bytes) => fs::write(&path, bytes).unwrap(),
        }
        let Ended { out, err, .. } = said(&fixture, 5, &["check", "--pieces"]);
        assert!(out.contains(&format!("{word:<11}  vae/x.bin")) && err.contains(why), "{out}{err}");
        assert!(err.contains("`lock pieces vae/x.bin`"), "{err}");
        said(&fixture, 0, &["pieces"]);
        assert_eq!((fs::read(&path).unwrap(), lock_text(&fixture)), (list.clone(), text.clone()));
    }
}

#[test]
fn fault_157_a_kill_between_list_and_lock_leaves_both_whole() {
    let (fixture, content) = installed();
    let text = lock_text(&fixture);
    // Another writer holds the lock, so the command waits between the two.
    let draft = fs::File::create(fixture.beside(".models.lock.tmp")).unwrap();
    rustix::fs::flock(&draft, FlockOperation::LockExclusive).unwrap();
    let running = start(&mut lock_verb(&fixture, &["pieces"]));
    let is_list = |name: &String| name.parse::<Sha256>().is_ok();
    wait_until(PATIENCE, "the list", || lists(&fixture).iter().any(is_list));
    signal(&running, Signal::KILL);
    running.end();
    assert_eq!(lock_text(&fixture), text);
    let name = lists(&fixture).into_iter().find(is_list).unwrap();
    let bytes = fs::read(fixture.beside("models.pieces").join(&name)).unwrap();
    assert_eq!(Sha256::of(&bytes).to_string(), name);
    assert_eq!(PieceList::parse(&bytes).unwrap().file().to_string(), content.sha256_hex());
    drop(draft);
    said(&fixture, 0, &["pieces"]);
    assert!(lock_text(&fixture).contains(&format!("pieces = \"{name}\"")));
    assert_eq!(lists(&fixture), [name]);
}
