//! A panel of bars for each scenario: ours against the others, shorter is better.

use super::svg::{Picture, WIDTH, width};
use crate::bench::report::{Check, Outcome, Report, Row};
use crate::bench::scenario::Scenario;
use crate::bench::table::seconds;

const MARGIN: f64 = 16.0;
/// Where bars begin: the labels are left of it.
const LEFT: f64 = 250.0;
/// Where the longest bar ends: its number is right of it.
const RIGHT: f64 = WIDTH - 190.0;
const ROW: f64 = 22.0;
const BAR: f64 = 15.0;

/// What a bar's length is.
struct Quantity {
    what: &'static str,
    of: fn(&Row) -> f64,
    show: fn(&Row) -> String,
}

fn quantity(outcome: &Outcome) -> Quantity {
    let is = |scenario: Scenario| outcome.scenario == scenario.name();
    if is(Scenario::Memory) {
        let show = |row: &Row| format!("{:.1} MB", row.summary.peak_bytes as f64 / 1e6);
        Quantity { what: "peak memory", of: |row| row.summary.peak_bytes as f64, show }
    } else if is(Scenario::Resume) {
        let of = |row: &Row| row.fetched_again.unwrap_or_default();
        let show = |row: &Row| format!("{:.2} %", row.fetched_again.unwrap_or_default() * 100.0);
        Quantity { what: "fetched again", of, show }
    } else if is(Scenario::Noop) {
        let show = |row: &Row| format!("{:.1} ms", row.summary.wall_seconds * 1e3);
        Quantity { what: "start to end", of: |row| row.summary.wall_seconds, show }
    } else {
        let show = |row: &Row| match row.ours {
            Some(ratio) => format!("{} s; ours ÷ this {:.2}", seconds(row.summary.wall_seconds), ratio.wall),
            None => format!("{} s", seconds(row.summary.wall_seconds)),
        };
        Quantity { what: "time", of: |row| row.summary.wall_seconds, show }
    }
}

/// The picture; `None` where there is nothing that bars could show.
pub(in crate::bench) fn bars(report: &Report) -> Option<String> {
    let outcomes: Vec<_> = report
        .outcomes
        .iter()
        .filter(|outcome| outcome.scenario != Scenario::Growth.name() && !outcome.rows.is_empty())
        .collect();
    if outcomes.is_empty() {
        return None;
    }
    let mut picture = Picture::default();
    let mut y = legend(&mut picture);
    for outcome in outcomes {
        y = panel(&mut picture, outcome, y);
    }
    Some(picture.finish(y))
}

/// What the colours mean. Returns where the next thing goes.
fn legend(picture: &mut Picture) -> f64 {
    let y = MARGIN + 12.0;
    let mut x = MARGIN;
    for (class, what) in
        [("ours", "ours, verified"), ("theirs", "verified"), ("unverified", "not verified by anybody")]
    {
        picture.bar((x, y - 11.0), (14.0, 12.0), class);
        picture.text((x + 20.0, y), "", what);
        x += 20.0 + width(what) + 16.0;
    }
    picture.line(&[(x, y - 5.0), (x + 22.0, y - 5.0)], "ideal");
    picture.text((x + 28.0, y), "", "the least that the origin allows");
    y + 14.0
}

fn panel(picture: &mut Picture, outcome: &Outcome, top: f64) -> f64 {
    let Quantity { what, of, show } = quantity(outcome);
    let mut y = top + 28.0;
    picture.text((MARGIN, y), "title", &format!("{}: {what}", outcome.scenario));
    y += 18.0;
    for line in wrap(&outcome.setting) {
        picture.text((MARGIN, y), "soft", &line);
        y += 16.0;
    }
    let mut rows: Vec<_> = outcome.rows.iter().collect();
    if rows.iter().all(|row| row.case.is_none()) {
        rows.sort_by(|a, b| of(a).total_cmp(&of(b)));
    }
    let ideal = (what == "time").then_some(outcome.ideal_seconds).flatten();
    let longest = rows.iter().map(|row| of(row)).chain(ideal).fold(f64::MIN_POSITIVE, f64::max);
    let scale = (RIGHT - LEFT) / longest;
    let first = y;
    let all_ours = rows.iter().all(|row| row.is_ours());
    for row in rows {
        let class = match (row.is_ours(), row.check) {
            (true, _) => "ours",
            (false, Check::None) => "unverified",
            (false, _) => "theirs",
        };
        let length = of(row) * scale;
        let label = match &row.case {
            None => row.label(),
            // The colour says whose it is.
            Some(case) if all_ours => case.clone(),
            Some(case) => format!("{}, {case}", row.tool),
        };
        picture.text((LEFT - 8.0, y + 12.0), "right", &label);
        picture.bar((LEFT, y), (length.max(1.0), BAR), class);
        picture.text((LEFT + length + 8.0, y + 12.0), "", &show(row));
        y += ROW;
    }
    picture.line(&[(LEFT, first - 3.0), (LEFT, y - 3.0)], "axis");
    if let Some(ideal) = ideal {
        let x = LEFT + ideal * scale;
        picture.line(&[(x, first - 3.0), (x, y - 3.0)], "ideal");
    }
    y + 4.0
}

/// In lines that fit.
fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        // Soft text is a little smaller than what `width` is for.
        if !lines[last].is_empty() && width(&lines[last]) + width(word) > (WIDTH - 2.0 * MARGIN) * 1.15 {
            lines.push(word.to_owned());
        } else {
            if !lines[last].is_empty() {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::example;

    #[test]
    fn every_row_has_a_bar_and_the_longest_ends_where_it_must() {
        let mut report = example();
        let text = bars(&report).unwrap();
        for part in [
            "capped: time",
            ">aria2c</text>",
            ">curl, unverified</text>",
            ">2.50 s; ours ÷ this 0.50</text>",
            r#"width="420.0" height="15.0" class="theirs""#,
            r#"width="210.0" height="15.0" class="ours""#,
            r#"width="168.0" height="15.0" class="unverified""#,
            r#"<polyline points="460.0,"#,
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        report.outcomes.remove(0);
        assert!(bars(&report).is_none());
    }

    #[test]
    fn a_long_setting_takes_several_lines_and_loses_nothing() {
        let text = "word ".repeat(60).trim().to_owned();
        let lines = wrap(&text);
        assert!(lines.len() > 1);
        assert_eq!(lines.join(" "), text);
    }
}
