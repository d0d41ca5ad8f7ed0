//! Tables as Markdown that is legible as it stands: on a terminal, and pasted into a document.

use std::fmt::Write as _;

use super::report::{Outcome, Report, Row};

/// A column: its head, and what a row has in it.
type Column = (&'static str, fn(&Outcome, &Row) -> Option<String>);

/// In their order. One where no row has anything is left out.
const COLUMNS: [Column; 11] = [
    ("case", |_, row| row.case.clone()),
    ("wall s", |_, row| Some(seconds(row.summary.wall_seconds))),
    ("min", |_, row| extreme(row, f64::min)),
    ("max", |_, row| extreme(row, f64::max)),
    ("MB/s", |_, row| (row.bytes > 10_000_000).then(|| format!("{:.0}", row.megabytes_per_second()))),
    ("CPU s", |_, row| Some(format!("{:.2}", row.summary.cpu_seconds))),
    ("peak MB", |_, row| Some(format!("{:.1}", row.summary.peak_bytes as f64 / 1e6))),
    ("ours ÷ theirs", |_, row| row.ours.map(|ratio| format!("**{:.2}**", ratio.wall))),
    ("× ideal", |outcome, row| {
        outcome.ideal(row).map(|ideal| format!("{:.2}", row.summary.wall_seconds / ideal))
    }),
    ("fetched again", |_, row| row.fetched_again.map(|share| format!("{:.2} %", share * 100.0))),
    ("sockets", |_, row| row.sockets.map(|number| number.to_string())),
];

/// Times of a second and more by hundredths, shorter ones by tenths of a millisecond.
pub(super) fn seconds(seconds: f64) -> String {
    if seconds < 0.1 { format!("{seconds:.4}") } else { format!("{seconds:.2}") }
}

fn extreme(row: &Row, choose: fn(f64, f64) -> f64) -> Option<String> {
    // Of one round there is no range.
    let walls = row.rounds.iter().map(|round| round.wall_seconds);
    (row.rounds.len() > 1).then(|| walls.reduce(choose).map(seconds)).flatten()
}

/// A scenario.
pub(super) fn outcome(outcome: &Outcome) -> String {
    let mut heads = vec!["tool"];
    let mut rows: Vec<Vec<String>> = outcome.rows.iter().map(|row| vec![row.label()]).collect();
    for (head, cell) in COLUMNS {
        let cells: Vec<_> = outcome.rows.iter().map(|row| cell(outcome, row)).collect();
        if cells.iter().any(Option::is_some) {
            heads.push(head);
            for (row, cell) in rows.iter_mut().zip(cells) {
                row.push(cell.unwrap_or_default());
            }
        }
    }
    let mut text = format!("### {}\n\n{}\n\n{}", outcome.scenario, outcome.setting, grid(&heads, &rows));
    if let Some(ideal) = outcome.ideal_seconds {
        let _ = writeln!(text, "\nThe least time that this origin allows: {} s.", seconds(ideal));
    }
    for (number, note) in outcome.notes.iter().enumerate() {
        let before = if number == 0 { "\n" } else { "" };
        let _ = writeln!(text, "{before}- {note}");
    }
    text
}

/// The whole of it.
pub(super) fn report(report: &Report) -> String {
    let machine = &report.machine;
    let list = |numbers: [f64; 3]| numbers.map(|number| format!("{number:.2}")).join(", ");
    let versions: Vec<_> =
        report.versions.iter().map(|version| format!("{}: {}", version.tool, version.version)).collect();
    let rows = [
        ("machine", format!("{} cores of {}", machine.cores, machine.processor)),
        ("memory", format!("{:.1} GB", machine.memory_bytes as f64 / 1e9)),
        ("kernel", machine.kernel.clone()),
        (
            "load",
            format!(
                "{} before, {} after (1, 5, 15 minutes)",
                list(machine.load_before),
                list(machine.load_after)
            ),
        ),
        ("versions", versions.join("; ")),
        ("command", format!("`{}`", report.command)),
    ];
    let mut text = String::from("| | |\n|---|---|\n");
    for (name, value) in rows {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    for missing in &report.missing {
        let _ = writeln!(text, "| not found | {}: `{}` |", missing.tool, missing.hint);
    }
    for one in &report.outcomes {
        let _ = write!(text, "\n{}", outcome(one));
    }
    text
}

/// Columns are as wide as their widest cell; numbers are to the right.
fn grid(heads: &[&str], rows: &[Vec<String>]) -> String {
    let width = |text: &str| text.chars().count();
    let widths: Vec<_> = heads
        .iter()
        .enumerate()
        .map(|(at, head)| {
            rows.iter().map(|row| width(&row[at])).chain([width(head)]).max().unwrap_or_default()
        })
        .collect();
    let is_text = |at: usize| at == 0 || heads[at] == "case";
    let line = |cells: Vec<&str>| {
        let cells = cells.into_iter().zip(&widths).enumerate().map(|(at, (cell, &width))| {
            if is_text(at) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let mut text = line(heads.to_vec());
    let rules = widths
        .iter()
        .enumerate()
        .map(|(at, &width)| if is_text(at) { "-".repeat(width + 2) } else { "-".repeat(width + 1) + ":" });
    let _ = writeln!(text, "|{}|", rules.collect::<Vec<_>>().join("|"));
    for row in rows {
        text.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::report::example;
    use super::*;

    #[test]
    fn a_table_is_aligned_and_has_only_the_columns_that_have_something() {
        assert_eq!(
            outcome(&example().outcomes[0]),
            "\
### capped

4 MB/s for each connection

| tool             | wall s |  min |  max | MB/s | CPU s | peak MB | ours ÷ theirs | × ideal |
|------------------|-------:|-----:|-----:|-----:|------:|--------:|--------------:|--------:|
| ours             |   1.25 | 1.00 | 1.50 | 1200 |  2.10 |    31.0 |               |    1.00 |
| aria2c           |   2.50 |      |      |  600 |  3.00 |    40.0 |      **0.50** |    2.00 |
| curl, unverified |   1.00 |      |      | 1500 |  1.00 |    10.0 |      **1.25** |    0.80 |

The least time that this origin allows: 1.25 s.

- wget did not take part: it <broke>
"
        );
    }

    #[test]
    fn the_report_says_on_what_and_how() {
        let text = report(&example());
        assert!(text.contains("| machine | 2 cores of A <fast> processor |\n"), "{text}");
        assert!(
            text.contains("| load | 0.00, 0.10, 0.20 before, 2.00, 1.00, 0.50 after (1, 5, 15 minutes) |\n")
        );
        assert!(text.contains("| command | `cargo lab bench` |\n"));
        assert!(text.contains("| not found | wget2: `apt-get install wget2` |\n"));
        assert!(
            text.contains("\n### growth\n") && text.contains("| ours   | 100 files |   2.00 |"),
            "{text}"
        );
    }
}
