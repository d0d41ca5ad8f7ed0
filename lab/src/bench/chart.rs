//! A report as a bar chart: ours against the others, shorter is better. The picture is hand-written SVG: text and a few
//! shapes need no library. It has a ground of its own, so it is legible on any page. No text has a character of markup.

use std::fmt::Write as _;

use super::meter::Measurement;
use super::report::{Metric, Outcome, Report, Row};
use super::table::seconds;
use super::tool::Check;

/// The length of the longest bar, between the labels and the texts. The whole is legible in the column of a README.
const LONGEST: f64 = 420.0;
/// The heights of a line of text, and of a bar with its distance to the next.
const LINE: f64 = 16.0;
const ROW: f64 = 22.0;

const HEAD: &str = r#"<style>
text { font: 13px 'DejaVu Sans', Verdana, Helvetica, Arial, sans-serif; fill: #1f2328; }
.title { font-size: 16px; font-weight: bold; }
.caption { fill: #59636e; font-size: 12px; }
.label { text-anchor: end; }
.ours { fill: #0b6e4f; }
.verified { fill: #8c96a3; }
.unverified { fill: #d3d9e0; }
.mark { stroke: #b35900; stroke-width: 1.5; stroke-dasharray: 4 3; }
</style>
<rect width="100%" height="100%" fill="white"/>
<path d="M16 23h22" class="mark"/><text x="44" y="28">the shortest time that the origin allows</text>
"#;

/// The picture, if there is anything to draw.
pub(super) fn draw(report: &Report) -> Option<String> {
    // Below the legend.
    let (mut panels, mut y) = (String::new(), 28.0);
    for outcome in report.outcomes.iter().filter(|outcome| !outcome.rows.is_empty()) {
        draw_panel(&mut panels, &mut y, outcome);
    }
    let size = format!(r#"viewBox="0 0 860 {y:.0}" width="860" height="{y:.0}""#);
    let picture = format!("<svg xmlns=\"http://www.w3.org/2000/svg\" {size}>\n{HEAD}{panels}</svg>\n");
    (!panels.is_empty()).then_some(picture)
}

/// Draws a scenario, whose bars share a scale, below `y`.
fn draw_panel(picture: &mut String, y: &mut f64, outcome: &Outcome) {
    let metric = match outcome.metric {
        Metric::WallTime => "time",
        Metric::PeakMemory => "peak memory",
        Metric::FetchedAgain => "fetched again",
    };
    *y += 2.0 * LINE;
    let title = &outcome.scenario;
    let _ = writeln!(picture, r#"<text x="16" y="{y:.0}" class="title">{title}: {metric}</text>"#);
    for line in outcome.setting.split("; ") {
        *y += LINE;
        let _ = writeln!(picture, r#"<text x="16" y="{y:.0}" class="caption">{line}</text>"#);
    }
    *y += LINE / 2.0;
    let value = |row: &Row| value(outcome.metric, row);
    let mut rows: Vec<_> = outcome.rows.iter().collect();
    // Cases have an order of their own.
    if rows.iter().all(|row| row.case.is_none()) {
        rows.sort_by(|a, b| value(a).0.total_cmp(&value(b).0));
    }
    let lengths = rows.iter().flat_map(|row| [Some(value(row).0), row.ideal_seconds]).flatten();
    let scale = LONGEST / lengths.fold(f64::MIN_POSITIVE, f64::max);
    for row in rows {
        let class = match row.check {
            _ if row.is_ours() => "ours",
            Check::None => "unverified",
            _ => "verified",
        };
        let (label, (length, text)) = (row.label(), value(row));
        let width = length * scale;
        let mark = |ideal| format!(r#"<path d="M{:.1}-3v22" class="mark"/>"#, ideal * scale);
        let _ = writeln!(
            picture,
            r#"<g transform="translate(250 {y:.0})"><text x="-8" y="12" class="label">{label}</text>
<rect width="{width:.1}" height="15" class="{class}"/><text x="{:.1}" y="12">{text}</text>{}</g>"#,
            width + 8.0,
            row.ideal_seconds.map(mark).unwrap_or_default()
        );
        *y += ROW;
    }
}

/// A row's value of a metric, as a length and in words.
fn value(metric: Metric, row: &Row) -> (f64, String) {
    let Measurement { wall_seconds, peak_bytes, fetched_again, .. } = row.summary;
    match metric {
        Metric::WallTime => {
            let ratio = row.ours.map(|ratio| format!("; ours ÷ this {:.2}", ratio.wall));
            (wall_seconds, format!("{} s{}", seconds(wall_seconds), ratio.unwrap_or_default()))
        }
        Metric::PeakMemory => (peak_bytes as f64, format!("{:.1} MB", peak_bytes as f64 / 1e6)),
        Metric::FetchedAgain => {
            let share = fetched_again.unwrap_or_default();
            (share, format!("{:.2} %", share * 100.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::example;
    use super::*;

    #[test]
    fn every_row_has_a_bar_to_scale() {
        let mut report = example();
        let text = draw(&report).unwrap();
        for part in [
            "capped: time",
            ">4 MB/s for each connection</text>",
            ">curl, unverified</text>",
            ">2.50 s; ours ÷ this 0.50</text>",
            r#"width="420.0" height="15" class="verified""#,
            r#"width="210.0" height="15" class="ours""#,
            r#"width="168.0" height="15" class="unverified""#,
            r#"<path d="M210.0-3v22" class="mark"/>"#,
            "growth: time",
            ">aria2c, 100 files</text>",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
        // One ideal for each row of `capped`, and one in the legend.
        assert_eq!(text.matches(r#"class="mark""#).count(), 5);
        report.outcomes.clear();
        assert!(draw(&report).is_none());
    }
}
