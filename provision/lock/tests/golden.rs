//! One list of each format, and what comes of it. The expected text is `tests/golden/NAME.expected`; a difference is a
//! change of behaviour, to be looked at and then written down there.

use std::fmt::Write as _;
use std::path::Path;

use provision_lock::expiry::Expiry;
use provision_lock::import::{self, Format, Imported};
use provision_lock::source::Source;

fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(imported: &Imported) -> String {
    let mut shown = String::new();
    for wanted in &imported.wanted {
        match wanted.destination() {
            Ok(path) => writeln!(shown, "{path}"),
            Err(error) => writeln!(shown, "? {}", error.to_string().split(';').next().unwrap_or_default()),
        }
        .unwrap();
        writeln!(shown, "  source {}", wanted.source).unwrap();
        for mirror in &wanted.mirrors {
            writeln!(shown, "  mirror {mirror}").unwrap();
        }
        if let Some(sha256) = wanted.sha256 {
            writeln!(shown, "  sha256 {sha256}").unwrap();
        }
        if let Source::Url(url) = &wanted.source
            && let Some(expiry) = Expiry::of(url)
        {
            writeln!(shown, "  expires: {expiry}").unwrap();
        }
        writeln!(shown, "  from {}", wanted.place).unwrap();
    }
    for unused in &imported.unused {
        writeln!(shown, "unused {unused}").unwrap();
    }
    shown
}

fn check(names: &[&str], formats: &[Format]) {
    let lists: Vec<import::List> =
        names.iter().map(|name| import::read(name, &text(name), None).unwrap()).collect();
    let found: Vec<Format> = lists.iter().map(|list| list.format).collect();
    assert_eq!(found, formats);
    for (name, (list, format)) in names.iter().zip(lists.iter().zip(formats)) {
        assert_eq!(
            import::read(name, &text(name), Some(*format)).as_ref(),
            Ok(list),
            "the same when it is said"
        );
    }
    let shown = shown(&import::join(lists).unwrap());
    let expected = text(&format!("{}.expected", names[0]));
    assert_eq!(shown, expected, "what came out:\n{shown}");
}

#[test]
fn a_workflow() {
    check(&["workflow.json"], &[Format::Workflow]);
}

#[test]
fn the_managers_list() {
    check(&["manager.json"], &[Format::Manager]);
}

#[test]
fn an_aria2_input_file() {
    check(&["aria2.txt"], &[Format::Aria2]);
}

#[test]
fn a_list_with_paths() {
    check(&["pget.txt"], &[Format::Pget]);
}

#[test]
fn addresses_and_the_digests_for_them() {
    check(&["urls.txt", "SHA256SUMS"], &[Format::Urls, Format::Sha256sum]);
}
