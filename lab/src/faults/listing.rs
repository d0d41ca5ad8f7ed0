//! The tests of the fault catalogue, as `cargo test -- --list` names them, and the check that a run had them all.
//!
//! Only tests of the program count: those of the testbed verify the origin. A test that skips itself for lack of a tool
//! fails where `CI` is set, so a run counts only under that variable.

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;
use xshell::{Shell, cmd};

use super::names;
use crate::project;

/// A test that names cases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Test {
    /// With its modules.
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// The kind of target that a test is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// In the code's own file.
    Unit,
    /// Below `tests/`: against real sockets, directories and processes.
    Integration,
}

/// Every test whose name begins with `fault`. The workspace's own test programs are asked: a choice of packages would
/// have other features, and build them again.
pub(super) fn list(sh: &Shell) -> Result<Vec<Test>> {
    let mut tests = Vec::new();
    for (kind, program) in programs(sh)? {
        let listed = cmd!(sh, "{program} fault --list --format terse").quiet().ignore_stderr().read()?;
        tests.extend(listed.lines().filter_map(|line| {
            let name = line.strip_suffix(": test")?.to_owned();
            names::read(name.rsplit("::").next()?)?;
            Some(Test { name, kind })
        }));
    }
    // The unit tests first, as in docs/reliability.md.
    tests.sort_by_key(|test| test.kind == Kind::Integration);
    Ok(tests)
}

/// The test programs of the program's crates.
fn programs(sh: &Shell) -> Result<Vec<(Kind, Utf8PathBuf)>> {
    let built =
        cmd!(sh, "cargo test --quiet --locked --workspace --no-run --message-format json").quiet().read()?;
    let crates = project::root().join("provision");
    let program = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let source = Utf8Path::new(message["target"]["src_path"].as_str()?).strip_prefix(&crates).ok()?;
        let kind = match source.as_str() {
            "tests/it/main.rs" => Kind::Integration,
            source if source.contains("src/") && !source.starts_with("testbed/") => Kind::Unit,
            _ => return None,
        };
        let is_test = message["profile"]["test"] == Value::Bool(true);
        Some((kind, message["executable"].as_str()?.into())).filter(|_| is_test)
    };
    Ok(built.lines().filter_map(program).collect())
}

/// Runs the listed tests. An error if one failed.
pub(super) fn run(sh: &Shell) -> Result<()> {
    cmd!(sh, "cargo test --no-fail-fast --locked --workspace --tests -- fault")
        .env("CI", "1")
        .run()
        .context("a test failed; see above")
}

/// The objections to `output`, both streams of `cargo test`, as a run in which all tests passed.
pub(super) fn objections(output: &str, tests: &[Test]) -> Vec<String> {
    let mut objections = Vec::new();
    let (started, passed) =
        (output.matches("\nrunning ").count(), output.matches("\ntest result: ok. ").count());
    if started == 0 || started != passed {
        objections.push(format!("the run did not pass: of {started} test programs, {passed} ended well"));
    }
    // A test's result is not looked at: other output may stand before it. It follows from that of the program.
    let was_run = |test: &&Test| {
        let line = output.split_once(&format!("test {} ... ", test.name));
        line.is_some_and(|(_, result)| !result.starts_with("ignored"))
    };
    let missing = tests.iter().filter(|test| !was_run(test));
    objections.extend(missing.map(|test| format!("the run did not have the test {}", test.name)));
    objections
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSED: &str = "
     Running unittests src/lib.rs (target/debug/deps/provision-9b00d77)

running 1 test
test origin::tests::fault_18_a_weak_validator ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s

     Running tests/it/main.rs (target/debug/deps/it-c0ffee)

running 3 tests
test faults::fault_66_kills ... warning: output of a child
ok
test faults::fault_67_order ... ok
test slow ... ignored

test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    fn test(name: &str) -> Test {
        Test { name: name.to_owned(), kind: Kind::Integration }
    }

    #[test]
    fn a_passed_run_of_every_test_has_no_objection() {
        let names =
            ["origin::tests::fault_18_a_weak_validator", "faults::fault_66_kills", "faults::fault_67_order"];
        assert_eq!(objections(PASSED, &names.map(test)), [] as [String; 0]);
    }

    #[test]
    fn failed_broken_off_and_empty_runs_are_objected_to() {
        let failed = PASSED.replacen(
            "test result: ok. 2 passed; 0 failed",
            "test result: FAILED. 1 passed; 1 failed",
            1,
        );
        assert_eq!(objections(&failed, &[]), ["the run did not pass: of 2 test programs, 1 ended well"]);
        let broken_off = PASSED.split_once("test faults::fault_67").unwrap().0;
        assert_eq!(objections(broken_off, &[]).len(), 1);
        assert_eq!(objections("error: could not compile", &[]).len(), 1);
    }

    #[test]
    fn filtered_and_ignored_tests_are_objected_to() {
        for name in ["faults::fault_68_full", "slow", "fault_66_kills"] {
            assert_eq!(objections(PASSED, &[test(name)]), [format!("the run did not have the test {name}")]);
        }
    }
}
