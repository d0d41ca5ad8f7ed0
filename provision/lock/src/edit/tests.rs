use provision_core::digest::Sha256;

use super::*;

pub(super) fn entry(path: &str) -> Entry {
    Entry {
        path: path.parse().unwrap(),
        url: format!("https://h.example/{path}").parse().unwrap(),
        mirrors: vec![],
        size: 5,
        sha256: Sha256::of(path.as_bytes()),
        pieces: None,
        groups: vec![],
        source: None,
    }
}

fn written(path: &str) -> String {
    format!(
        "[[model]]\npath = \"{path}\"\nurl = \"https://h.example/{path}\"\nsize = 5\nsha256 = \"{}\"\n",
        Sha256::of(path.as_bytes())
    )
}

fn document(text: &str) -> Document {
    Document::parse("models.lock", text).unwrap()
}

fn path(text: &str) -> ModelPath {
    text.parse().unwrap()
}

#[test]
fn models_are_added_sorted_and_removed_again() {
    let mut document = Document::empty("models.lock");
    let empty = document.text().to_owned();
    let all = [entry("vae/b"), entry("loras/c"), entry("vae/a")];
    assert_eq!(document.put_all(&all).unwrap(), [Outcome::Added, Outcome::Added, Outcome::Added]);
    let expected =
        format!("version = 1\n\n{}\n{}\n{}", written("loras/c"), written("vae/a"), written("vae/b"));
    assert_eq!(document.text(), expected);
    document.remove_all(&[path("vae/b"), path("loras/c"), path("vae/a")]).unwrap();
    assert_eq!(document.text(), empty);
}

/// One key is removed at the position of another one's insertion.
#[test]
fn a_list_at_the_end_is_replaced_by_another_key() {
    let with_mirror = format!("version = 1\n\n{}mirrors = [\"https://m.example/x\"]\n", written("x"));
    let mut document = document(&with_mirror);
    let mut new = entry("x");
    new.groups = vec!["g".into()];
    document.put(&new).unwrap();
    assert_eq!(document.text(), format!("version = 1\n\n{}groups = [\"g\"]\n", written("x")));
}

#[test]
fn every_field_is_written_in_order_and_read_back() {
    let mut full = entry("x");
    full.mirrors = vec!["https://m.example/x".parse().unwrap()];
    full.groups = vec!["a \"b\"\\".into(), "c\n".into()];
    full.pieces = Some(Sha256::of(b"list"));
    full.source = Some("hf:o/r@main/x".into());
    let mut document = document(&format!("version = 1\n\n{}", written("x")));
    assert_eq!(document.put(&full).unwrap(), Outcome::Updated(Box::new(entry("x"))));
    assert_eq!(document.get(&full.path), Some(full.clone()));
    let keys: Vec<&str> =
        document.text().lines().filter_map(|line| line.split_once(" = ")).map(|p| p.0).collect();
    assert_eq!(keys, ["version", "path", "url", "mirrors", "size", "sha256", "pieces", "groups", "source"]);
    assert_eq!(document.put(&full).unwrap(), Outcome::Unchanged);
    document.put(&entry("x")).unwrap();
    assert_eq!(document.text(), format!("version = 1\n\n{}", written("x")));
}

#[test]
fn comments_stay_with_their_model_or_in_place() {
    let text = format!(
        "# The file.\nversion = 1\n# The head's.\n\n# Section one.\n\n# About a.\n{}# Below a.\n\n# Section two.\n\n{}# About c.\n{}\n# The end.\n",
        written("a"),
        written("b"),
        written("c")
    );
    let mut without_a = document(&text);
    without_a.remove(&path("a")).unwrap();
    assert_eq!(without_a.text(), text.replace(&format!("\n# About a.\n{}# Below a.\n", written("a")), ""));
    let mut without_b = document(&text);
    without_b.remove(&path("b")).unwrap();
    assert_eq!(without_b.text(), text.replace(&format!("\n{}", written("b")), ""));
    let mut without_c = document(&text);
    without_c.remove(&path("c")).unwrap();
    assert_eq!(without_c.text(), text.replace(&format!("# About c.\n{}", written("c")), ""));

    let mut more = document(&text);
    more.put(&entry("0")).unwrap();
    assert!(
        more.text().contains(&format!("# The head's.\n\n{}\n# Section one.", written("0"))),
        "{}",
        more.text()
    );
    more.put(&entry("b2")).unwrap();
    assert!(
        more.text().contains(&format!("{}\n{}# About c.\n", written("b"), written("b2"))),
        "{}",
        more.text()
    );
}

