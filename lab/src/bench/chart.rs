//! A report as a bar chart: ours against the others, shorter is better. The picture is hand-written SVG: text and a few
//! shapes need no library. It has a ground of its own, so it is legible on any page.

use std::fmt::Write as _;

use super::report::{Metric, Outcome, Report, Row};
use super::table::seconds;
use super::tool::Check;

/// The length of the longest bar, between the labels and the texts. The whole is legible in the column of a README.
const LONGEST: f64 = 420.0;
/// The height of the legend, of a line of text, and of a bar with its distance to the next.
const LEGEND: f64 = 42.0;
const LINE: f64 = 16.0;
const ROW: f64 = 22.0;

const HEAD: &str = r#"<style>
text { font: 13px 'DejaVu Sans', Verdana, Helvetica, Arial, sans-serif; fill: #1f2328; }
.title { font-size: 16px; font-weight: bold; }
.caption { fill: #59636e; font-size: 12px; }
.label { text-anchor: end; }
.ground { fill: #ffffff; }
.accent { fill: #0b6e4f; stroke: #0b6e4f; }
.plain { fill: #8c96a3; stroke: #8c96a3; }
.pale { fill: #d3d9e0; stroke: #8c96a3; }
.mark { stroke: #b35900; stroke-width: 1.5; stroke-dasharray: 4 3; fill: none; }
.axis { stroke: #c6cdd5; stroke-width: 1; fill: none; }
</style>
<rect width="100%" height="100%" class="ground"/>
<rect x="16" y="17" width="14" height="12" class="accent"/><text x="36" y="28">ours, verified</text>
<rect x="168" y="17" width="14" height="12" class="plain"/><text x="188" y="28">verified</text>
<rect x="270" y="17" width="14" height="12" class="pale"/><text x="290" y="28">not verified</text>
<path d="M406 23h22" class="mark"/><text x="434" y="28">the shortest time that the origin allows</text>
"#;

/// The picture, if there is anything to draw.
pub(super) fn draw(report: &Report) -> Option<String> {
    let (mut panels, mut height) = (String::new(), LEGEND);
    for outcome in report.outcomes.iter().filter(|outcome| !outcome.rows.is_empty()) {
        let (elements, panel_height) = panel(outcome);
        let _ = writeln!(panels, "<g transform=\"translate(16 {height:.0})\">\n{elements}</g>");
        height += panel_height;
    }
    let size = format!(r#"viewBox="0 0 860 {height:.0}" width="860" height="{height:.0}""#);
    let picture = format!("<svg xmlns=\"http://www.w3.org/2000/svg\" {size}>\n{HEAD}{panels}</svg>\n");
    (!panels.is_empty()).then_some(picture)
}

/// The elements of a scenario, whose bars share a scale, and their height.
fn panel(outcome: &Outcome) -> (String, f64) {
    let metric = match outcome.metric {
        Metric::WallTime => "time",
        Metric::PeakMemory => "peak memory",
        Metric::FetchedAgain => "fetched again",
    };
    let mut panel = format!("<text y=\"28\" class=\"title\">{}: {metric}</text>\n", outcome.scenario);
    let mut y = 28.0;
    for line in outcome.setting.split("; ") {
        y += LINE;
        let _ = writeln!(panel, "<text y=\"{y:.0}\" class=\"caption\">{}</text>", escape(line));
    }
    y += LINE / 2.0;
    let length = |row: &Row| value(outcome.metric, row).0;
    let mut rows: Vec<_> = outcome.rows.iter().collect();
    // Cases have an order of their own.
    if rows.iter().all(|row| row.case.is_none()) {
        rows.sort_by(|a, b| length(a).total_cmp(&length(b)));
    }
    let lengths = rows.iter().flat_map(|row| [Some(length(row)), row.ideal_seconds]).flatten();
    let scale = LONGEST / lengths.fold(f64::MIN_POSITIVE, f64::max);
    for row in rows {
        let class = match row.check {
            _ if row.is_ours() => "accent",
            Check::None => "pale",
            _ => "plain",
        };
        let label = escape(&row.label());
        let text = escape(&value(outcome.metric, row).1);
        let end = length(row) * scale;
        let mark =
            row.ideal_seconds.map(|ideal| format!(r#"<path d="M{:.1}-3v22" class="mark"/>"#, ideal * scale));
        let _ = writeln!(
            panel,
            r#"<g transform="translate(234 {y:.0})">
<text x="-8" y="12" class="label">{label}</text>
<rect width="{:.1}" height="15" class="{class}"/>
<text x="{:.1}" y="12">{text}</text>
<path d="M0-3v22" class="axis"/>{}</g>"#,
            end.max(1.0),
            end + 8.0,
            mark.unwrap_or_default()
        );
        y += ROW;
    }
    (panel, y + 4.0)
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
            let share = row.summary.fetched_again.unwrap_or_default();
            (share, format!("{:.2} %", share * 100.0))
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::report::example;
    use super::*;

    #[test]
    fn every_row_has_a_bar_to_scale_and_text_is_escaped() {
        let mut report = example();
        report.outcomes[0].setting = "a < b & c > d".to_owned();
        let text = draw(&report).unwrap();
        for part in [
            "capped: time",
            ">a &lt; b &amp; c &gt; d</text>",
            ">curl, unverified</text>",
            ">2.50 s; ours ÷ this 0.50</text>",
            r#"width="420.0" height="15" class="plain""#,
            r#"width="210.0" height="15" class="accent""#,
            r#"width="168.0" height="15" class="pale""#,
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
