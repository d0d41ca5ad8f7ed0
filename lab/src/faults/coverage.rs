//! Cases and their tests, brought together. Pure.
//!
//! A unit test verifies a rule, not its effect on a real socket and a real disk. So a case needs at least one test
//! below `tests/`.

use super::catalogue::Case;
use super::listing::{Kind, Test};
use super::names;

/// A case and its tests.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row<'a> {
    pub(super) case: &'a Case,
    /// The module and the words of each test below `tests/`, sorted.
    pub(super) tests: Vec<(String, String)>,
    /// The number of unit tests.
    pub(super) units: usize,
}

/// The rows in the catalogue's order, and the gaps between catalogue and tests.
pub(super) fn join<'a>(cases: &'a [Case], tests: &[Test]) -> (Vec<Row<'a>>, Vec<String>) {
    let mut rows: Vec<_> = cases.iter().map(|case| Row { case, tests: Vec::new(), units: 0 }).collect();
    let mut gaps = Vec::new();
    for test in tests {
        let mut modules = test.name.rsplit("::");
        let Some(name) = modules.next().and_then(names::read) else { continue };
        if name.cases.is_empty() {
            gaps.push(format!("the test {} names no case: rename it to fault_NN_…", test.name));
        }
        for number in name.cases {
            let Some(row) = rows.iter_mut().find(|row| row.case.number == number) else {
                gaps.push(format!("the test {} names case {number}, which does not exist", test.name));
                continue;
            };
            if test.kind == Kind::Unit {
                row.units += 1;
            } else {
                let module = modules.clone().next().unwrap_or_default().to_owned();
                row.tests.push((module, name.words.replace('_', " ")));
            }
        }
    }
    for row in &mut rows {
        row.tests.sort();
        if row.tests.is_empty() {
            let Case { number, what, .. } = row.case;
            gaps.push(format!(
                "case {number} ({what}) has no test below provision/tests: add fault_{number:02}_…"
            ));
        }
    }
    (rows, gaps)
}

/// The number of cases with a test, and of tests.
pub(super) fn summary(rows: &[Row<'_>]) -> String {
    let covered = rows.iter().filter(|row| !row.tests.is_empty()).count();
    let tests: usize = rows.iter().map(|row| row.tests.len()).sum();
    let units: usize = rows.iter().map(|row| row.units).sum();
    let cases = rows.len();
    format!("{covered} of {cases} cases have a test: {tests} tests and {units} unit tests, counted by case")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(number: u8) -> Case {
        let (what, outcome) = (format!("what {number}"), "X".to_owned());
        Case { number, group: "Ranges".to_owned(), what, outcome }
    }

    fn test(name: &str) -> Test {
        Test { name: name.to_owned(), kind: Kind::Integration }
    }

    #[test]
    fn a_unit_test_alone_does_not_cover_a_case() {
        let cases = [case(1), case(2)];
        let unit = Test { kind: Kind::Unit, ..test("origin::tests::fault_02_a_rule") };
        let (rows, gaps) = join(&cases, &[test("faults::ranges::fault_01_it_holds"), unit]);
        assert_eq!(gaps, ["case 2 (what 2) has no test below provision/tests: add fault_02_…"]);
        assert_eq!(rows[0].tests, [("ranges".to_owned(), "it holds".to_owned())]);
        assert_eq!((rows[1].tests.len(), rows[1].units), (0, 1));
        assert!(
            summary(&rows).starts_with("1 of 2 cases have a test: 1 tests and 1 unit"),
            "{}",
            summary(&rows)
        );
    }

    #[test]
    fn one_test_may_cover_several_cases() {
        let cases = [case(1), case(2)];
        let (rows, gaps) = join(&cases, &[test("a::fault_01_02_both")]);
        assert!(gaps.is_empty());
        assert_eq!(rows[0].tests, rows[1].tests);
    }

    #[test]
    fn unknown_numbers_and_missing_numbers_are_gaps() {
        let cases = [case(1)];
        let tests = ["fault_01_x", "a::fault_09_y", "fault_of_mine", "a_default"].map(test);
        let gaps = [
            "the test a::fault_09_y names case 9, which does not exist",
            "the test fault_of_mine names no case: rename it to fault_NN_…",
        ];
        assert_eq!(join(&cases, &tests).1, gaps);
    }
}
