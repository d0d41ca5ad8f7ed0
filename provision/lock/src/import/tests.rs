use super::*;

const SHA: &str = "a70580f0213e67967ee9c95f05bb400e8fb08307e017a924bf3441223e023d1f";
const OTHER: &str = "cb5636d852a0ea6a9075ab1bef496c0db7aef13c02350571e388aea959c5c0b4";

fn list(name: &str, text: &str) -> List {
    read(name, text.as_bytes(), None).unwrap_or_else(|error| panic!("{error}"))
}

fn error(text: &str, format: Option<Format>) -> String {
    read("list", text.as_bytes(), format).expect_err(text).to_string()
}

fn aria2(path: &str, url: &str, sha256: Option<&str>) -> String {
    let checksum = sha256.map(|hex| format!(" checksum=sha-256={hex}\n")).unwrap_or_default();
    format!("{url}\n out={path}\n dir=models\n{checksum}")
}

#[test]
fn the_format_is_detected_from_the_text() {
    for (text, format) in [
        ("{\"nodes\": []}", Format::Workflow),
        ("{\"1\": {\"class_type\": \"VAELoader\"}}", Format::Api),
        ("{\"input\": {\"workflow\": {\"1\": {\"class_type\": \"VAELoader\"}}}}", Format::Api),
        ("{\"models\": [{\"filename\": \"x\"}]}", Format::Manager),
        (" [{\"save_path\": \"x\"}]", Format::Manager),
        ("# c\nhttps://h/x\n  out=x\n", Format::Aria2),
        ("https://h/x\thttps://m/x\n", Format::Aria2),
        ("https://h/x vae/x\n", Format::Pget),
        ("https://h/x?a=b|x\n", Format::Pget),
        ("#!/bin/bash\nwget https://h/x.pt\n", Format::Script),
        ("LORA_MODELS=(\n\"https://h/x.pt\"\n)\n", Format::Script),
        ("FROM x\nADD https://h/x.pt /models/vae/\n", Format::Script),
        ("# get\ncd vae && wget https://h/x.pt\n", Format::Script),
        ("https://h/x?a=1&wget https://h/y", Format::Pget),
        ("https://h/x?a=b # why\nhttps://h/y\n", Format::Urls),
        ("hf:o/r/x", Format::Urls),
        ("\u{feff}https://h/x\r\n", Format::Urls),
        (&format!("{SHA}  x"), Format::Sha256sum),
        (&format!("\\{SHA} *x"), Format::Sha256sum),
        (&format!("SHA256 (x) = {SHA}"), Format::Sha256sum),
    ] {
        assert_eq!(list("list", text).format, format, "{text}");
    }
    for format in Format::ALL {
        assert_eq!(format.name().parse(), Ok(format));
    }
}

#[test]
fn an_unreadable_list_is_an_error_with_the_expected_format() {
    let latin = read("list", b"caf\xe9", None).unwrap_err().to_string();
    assert!(latin.contains("neither text in UTF-8 nor a PNG"), "{latin}");
    for (text, format, said) in [
        ("{\"nodes\": [\n}", None, "list:2: invalid JSON"),
        ("{}", Some(Format::Api), "not in the format \"ComfyUI workflow in API format\""),
        ("{\"a\": 1}", None, "list is JSON that names no model"),
        ("{\"a\": [\"x.GGUF?b\"]}", None, "none of the known formats"),
        ("[\"https://civitai.com/api/download/models/1\"]", None, "none of the known formats"),
        ("vae.safetensors\n", None, "--format"),
        ("\n# only this\n", None, "list is empty"),
        ("{}", Some(Format::Workflow), "list is not in the format \"ComfyUI workflow\""),
        ("{}", Some(Format::Manager), "list is not in the format \"model list"),
    ] {
        let found = error(text, format);
        assert!(found.contains(said), "{text}: {found}");
    }
}

