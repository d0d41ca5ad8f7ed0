//! Markdown tables that are aligned for a terminal, too.

use std::fmt::Write as _;

use super::report::{Outcome, Report, Row};

/// The head of a column, and its cell for a row.
type Column = (&'static str, fn(&Row) -> Option<String>);

/// The columns in order. A column without any cell is left out.
const COLUMNS: [Column; 12] = [
    ("tool", |row| Some(row.tool_label())),
    ("case", |row| row.case.clone()),
    ("wall s", |row| Some(seconds(row.summary.wall_seconds))),
    ("min", |row| extreme(row, f64::min)),
    ("max", |row| extreme(row, f64::max)),
    ("MB/s", |row| {
        let rate = row.bytes as f64 / row.summary.wall_seconds / 1e6;
        (row.bytes > 10_000_000).then(|| format!("{rate:.0}"))
    }),
    ("CPU s", |row| Some(format!("{:.2}", row.summary.cpu_seconds))),
    ("peak MB", |row| Some(format!("{:.1}", row.summary.peak_bytes as f64 / 1e6))),
    ("ours ÷ theirs", |row| row.ours.map(|ratio| format!("**{:.2}**", ratio.wall))),
    ("ours ÷ ours, CPU", |row| {
        // GNU time counts by hundredths of a second.
        let is_exact = row.is_own() && row.summary.cpu_seconds >= 0.1;
        row.ours.filter(|_| is_exact).map(|ratio| format!("**{:.3}**", ratio.cpu))
    }),
    ("× ideal", |row| row.ideal_seconds.map(|ideal| format!("{:.2}", row.summary.wall_seconds / ideal))),
    ("fetched again", |row| row.summary.fetched_again.map(|share| format!("{:.2} %", share * 100.0))),
];

/// Short times by tenths of a millisecond, others by hundredths of a second.
pub(super) fn seconds(seconds: f64) -> String {
    if seconds < 0.1 { format!("{seconds:.4}") } else { format!("{seconds:.2}") }
}

/// The shortest or the longest of several rounds.
fn extreme(row: &Row, choose: fn(f64, f64) -> f64) -> Option<String> {
    let walls = row.rounds.iter().map(|round| round.wall_seconds);
    (row.rounds.len() > 1).then(|| walls.reduce(choose).map(seconds)).flatten()
}

/// A section for a scenario.
pub(super) fn outcome(outcome: &Outcome) -> String {
    let cells = |(head, cell): &Column| {
        let cells: Vec<_> = outcome.rows.iter().map(cell).collect();
        let has_any = cells.iter().any(Option::is_some);
        has_any.then(|| (*head, cells.into_iter().map(Option::unwrap_or_default).collect()))
    };
    let table = grid(&COLUMNS.iter().filter_map(cells).collect::<Vec<_>>());
    let mut text = format!("### {}\n\n{}\n\n{table}", outcome.scenario, outcome.setting);
    // The rows of a case have an ideal of their own.
    let ideal = outcome.rows.first().filter(|row| row.case.is_none()).and_then(|row| row.ideal_seconds);
    if let Some(ideal) = ideal {
        let _ = writeln!(text, "\nThe shortest time that this origin allows: {} s.", seconds(ideal));
    }
    if !outcome.notes.is_empty() {
        let _ = writeln!(text, "\n- {}", outcome.notes.join("\n- "));
    }
    text
}

/// The whole report.
pub(super) fn report(report: &Report) -> String {
    let mut text = format!("| | |\n|---|---|\n| command | `{}` |\n", report.command);
    for (name, value) in &report.environment {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    report.outcomes.iter().fold(text, |text, one| text + "\n" + &outcome(one))
}

/// Columns as wide as their widest cell, numbers to the right.
fn grid(columns: &[(&str, Vec<String>)]) -> String {
    let mut lines = vec![String::new(); 2 + columns.first().map_or(0, |(_, cells)| cells.len())];
    for (head, cells) in columns {
        let is_text = matches!(*head, "tool" | "case");
        let column = || [*head].into_iter().chain(cells.iter().map(String::as_str));
        let width = column().map(|cell| cell.chars().count()).max().unwrap_or_default();
        let rule = if is_text { "-".repeat(width + 2) } else { "-".repeat(width + 1) + ":" };
        let _ = write!(lines[1], "|{rule}");
        for (at, cell) in column().enumerate() {
            let line = &mut lines[if at == 0 { 0 } else { at + 1 }];
            let _ =
                if is_text { write!(line, "| {cell:<width$} ") } else { write!(line, "| {cell:>width$} ") };
        }
    }
    lines.into_iter().map(|line| line + "|\n").collect()
}

#[cfg(test)]
mod tests {
    use super::super::report::example;
    use super::*;

    #[test]
    fn a_table_is_aligned_and_has_no_empty_column() {
        assert_eq!(
            outcome(&example().outcomes[0]),
            "\
### capped

4 MB/s for each connection

| tool             | wall s |  min |  max | MB/s | CPU s | peak MB | ours ÷ theirs | ours ÷ ours, CPU | × ideal |
|------------------|-------:|-----:|-----:|-----:|------:|--------:|--------------:|-----------------:|--------:|
| ours             |   1.25 | 1.00 | 1.50 | 1200 |  2.10 |    31.0 |               |                  |    1.00 |
| before           |   1.25 |      |      | 1200 |  1.75 |    31.0 |      **1.00** |        **1.200** |    1.00 |
| aria2c           |   2.50 |      |      |  600 |  3.00 |    40.0 |      **0.50** |                  |    2.00 |
| curl, unverified |   1.00 |      |      | 1500 |  1.00 |    10.0 |      **1.25** |                  |    0.80 |

The shortest time that this origin allows: 1.25 s.

- hf-transfer did not take part: it <broke>
"
        );
    }

    #[test]
    fn the_report_describes_machine_and_command() {
        let text = report(&example());
        for part in [
            "| processor | A <fast> processor |\n",
            "| command | `cargo lab bench` |\n",
            "| aria2c | not found; to install it: apt-get install aria2 |\n",
            "\n### growth\n",
            "| ours   | 100 files |   2.00 |",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
