use super::*;

const SHA: &str = "a70580f0213e67967ee9c95f05bb400e8fb08307e017a924bf3441223e023d1f";

fn entry(path: &str) -> String {
    format!(
        "[[model]]\npath = \"{path}\"\nurl = \"https://h.example/{path}\"\nsize = 5\nsha256 = \"{SHA}\"\n"
    )
}

fn parse(text: &str) -> Result<Lockfile, LockfileError> {
    Lockfile::parse("models.lock", text)
}

fn parse_with(models: &str) -> Result<Lockfile, LockfileError> {
    parse(&format!("version = 1\n{models}"))
}

/// The error's kind, after checking that it shows line and caret.
fn kind(text: &str, line: usize) -> LockfileErrorKind {
    let error = parse(text).expect_err(text);
    assert_eq!(error.place().map(|place| place.line), Some(line), "{error}");
    assert!(error.to_string().contains('^'), "{error}");
    error.kind().clone()
}

#[test]
fn models_come_out_sorted_with_every_field() {
    let lock = parse_with(&format!(
        "{}mirrors = [\"http://m.example/x\"]\ngroups = [\"g\"]\nsource = \"hf:o/r/x\"\n{}",
        entry("b/x"),
        entry("a")
    ))
    .unwrap();
    assert_eq!(lock.marker(), DEFAULT_MARKER);
    let paths: Vec<_> = lock.models().iter().map(|m| m.path.as_str()).collect();
    assert_eq!(paths, ["a", "b/x"]);
    assert_eq!(lock.models()[1].sources.len(), 2);
    assert_eq!(lock.models()[1].groups, ["g"]);
    assert_eq!(lock.models()[1].source.as_deref(), Some("hf:o/r/x"));
    assert_eq!(lock.models()[0].source, None);
}

#[test]
fn the_content_digest_depends_on_bytes_and_places_only() {
    let plain = parse_with(&entry("a")).unwrap().content_digest();
    let mirrored = parse_with(&format!("# new\n{}mirrors = [\"http://m.example/x\"]\n", entry("a"))).unwrap();
    assert_eq!(mirrored.content_digest(), plain);
    assert_ne!(parse_with(&entry("b")).unwrap().content_digest(), plain);
    assert_ne!(parse_with(&entry("a").replace("size = 5", "size = 6")).unwrap().content_digest(), plain);
}

#[test]
fn fault_56_an_unsafe_path_is_shown_with_its_line() {
    for path in ["../x", "/x", "~/x", "a/../../x", "C:/x", ""] {
        assert!(
            matches!(kind(&format!("version = 1\n{}", entry(path)), 3), LockfileErrorKind::Path(_)),
            "{path}"
        );
    }
    let error = parse_with(&entry("../x")).unwrap_err().to_string();
    assert!(error.starts_with("models.lock:3:8: "), "{error}");
    assert!(error.ends_with("\n3 | path = \"../x\"\n  |        ^^^^^^"), "{error}");
}

#[test]
fn fault_57_look_alikes_and_nested_paths_are_refused() {
    let two = |a, b| parse_with(&format!("{}{}", entry(a), entry(b))).unwrap_err().kind().clone();
    assert!(matches!(two("a/X", "A/x"), LockfileErrorKind::LookAlike { .. }));
    assert!(matches!(two("a", "a/b"), LockfileErrorKind::Nested { .. }));
    assert!(matches!(two("a/b/c", "a/b"), LockfileErrorKind::Nested { .. }));
    assert!(matches!(two("a", "A/b"), LockfileErrorKind::Nested { .. }));
    assert!(matches!(
        two("x", ".models-installed"),
        LockfileErrorKind::LookAlike { .. } | LockfileErrorKind::Duplicate { .. }
    ));
    assert!(parse_with(&format!("{}{}", entry("a/b"), entry("a/c"))).is_ok());
}

#[test]
fn fault_58_a_digest_that_is_none_is_shown() {
    for bad in ["", "abc", &SHA[1..], &SHA.to_uppercase()] {
        assert!(matches!(
            kind(&format!("version = 1\n{}", entry("a").replace(SHA, bad)), 6),
            LockfileErrorKind::Digest(_)
        ));
    }
}

#[test]
fn fault_59_one_path_twice_is_refused_one_digest_twice_is_not() {
    let error = kind(&format!("version = 1\n{}{}", entry("a"), entry("a")), 8);
    assert_eq!(error, LockfileErrorKind::Duplicate { path: "a".into() });
    assert!(parse_with(&format!("{}{}", entry("a"), entry("b"))).is_ok());
}