#[test]
fn an_invalid_line_is_listed_and_the_others_are_used() {
    let (odd, short) = (format!("{SHA}  x\n{SHA}\n{SHA}  z\n"), format!("{SHA}  x\n{}  y\n", &SHA[1..]));
    let nonsense = "https://h/x\n out=x\n nonsense\nhttps://h/y\n out=y\n";
    let checksum = "https://h/x\n out=x\n checksum=sha-256=12\nhttps://h/y\n";
    let no_value = "3: not understood: an option has the form NAME=VALUE; its file is left out";
    let no_digest = "3: x: its checksum is invalid and not used: a SHA-256 has 64 hex digits, this has 2";
    let (three, columns) =
        ("https://h/x a\n\nhttps://h/y b c\nhttps://h/z c\n", "not understood: the line has");
    for (text, format, used, said) in [
        (" out=x\nhttps://h/y\n", Format::Aria2, 1, "1: not understood: an option precedes the first URL"),
        (nonsense, Format::Aria2, 1, no_value),
        (checksum, Format::Aria2, 1, no_digest),
        (three, Format::Pget, 2, &format!("3: {columns} 3 columns")),
        ("https://h/x https://h/y\nhttps://h/z\n", Format::Pget, 1, &format!("1: {columns} 2 columns")),
        ("a line of prose\nhttps://h/z\n", Format::Urls, 1, &format!("1: {columns} 4 columns")),
        (&odd, Format::Sha256sum, 2, "2: not understood: not a line of sha256sum output"),
        (&short, Format::Sha256sum, 1, "2: not understood: a SHA-256 has 64 hex digits, this has 63"),
    ] {
        let list = list("list", text);
        assert_eq!((list.format, list.models.len() + list.sums.len()), (format, used), "{text}");
        let [found] = &list.unused[..] else { panic!("{text}: {:#?}", list.unused) };
        assert!(found.to_string().starts_with(&format!("list:{said}")), "{text}: {found}");
    }
}

#[test]
fn a_name_or_path_may_follow_a_bar() {
    let text = "https://h/d?id=7|style one.pt # why\nhttps://h/vae/x | y.pt\nhttps://h/z|loras/a/z.pt\nhttps://h/w |vae/\n\
                https://h/v|\nhttps://h/u|a|b\n";
    let list = list("list", text);
    let of = |model: &ImportedModel| {
        (
            model.name.clone(),
            model.path.clone(),
            model.directory.clone(),
            model.destination().map(|path| path.to_string()).ok(),
        )
    };
    let text = |text: &str| Some(text.to_owned());
    let found: Vec<_> = list.models.iter().map(of).collect();
    assert_eq!(
        found,
        [
            ("style one.pt".to_owned(), None, None, None),
            ("y.pt".to_owned(), None, None, text("vae/y.pt")),
            ("z.pt".to_owned(), text("loras/a/z.pt"), None, text("loras/a/z.pt")),
            ("w".to_owned(), None, text("vae/"), text("vae/w")),
            ("v".to_owned(), None, None, None),
        ]
    );
    assert!(list.unused.len() == 1 && list.unused[0].to_string().contains("3 columns"), "{:?}", list.unused);
}

#[test]
fn an_invalid_mirror_is_listed_and_the_file_is_used() {
    let list = list("list", "ftp://h/x\thttps://m/x\n out=vae/x\n");
    assert_eq!((list.models.len(), list.models[0].source.to_string()), (1, "https://m/x".to_owned()));
    assert!(matches!(list.unused[0].why, UnusedReason::Mirror(_)), "{:?}", list.unused);
}

#[test]
fn control_characters_of_a_list_are_never_shown() {
    let evil = "\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m\u{202e}\r\n.safetensors";
    let model = |url: &str, kind: &str| serde_json::json!({"name": evil, "url": url, "directory": evil, "hash": "12", "hash_type": kind});
    let page = "https://huggingface.co/o%1B%5B2J/r%07/tree/main%1B%5B2J/%1B%5D0;x%07";
    let models =
        [model(page, "sha256"), model("", ""), model("https://h/x", evil), model("https://h/y", "sha256")];
    let widgets = evil.replace(['\r', '\n'], "");
    let node = serde_json::json!({"id": evil, "type": evil, "properties": {"models": models}, "widgets_values": [widgets]});
    let workflow = list(evil, &serde_json::json!({"nodes": [node]}).to_string());
    assert_eq!((workflow.models.len(), workflow.unused.len()), (2, 5), "{workflow:#?}");
    let aria2 =
        list(evil, "https://h/x\n out=\u{1b}[2Jx\n dir=d\nnothing\n out=\u{1b}[2Jz\n checksum=\u{1b}[2J=1\n");
    let sums = list(evil, &format!("{SHA}  \u{1b}[2Jx\n\\{SHA}  \\r\\nz\n"));
    let of = |hash: &str| {
        let model = serde_json::json!({"name": evil, "url": "https://h/x", "hash": hash});
        list(evil, &serde_json::json!({"nodes": [{"properties": {"models": [model]}}]}).to_string())
    };
    let mut said = vec![join(vec![of(SHA), of(OTHER)]).conflicts[0].to_string()];
    for text in ["{", "{}", "nothing", ""] {
        said.push(read(evil, text.as_bytes(), None).unwrap_err().to_string());
    }
    let joined = join(vec![workflow, aria2, sums]);
    said.extend(joined.unused.iter().map(ToString::to_string));
    assert!(said.len() > 10, "{said:#?}");
    let obeyed = |c: char| c.is_control() || c == '\u{202e}';
    assert!(!said.iter().any(|line| line.contains(obeyed)), "{said:#?}");
    assert!(said.iter().any(|line| line.contains("·[2J")), "{said:#?}");
}

