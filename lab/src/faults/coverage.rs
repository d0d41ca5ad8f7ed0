//! Cases and tests, brought together. Pure: what was run is an argument.
//!
//! Only tests of the program itself count. The testbed's own tests prove that the origin goes wrong as it should, which
//! says nothing about what the program makes of it; and a unit test proves a rule, not what comes of it on a real
//! socket and a real disk, so a case needs at least one test below `tests/`.

use std::fmt;

use super::catalogue::Case;
use super::listing::{Kind, Outcome, TestResult};
use super::names;

/// The crate whose tests count.
const PACKAGE: &str = "provision";

/// A case and what proves it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row<'a> {
    pub(super) case: &'a Case,
    /// Below `tests/`, sorted by name.
    pub(super) proofs: Vec<Proof>,
    pub(super) units: Vec<Proof>,
}

/// A test that names a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proof {
    /// The last module, without those above it.
    pub(super) module: String,
    /// What its name says after the numbers, in words.
    pub(super) sentence: String,
    pub(super) outcome: Outcome,
}

/// The rows in the catalogue's order, and what is wrong with them.
#[derive(Debug)]
pub(super) struct Joined<'a> {
    pub(super) rows: Vec<Row<'a>>,
    pub(super) complaints: Vec<Complaint>,
}

/// Why the catalogue is not proved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Complaint {
    /// Unit tests alone are not enough.
    #[error("case {number} ({what}) has no test below provision/tests: add one named fault_{number:02}_…")]
    NoTest { number: u8, what: String },
    #[error(
        "the test {test} names case {number}, which is not in the catalogue: rename the test or add the case"
    )]
    UnknownCase { test: String, number: u8 },
    #[error("the test {0} begins with `fault` and names no case: fault_NN_…")]
    NoNumber(String),
    #[error("the test {test} did not pass: {outcome}")]
    NotOk { test: String, outcome: Outcome },
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Failed => f.write_str("FAILED"),
            Self::Ignored => f.write_str("ignored"),
            Self::Skipped(why) => write!(f, "skipped: {why}"),
            Self::Unknown => f.write_str("no result"),
        }
    }
}

pub(super) fn join<'a>(cases: &'a [Case], tests: &[TestResult]) -> Joined<'a> {
    let new = |case| Row { case, proofs: Vec::new(), units: Vec::new() };
    let mut rows: Vec<Row<'_>> = cases.iter().map(new).collect();
    let mut complaints = Vec::new();
    for test in tests.iter().filter(|test| test.package == PACKAGE) {
        let mut modules = test.name.rsplit("::");
        let Some(name) = modules.next().and_then(names::read) else { continue };
        // `tests` is what the modules of unit tests are called.
        let module = modules.find(|module| *module != "tests").unwrap_or_default().to_owned();
        if name.cases.is_empty() {
            complaints.push(Complaint::NoNumber(test.name.clone()));
        }
        if test.outcome != Outcome::Ok {
            complaints.push(Complaint::NotOk { test: test.name.clone(), outcome: test.outcome.clone() });
        }
        for number in name.cases {
            let Some(row) = rows.iter_mut().find(|row| row.case.number == number) else {
                complaints.push(Complaint::UnknownCase { test: test.name.clone(), number });
                continue;
            };
            let sentence = name.sentence.replace('_', " ");
            let proof = Proof { module: module.clone(), sentence, outcome: test.outcome.clone() };
            let list = if test.kind == Kind::Integration { &mut row.proofs } else { &mut row.units };
            list.push(proof);
        }
    }
    for row in &mut rows {
        row.proofs.sort_by(|a, b| (&a.module, &a.sentence).cmp(&(&b.module, &b.sentence)));
        row.units.sort_by(|a, b| (&a.module, &a.sentence).cmp(&(&b.module, &b.sentence)));
        if row.proofs.is_empty() {
            let (number, what) = (row.case.number, row.case.what.clone());
            complaints.push(Complaint::NoTest { number, what });
        }
    }
    Joined { rows, complaints }
}

