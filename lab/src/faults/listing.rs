//! What `cargo test` printed, taken apart: which test of which package ended how.
//!
//! Cargo names a target by its file only (`tests/it/main.rs` exists in two packages), but goes through the packages one
//! after another and begins each with its unit tests, whose executable has the package's name. A test that passed
//! although it skipped itself says `skipped: …`; that is seen only where the output of tests that passed is shown
//! (`--show-output`). In CI, where it is not, such tests fail instead.

use std::collections::HashMap;

/// One test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TestResult {
    /// The crate's name, with underscores.
    pub(super) package: String,
    pub(super) kind: Kind,
    /// With its modules.
    pub(super) name: String,
    pub(super) outcome: Outcome,
}

/// What kind of target it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// In the code's own file.
    Unit,
    /// Below `tests/`: against real sockets, directories and processes.
    Integration,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    Failed,
    Ignored,
    /// It passed without having proved anything, and says why.
    Skipped(String),
    /// It began, and nothing says how it ended.
    Unknown,
}

impl Outcome {
    fn read(text: &str) -> Option<Self> {
        match text.trim() {
            "ok" => Some(Self::Ok),
            "FAILED" => Some(Self::Failed),
            text if text == "ignored" || text.starts_with("ignored, ") => Some(Self::Ignored),
            _ => None,
        }
    }
}

/// Both streams in one, in the order in which they were written.
pub(super) fn parse(text: &str) -> Vec<TestResult> {
    let mut results: Vec<TestResult> = Vec::new();
    let mut package = String::new();
    let mut kind = Kind::Unit;
    // Tests of the target that is being read, for what is printed about them later.
    let mut first = 0;
    let mut shown = None;
    let mut skipped = HashMap::new();
    for line in text.lines() {
        if let Some(target) = Target::read(line) {
            first = results.len();
            shown = None;
            if let Some(name) = target.package {
                package = name;
            }
            kind = target.kind;
        } else if let Some((name, end)) = test_line(line) {
            let outcome = Outcome::read(end).unwrap_or(Outcome::Unknown);
            results.push(TestResult { package: package.clone(), kind, name: name.to_owned(), outcome });
        } else if let Some(name) =
            line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" stdout ----"))
        {
            shown = results[first..].iter().position(|test| test.name == name).map(|at| first + at);
        } else if let Some(outcome) = Outcome::read(line) {
            // Something else was printed between a test's name and its end.
            if let Some(last) = results.last_mut().filter(|last| last.outcome == Outcome::Unknown) {
                last.outcome = outcome;
            }
        } else if let (Some(at), Some(why)) = (shown, line.strip_prefix("skipped: ")) {
            skipped.insert(at, why.to_owned());
        }
    }
    for (at, why) in skipped {
        if results[at].outcome == Outcome::Ok {
            results[at].outcome = Outcome::Skipped(why);
        }
    }
    results
}

fn test_line(line: &str) -> Option<(&str, &str)> {
    let (name, end) = line.strip_prefix("test ")?.split_once(" ... ")?;
    // `test result: ok. …` has none; a doc test's name has spaces.
    (!name.contains(' ') || name.ends_with("should panic"))
        .then_some((name.trim_end_matches(" - should panic"), end))
}

struct Target {
    /// Where the heading tells.
    package: Option<String>,
    kind: Kind,
}

impl Target {
    /// `Running unittests src/lib.rs (target/debug/deps/provision-0123)`.
    fn read(line: &str) -> Option<Self> {
        if line.trim_start().starts_with("Doc-tests ") {
            return Some(Self { package: Some(String::new()), kind: Kind::Unit });
        }
        let rest = line.trim_start().strip_prefix("Running ")?;
        if rest.starts_with("tests/") {
            return Some(Self { package: None, kind: Kind::Integration });
        }
        let (_, executable) = rest.strip_prefix("unittests ")?.split_once(" (")?;
        let file = executable.trim_end_matches(')').rsplit('/').next()?;
        let (name, _) = file.rsplit_once('-')?;
        Some(Self { package: Some(name.to_owned()), kind: Kind::Unit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
   Compiling provision v0.1.0 (/home/me/provision)
    Finished `test` profile [optimized] target(s) in 1.50s
     Running unittests src/lib.rs (target/debug/deps/provision-9b00d77)

running 3 tests
test origin::answer::tests::fault_18_a_weak_validator_is_none ... ok
test slow ... ignored, takes an hour
test content::tests::past_the_end - should panic ... ok

test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s

     Running unittests src/main.rs (target/debug/deps/provision-7777)

running 0 tests

     Running tests/it/main.rs (target/debug/deps/it-c0ffee)

running 3 tests
test faults::ranges::fault_01_a_whole_body ... FAILED
test faults::disk::fault_67_order ... warning: something else
ok
test faults::disk::fault_68_full ... ok

successes:

---- faults::disk::fault_68_full stdout ----
skipped: no mounts here

     Running unittests src/lib.rs (target/debug/deps/provision_testbed-1234)
     Running tests/it/main.rs (target/debug/deps/it-beef)
test faults::fault_12_to_14_framing ... ok
test faults::fault_15_it_never_ended ... 
   Doc-tests provision
test provision/src/lib.rs - (line 5) ... ok
";

    #[test]
    fn packages_kinds_and_outcomes() {
        let found = parse(PRINTED);
        let short: Vec<_> = found
            .iter()
            .map(|test| {
                let name = test.name.rsplit("::").next().unwrap_or_default();
                (test.package.as_str(), test.kind, name, test.outcome.clone())
            })
            .collect();
        let skipped = Outcome::Skipped("no mounts here".to_owned());
        let expected = [
            ("provision", Kind::Unit, "fault_18_a_weak_validator_is_none", Outcome::Ok),
            ("provision", Kind::Unit, "slow", Outcome::Ignored),
            ("provision", Kind::Unit, "past_the_end", Outcome::Ok),
            ("provision", Kind::Integration, "fault_01_a_whole_body", Outcome::Failed),
            ("provision", Kind::Integration, "fault_67_order", Outcome::Ok),
            ("provision", Kind::Integration, "fault_68_full", skipped),
            ("provision_testbed", Kind::Integration, "fault_12_to_14_framing", Outcome::Ok),
            ("provision_testbed", Kind::Integration, "fault_15_it_never_ended", Outcome::Unknown),
        ];
        assert_eq!(short, expected);
    }

    #[test]
    fn nothing_printed_is_nothing_run() {
        assert!(parse("error: could not compile").is_empty());
    }
}