#[test]
fn fault_60_sizes_that_make_no_sense_are_refused() {
    let size = |size: &str| {
        kind(&format!("version = 1\n{}", entry("a").replace("size = 5", &format!("size = {size}"))), 5)
    };
    assert_eq!(size("-5"), LockfileErrorKind::NegativeSize { found: -5 });
    for bad in ["5.0", "9223372036854775808", "\"5\""] {
        assert!(matches!(size(bad), LockfileErrorKind::Toml(_)), "{bad}");
    }
    let huge = |path| entry(path).replace("size = 5", "size = 9223372036854775807");
    let error = parse_with(&format!("{}{}", huge("a"), huge("b"))).unwrap_err();
    assert_eq!(*error.kind(), LockfileErrorKind::TotalTooLarge);
}

#[test]
fn fault_61_missing_and_unknown_keys_and_versions_are_refused() {
    for key in ["path", "url", "size", "sha256"] {
        let without: String =
            entry("a").split_inclusive('\n').filter(|line| !line.starts_with(key)).collect();
        let error = parse_with(&without).unwrap_err();
        assert!(error.to_string().contains(key) && error.place().is_some(), "{error}");
    }
    let unknown = kind(&format!("version = 1\n{}shasum = \"x\"\n", entry("a")), 7);
    assert!(unknown.to_string().contains("shasum"));
    assert!(matches!(kind("version = 2\nnew = true\n", 1), LockfileErrorKind::Version { .. }));
    assert!(matches!(kind("version = \"1\"\n", 1), LockfileErrorKind::Version { .. }));
    assert!(parse("").unwrap_err().to_string().contains("version"));
}

#[test]
fn an_error_never_shows_a_query() {
    let text =
        format!("version = 1\n{}", entry("a").replace("https://h.example/a", "ftp://h.example/a?sig=canary"));
    let error = parse(&text).unwrap_err();
    assert!(!error.to_string().contains("canary"), "{error}");
    assert!(!format!("{error:?}").contains("canary"), "{error:?}");
}

#[test]
fn an_error_never_shows_a_password_and_a_quote_does_not_end_a_query() {
    for url in ["https://user:canary@h.example/a", "ftp://h/a?sig=a'canary", "https://canary@h/x"] {
        let text = format!("version = 1\n{}", entry("a").replace("https://h.example/a", url));
        let error = parse(&text).unwrap_err();
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}

#[test]
fn a_marker_is_a_file_name() {
    assert_eq!(parse("version = 1\nmarker = \".done\"").unwrap().marker(), ".done");
    for bad in ["a/b", "../x", "", "/x", ".provision.lock"] {
        assert!(parse(&format!("version = 1\nmarker = \"{bad}\"")).is_err(), "{bad}");
    }
}

#[test]
fn fault_62_many_entries_and_deep_nesting_end_soon() {
    let many: String = (0..20_000).map(|n| entry(&format!("d{}/m{n}", n % 100))).collect();
    assert_eq!(parse_with(&many).unwrap().models().len(), 20_000);
    assert!(parse(&format!("version = 1\nmarker = {}", "[".repeat(100_000))).is_err());
}

#[test]
fn a_selection_takes_paths_stems_globs_and_groups() {
    let lock = parse_with(&format!(
        "{}groups = [\"edit\"]\n{}groups = [\"fast\", \"edit\"]\n{}",
        entry("vae/x.safetensors"),
        entry("loras/y.safetensors"),
        entry("z[1].bin")
    ))
    .unwrap();
    let pick = |patterns: &[&str], groups: &[&str]| {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        lock.select(&Selection { patterns: own(patterns), groups: own(groups) })
            .map(|models| models.iter().map(|m| m.path.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(pick(&[], &[]).unwrap().len(), 3);
    assert_eq!(pick(&["x"], &[]).unwrap(), ["vae/x.safetensors"]);
    assert_eq!(pick(&["vae/x.safetensors"], &[]).unwrap(), ["vae/x.safetensors"]);
    assert_eq!(pick(&["*/*.safetensors"], &[]).unwrap().len(), 2);
    assert_eq!(pick(&["*.safetensors", "z*"], &[]).ok(), None, "a star stays in its directory");
    assert_eq!(pick(&["**/*.safetensors"], &[]).unwrap().len(), 2);
    assert_eq!(pick(&["{vae,loras}/?.safetensors"], &[]).unwrap().len(), 2);
    assert_eq!(pick(&["[a-v]ae/*"], &[]).unwrap(), ["vae/x.safetensors"]);
    assert_eq!(pick(&["z[1].bin"], &[]).unwrap(), ["z[1].bin"]);
    for no_glob in ["[", "{vae", "!vae/*", "!x"] {
        assert!(matches!(pick(&[no_glob], &[]), Err(SelectError::NoModel { .. })), "{no_glob}");
    }
    assert_eq!(pick(&[], &["fast"]).unwrap(), ["loras/y.safetensors"]);
    assert!(matches!(pick(&["q"], &[]), Err(SelectError::NoModel { .. })));
    assert!(matches!(pick(&[], &["q"]), Err(SelectError::NoGroup { .. })));
    assert_eq!(pick(&["x"], &["fast"]), Err(SelectError::Nothing));
}