#[test]
fn a_change_touches_the_value_and_nothing_else() {
    let sha = Sha256::of(b"x");
    let text = format!(
        "version = 1\r\n\r\n[[model]]  # mine\r\n\tsha256   = '{sha}' # long\r\n\t\"path\" = \"x\"\r\n  # why\r\n\
         \turl = \"https://h.example/x\"\r\n\tgroups = [\r\n\t\t\"a\", # first\r\n\t\t\"b\" # second\r\n\t]\r\n\tsize=5 # bytes"
    );
    let mut document = document(&text);
    let mut changed = document.get(&path("x")).unwrap();
    changed.size = 6;
    changed.sha256 = Sha256::of(b"y");
    changed.groups.push("c".into());
    changed.source = Some("civitai:1".into());
    document.put(&changed).unwrap();
    let expected = text
        .replace(&format!("'{sha}'"), &format!("\"{}\"", changed.sha256))
        .replace("\"b\" # second", "\"b\", # second\r\n\t\t\"c\"")
        .replace("size=5", "size=6")
        .replace("\t]\r\n", "\t]\r\n\tsource = \"civitai:1\"\r\n");
    assert_eq!(document.text(), expected);
    changed.source = None;
    changed.groups.pop();
    document.put(&changed).unwrap();
    assert!(!document.text().contains("source"));
}

#[test]
fn lists_grow_in_their_own_form() {
    for (list, expected) in [
        ("[\"a\"]", "[\"a\", \"b\", \"c\"]"),
        ("[ \"a\", ]", "[ \"a\", \"b\", \"c\", ]"),
        ("[\n  \"a\",\n]", "[\n  \"a\",\n  \"b\",\n  \"c\",\n]"),
        ("[\n  \"a\"\n]", "[\n  \"a\",\n  \"b\",\n  \"c\"\n]"),
        ("[\n  \"a\", # x\n]", "[\n  \"a\", # x\n  \"b\",\n  \"c\",\n]"),
        ("[\n  \"a\" # x\n]", "[\n  \"a\", # x\n  \"b\",\n  \"c\"\n]"),
        ("[ # x\n  \"a\"\n]", "[ # x\n  \"a\",\n  \"b\",\n  \"c\"\n]"),
    ] {
        let text = format!("version = 1\n{}groups = {list}\n", written("x"));
        let mut document = document(&text);
        let mut more = document.get(&path("x")).unwrap();
        more.groups.extend(["b".to_owned(), "c".to_owned()]);
        document.put(&more).unwrap();
        assert_eq!(document.text(), text.replace(list, expected));
        more.groups = vec!["z".into()];
        document.put(&more).unwrap();
        assert_eq!(document.text(), text.replace(list, "[\"z\"]"));
    }
}

#[test]
fn an_unsorted_file_is_not_reordered() {
    let text = format!("version = 1\n{}{}", written("z"), written("a"));
    let mut document = document(&text);
    document.put(&entry("b")).unwrap();
    assert_eq!(document.text(), format!("{text}\n{}", written("b")));
}

#[test]
fn a_change_that_breaks_the_lock_is_refused() {
    let text = format!("version = 1\n\n{}", written("a"));
    let mut document = document(&text);
    for bad in ["A", "a/b", ".models-installed"] {
        assert!(matches!(document.put(&entry(bad)), Err(EditError::Invalid(_))), "{bad}");
        assert_eq!(document.text(), text);
    }
    let mut huge = entry("b");
    huge.size = u64::MAX;
    assert!(matches!(document.put(&huge), Err(EditError::Invalid(_))));
    assert!(matches!(document.put_all(&[entry("c"), entry("c")]), Err(EditError::Twice { .. })));
    assert!(matches!(document.remove(&path("q")), Err(EditError::Missing { .. })));
    assert!(matches!(document.remove_all(&[path("a"), path("q")]), Err(EditError::Missing { .. })));
    assert_eq!(document.text(), text);
    document.remove_all(&[path("a"), path("a")]).unwrap();
    assert_eq!(document.text(), "version = 1\n");
}

#[test]
fn an_inline_array_is_read_but_not_changed() {
    let sha = Sha256::of(b"x");
    let text = format!(
        "version = 1\nmodel = [{{ path = \"x\", url = \"https://h.example/x\", size = 5, sha256 = \"{sha}\" }}]\n"
    );
    let mut document = document(&text);
    assert_eq!(document.put(&entry("x")).unwrap(), Outcome::Unchanged);
    assert!(matches!(document.put(&entry("y")), Err(EditError::Inline { .. })));
    assert!(matches!(document.remove(&path("x")), Err(EditError::Inline { .. })));
    assert_eq!(document.text(), text);
}

#[test]
fn a_byte_order_mark_stays_first() {
    let text = format!("\u{feff}version = 1\n\n{}", written("b"));
    let mut document = document(&text);
    document.put_all(&[entry("a"), entry("c")]).unwrap();
    assert_eq!(
        document.text(),
        format!("\u{feff}version = 1\n\n{}\n{}\n{}", written("a"), written("b"), written("c"))
    );
    document.remove_all(&[path("a"), path("c")]).unwrap();
    assert_eq!(document.text(), text);
}
