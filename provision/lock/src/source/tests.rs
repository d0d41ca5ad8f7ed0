use provision_core::digest::Sha256;

use super::*;

const COMMIT: &str = "1f12b17be14c89b026c51a91d67c32f84bb047bc";

fn parse(text: &str) -> Source {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn error(text: &str) -> SourceError {
    match text.parse::<Source>() {
        Err(error) => error,
        Ok(source) => panic!("{text} was taken for {source}"),
    }
}

#[test]
fn a_missing_branch_means_the_main_one() {
    for (a, b, same) in [
        ("hf:o/r/x", "hf:o/r@main/x", true),
        ("hf:o/r/x", "hf:o/r@master/x", false),
        ("modelscope:o/r/x", "modelscope:o/r@master/x", true),
        ("hf:datasets/o/r/x", "hf:o/r/x", false),
        ("github:o/r/x", "github:o/r@main/x", false),
    ] {
        assert_eq!(parse(a).is_same(&parse(b)), same, "{a} {b}");
    }
}

#[test]
fn every_short_form_parses_and_is_displayed_as_written() {
    let digest = Sha256::of(b"x");
    for text in [
        "hf:Comfy-Org/Qwen-Image_ComfyUI/split_files/vae/qwen_image_vae.safetensors".to_owned(),
        "hf:o/r@main/*.safetensors".to_owned(),
        "hf:o/r@refs%2Fpr%2F3/x".to_owned(),
        "hf:o/r@v1.0%2540/x".to_owned(),
        "hf:datasets/o/r@main/a/b".to_owned(),
        "hf:spaces/o/r/x@y.bin".to_owned(),
        "civitai:128713".to_owned(),
        "civitai:128713?format=SafeTensor&fp=fp16".to_owned(),
        "modelscope:o/r@master/x y.safetensors".to_owned(),
        "github:o/r@v1/2/x.bin".to_owned(),
        "github:o/r/x@2.bin".to_owned(),
        format!("oci:ghcr.io/o/models/x@sha256:{digest}"),
        format!("oci:127.0.0.1:5000/x@sha256:{digest}"),
        "https://h.example/a/b.bin".to_owned(),
    ] {
        let source = parse(&text);
        assert_eq!(source.to_string(), text);
        assert_eq!(parse(&source.to_string()), source);
    }
}

#[test]
fn a_revision_may_have_slashes() {
    let pull = parse("hf:o/r@refs/pr/3/d/x");
    assert_eq!(pull.to_string(), "hf:o/r@refs%2Fpr%2F3/d/x");
    assert_eq!(pull, parse("hf://o/r@refs%2Fpr%2F3/d/x"));
    assert_eq!(pull, parse("https://huggingface.co/o/r/blob/refs%2Fpr%2F3/d/x"));
    assert_eq!(pull, parse("https://huggingface.co/o/r/resolve/refs/pr/3/d/x"));
    assert_eq!(
        pull.address().as_url().as_str(),
        "https://huggingface.co/o/r/resolve/refs%2Fpr%2F3/d/x",
        "one segment, so that the Hub does not take `pr` for a path"
    );
}

#[test]
fn page_and_download_urls_become_the_short_form() {
    for (address, short) in [
        ("https://huggingface.co/o/r/blob/main/a/b.safetensors", "hf:o/r@main/a/b.safetensors"),
        ("https://huggingface.co/o/r/resolve/main/x%20y.bin?download=true#l", "hf:o/r@main/x y.bin"),
        ("https://hf.co/datasets/o/r/resolve/main/x", "hf:datasets/o/r@main/x"),
        ("https://huggingface.co/spaces/o/r/raw/main/x", "hf:spaces/o/r@main/x"),
        ("https://civitai.com/models/4384/dreamshaper?modelVersionId=128713", "civitai:128713"),
        ("https://civitai.com/models/4384?modelVersionId=128713", "civitai:128713"),
        (
            "https://civitai.com/api/download/models/128713?type=Model&token=canary&fp=fp16",
            "civitai:128713?type=Model&fp=fp16",
        ),
        ("https://civitai.com/api/download/models/140?fileId=2&token=canary", "civitai:140?fileId=2"),
        ("https://civitai.com/models/4384?modelVersionId=140&fileId=2&utm_source=x", "civitai:140?fileId=2"),
        ("urn:air:sdxl:checkpoint:civitai:101055@128078", "civitai:128078"),
        ("civitai:101055@128078", "civitai:128078"),
        ("https://www.modelscope.cn/models/o/r/resolve/master/d/x", "modelscope:o/r@master/d/x"),
        ("https://modelscope.cn/models/o/r/file/view/master/d/x?status=1", "modelscope:o/r@master/d/x"),
        ("https://modelscope.cn/api/v1/models/o/r/repo?Revision=v1&FilePath=d%2Fx", "modelscope:o/r@v1/d/x"),
        ("https://github.com/o/r/releases/download/v1.0/x.pth", "github:o/r@v1.0/x.pth"),
        ("https://github.com/o/r/releases/download/rel%2F1/x.pth", "github:o/r@rel/1/x.pth"),
        ("https://github.com/o/r/releases/download/latest/x", "github:o/r@latest/x"),
        ("https://github.com/o/r/releases/latest/download/x", "github:o/r/x"),
    ] {
        assert_eq!(parse(address).to_string(), short, "{address}");
        assert!(!format!("{:?}", parse(address)).contains("canary"));
    }
}

#[test]
fn other_urls_stay_urls() {
    for text in [
        "https://huggingface.co/gpt2/resolve/main/model.safetensors",
        "https://huggingface.co/api/resolve-cache/models/o/r/x",
        "https://huggingface.co:8443/o/r/blob/main/x",
        "https://huggingface.co.evil/o/r/blob/main/x",
        "https://github.com/o/r/raw/main/x",
        "https://raw.githubusercontent.com/o/r/main/x",
        // A parameter of unknown meaning may choose another file.
        "https://civitai.com/api/download/models/140?fileId=2&epoch=7",
    ] {
        assert!(matches!(parse(text), Source::Url(_)), "{text}");
    }
}

#[test]
fn fault_114_a_file_that_the_query_names_has_that_name() {
    for (query, path) in [
        ("file=vae/x.safetensors", "vae/x.safetensors"),
        ("v=2&FileName=x.gguf", "x.gguf"),
        ("file=../x.bin", "vae/get"),
        ("file=readme", "vae/get"),
        ("q=x.bin", "vae/get"),
    ] {
        assert_eq!(
            parse(&format!("https://h.example/vae/get?{query}")).path().as_deref(),
            Some(path),
            "{query}"
        );
    }
    let named = parse("https://h.example/vae/y.bin?file=x.bin").path();
    assert_eq!(named.as_deref(), Some("vae/y.bin"));
}

#[test]
fn sources_have_their_hosts_download_urls() {
    let digest = Sha256::of(b"x");
    for (short, address) in [
        (
            "hf:o/r/a b/x#1.bin".to_owned(),
            "https://huggingface.co/o/r/resolve/main/a%20b/x%231.bin".to_owned(),
        ),
        ("hf:datasets/o/r@v1/x".to_owned(), "https://huggingface.co/datasets/o/r/resolve/v1/x".to_owned()),
        ("civitai:7?fp=fp16".to_owned(), "https://civitai.com/api/download/models/7?fp=fp16".to_owned()),
        ("modelscope:o/r/x".to_owned(), "https://modelscope.cn/models/o/r/resolve/master/x".to_owned()),
        ("github:o/r@rel/1/x".to_owned(), "https://github.com/o/r/releases/download/rel%2F1/x".to_owned()),
        ("github:o/r/x".to_owned(), "https://github.com/o/r/releases/latest/download/x".to_owned()),
        (format!("oci:ghcr.io/o/m@sha256:{digest}"), format!("https://ghcr.io/v2/o/m/blobs/sha256:{digest}")),
        (
            format!("oci:localhost:5000/m@sha256:{digest}"),
            format!("http://localhost:5000/v2/m/blobs/sha256:{digest}"),
        ),
    ] {
        let source = parse(&short);
        assert_eq!(source.address().as_url().as_str(), address);
        if short.starts_with("oci:") {
            assert_eq!(Source::of_url(&source.address()), source);
        }
    }
}

#[test]
fn commits_digests_and_versions_are_pinned() {
    let digest = Sha256::of(b"x");
    for (text, pinned) in [
        (format!("hf:o/r@{COMMIT}/x"), true),
        (format!("https://huggingface.co/o/r/resolve/{COMMIT}/x"), true),
        (format!("modelscope:o/r@{COMMIT}/x"), true),
        (format!("hf:o/r@{}/x", &COMMIT[..12]), false),
        (format!("hf:o/r@{}/x", COMMIT.to_uppercase()), false),
        ("hf:o/r@main/x".to_owned(), false),
        ("hf:o/r/x".to_owned(), false),
        ("civitai:1".to_owned(), true),
        (format!("oci:h/n@sha256:{digest}"), true),
        ("github:o/r@v1/x".to_owned(), false),
        ("https://h.example/x".to_owned(), false),
    ] {
        assert_eq!(parse(&text).is_pinned(), pinned, "{text}");
    }
}

#[test]
fn names_and_paths_come_from_the_source() {
    for (text, path, name) in [
        ("hf:o/r/split_files/vae/x", Some("split_files/vae/x"), Some("x")),
        ("https://h.example/a%20b/c%20d.bin?x=y", Some("a b/c d.bin"), Some("c d.bin")),
        ("https://h.example/a/", None, None),
        ("https://h.example", None, None),
        ("github:o/r@t/x", Some("x"), Some("x")),
        ("hf:o/r/vae/*.bin", Some("vae/*.bin"), None),
        ("civitai:1", None, None),
    ] {
        let source = parse(text);
        assert_eq!(source.may_be_glob(), text.contains('*'));
        assert_eq!(source.path().as_deref(), path, "{text}");
        assert_eq!(source.file_name().as_deref(), name, "{text}");
    }
}

#[test]
fn a_path_is_a_literal_first_and_a_glob_second() {
    let file = |path: &str| RepoFile { repo: "o/r".into(), revision: None, path: path.into() };
    let tree = ["a/x[1].bin", "a/x1.bin", "b/y.bin", "!c"];
    assert_eq!(file("a/x[1].bin").select(tree), ["a/x[1].bin"], "the name is there");
    assert_eq!(file("a/x[1].bin").select(["a/x1.bin"]), ["a/x1.bin"], "only the glob fits");
    assert_eq!(file("*/*.bin").select(tree), ["a/x[1].bin", "a/x1.bin", "b/y.bin"]);
    assert_eq!(file("*.bin").select(tree), [""; 0], "a star stays in its directory");
    assert_eq!(file("**/y.bin").select(tree), ["b/y.bin"]);
    assert_eq!(file("!c").select(tree), ["!c"]);
    assert_eq!(file("!b/*").select(tree), [""; 0], "no negation");
}

#[test]
fn errors_show_the_expected_form() {
    for (text, said) in [
        ("", "hf:OWNER/REPO[@REV]/PATH"),
        ("vae.safetensors", "give an https URL"),
        ("s3:bucket/x", "oci:REGISTRY/NAME@sha256:HEX"),
        ("hf:", "the owner is missing or not a valid name; the form is hf:OWNER/REPO[@REV]/PATH"),
        ("hf:o", "the repository is missing"),
        ("hf:o/r", "the file's path is missing"),
        ("hf:o/r/d/", "the file's path is missing"),
        ("hf:o/r@/x", "the revision after the `@` is missing"),
        ("hf:o/r@a..%2F../x", "the revision after the `@` is missing or invalid"),
        ("hf:o/r/../x", "\"..\""),
        ("hf:o r/r/x", "the owner"),
        ("modelscope:o/r", "modelscope:OWNER/REPO[@REV]/PATH"),
        ("civitai:dreamshaper", "civitai:VERSION_ID"),
        ("civitai:1?token=canary", "only fileId, type, format, size, fp and quantType"),
        ("civitai:0", "a version is a number"),
        ("github:o/r@v1", "github:OWNER/REPO[@TAG]/ASSET"),
        ("github:o/r@/x", "the tag after the `@` is missing"),
        ("oci:ghcr.io/o/r:latest", "a tag names a manifest"),
        ("oci:ghcr.io/o/r@sha256:12", "64 hex digits"),
        (
            "oci:gh cr.io/o/r@sha256:a70580f0213e67967ee9c95f05bb400e8fb08307e017a924bf3441223e023d1f",
            "registry",
        ),
        ("https://huggingface.co/o/r", "give hf:o/r/PATH"),
        ("https://huggingface.co/datasets/o/r/tree/main/vae", "give hf:datasets/o/r@main/vae/PATH"),
        ("https://civitai.com/models/4384", "modelVersionId"),
        ("https://github.com/o/r/blob/main/x", "https://github.com/o/r/raw/main/x"),
        ("https://github.com/o/r/releases/tag/v1", "github:o/r@TAG/ASSET"),
        ("https://u:canary@h/x", "netrc"),
        ("https://h.example/x?Token=canary", "token=…"),
    ] {
        let error = error(text).to_string();
        assert!(error.contains(said), "{text}: {error}");
        assert!(!error.contains("canary"), "{text}: {error}");
    }
}
