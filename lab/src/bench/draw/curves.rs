//! How times grow: a panel for each growth outcome, both axes logarithmic, so that what grows in proportion is a
//! straight line.

use super::svg::{Picture, WIDTH};
use crate::bench::report::{Outcome, Report, Row};
use crate::bench::scenario::Scenario;
use crate::bench::table::seconds;

const MARGIN: f64 = 16.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = WIDTH - 130.0;
const HEIGHT: f64 = 260.0;

/// A logarithmic axis: the value at its start, at its end, and where those are drawn.
#[derive(Debug, Clone, Copy)]
struct Axis {
    values: (f64, f64),
    places: (f64, f64),
}

impl Axis {
    /// From the least to the greatest of them, with a little room.
    fn around(values: impl Iterator<Item = f64> + Clone, room: f64, places: (f64, f64)) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min).max(1e-6);
        let greatest = values.fold(least, f64::max);
        Self { values: (least / room, greatest * room), places }
    }

    fn place(self, value: f64) -> f64 {
        let ((least, greatest), (start, end)) = (self.values, self.places);
        start + (value / least).ln() / (greatest / least).ln() * (end - start)
    }

    /// 1, 2 and 5 of each power of ten that are within.
    fn ticks(self) -> Vec<f64> {
        let (least, greatest) = self.values;
        let decades = least.log10().floor() as i32..=greatest.log10().ceil() as i32;
        let ticks = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(decade)));
        ticks.filter(|tick| (least..=greatest).contains(tick)).collect()
    }
}

/// The picture; `None` where nothing grew.
pub(in crate::bench) fn curves(report: &Report) -> Option<String> {
    let outcomes: Vec<_> =
        report.outcomes.iter().filter(|outcome| outcome.scenario == Scenario::Growth.name()).collect();
    if outcomes.is_empty() {
        return None;
    }
    let mut picture = Picture::default();
    let mut y = MARGIN;
    for outcome in outcomes {
        y = panel(&mut picture, outcome, y);
    }
    Some(picture.finish(y))
}

fn panel(picture: &mut Picture, outcome: &Outcome, top: f64) -> f64 {
    picture.text((MARGIN, top + 14.0), "title", "growth: wall time in seconds");
    picture.text((MARGIN, top + 33.0), "soft", &outcome.setting);
    let (upper, lower) = (top + 50.0, top + 50.0 + HEIGHT);
    let points = |row: &Row| row.x.map(|x| (x, row.summary.wall_seconds));
    let all: Vec<_> = outcome.rows.iter().filter_map(points).collect();
    let ideals: Vec<_> = outcome.rows.iter().filter_map(|row| Some((row.x?, outcome.ideal(row)?))).collect();
    let xs = Axis::around(all.iter().map(|point| point.0), 1.15, (LEFT, RIGHT));
    let ys = Axis::around(all.iter().chain(&ideals).map(|point| point.1), 1.3, (lower, upper));
    for tick in ys.ticks() {
        let y = ys.place(tick);
        picture.line(&[(LEFT, y), (RIGHT, y)], "axis");
        picture.text((LEFT - 8.0, y + 4.0), "soft right", &seconds_short(tick));
    }
    let mut marked: Vec<f64> = Vec::new();
    for &(x, _) in &all {
        if !marked.contains(&x) {
            marked.push(x);
            picture.text((xs.place(x), lower + 18.0), "soft middle", &format!("{x}"));
        }
    }
    let place = |&(x, y): &(f64, f64)| (xs.place(x), ys.place(y));
    let mut labels = Vec::new();
    if !ideals.is_empty() {
        let ideals: Vec<_> = ideals.iter().map(place).collect();
        picture.line(&ideals, "ideal");
        labels.extend(ideals.last().map(|(_, y)| (*y, "ideal")));
    }
    let mut tools: Vec<_> = outcome.rows.iter().map(|row| row.tool).collect();
    tools.dedup();
    tools.sort_unstable();
    tools.dedup();
    for tool in tools {
        let class = if tool == "ours" { "ours" } else { "theirs" };
        let rows = outcome.rows.iter().filter(|row| row.tool == tool);
        let line: Vec<_> = rows.filter_map(points).map(|point| place(&point)).collect();
        for point in &line {
            picture.dot(*point, class);
        }
        // The style of a class cannot win over that of a later one: `curve` takes the fill away.
        picture.line(&line, &format!("{class} curve"));
        labels.extend(line.last().map(|(_, y)| (*y, tool)));
    }
    apart(&mut labels);
    for (y, label) in labels {
        picture.text((RIGHT + 10.0, y + 4.0), "", label);
    }
    lower + 40.0
}

/// Moves labels that would lie on each other downwards.
fn apart(labels: &mut [(f64, &str)]) {
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    for at in 1..labels.len() {
        labels[at].0 = labels[at].0.max(labels[at - 1].0 + 16.0);
    }
}

fn seconds_short(value: f64) -> String {
    let text = seconds(value);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::example;

    #[test]
    fn an_axis_has_its_ends_where_they_belong() {
        let axis = Axis { values: (1.0, 100.0), places: (0.0, 10.0) };
        assert!(axis.place(1.0).abs() < 1e-9 && (axis.place(10.0) - 5.0).abs() < 1e-9);
        assert_eq!(axis.ticks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
    }

    #[test]
    fn each_tool_has_a_curve_with_its_name() {
        let text = curves(&example()).unwrap();
        assert_eq!(text.matches("<circle").count(), 6);
        assert_eq!(text.matches(" curve\"/>").count(), 2);
        assert!(text.contains(">ours</text>") && text.contains(">aria2c</text>"), "{text}");
        assert!(text.contains(">100</text>"));
    }

    #[test]
    fn labels_do_not_lie_on_each_other() {
        let mut labels = [(20.0, "b"), (19.0, "a"), (60.0, "c")];
        apart(&mut labels);
        assert_eq!(labels, [(19.0, "a"), (35.0, "b"), (60.0, "c")]);
    }
}
