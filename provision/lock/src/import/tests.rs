use super::*;

const SHA: &str = "a70580f0213e67967ee9c95f05bb400e8fb08307e017a924bf3441223e023d1f";
const OTHER: &str = "cb5636d852a0ea6a9075ab1bef496c0db7aef13c02350571e388aea959c5c0b4";

fn list(name: &str, text: &str) -> List {
    read(name, text, None).unwrap_or_else(|error| panic!("{error}"))
}

fn error(text: &str, format: Option<Format>) -> String {
    read("list", text, format).expect_err(text).to_string()
}

fn aria2(path: &str, url: &str, sha256: Option<&str>) -> String {
    let checksum = sha256.map(|hex| format!(" checksum=sha-256={hex}\n")).unwrap_or_default();
    format!("{url}\n out={path}\n dir=models\n{checksum}")
}

#[test]
fn the_format_is_seen_from_the_text() {
    for (text, format) in [
        ("{\"nodes\": []}", Format::Workflow),
        ("{\"models\": [{\"filename\": \"x\"}]}", Format::Manager),
        (" [{\"save_path\": \"x\"}]", Format::Manager),
        ("# c\nhttps://h/x\n  out=x\n", Format::Aria2),
        ("https://h/x\thttps://m/x\n", Format::Aria2),
        ("https://h/x vae/x\n", Format::Pget),
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
fn errors_have_the_line_and_say_what_was_expected() {
    for (text, format, said) in [
        ("{\"nodes\": [\n}", None, "list:2: not JSON"),
        ("{\"1\": {\"class_type\": \"VAELoader\"}}", None, "API format"),
        ("{\"a\": 1}", None, "none of the formats"),
        ("vae.safetensors\n", None, "--format"),
        ("\n# only this\n", None, "list has nothing in it"),
        ("{}", Some(Format::Workflow), "list is no ComfyUI workflow"),
        ("{}", Some(Format::Manager), "list is no model list"),
        (" out=x\n", None, "list:1: an option stands before any address"),
        ("https://h/x\n out=x\n nonsense\n", None, "list:3: an option is written NAME=VALUE"),
        ("https://h/x\n checksum=sha-256=12\n", None, "list:2: a SHA-256 has 64 hex digits, this has 2"),
        ("https://h/x a\n\nhttps://h/y b c\n", None, "list:3: there are 3 columns"),
        (&format!("{SHA}  x\n{SHA}\n"), None, "list:2: this is not a line of sha256sum"),
        (&format!("{SHA}  x\n{}  y\n", &SHA[1..]), None, "list:2: a SHA-256 has 64 hex digits, this has 63"),
    ] {
        let found = error(text, format);
        assert!(found.contains(said), "{text}: {found}");
    }
}

#[test]
fn sha256sum_lines_have_two_marks_and_escapes() {
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
    let joined = join(vec![list("list", text)]).unwrap();
    assert_eq!(joined.wanted.len(), 1);
    let said: Vec<String> = joined.unused.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 4, "{said:#?}");
    assert!(!format!("{said:?} {joined:?}").contains("canary"), "{said:#?}");
}

#[test]
fn two_digests_for_one_path_are_an_error_that_names_both_lists() {
    let conflict = |lists: Vec<List>| join(lists).unwrap_err().to_string();
    let a = || list("a.txt", &aria2("vae/x", "https://h/x", Some(SHA)));
    let b = list("b.txt", &aria2("vae/x", "https://m/x", Some(OTHER)));
    let said = conflict(vec![a(), b]);
    assert!(said.contains("vae/x: a.txt:1 and b.txt:1"), "{said}");
    let sums = list("SHA256SUMS", &format!("{OTHER}  ./vae/x\n"));
    let said = conflict(vec![sums.clone(), a()]);
    assert!(said.contains("a.txt:1 and SHA256SUMS:1"), "{said}");
    let plain = list("c.txt", "https://h/x vae/x\n");
    let said = conflict(vec![plain, sums, list("SUMS", &format!("{SHA}  x\n"))]);
    assert!(said.contains("SHA256SUMS:1 and SUMS:1"), "{said}");
}

#[test]
fn a_second_source_is_a_mirror_where_a_digest_says_so() {
    let lists = |second: Option<&str>| {
        let first = list("a", &aria2("vae/x", "https://h/x", Some(SHA)));
        let second = list("b", &aria2("vae/x", "https://m/x", second));
        join(vec![first, second]).unwrap()
    };
    let same = lists(Some(SHA));
    assert_eq!((same.wanted.len(), same.unused.len()), (1, 0));
    assert_eq!(same.wanted[0].mirrors, ["https://m/x".parse().unwrap()]);
    let unknown = lists(None);
    assert_eq!((unknown.wanted.len(), unknown.wanted[0].mirrors.len()), (1, 0));
    assert!(
        unknown.unused[0].to_string().contains("comes from another source in a:1"),
        "{:?}",
        unknown.unused
    );
    let twice = list("a", "hf:o/r/vae/x\n");
    assert_eq!(join(vec![twice.clone(), twice]).unwrap().wanted.len(), 1);
}

#[test]
fn digests_find_their_file_by_path_or_by_a_name_that_only_one_has() {
    let urls = || list("urls", "hf:o/r/vae/x\nhf:o/r/loras/x\nhf:o/r/loras/y\ncivitai:1\n");
    let sums =
        format!("{SHA}  /data/ComfyUI/models/vae/x\n{OTHER}  y\n{SHA}  x\n{SHA}  z\n{OTHER}  oras/x\n");
    let joined = join(vec![list("sums", &sums), urls()]).unwrap();
    let of = |at: usize| joined.wanted[at].sha256.map(|sha256| sha256.to_string());
    assert_eq!(of(0).as_deref(), Some(SHA));
    assert_eq!(of(1), None);
    assert_eq!(of(2).as_deref(), Some(OTHER));
    let said: Vec<String> = joined.unused.iter().map(ToString::to_string).collect();
    assert!(said[0].contains("several files have this name: vae/x, loras/x"), "{said:#?}");
    assert!(said[1].contains("z: no list names"), "{said:#?}");
    assert!(said[2].contains("oras/x: no list names"), "{said:#?}");
}
