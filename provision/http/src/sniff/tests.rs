use super::*;
use provision_core::lockfile::Lockfile;

fn model(path: &str) -> Model {
    let text = format!(
        "version = 1\n\n[[model]]\npath = {path:?}\nurl = \"https://h.example/x\"\nsize = 5000\nsha256 = \"{}\"\n",
        Sha256::of(b"model")
    );
    Lockfile::parse("models.lock", &text).unwrap().models()[0].clone()
}

fn content(body: &str) -> Option<SniffedContent> {
    sniff(body.as_bytes(), &model("x.safetensors"), &Redactor::default())
}

fn pointer_to(oid: Sha256, size: u64) -> String {
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n")
}

#[test]
fn a_pointer_names_its_file_and_whether_it_is_the_locks() {
    let listed = content(&pointer_to(Sha256::of(b"model"), 5000)).unwrap();
    assert!(listed.to_string().contains("the file that the lock lists"), "{listed}");
    assert!(listed.to_string().contains("5000 bytes") && listed.to_string().contains("git lfs"), "{listed}");
    let other = content(&pointer_to(Sha256::of(b"other"), 5000)).unwrap();
    assert!(other.to_string().contains("another file than the lock lists"), "{other}");
    let cut = content("version https://git-lfs.github.com/spec/v1\noid sha256:12").unwrap();
    assert_eq!(cut, SniffedContent::Pointer { oid: None, size: None, is_locked_file: false });
    assert!(rules_out(&cut, &model("x")));
    assert!(content(&pointer_to(Sha256::of(b"x"), 1).replace("git-lfs", "hawser")).is_some());
    assert_eq!(content("version https://git-lfs.github.com/spec/v2\n"), None);
}

#[test]
fn the_title_of_a_page_is_one_line_without_secrets() {
    let title = |page: &str| match content(page) {
        Some(SniffedContent::Page { title }) => title,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        title("<!DOCTYPE html>\n<html><TITLE lang=x>Sign\u{1b}[31m\n in</TITLE>").unwrap(),
        "Sign [31m in"
    );
    assert_eq!(title("\u{feff} <!-- x --><html>"), None);
    let secret = "<html><title>No hf_abcdefGHIJ1234567 at /x?sig=12 for you@example</title>";
    assert_eq!(title(secret).unwrap(), "No … at … for …");
    assert_eq!(title(&format!("<html><title>{}</title>", "wörd ".repeat(100))).unwrap().chars().count(), 120);
    assert_eq!(sniff(b"<html>", &model("page.html"), &Redactor::default()), None);
    assert_eq!(content("<svg>"), None);
}

#[test]
fn a_page_is_recognised_behind_prolog_and_comments() {
    let is_page = |text: &str, path: &str| {
        let content = sniff(text.as_bytes(), &model(path), &Redactor::default());
        matches!(content, Some(SniffedContent::Page { .. }))
    };
    for text in [
        "<!DOCTYPE html>",
        "\u{feff} \n<HTML lang=en>",
        "<?xml version=\"1.0\"?>\n<!DOCTYPE html PUBLIC \"x\">",
        "<!-- a --><!-- <b> -->\n<html>",
        "<?xml version=\"1.0\"?><!-- a -->\n<html xmlns=\"x\">",
    ] {
        assert!(is_page(text, "vae/x.bin"), "{text}");
        assert!(!is_page(text, "vae/x.html"), "{text}");
    }
    let long = format!("<!-- {} --><html>", "a".repeat(SNIFF_LENGTH));
    for text in ["", "<", "<!--", "<?xml version=\"1.0\"?><model/>", "<!-- a -->", "a<html>", &long] {
        assert!(!is_page(text, "vae/x.bin"), "{text}");
    }
}

#[test]
fn json_and_xml_errors_are_quoted_and_other_files_are_not() {
    let message = |body: &str| match content(body) {
        Some(SniffedContent::Error { text }) => text,
        other => panic!("{other:?}"),
    };
    let s3 = "<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message>\
              <RequestId>X</RequestId></Error>";
    assert_eq!(message(s3), "AccessDenied: Access Denied");
    assert_eq!(message(r#"{"error": "Entry not found"}"#), "Entry not found");
    assert_eq!(message(r#"{"error": {"code": "x", "message": "no"}}"#), "x: no");
    assert_eq!(message(r#"{"message": "gone", "documentation_url": "https://x"}"#), "gone");
    for file in [
        r#"{"version": "1.0", "model": {}}"#,
        r#"{"error": "cut"#,
        "<?xml version=\"1.0\"?><mei/>",
        "{",
        "",
        "\0",
    ] {
        assert_eq!(content(file), None, "{file}");
    }
}
