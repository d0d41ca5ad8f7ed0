//! `provision pieces show`: what it prints of a list, and what it says of other files.

use provision_core::piece_list::Lister;

use crate::prelude::*;

const SIZE: usize = (4 << 20) + 5;

/// The list of a file of two pieces, with its bytes.
fn list() -> (Content, Vec<u8>) {
    let content = Content::generated(1, SIZE as u64);
    let bytes = content.to_vec();
    let mut lister = Lister::new(SIZE as u64);
    lister.update(&bytes);
    (content, lister.finish(Sha256::of(&bytes)).write().unwrap())
}

/// Writes these bytes to a file `list`, and shows it.
fn show(fixture: &Fixture, bytes: &[u8], arguments: &[&str]) -> Ended {
    let path = fixture.beside("list");
    std::fs::write(&path, bytes).unwrap();
    run(program(fixture).args(["pieces", "show"]).arg(path).args(arguments))
}

#[test]
fn a_list_is_shown_with_its_file_its_digest_and_each_piece() {
    let fixture = Fixture::new();
    let (content, bytes) = list();
    let whole = content.to_vec();
    let [first, last] = [&whole[..4 << 20], &whole[4 << 20..]].map(Sha256::of);
    let (file, digest) = (content.sha256_hex(), Sha256::of(&bytes));
    let shown = show(&fixture, &bytes, &[]);
    let expected = format!(
        "version  1\n\
         file     4.19 MB (4194309 bytes), SHA-256 {file}\n\
         list     2 pieces, SHA-256 {digest}\n\
         \x20            0  4194304  {first}\n\
         \x20      4194304        5  {last}\n"
    );
    assert_eq!((shown.code, shown.out, shown.err), (Some(0), expected, String::new()));
    let shown = show(&fixture, &bytes, &["--json"]);
    let json: serde_json::Value = serde_json::from_str(&shown.out).unwrap();
    let pieces = serde_json::json!([
        { "offset": 0, "length": 4_194_304, "sha256": first.to_string() },
        { "offset": 4_194_304, "length": 5, "sha256": last.to_string() },
    ]);
    let expected = serde_json::json!({
        "version": 1, "size": SIZE, "sha256": file, "list": digest.to_string(), "pieces": pieces,
    });
    assert_eq!(json, expected);
}

#[test]
fn fault_151_a_list_that_lies_is_not_shown() {
    let fixture = Fixture::new();
    let (_, right) = list();
    let lie = |at: usize, byte: u8| {
        let mut bytes = right.clone();
        bytes[at] = byte;
        bytes
    };
    let end = right.len();
    for (bytes, says) in [
        (lie(24, 6), "its pieces end at byte 4194309, and the file at byte 4194310"),
        (lie(20, 3), "it lists 3 pieces in 152 bytes, for a file of 4194309 bytes"),
        (
            lie(108, 1),
            "its piece 1 has 5 bytes from byte 4194305, where 1 to 4194304 from byte 4194304 are right",
        ),
        (right[..end - 1].to_vec(), "it lists 2 pieces in 151 bytes"),
    ] {
        let ended = show(&fixture, &bytes, &[]).exits(3);
        ended.out_is("");
        ended.err_has(&["/list is no piece list of version 1: ", says, "`lock pieces` writes"]);
    }
}

#[test]
fn fault_153_a_file_that_is_no_list_is_named_and_read_briefly() {
    let fixture = Fixture::new();
    let (content, mut later) = list();
    later[16] = 2;
    for (bytes, says) in [
        (content.to_vec(), "it does not begin with \"provision-pieces\""),
        (Vec::new(), "it does not begin with"),
        (later, "it has version 2, which a newer program may read"),
    ] {
        let ended = show(&fixture, &bytes, &["--json"]).exits(3);
        ended.out_is("");
        ended.err_has(&[says]);
    }
    // Holes behind a right list, beyond the longest list.
    let path = fixture.beside("list");
    std::fs::write(&path, list().1).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(20 << 20).unwrap();
    run(program(&fixture).args(["pieces", "show"]).arg(&path))
        .exits(3)
        .err_has(&["it lists 2 pieces in 16777217 bytes"]);
    for path in [fixture.beside("nowhere"), fixture.beside("")] {
        run(program(&fixture).args(["pieces", "show"]).arg(&path))
            .exits(7)
            .err_has(&[&format!("{} cannot be read: ", path.display())]);
    }
}
