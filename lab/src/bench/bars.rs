//! The bars of a report: ours against the others, shorter is better.

use super::chart::{ACCENT, Bar, PALE, PLAIN, Panel, bar_chart};
use super::report::{Check, Metric, Outcome, Report, Row};
use super::table::seconds;

const CLASSES: [(&str, &str); 3] = [(ACCENT, "ours, verified"), (PLAIN, "verified"), (PALE, "not verified")];
const MARK: &str = "the shortest time that the origin allows";

/// The picture, if there is anything to draw.
pub(super) fn draw(report: &Report) -> Option<String> {
    let panels: Vec<_> =
        report.outcomes.iter().filter(|outcome| !outcome.rows.is_empty()).map(panel).collect();
    (!panels.is_empty()).then(|| bar_chart(&CLASSES, MARK, &panels))
}

fn panel(outcome: &Outcome) -> Panel {
    let metric = match outcome.metric {
        Metric::WallTime => "time",
        Metric::PeakMemory => "peak memory",
        Metric::FetchedAgain => "fetched again",
    };
    let mut rows: Vec<_> = outcome.rows.iter().collect();
    // Cases have an order of their own.
    if rows.iter().all(|row| row.case.is_none()) {
        rows.sort_by(|a, b| value(outcome.metric, a).0.total_cmp(&value(outcome.metric, b).0));
    }
    let all_ours = rows.iter().all(|row| row.is_ours());
    let bar = |row: &Row| {
        let (length, text) = value(outcome.metric, row);
        let label = match &row.case {
            None => row.label(),
            // The colour says whose it is.
            Some(case) if all_ours => case.clone(),
            Some(case) => format!("{}, {case}", row.label()),
        };
        let class = match row.check {
            _ if row.is_ours() => ACCENT,
            Check::None => PALE,
            _ => PLAIN,
        };
        let mark = outcome.ideal(row).filter(|_| outcome.metric == Metric::WallTime);
        Bar { label, length, class, text, mark }
    };
    Panel {
        title: format!("{}: {metric}", outcome.scenario),
        captions: outcome.setting.split("; ").map(str::to_owned).collect(),
        bars: rows.into_iter().map(bar).collect(),
    }
}

/// A row's value of a metric, as a length and in words.
fn value(metric: Metric, row: &Row) -> (f64, String) {
    match metric {
        Metric::WallTime => {
            let wall = row.summary.wall_seconds;
            let ratio = row.ours.map(|ratio| format!("; ours ÷ this {:.2}", ratio.wall));
            (wall, format!("{} s{}", seconds(wall), ratio.unwrap_or_default()))
        }
        Metric::PeakMemory => {
            let peak = row.summary.peak_bytes as f64;
            (peak, format!("{:.1} MB", peak / 1e6))
        }
        Metric::FetchedAgain => {
            let share = row.fetched_again.unwrap_or_default();
            (share, format!("{:.2} %", share * 100.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::example;
    use super::*;

    #[test]
    fn every_row_has_a_bar_and_the_longest_is_the_slowest() {
        let mut report = example();
        let text = draw(&report).unwrap();
        for part in [
            "capped: time",
            ">curl, unverified</text>",
            ">2.50 s; ours ÷ this 0.50</text>",
            r#"width="420.0" height="15.0" class="plain""#,
            r#"width="210.0" height="15.0" class="accent""#,
            r#"width="168.0" height="15.0" class="pale""#,
            "growth: time",
            ">aria2c, 100 files</text>",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        // One ideal for each row of `capped`, and one in the legend.
        assert_eq!(text.matches(r#"class="mark""#).count(), 5);
        report.outcomes.clear();
        assert!(draw(&report).is_none());
    }
}
