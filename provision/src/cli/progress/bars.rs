//! Bars for a person at a terminal: a line for each file in progress, up to [`FILE_LINES`], and one for the whole run.
//! Messages (a finished file, a retry, a warning) scroll up above them.
//!
//! A separate thread draws ten times a second from the counters. `observe` only counts and queues lines for the next
//! drawing. All bars are one indicatif bar of several lines, whose text `frame` makes: one drawing draws all, so
//! nothing tears and thousands of files cost nothing. indicatif's `MultiProgress` was rejected: it draws at every
//! change of every bar, knows one width for each column, and its speed counts resumed bytes.
//!
//! A drawing is written by the thread of `output`. While it is not written, as on a stopped terminal, none is made.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use super::counters::{Counters, File, Totals};
use super::messages::Lines;
use super::ticker::Ticker;
use super::{Clock, Progress, lock, lost, text};
use crate::cli::output::{ERR, Offer};
use crate::cli::units;
use provision_core::event::{Event, FileIndex, Observer};

mod frame;

use frame::{Frame, Row, Speed};

/// The number of files with a line.
const FILE_LINES: usize = 8;
/// Drawings a second.
const HERTZ: u8 = 10;
/// The time over which speeds are averaged.
const WINDOW: Duration = Duration::from_secs(4);
/// The shortest time that gives a speed worth showing.
const SHORTEST: Duration = Duration::from_millis(500);
/// The most messages that wait for a drawing.
const MOST_LINES: usize = 10_000;

/// The observer.
pub(super) struct Bars {
    screen: Arc<Screen>,
    ticker: Ticker,
}

/// The part of a terminal that indicatif does not provide.
trait Terminal: Send + Sync {
    /// Its columns and rows.
    fn size(&self) -> (usize, usize);

    /// Writes lines, each with its line end, at the cursor.
    fn write(&self, lines: &str);

    /// True while earlier text is not written.
    fn is_busy(&self) -> bool;
}

/// Standard error, and the drawing that is being made.
#[derive(Debug, Clone, Default)]
struct Stderr(Arc<Mutex<String>>);

impl Stderr {
    fn draw(&self, text: &str) {
        lock(&self.0).push_str(text);
    }

    /// Moves the cursor (ECMA-48).
    fn move_cursor(&self, n: usize, direction: char) {
        if n > 0 {
            self.draw(&format!("\u{1b}[{n}{direction}"));
        }
    }
}

impl TermLike for Stderr {
    fn width(&self) -> u16 {
        self.size().0 as u16
    }

    fn height(&self) -> u16 {
        self.size().1 as u16
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'A');
        Ok(())
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'B');
        Ok(())
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'C');
        Ok(())
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'D');
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.draw(text);
        self.draw("\n");
        Ok(())
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.draw(text);
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.draw("\r\u{1b}[2K");
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Offer(&ERR).put(&std::mem::take(&mut *lock(&self.0)), true)
    }
}

impl Terminal for Stderr {
    /// As indicatif measures and falls back: both must agree.
    fn size(&self) -> (usize, usize) {
        match rustix::termios::tcgetwinsize(io::stderr()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
            _ => (80, 24),
        }
    }

    fn write(&self, lines: &str) {
        let _ = Offer(&ERR).put(lines, true);
    }

    fn is_busy(&self) -> bool {
        Offer(&ERR).is_busy()
    }
}

struct Screen {
    lines: Lines,
    counters: Counters,
    clock: Clock,
    terminal: Box<dyn Terminal>,
    bar: ProgressBar,
    /// The text of the bars.
    shown: Arc<Mutex<String>>,
    /// Lines to print above the bars.
    queue: Mutex<Queue>,
    view: Mutex<View>,
}

#[derive(Default)]
struct Queue {
    lines: Vec<String>,
    /// The lines for which there was no room.
    lost: usize,
}

/// The content of the bars and their speeds.
#[derive(Default)]
struct View {
    files: Vec<(FileIndex, Meter)>,
    total: Meter,
    /// The widest name of the plan: the columns must not move when a file ends.
    widest: Option<usize>,
    is_drawn: bool,
    is_finished: bool,
}

/// Measures a speed: the mean over [`WINDOW`], which falls to zero when nothing arrives.
#[derive(Default)]
struct Meter(VecDeque<(Duration, u64)>);

impl Meter {
    fn record(&mut self, now: Duration, received: u64) {
        self.0.push_back((now, received));
        while self.0.get(1).is_some_and(|(at, _)| *at + WINDOW <= now) {
            self.0.pop_front();
        }
    }

    /// Bytes a second; `None` before there are enough samples.
    fn speed(&self) -> Option<f64> {
        let (first, last) = (self.0.front()?, self.0.back()?);
        let elapsed = last.0.saturating_sub(first.0);
        (elapsed >= SHORTEST).then(|| last.1.saturating_sub(first.1) as f64 / elapsed.as_secs_f64())
    }
}

impl Bars {
    /// Draws on standard error; `None` if it is no terminal, or one without cursor movement.
    pub(super) fn on_stderr(lines: Lines, clock: Clock) -> Option<Self> {
        if ProgressDrawTarget::stderr().is_hidden() {
            return None;
        }
        let stderr = Stderr::default();
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(stderr.clone()), HERTZ);
        let screen = Arc::new(Screen::new(lines, clock, target, Box::new(stderr)));
        let drawn = Arc::clone(&screen);
        let period = Duration::from_secs(1) / u32::from(HERTZ);
        Some(Self { screen, ticker: Ticker::start(period, move || drawn.tick()) })
    }
}

impl Observer for Bars {
    fn observe(&self, event: &Event) {
        self.screen.observe(event);
    }
}

