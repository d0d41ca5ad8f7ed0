//! The bars as text for a number of columns. Pure.
//!
//! A wide terminal shows name, bar, bytes, speed, time left and connections. In a narrow one the last columns go first,
//! and bytes become percent; a name is cut in the middle.

use std::time::Duration;

use super::super::text::{Paint, left, right, width};
use crate::cli::units;

/// `12.3/31.8 GB`, `9.99/9.99 GB`.
const AMOUNT: usize = 12;
/// `100 %`.
const PERCENT: usize = 5;
/// `1.02 GB/s`, `finishing`.
const SPEED: usize = 9;
/// `1:03:12`.
const LEFT: usize = 7;
/// The longest bar. A longer one separates the name from the numbers.
const LONGEST_BAR: usize = 40;

/// The speed of a row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Speed {
    /// Not known yet.
    Unknown,
    /// Bytes a second.
    Known(f64),
    /// All bytes are there.
    Finishing,
}

impl From<Option<f64>> for Speed {
    fn from(speed: Option<f64>) -> Self {
        speed.map_or(Self::Unknown, Self::Known)
    }
}

/// A row.
#[derive(Debug)]
pub(super) struct Row {
    /// Its names, longest first: the first that fits is shown, or the last one, cut.
    pub(super) labels: Vec<String>,
    /// Bytes held.
    pub(super) position: u64,
    /// Bytes in all.
    pub(super) size: u64,
    /// Its speed.
    pub(super) speed: Speed,
    /// Bytes to come.
    pub(super) left: u64,
    /// Open connections.
    pub(super) connections: usize,
}

/// All rows.
pub(super) struct Frame<'a> {
    /// The rows of files.
    pub(super) files: &'a [Row],
    /// The row of the run.
    pub(super) total: &'a Row,
    /// The width of the widest possible name.
    pub(super) widest: usize,
    /// Colours.
    pub(super) paint: Paint,
}

/// The visible columns, and the width of those that vary.
struct Columns {
    name: usize,
    bar: usize,
    /// Bytes; percent if there is no room.
    has_amount: bool,
    has_speed: bool,
    has_left: bool,
    /// The widest, 0 for none.
    connections: usize,
}

impl Frame<'_> {
    /// The rows as lines of at most `columns`.
    pub(super) fn draw(&self, columns: usize) -> String {
        let layout = self.layout(columns);
        let files = self.files.iter().map(|row| layout.line(row, false, self.paint));
        let lines: Vec<_> = files.chain([layout.line(self.total, true, self.paint)]).collect();
        lines.join("\n")
    }

    fn layout(&self, columns: usize) -> Columns {
        let connections =
            self.files.iter().chain([self.total]).map(|row| width(&connections(row))).max().unwrap_or(0);
        // Shown also while no file has a connection, which is rare.
        let connections = if columns >= 72 { connections.max("64 conn".len()) } else { 0 };
        let (has_amount, has_left, has_speed) = (columns >= 56, columns >= 44, columns >= 32);
        let mut fixed = if has_amount { AMOUNT } else { PERCENT } + 1;
        for (is_there, columns) in [(has_speed, SPEED), (has_left, LEFT), (connections > 0, connections)] {
            if is_there {
                fixed += columns + 1;
            }
        }
        let room = columns.saturating_sub(fixed);
        // Too narrow for a bar: percent remains.
        let has_bar = room >= 14;
        let room = if has_bar { room - 1 } else { room };
        let bar = if has_bar { (room * 3 / 10).clamp(5, LONGEST_BAR) } else { 0 };
        let total = self.total.labels.first().map_or(0, |label| width(label));
        let name = (room - bar).min(self.widest.max(total));
        // The room that short names leave.
        let bar = if has_bar { (room - name).min(LONGEST_BAR) } else { 0 };
        Columns { name, bar, has_amount, has_speed, has_left, connections }
    }
}