#[test]
fn sha256sum_lines_have_two_modes_and_escapes() {
    let text = format!(
        "{SHA}  a b\n{SHA} *c\n\\{SHA}  d\\\\e\\nf\nSHA256 (g (1)) = {}\r\n{SHA}  *h\n",
        SHA.to_uppercase()
    );
    let names: Vec<String> = list("list", &text).sums.into_iter().map(|sum| sum.name).collect();
    assert_eq!(names, ["a b", "c", "d\\e\nf", "g (1)", "*h"]);
}

#[test]
fn no_secret_of_a_list_is_shown() {
    let text = "https://u:canary@h/x\n header=Authorization: Bearer canary\n out=x\n\
                https://h/y?token=canary\nhttps://h/z?sig=canary\n http-passwd=canary\n";
    let joined = join(vec![list("list", text)]);
    assert_eq!(joined.models.len(), 1);
    let said: Vec<String> = joined.unused.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 4, "{said:#?}");
    assert!(!format!("{said:?} {joined:?}").contains("canary"), "{said:#?}");
}

#[test]
fn two_digests_for_one_path_are_a_conflict_that_names_both_lists() {
    let conflict = |lists: Vec<List>| {
        let joined = join(lists);
        assert_eq!((joined.models.len(), joined.conflicts.len()), (0, 1), "{joined:?}");
        joined.conflicts[0].to_string()
    };
    let a = || list("a.txt", &aria2("vae/x", "https://h/x", Some(SHA)));
    let b = list("b.txt", &aria2("vae/x", "https://m/x", Some(OTHER)));
    let said = conflict(vec![a(), b]);
    assert!(
        said.contains("vae/x: a.txt:1 and b.txt:1") && said.contains(SHA) && said.contains(OTHER),
        "{said}"
    );
    let sums = list("SHA256SUMS", &format!("{OTHER}  ./vae/x\n"));
    let said = conflict(vec![sums.clone(), a()]);
    assert!(said.contains("a.txt:1 and SHA256SUMS:1"), "{said}");
    let plain = list("c.txt", "https://h/x vae/x\n");
    let said = conflict(vec![plain, sums, list("SUMS", &format!("{SHA}  x\n"))]);
    assert!(said.contains("SHA256SUMS:1 and SUMS:1"), "{said}");
}

#[test]
fn a_conflict_costs_no_other_path() {
    let file = |name: &str, host: &str, sha256| aria2(name, &format!("https://{host}/x"), Some(sha256));
    let lists = [file("a", "h", SHA) + &file("b", "h", SHA), file("a", "m", OTHER), file("a", "n", SHA)];
    let joined = join(lists.iter().map(|text| list("list", text)).collect());
    let [conflict] = &joined.conflicts[..] else { panic!("{joined:?}") };
    assert_eq!(conflict.other_source(), Some(&"https://m/x".parse().unwrap()));
    assert_eq!(joined.models.iter().map(|model| &model.name[..]).collect::<Vec<_>>(), ["b"]);
    // Of one address, no other path ends it.
    let same = [file("a", "h", SHA), file("a", "h", OTHER)];
    let joined = join(same.iter().map(|text| list("list", text)).collect());
    assert_eq!(joined.conflicts[0].other_source(), None);
}

#[test]
fn the_sources_of_a_path_follow_each_other_each_once() {
    let file =
        |path: &str, host: &str, sha256| list(host, &aria2(path, &format!("https://{host}/x"), sha256));
    let lists = vec![
        file("vae/x", "a", None),
        file("vae/y", "b", None),
        file("vae/x", "c", Some(SHA)),
        file("vae/x", "a", Some(SHA)),
    ];
    let joined = join(lists);
    let found: Vec<_> =
        joined.models.iter().map(|model| (model.source.to_string(), model.sha256.is_some())).collect();
    assert_eq!(
        found,
        [("https://a/x", true), ("https://c/x", true), ("https://b/x", false)]
            .map(|(a, b)| (a.to_owned(), b))
    );
    assert!(joined.conflicts.is_empty() && joined.unused.is_empty());
    let twice = list("a", "hf:o/r/vae/x\n");
    assert_eq!(join(vec![twice.clone(), twice]).models.len(), 1);
}

