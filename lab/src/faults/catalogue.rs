//! The catalogue's cases, read from their file.

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use xshell::Shell;

/// The file, below the workspace's root.
pub(super) const CASES: &str = "provision/tests/it/faults/cases.toml";

/// A fault and its one right outcome.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) number: u8,
    /// The title of the table that has the case.
    pub(super) group: String,
    /// The fault, in Markdown.
    pub(super) what: String,
    /// The outcome, in Markdown.
    pub(super) outcome: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    case: Vec<Case>,
}

/// The last case of the first list, which has no gap. The cases of the second list come one by one.
const FIRST_LIST: u8 = 86;

/// Reads the cases. Their numbers ascend, up to [`FIRST_LIST`] without a gap, so no case can be lost unnoticed.
pub(super) fn read(sh: &Shell) -> Result<Vec<Case>> {
    parse(&sh.read_file(CASES)?).with_context(|| CASES.to_owned())
}

fn parse(text: &str) -> Result<Vec<Case>> {
    let cases = toml::from_str::<Catalogue>(text)?.case;
    let mut expected = 1;
    for case in &cases {
        let is_next = case.number == expected || (expected > FIRST_LIST && case.number > expected);
        ensure!(is_next, "case {} stands in the place of case {expected}", case.number);
        expected = case.number + 1;
    }
    ensure!(!cases.is_empty(), "there are no cases");
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_has_every_case_once_and_fit_for_a_table() {
        let text = std::fs::read_to_string(crate::project::root().join(CASES)).unwrap();
        let cases = parse(&text).unwrap();
        assert!(cases.len() > usize::from(FIRST_LIST));
        for case in &cases {
            assert!(!case.what.contains(['|', '\n']) && !case.outcome.contains(['|', '\n']), "{case:?}");
        }
        let mut groups: Vec<_> = cases.iter().map(|case| case.group.as_str()).collect();
        groups.dedup();
        let titles = [
            "Ranges",
            "Transport",
            "Redirects and secrets",
            "models.lock",
            "Disk and process",
            "Second list",
            "Pieces",
        ];
        assert_eq!(groups, titles);
    }

    #[test]
    fn a_gap_in_the_numbers_is_an_error() {
        let case = |number| {
            format!("[[case]]\nnumber = {number}\ngroup = \"disk\"\nwhat = \"w\"\noutcome = \"o\"\n")
        };
        assert!(parse(&(case(1) + &case(2))).is_ok());
        assert!(parse(&(case(1) + &case(3))).unwrap_err().to_string().contains("case 3"));
        assert!(parse("case = []").is_err());
    }
}