impl Columns {
    fn line(&self, row: &Row, is_total: bool, paint: Paint) -> String {
        let label = row.labels.iter().find(|label| width(label) <= self.name).or(row.labels.last());
        let name = left(label.map_or("", String::as_str), self.name);
        let mut cells = vec![if is_total { paint.bold(&name) } else { name }];
        if self.bar > 0 {
            cells.push(bar(row.position, row.size, self.bar, is_total, paint));
        }
        cells.push(if self.has_amount {
            let (part, whole) = units::part_of(row.position, row.size);
            right(&format!("{part}/{whole}"), AMOUNT)
        } else {
            right(&format!("{} %", units::percent(row.position, row.size)), PERCENT)
        });
        if self.has_speed {
            cells.push(match row.speed {
                Speed::Unknown => right("", SPEED),
                Speed::Known(speed) => right(&units::rate(speed), SPEED),
                Speed::Finishing => paint.dim(&right("finishing", SPEED)),
            });
        }
        if self.has_left {
            cells.push(right(&time_left(row), LEFT));
        }
        if self.connections > 0 {
            cells.push(right(&connections(row), self.connections));
        }
        let mut line = cells.join(" ");
        line.truncate(line.trim_end().len());
        line
    }
}

fn connections(row: &Row) -> String {
    if row.connections == 0 { String::new() } else { format!("{} conn", row.connections) }
}

fn time_left(row: &Row) -> String {
    match row.speed {
        Speed::Known(speed) if row.left > 0 => {
            // No bytes arrive: no estimate is possible.
            let seconds = row.left as f64 / speed;
            Duration::try_from_secs_f64(seconds.ceil()).map_or_else(|_| "-:--".to_owned(), units::clock)
        }
        Speed::Unknown if row.left > 0 => "-:--".to_owned(),
        _ => String::new(),
    }
}

/// `━━━━━╸─────`. Full only if nothing is missing.
fn bar(position: u64, size: u64, columns: usize, is_total: bool, paint: Paint) -> String {
    let halves = if position >= size {
        columns * 2
    } else {
        let halves = (position as f64 / size as f64 * columns as f64 * 2.0) as usize;
        halves.min(columns * 2 - 1)
    };
    let mut filled = "━".repeat(halves / 2);
    if halves % 2 == 1 {
        filled.push('╸');
    }
    let rest = "─".repeat(columns - halves.div_ceil(2));
    let filled = if is_total { paint.green(&filled) } else { paint.cyan(&filled) };
    format!("{filled}{}", paint.dim(&rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::text::width;
    use super::*;

    fn row(label: &str, position: u64, size: u64) -> Row {
        Row {
            labels: vec![label.to_owned()],
            position,
            size,
            speed: Speed::Known(412e6),
            left: size - position,
            connections: 8,
        }
    }

    #[test]
    fn a_bar_is_full_only_when_nothing_is_missing() {
        let paint = Paint { colour: false };
        assert_eq!(bar(0, 100, 4, false, paint), "────");
        assert_eq!(bar(13, 100, 4, false, paint), "╸───");
        assert_eq!(bar(50, 100, 4, false, paint), "━━──");
        assert_eq!(bar(u64::MAX - 1, u64::MAX, 4, false, paint), "━━━╸");
        assert_eq!(bar(0, 0, 4, false, paint), "━━━━");
    }

    #[test]
    fn a_stall_has_no_time_left() {
        let mut stalled = row("x", 1, 10);
        stalled.speed = Speed::Known(0.0);
        assert_eq!(time_left(&stalled), "-:--");
        stalled.speed = Speed::Known(1e-9);
        assert_eq!(time_left(&stalled), ">999h");
        stalled.speed = Speed::Finishing;
        assert_eq!(time_left(&stalled), "");
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_terminal(
            columns in 12_usize..220, names in prop::collection::vec("[a-z/模é]{1,80}", 0..9),
            size in any::<u64>(), part in 0.0..1.0_f64, connections in 0_usize..5000, colour in any::<bool>(),
        ) {
            let position = (size as f64 * part) as u64;
            let mut files: Vec<_> = names.iter().map(|name| row(name, position.min(size), size)).collect();
            for file in &mut files {
                file.connections = connections;
            }
            let total = row("total: 1 of 4 files", 0, size);
            let widest = names.iter().map(|name| width(name)).max().unwrap_or(0);
            let frame = Frame { files: &files, total: &total, widest, paint: Paint { colour } }.draw(columns);
            prop_assert_eq!(frame.lines().count(), names.len() + 1);
            for line in frame.lines() {
                let seen = super::super::super::text::clean(line);
                prop_assert!(width(&seen) <= columns, "{columns}: {seen}");
            }
        }
    }
}
