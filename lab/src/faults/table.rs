//! The catalogue's tables in Markdown: one a group, one row a case.
//!
//! A browser does not break a test's name, which would make the column as wide as the longest. So names stand there as
//! words, after their module.

use std::fmt::Write as _;

use super::coverage::Row;

/// The number of tests that a row names.
const NAMED: usize = 4;

pub(super) fn render(rows: &[Row<'_>]) -> String {
    let mut text = String::new();
    let mut group = None;
    for row in rows {
        let case = row.case;
        if group.replace(&case.group) != Some(&case.group) {
            let title = &case.group;
            let _ =
                writeln!(text, "\n### {title}\n\n| | what goes wrong | outcome | tests |\n|--:|---|---|---|");
        }
        let _ = writeln!(text, "| {} | {} | {} | {} |", case.number, case.what, case.outcome, tests(row));
    }
    text.push('\n');
    text
}

fn tests(row: &Row<'_>) -> String {
    let named = row.tests.iter().take(NAMED).map(|(module, words)| format!("`{module}` {words}"));
    let mut parts: Vec<_> = named.collect();
    match row.tests.len() {
        0 => parts.push("**none**".to_owned()),
        tests if tests > NAMED => parts.push(format!("and {} more", tests - NAMED)),
        _ => {}
    }
    match row.units {
        0 => {}
        1 => parts.push("1 unit test".to_owned()),
        units => parts.push(format!("{units} unit tests")),
    }
    parts.join("<br>")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::catalogue::Case;

    #[test]
    fn one_table_a_group_and_one_row_a_case() {
        let case = |number, group: &str| Case {
            number,
            group: group.to_owned(),
            what: "w".to_owned(),
            outcome: "o".to_owned(),
        };
        let test = |words: &str| ("ranges".to_owned(), words.to_owned());
        let cases = [case(1, "Ranges"), case(2, "Ranges"), case(3, "Disk and process")];
        let many = (0..6).map(|n| test(&format!("s{n}"))).collect();
        let rows = [
            Row { case: &cases[0], tests: many, units: 1 },
            Row { case: &cases[1], tests: vec![test("x")], units: 0 },
            Row { case: &cases[2], tests: Vec::new(), units: 2 },
        ];
        let expected = "
### Ranges

| | what goes wrong | outcome | tests |
|--:|---|---|---|
| 1 | w | o | `ranges` s0<br>`ranges` s1<br>`ranges` s2<br>`ranges` s3<br>and 2 more<br>1 unit test |
| 2 | w | o | `ranges` x |

### Disk and process

| | what goes wrong | outcome | tests |
|--:|---|---|---|
| 3 | w | o | **none**<br>2 unit tests |

";
        assert_eq!(render(&rows), expected);
    }
}
