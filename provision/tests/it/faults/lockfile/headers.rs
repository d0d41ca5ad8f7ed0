//! Locks that pin broken safetensors files: they are installed, with a warning that no loader will accept them.

use crate::prelude::*;

fn safetensors(header: &str, data: usize) -> Content {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 7);
    Content::bytes(bytes)
}

const GOOD: &str = r#"{"w":{"dtype":"BF16","shape":[100],"data_offsets":[0,200]}}"#;

#[test]
fn only_a_wrong_safetensors_header_is_warned_about() {
    let mut fixture = Fixture::new();
    fixture.file("good.safetensors", &safetensors(GOOD, 200)).file("other.gguf", &safetensors("{", 10));
    fixture.fetch_all();
    assert_eq!(fixture.warnings(), Vec::<String>::new());

    fixture
        .file("d/cut.safetensors", &safetensors(GOOD, 150))
        .file("d/page.SafeTensors", &safetensors("{", 10));
    let report = fixture.fetch_all();
    assert!(report.is_complete());
    let said = fixture.warnings();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("d/cut.safetensors: it has the SHA-256 that the lock names"), "{said:?}");
    assert!(said[0].contains("fill 200 bytes after the header, and 150 bytes are there"), "{said:?}");
    // The warning is printed only when the file is fetched.
    fixture.config.verify = provision_engine::fetch::Verify::Full;
    fixture.fetch_all();
    assert_eq!(fixture.warnings().len(), 2);
}

#[test]
fn a_wrong_header_does_not_change_the_exit_code() {
    let mut fixture = Fixture::new();
    fixture.file("x.safetensors", &safetensors("<!doctype html>", 10));
    run(&mut fetch(&fixture, &[]))
        .exits(0)
        .err_has(&["no loader will take it: its header is not what the format asks for"]);
    fixture.assert_installed();
}
