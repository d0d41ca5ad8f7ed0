//! A report as a bar chart: ours against the others, shorter is better. The picture is hand-written SVG: text and a few
//! shapes need no library. It has a ground of its own, so it is legible on any page.

use std::fmt::Write as _;

use super::report::{Metric, Outcome, Report, Row};
use super::table::seconds;
use super::tool::Check;

/// Legible in the column of a README.
const WIDTH: f64 = 860.0;
const MARGIN: f64 = 16.0;
/// The start of the bars, right of their labels.
const LEFT: f64 = 250.0;
/// The end of the longest bar, left of its text.
const RIGHT: f64 = WIDTH - 190.0;
const ROW: f64 = 22.0;
const BAR: f64 = 15.0;

const STYLE: &str = "\
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
";

/// The classes of bars, and their meaning.
const CLASSES: [(&str, &str); 3] =
    [("accent", "ours, verified"), ("plain", "verified"), ("pale", "not verified")];
const MARK: &str = "the shortest time that the origin allows";

/// The picture, if there is anything to draw.
pub(super) fn draw(report: &Report) -> Option<String> {
    let mut picture = Picture::default();
    let mut y = picture.legend();
    let top = y;
    for outcome in report.outcomes.iter().filter(|outcome| !outcome.rows.is_empty()) {
        y = picture.panel(outcome, y);
    }
    (y > top).then(|| picture.finish(y))
}

/// The class of a row's bar.
fn class(row: &Row) -> &'static str {
    match row.check {
        _ if row.is_ours() => "accent",
        Check::None => "pale",
        _ => "plain",
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
            let share = row.summary.fetched_again.unwrap_or_default();
            (share, format!("{:.2} %", share * 100.0))
        }
    }
}

/// A picture in the making: later elements cover earlier ones.
#[derive(Debug, Default)]
struct Picture {
    body: String,
}

impl Picture {
    /// Draws the legend at the top. Returns the place below it, as all parts do.
    fn legend(&mut self) -> f64 {
        let (mut x, y) = (MARGIN, MARGIN + 12.0);
        for (class, meaning) in CLASSES {
            self.rectangle((x, y - 11.0), (14.0, 12.0), class);
            self.text((x + 20.0, y), "", meaning);
            // Characters are a little narrower than this.
            x += 36.0 + meaning.chars().count() as f64 * 8.3;
        }
        self.line((x, y - 5.0), (x + 22.0, y - 5.0), "mark");
        self.text((x + 28.0, y), "", MARK);
        y + 14.0
    }

    /// Draws a scenario: bars that share a scale.
    fn panel(&mut self, outcome: &Outcome, top: f64) -> f64 {
        let metric = match outcome.metric {
            Metric::WallTime => "time",
            Metric::PeakMemory => "peak memory",
            Metric::FetchedAgain => "fetched again",
        };
        let mut y = top + 28.0;
        self.text((MARGIN, y), "title", &format!("{}: {metric}", outcome.scenario));
        y += 18.0;
        for line in outcome.setting.split("; ") {
            self.text((MARGIN, y), "caption", line);
            y += 16.0;
        }
        let length = |row: &Row| value(outcome.metric, row).0;
        let mut rows: Vec<_> = outcome.rows.iter().collect();
        // Cases have an order of their own.
        if rows.iter().all(|row| row.case.is_none()) {
            rows.sort_by(|a, b| length(a).total_cmp(&length(b)));
        }
        let lengths = rows.iter().flat_map(|row| [Some(length(row)), row.ideal_seconds]).flatten();
        let scale = (RIGHT - LEFT) / lengths.fold(f64::MIN_POSITIVE, f64::max);
        let all_ours = rows.iter().all(|row| row.is_ours());
        for row in rows {
            let label = match &row.case {
                None => row.label(),
                // The colour says whose it is.
                Some(case) if all_ours => case.clone(),
                Some(case) => format!("{}, {case}", row.label()),
            };
            let (length, text) = value(outcome.metric, row);
            let end = length * scale;
            self.text((LEFT - 8.0, y + 12.0), "label", &label);
            self.rectangle((LEFT, y), (end.max(1.0), BAR), class(row));
            self.text((LEFT + end + 8.0, y + 12.0), "", &text);
            let ideal = row.ideal_seconds.map(|ideal| (LEFT + ideal * scale, "mark"));
            for (x, class) in [(LEFT, "axis")].into_iter().chain(ideal) {
                self.line((x, y - 3.0), (x, y - 3.0 + ROW), class);
            }
            y += ROW;
        }
        y + 4.0
    }

    fn text(&mut self, (x, y): (f64, f64), class: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let _ = writeln!(self.body, r#"<text x="{x:.1}" y="{y:.1}" class="{class}">{text}</text>"#);
    }

    fn rectangle(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), class: &str) {
        let size = format!(r#"width="{width:.1}" height="{height:.1}""#);
        let _ = writeln!(self.body, r#"<rect x="{x:.1}" y="{y:.1}" {size} class="{class}"/>"#);
    }

    fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), class: &str) {
        let ends = format!(r#"x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}""#);
        let _ = writeln!(self.body, r#"<line {ends} class="{class}"/>"#);
    }

    /// The whole file.
    fn finish(self, height: f64) -> String {
        let size = format!(r#"viewBox="0 0 {WIDTH} {height:.0}" width="{WIDTH}" height="{height:.0}""#);
        let ground = r#"<rect width="100%" height="100%" class="ground"/>"#;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" {size}>\n<style>\n{STYLE}</style>\n{ground}\n{}</svg>\n",
            self.body
        )
    }
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
            ">not verified</text>",
            ">2.50 s; ours ÷ this 0.50</text>",
            r#"width="420.0" height="15.0" class="plain""#,
            r#"width="210.0" height="15.0" class="accent""#,
            r#"width="168.0" height="15.0" class="pale""#,
            r#"<line x1="460.0""#,
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