impl Row<'_> {
    /// The first result that is not `ok`; `None` where nothing proves the case.
    pub(super) fn outcome(&self) -> Option<&Outcome> {
        let mut outcomes = self.proofs.iter().chain(&self.units).map(|proof| &proof.outcome);
        outcomes.clone().find(|outcome| **outcome != Outcome::Ok).or(outcomes.next())
    }

    fn is_proved(&self) -> bool {
        !self.proofs.is_empty() && self.outcome() == Some(&Outcome::Ok)
    }
}

impl Joined<'_> {
    pub(super) fn summary(&self) -> String {
        let proved = self.rows.iter().filter(|row| row.is_proved()).count();
        let tests: usize = self.rows.iter().map(|row| row.proofs.len()).sum();
        let units: usize = self.rows.iter().map(|row| row.units.len()).sum();
        let cases = self.rows.len();
        format!("{proved} of {cases} cases are proved: {tests} tests and {units} unit tests, counted by case")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::catalogue::Group;

    fn case(number: u8) -> Case {
        let (what, outcome) = (format!("what {number}"), "X".to_owned());
        Case { number, group: Group::Ranges, what, outcome }
    }

    fn test(package: &str, kind: Kind, name: &str, outcome: Outcome) -> TestResult {
        TestResult { package: package.to_owned(), kind, name: name.to_owned(), outcome }
    }

    fn proof(name: &str) -> TestResult {
        test("provision", Kind::Integration, name, Outcome::Ok)
    }

    #[test]
    fn a_case_without_a_test_fails_whatever_the_units_and_the_testbed_have() {
        let cases = [case(1), case(2)];
        let tests = [
            proof("faults::ranges::fault_01_it_holds"),
            test("provision", Kind::Unit, "origin::tests::fault_02_a_rule", Outcome::Ok),
            test("provision_testbed", Kind::Integration, "faults::fault_2_the_origin_does_so", Outcome::Ok),
        ];
        let joined = join(&cases, &tests);
        assert_eq!(joined.complaints, [Complaint::NoTest { number: 2, what: "what 2".to_owned() }]);
        assert!(joined.complaints[0].to_string().contains("case 2 (what 2) has no test"));
        assert_eq!(joined.rows[0].proofs[0].sentence, "it holds");
        assert_eq!(joined.rows[0].proofs[0].module, "ranges");
        assert_eq!((joined.rows[1].proofs.len(), joined.rows[1].units.len()), (0, 1));
        assert_eq!(joined.rows[1].units[0].module, "origin");
        assert!(joined.summary().starts_with("1 of 2 cases are proved"), "{}", joined.summary());
    }

    #[test]
    fn one_test_may_prove_several_cases() {
        let cases = [case(1), case(2)];
        let joined = join(&cases, &[proof("a::fault_01_02_both")]);
        assert!(joined.complaints.is_empty());
        assert_eq!(joined.rows[0].proofs, joined.rows[1].proofs);
    }

    #[test]
    fn numbers_that_are_not_in_the_catalogue_and_names_without_one_are_told() {
        let cases = [case(1)];
        let tests = [proof("fault_01_x"), proof("a::fault_09_y"), proof("fault_of_mine"), proof("a_default")];
        let told = [
            Complaint::UnknownCase { test: "a::fault_09_y".to_owned(), number: 9 },
            Complaint::NoNumber("fault_of_mine".to_owned()),
        ];
        assert_eq!(join(&cases, &tests).complaints, told);
    }

    #[test]
    fn failed_ignored_skipped_and_unended_tests_prove_nothing() {
        let cases = [case(1)];
        for outcome in
            [Outcome::Failed, Outcome::Ignored, Outcome::Skipped("no".to_owned()), Outcome::Unknown]
        {
            let tests =
                [proof("fault_01_x"), test("provision", Kind::Integration, "fault_01_y", outcome.clone())];
            let joined = join(&cases, &tests);
            assert!(matches!(&joined.complaints[..], [Complaint::NotOk { .. }]), "{outcome}");
            assert_eq!(joined.rows[0].outcome(), Some(&outcome));
            assert!(joined.summary().starts_with("0 of 1"));
        }
    }
}
