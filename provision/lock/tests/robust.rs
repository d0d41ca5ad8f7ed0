//! Input from people and other tools may be anything: it is parsed or refused, and never causes a panic.

use proptest::prelude::*;
use proptest::sample::select;
use provision_lock::edit::Document;
use provision_lock::expiry::Expiry;
use provision_lock::import::{self, Format};
use provision_lock::source::Source;

/// Texts that are almost valid.
fn nearly() -> impl Strategy<Value = String> {
    let long = [
        "modelscope:",
        "huggingface.co",
        "checksum=sha-256=",
        "a70580f0213e67967ee9c95f05bb400e8fb08307e017a924bf3441223e023d1f",
        "\"nodes\":",
    ];
    let short = [
        "hf:", "github:", "oci:", "civitai:", "https://", "/o/r", "/blob/", "@", "main", "refs/pr/", "%2F",
        "%ff", "..", "sha256:", "?", "token=", " ", "\t", "\n", "\r", " out=", "*", "[", "{", "\\", "é",
        "\u{0}", "#", "SHA256 (", ") = ", "[]", "}", ":99999/", "v2/",
    ];
    let pieces = select([&long[..], &short].concat());
    prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat())
}

/// Texts that are almost shell scripts.
fn nearly_shell() -> impl Strategy<Value = String> {
    let long =
        ["https://h/a.pt", "$(basename ", "for A in ", "while read A; ", "case $A in ", "FROM x\nRUN "];
    let short = [
        "wget ", "curl -o ", "-P ", "$", "${", "}", "$(", ")", "\"", "'", "`", "\\", "\n", " ", ";", "&&",
        "|", "A=", "A=(", "A+=(", "$A", "${A[@]}", "${A:-", "${A##*/", "${A%%|*", "${@:2}", "do ", "done\n",
        "if ", "then ", "else ", "fi\n", "esac\n", ";;", "f() {", "f ", "(", "<<E\n", "E\n", "<<<", ">",
        "2>", "[[ ", "]]", "cd ", "#", "bash -c ", "shift\n", "é",
    ];
    let pieces = select([&long[..], &short].concat());
    prop::collection::vec(pieces, 0..40).prop_map(|pieces| format!("#!/bin/sh\n{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_source_is_parsed_or_refused(text in prop_oneof![nearly(), any::<String>()]) {
        if let Ok(source) = text.parse::<Source>() {
            let address = source.address();
            prop_assert_eq!(Source::of_url(&address).address(), address.clone());
            let _ = (source.file_name(), source.is_pinned(), Expiry::of(&address));
            if !matches!(source, Source::Url(_)) {
                let again: Result<Source, _> = source.to_string().parse();
                prop_assert_eq!(again.as_ref(), Ok(&source));
            }
        }
    }

    #[test]
    fn a_list_is_parsed_or_refused(text in prop_oneof![nearly(), any::<String>()]) {
        for format in Format::ALL.map(Some).into_iter().chain([None]) {
            if let Ok(list) = import::read("list", text.as_bytes(), format) {
                let _ = import::join(vec![list.clone(), list]);
            }
        }
    }

    #[test]
    fn a_script_is_read_or_refused(text in nearly_shell()) {
        let _ = import::read("script", text.as_bytes(), Some(Format::Script));
    }

    #[test]
    fn an_invalid_lock_is_no_document(text in any::<String>()) {
        let _ = Document::parse("models.lock", &text);
    }
}
