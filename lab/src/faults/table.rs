//! The catalogue's table, in Markdown: a table for each group, a row for each case.
//!
//! Test names are long and one word to a browser, which would make the column as wide as the longest. So they stand
//! there as sentences, under their module.

use std::fmt::Write as _;

use super::coverage::{Proof, Row};
use super::listing::Outcome;

/// So many tests are shown by name.
const SHOWN: usize = 4;

pub(super) fn render(rows: &[Row<'_>]) -> String {
    let mut text = String::new();
    let mut group = None;
    for row in rows {
        let case = row.case;
        if group.replace(case.group) != Some(case.group) {
            let title = case.group.title();
            let _ = writeln!(
                text,
                "\n### {title}\n\n| | what goes wrong | outcome | proved by | last |\n|--:|---|---|---|---|"
            );
        }
        let (tests, last) = (tests(row), last(row.outcome()));
        let _ = writeln!(text, "| {} | {} | {} | {tests} | {last} |", case.number, case.what, case.outcome);
    }
    text.push('\n');
    text
}

fn tests(row: &Row<'_>) -> String {
    let mut parts: Vec<String> = row.proofs.iter().take(SHOWN).map(shown).collect();
    if row.proofs.len() > SHOWN {
        parts.push(format!("and {} more", row.proofs.len() - SHOWN));
    }
    if parts.is_empty() {
        parts.push("**none**".to_owned());
    }
    match row.units.len() {
        0 => {}
        1 => parts.push("1 unit test".to_owned()),
        units => parts.push(format!("{units} unit tests")),
    }
    parts.join("<br>")
}

fn shown(proof: &Proof) -> String {
    let Proof { module, sentence, .. } = proof;
    format!("`{module}` {sentence}")
}

fn last(outcome: Option<&Outcome>) -> String {
    match outcome {
        None => "—".to_owned(),
        Some(Outcome::Ok) => "ok".to_owned(),
        Some(outcome) => format!("**{}**", outcome.to_string().replace('|', "/")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::catalogue::{Case, Group};

    #[test]
    fn a_table_for_each_group_and_a_row_for_each_case() {
        let case = |number, group| Case { number, group, what: "w".to_owned(), outcome: "o".to_owned() };
        let proof = |sentence: &str, outcome| Proof {
            module: "ranges".to_owned(),
            sentence: sentence.to_owned(),
            outcome,
        };
        let cases = [case(1, Group::Ranges), case(2, Group::Ranges), case(3, Group::Disk)];
        let many = (0..6).map(|n| proof(&format!("s{n}"), Outcome::Ok)).collect();
        let rows = [
            Row { case: &cases[0], proofs: many, units: vec![proof("u", Outcome::Ok)] },
            Row { case: &cases[1], proofs: vec![proof("x", Outcome::Failed)], units: Vec::new() },
            Row { case: &cases[2], proofs: Vec::new(), units: Vec::new() },
        ];
        let expected = "
### Ranges

| | what goes wrong | outcome | proved by | last |
|--:|---|---|---|---|
| 1 | w | o | `ranges` s0<br>`ranges` s1<br>`ranges` s2<br>`ranges` s3<br>and 2 more<br>1 unit test | ok |
| 2 | w | o | `ranges` x | **FAILED** |

### Disk and process

| | what goes wrong | outcome | proved by | last |
|--:|---|---|---|---|
| 3 | w | o | **none** | — |

";
        assert_eq!(render(&rows), expected);
    }
}