#[test]
fn urls_without_names_are_files_of_their_own() {
    let text = "https://h/a/download?id=1 loras/\nhttps://h/a/download?id=2 loras/\nhttps://h/a/download?id=1 loras/\n";
    let joined = join(vec![list("urls", text)]);
    assert_eq!(joined.models.len(), 2, "{joined:#?}");
    // The host names them, so their digests are those of two files.
    let other = |id, sha| format!("https://h/a/download?id={id}\n dir=loras\n checksum=sha-256={sha}\n");
    let joined = join(vec![list("aria2", &(other(1, SHA) + &other(2, OTHER)))]);
    assert_eq!((joined.models.len(), joined.conflicts.len()), (2, 0), "{joined:#?}");
}

#[test]
fn digests_find_their_file_by_path_or_unique_name() {
    let urls = || list("urls", "hf:o/r/vae/x\nhf:o/r/loras/x\nhf:o/r/loras/y\ncivitai:1\n");
    let sums =
        format!("{SHA}  /data/ComfyUI/models/vae/x\n{OTHER}  y\n{SHA}  x\n{SHA}  z\n{OTHER}  oras/x\n");
    let joined = join(vec![list("sums", &sums), urls()]);
    let of = |at: usize| joined.models[at].sha256.map(|sha256| sha256.to_string());
    assert_eq!(of(0).as_deref(), Some(SHA));
    assert_eq!(of(1), None);
    assert_eq!(of(2).as_deref(), Some(OTHER));
    let said: Vec<String> = joined.unused.iter().map(ToString::to_string).collect();
    assert!(said[0].contains("several files have this name: vae/x, loras/x"), "{said:#?}");
    assert!(said[1].contains("z: no list names"), "{said:#?}");
    assert!(said[2].contains("oras/x: no list names"), "{said:#?}");
}

#[test]
fn subgraphs_and_group_nodes_are_read_at_any_depth() {
    let model = |name: &str| serde_json::json!({"name": name, "url": format!("https://h/{name}"), "directory": "vae"});
    let node = |name: &str, widget: &str| {
        serde_json::json!({"id": 7, "type": "VAELoader", "widgets_values": [widget],
            "properties": {"models": [model(name)]}})
    };
    let inner = serde_json::json!({"id": "b", "nodes": [node("deep.safetensors", "deep-name.safetensors")]});
    let outer = serde_json::json!({"id": "a", "nodes": [node("outer.safetensors", "outer.safetensors"), {"id": 8, "type": "b"}],
        "definitions": {"subgraphs": [inner]}});
    let group = serde_json::json!({"nodes": [node("group.safetensors", "group-name.safetensors")], "links": [], "external": []});
    let workflow = serde_json::json!({
        "nodes": [{"id": 1, "type": "a", "widgets_values": ["promoted.safetensors"]},
            {"id": 2, "type": "workflow>mine", "widgets_values": ["group-name.safetensors"]}],
        "definitions": {"subgraphs": [outer]},
        "extra": {"groupNodes": {"mine": group, "empty": null}},
    });
    let list = list("w.json", &workflow.to_string());
    let models: Vec<String> =
        list.models.iter().map(|model| model.destination().unwrap().to_string()).collect();
    assert_eq!(models, ["vae/outer.safetensors", "vae/deep.safetensors", "vae/group.safetensors"]);
    assert_eq!(list.models[1].place.to_string(), "w.json, node 7 (VAELoader)");
    let unused: Vec<&str> = list.unused.iter().map(|unused| &*unused.what).collect();
    assert_eq!(unused, ["promoted.safetensors", "deep-name.safetensors", "group-name.safetensors"]);
}

#[test]
fn a_workflow_of_endless_depth_is_refused() {
    let mut text = "{\"nodes\": []}".to_owned();
    for _ in 0..40 {
        text = format!("{{\"nodes\": [], \"definitions\": {{\"subgraphs\": [{text}]}}}}");
    }
    assert_eq!(list("list", &text).models.len(), 0);
    for _ in 0..10_000 {
        text = format!("{{\"nodes\": [], \"definitions\": {{\"subgraphs\": [{text}]}}}}");
        if text.len() > 400_000 {
            break;
        }
    }
    assert!(error(&text, None).contains("recursion limit"));
}

#[test]
fn json_of_more_objects_than_any_list_has_is_refused() {
    let text = |objects: usize| format!("{{\"nodes\": [{}{{}}]}}", "{},".repeat(objects - 2));
    let error = read("w.json", text(MAX_OBJECTS + 1).as_bytes(), None).unwrap_err();
    assert_eq!(error.to_string(), "w.json:1: invalid JSON: it has more than 500000 objects");
    read("w.json", text(1000).as_bytes(), None).unwrap();
}