impl Progress for Bars {
    fn finish(&self) {
        self.ticker.stop();
        self.screen.finish();
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Screen {
    fn new(lines: Lines, clock: Clock, target: ProgressDrawTarget, terminal: Box<dyn Terminal>) -> Self {
        let shown = Arc::new(Mutex::new(String::new()));
        let text = Arc::clone(&shown);
        let style = ProgressStyle::with_template("{frame}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .with_key("frame", move |_: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
                let _ = out.write_str(&lock(&text));
            });
        let bar = ProgressBar::with_draw_target(None, target).with_style(style);
        Self {
            lines,
            counters: Counters::default(),
            clock,
            terminal,
            bar,
            shown,
            queue: Mutex::default(),
            view: Mutex::default(),
        }
    }

    fn observe(&self, event: &Event) {
        self.counters.observe(event);
        if let Some(line) = self.lines.line(event, &self.counters) {
            let mut queue = lock(&self.queue);
            if queue.lines.len() < MOST_LINES {
                queue.lines.push(line);
            } else {
                queue.lost += 1;
            }
        }
    }

    fn tick(&self) {
        let mut view = lock(&self.view);
        if !view.is_finished && !self.terminal.is_busy() {
            self.draw(&mut view);
        }
    }

    fn draw(&self, view: &mut View) {
        // Taken first: a file that ends in the queue has no line in the frame below it.
        let Queue { lines: mut above, lost: lost_lines } = std::mem::take(&mut *lock(&self.queue));
        if lost_lines > 0 {
            above.push(format!("warning: {}", lost(lost_lines)));
        }
        let frame = self.frame(view);
        if above.is_empty() && frame.is_empty() && !view.is_drawn {
            return;
        }
        view.is_drawn = true;
        *lock(&self.shown) = frame;
        if above.is_empty() {
            self.bar.tick();
            return;
        }
        let (columns, _) = self.terminal.size();
        let mut lines = String::new();
        for line in above {
            lines.push_str(&text::wrap(&line, columns));
            lines.push('\n');
        }
        // indicatif's `println` fills lines with spaces instead of ending them, and a terminal that is made wider joins
        // them.
        self.bar.suspend(|| self.terminal.write(&lines));
    }

    fn frame(&self, view: &mut View) -> String {
        let (columns, rows) = self.terminal.size();
        // A full line would move the cursor to the next one.
        let columns = columns.saturating_sub(1);
        if !self.counters.is_planned() {
            return self.counters.checking().map_or_else(String::new, |checked| {
                let (files, bytes) = (units::count(checked.files, "file"), units::bytes(checked.bytes));
                text::cut(&format!("checking files on disk: {files}, {bytes}, now {}", checked.last), columns)
            });
        }
        let totals = self.counters.totals();
        let now = (self.clock)();
        view.total.record(now, totals.received);
        self.choose(view, rows);
        let mut files = Vec::with_capacity(view.files.len());
        for (index, meter) in &mut view.files {
            if let Some(file) = self.counters.file(*index) {
                meter.record(now, file.received());
                files.push(file_row(file, meter));
            }
        }
        let widest = *view.widest.get_or_insert_with(|| {
            self.counters.files().iter().map(|file| text::width(&file.name)).max().unwrap_or(0)
        });
        let total = total_row(&totals, &view.total);
        Frame { files: &files, total: &total, widest, paint: self.lines.paint }.draw(columns)
    }

    /// A file keeps its line until its end; a free line goes to the file that has waited longest.
    fn choose(&self, view: &mut View, rows: usize) {
        let active = self.counters.active();
        view.files.retain(|(index, _)| active.contains(index));
        // One row for the sums, one for the messages above.
        view.files.truncate(FILE_LINES.min(rows.saturating_sub(2)));
        for index in active {
            if view.files.len() >= FILE_LINES.min(rows.saturating_sub(2)) {
                break;
            }
            if !view.files.iter().any(|(other, _)| *other == index) {
                view.files.push((index, Meter::default()));
            }
        }
    }

    fn finish(&self) {
        let mut view = lock(&self.view);
        // Also messages after the end.
        if view.is_drawn || !lock(&self.queue).lines.is_empty() {
            self.draw(&mut view);
            self.bar.finish_and_clear();
        }
        view.is_finished = true;
    }
}

fn file_row(file: &File, meter: &Meter) -> Row {
    let position = file.position();
    Row {
        labels: vec![file.name.clone(), without_ending(&file.name).to_owned()],
        position,
        size: file.size,
        // All bytes are there; the file is being verified and installed.
        speed: if position == file.size { Speed::Finishing } else { meter.speed().into() },
        left: file.size - position,
        connections: file.connections(),
    }
}

/// The name without a long ending such as `.safetensors`, which would fill a cut name.
fn without_ending(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, ending)) if ending.len() > 4 && !ending.contains('/') && !stem.is_empty() => stem,
        _ => name,
    }
}

fn total_row(totals: &Totals, meter: &Meter) -> Row {
    let &Totals { files, done, failed, .. } = totals;
    let failed = if failed == 0 { String::new() } else { format!(", {failed} failed") };
    let noun = units::count(files, "file");
    Row {
        labels: vec![
            format!("total: {done} of {noun}{failed}"),
            format!("{done} of {noun}{failed}"),
            format!("{done}/{noun}"),
            format!("{done}/{files}"),
        ],
        position: totals.position,
        size: totals.size,
        speed: if totals.left == 0 { Speed::Unknown } else { meter.speed().into() },
        left: totals.left,
        connections: totals.connections,
    }
}

#[cfg(test)]
mod tests;
