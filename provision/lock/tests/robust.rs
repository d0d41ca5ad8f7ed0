//! Input from people and other tools may be anything: it is parsed or refused, and never causes a panic.

use proptest::prelude::*;
use provision_lock::edit::Document;
use provision_lock::expiry::Expiry;
use provision_lock::import::{self, Format};
use provision_lock::source::Source;

/// Texts that are almost valid.
fn nearly() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        Just("hf:"),
        Just("github:"),
        Just("oci:"),
        Just("civitai:"),
        Just("modelscope:"),
        Just("https://"),
        Just("huggingface.co"),
        Just("/o/r"),
        Just("/blob/"),
        Just("@"),
        Just("main"),
        Just("refs/pr/"),
        Just("%2F"),
        Just("%ff"),
        Just(".."),
        Just("sha256:"),
        Just("?"),
        Just("token="),
        Just(" "),
        Just("\t"),
        Just("\n"),
        Just("\r"),
        Just(" out="),
        Just("checksum=sha-256="),
        Just("*"),
        Just("["),
        Just("{"),
        Just("\\"),
        Just("é"),
        Just("\u{0}"),
        Just("a70580f0213e67967ee9c95f05bb400e8fb08307e017a924bf3441223e023d1f"),
        Just("#"),
        Just("SHA256 ("),
        Just(") = "),
        Just("\"nodes\":"),
        Just("[]"),
        Just("}"),
        Just(":99999/"),
        Just("v2/"),
    ];
    prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat())
}

/// Texts that are almost shell scripts.
fn nearly_shell() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "wget ",
        "curl -o ",
        "-P ",
        "https://h/a.pt",
        "$",
        "${",
        "}",
        "$(",
        "$(basename ",
        ")",
        "\"",
        "'",
        "`",
        "\\",
        "\n",
        " ",
        ";",
        "&&",
        "|",
        "A=",
        "A=(",
        "A+=(",
        "$A",
        "${A[@]}",
        "${A:-",
        "${A##*/",
        "${A%%|*",
        "${@:2}",
        "for A in ",
        "do ",
        "done\n",
        "if ",
        "then ",
        "else ",
        "fi\n",
        "while read A; ",
        "case $A in ",
        "esac\n",
        ";;",
        "f() {",
        "f ",
        "(",
        "<<E\n",
        "E\n",
        "<<<",
        ">",
        "2>",
        "[[ ",
        "]]",
        "cd ",
        "#",
        "FROM x\nRUN ",
        "bash -c ",
        "shift\n",
        "é",
    ]);
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
