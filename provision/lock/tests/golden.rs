//! One list of each format and its import. The expected text is `tests/golden/NAME.expected`; a difference is a change
//! of behaviour, which must be reviewed before it is recorded there.

use std::path::Path;

use provision_lock::expiry::Expiry;
use provision_lock::import::{self, Format, Imported};
use provision_lock::source::Source;

fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(imported: &Imported) -> String {
    let mut lines = Vec::new();
    for model in &imported.models {
        lines.push(match model.destination() {
            Ok(path) => path.to_string(),
            Err(error) => format!("? {}", error.to_string().split(';').next().unwrap_or_default()),
        });
        lines.push(format!("  source {}", model.source));
        lines.extend(model.mirrors.iter().map(|mirror| format!("  mirror {mirror}")));
        lines.extend(model.sha256.map(|sha256| format!("  sha256 {sha256}")));
        if let Source::Url(url) = &model.source {
            lines.extend(Expiry::of(url).map(|expiry| format!("  expires: {expiry}")));
        }
        lines.push(format!("  from {}", model.place));
    }
    lines.extend(imported.unused.iter().map(|unused| format!("unused {unused}")));
    lines.join("\n") + "\n"
}

fn check(names: &[&str], formats: &[Format]) {
    let read = |name: &&str| {
        import::read(name, text(name).as_bytes(), None).unwrap_or_else(|error| panic!("{error}"))
    };
    let lists: Vec<import::List> = names.iter().map(read).collect();
    let found: Vec<Format> = lists.iter().map(|list| list.format).collect();
    assert_eq!(found, formats);
    for (name, (list, format)) in names.iter().zip(lists.iter().zip(formats)) {
        assert_eq!(
            import::read(name, text(name).as_bytes(), Some(*format)).as_ref(),
            Ok(list),
            "the same when it is said"
        );
    }
    let shown = shown(&import::join(lists));
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
