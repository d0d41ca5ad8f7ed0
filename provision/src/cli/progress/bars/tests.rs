use indicatif::{InMemoryTerm, TermLike as _};

use super::super::Verbosity;
use super::super::testing::*;
use super::super::text::Paint;
use super::*;
use provision_core::event::{Outcome, Planned};
use provision_core::terminal_text::is_unsafe;

impl Terminal for InMemoryTerm {
    fn size(&self) -> (usize, usize) {
        (self.width().into(), self.height().into())
    }

    fn write(&self, lines: &str) {
        lines.lines().for_each(|line| self.write_line(line).unwrap());
    }

    fn is_busy(&self) -> bool {
        false
    }
}

struct Fixture {
    screen: Screen,
    term: InMemoryTerm,
    clock: FakeClock,
}

fn fixture(columns: u16, rows: u16, colour: bool) -> Fixture {
    let term = InMemoryTerm::new(rows, columns);
    let clock = FakeClock::default();
    let target = ProgressDrawTarget::term_like(Box::new(term.clone()));
    let screen = Screen::new(
        Lines::marks(Verbosity::Normal, Paint { colour }),
        clock.clock(),
        target,
        Box::new(term.clone()),
    );
    Fixture { screen, term, clock }
}

impl Fixture {
    fn observe_all(&self, events: &[Event]) {
        for event in events {
            self.screen.observe(event);
        }
    }

    /// Advances the time, with 412 MB/s for the first file.
    fn fetch(&self, tenths: u64) {
        for _ in 0..tenths {
            self.clock.forward(100);
            self.observe_all(&[received(0, 41_200_000)]);
            self.screen.tick();
        }
    }

    /// The last lines of the screen.
    fn end(&self, lines: usize) -> String {
        let contents = self.term.contents();
        let all: Vec<_> = contents.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

/// Two files in progress and one done, two seconds after the start.
fn two_seconds(columns: u16) -> Fixture {
    let fixture = fixture(columns, 24, false);
    let connections = |file, count| Event::Connections { file, count };
    fixture.observe_all(&[qwen(), started(0), connections(0, 56), started(2), connections(2, 8), started(3)]);
    fixture.screen.tick();
    fixture.observe_all(&[received(3, 254 * MB), finished(3, 254 * MB, 3_100)]);
    fixture.fetch(20);
    fixture
}

#[test]
fn eighty_columns_hold_everything() {
    let fixture = two_seconds(80);
    assert_eq!(
        fixture.term.contents(),
        "\
4 files, 31.8 GB: 1 present, 1 to resume, 2 to fetch; 22.1 GB to go, 120 GB free
✓ vae/qwen_image_vae.safetensors  254 MB in 3.1 s (81.9 MB/s)
diffusion_…_image_fp8_e4m3fn ───────────  0.8/20.4 GB  412 MB/s    0:48 56 conn
text_encod…_vl_7b_fp8_scaled ━━━━━━━━━── 8.00/9.42 GB     0 B/s    -:--  8 conn
total: 2 of 4 files          ━━━╸─────── 10.8/31.8 GB  539 MB/s    0:40 64 conn"
    );
}

#[test]
fn forty_columns_hold_name_bar_percent_and_speed() {
    assert_eq!(
        two_seconds(40).end(3),
        "\
diffus…p8_e4m3fn ──────   4 %  412 MB/s
text_e…p8_scaled ━━━━━─  84 %     0 B/s
2 of 4 files     ━━────  33 %  539 MB/s"
    );
}

#[test]
fn a_hundred_and_twenty_columns_are_used() {
    let name = "diffusion_models/qwen_image_fp8_e4m3fn.safetensors ";
    let line = two_seconds(120).end(3).lines().next().map(str::to_owned);
    let bar = "━───────────────────────────";
    assert_eq!(line, Some(format!("{name} {bar}  0.8/20.4 GB  412 MB/s    0:48 56 conn")));
    assert!(two_seconds(120).end(3).lines().all(|line| text::width(line) == 119));
}

#[test]
fn speed_is_of_received_bytes_and_ends_with_them() {
    let fixture = fixture(80, 24, false);
    fixture.observe_all(&[qwen(), started(2)]);
    fixture.fetch(10);
    let resumed = fixture.term.contents();
    // 8 GB of it were there.
    assert!(resumed.lines().any(|line| line.contains("8.00/9.42 GB     0 B/s")), "{resumed}");
    assert!(resumed.lines().last().unwrap().contains("412 MB/s"), "{resumed}");
    for _ in 0..50 {
        fixture.clock.forward(100);
        fixture.screen.tick();
    }
    assert!(fixture.end(1).contains(" 0 B/s    -:--"), "{}", fixture.end(1));
}

#[test]
fn a_drop_moves_the_bar_back() {
    let fixture = fixture(80, 24, false);
    fixture.observe_all(&[planned(&[("a", 1000, 0, Planned::Fetch)]), started(0), received(0, 900)]);
    fixture.screen.tick();
    assert!(fixture.end(2).starts_with("a "), "{}", fixture.end(2));
    assert!(fixture.end(1).contains("0.90/1.00 kB"), "{}", fixture.end(1));
    fixture.observe_all(&[Event::Dropped {
        file: 0,
        bytes: 600,
        reason: "the digest is another".to_owned(),
    }]);
    fixture.screen.tick();
    assert!(fixture.end(1).contains("0.30/1.00 kB"), "{}", fixture.end(1));
    assert!(
        fixture.end(3).starts_with("fetching a: 600 B again: the digest is another\n"),
        "{}",
        fixture.end(3)
    );
}

#[test]
fn of_many_files_eight_have_a_line_until_they_end() {
    let names: Vec<_> = (0..10_000).map(|n| format!("shards/{n:05}.bin")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), MB, 0, Planned::Fetch)).collect();
    let fixture = fixture(80, 30, false);
    fixture.observe_all(&[planned(&files)]);
    fixture.observe_all(&(0..64).map(started).collect::<Vec<_>>());
    fixture.screen.tick();
    let lines = |from: usize| -> Vec<_> {
        fixture.end(9).lines().skip(from).map(|line| line[..12].to_owned()).collect()
    };
    assert_eq!(lines(0)[0], "shards/00000");
    assert_eq!(lines(0)[7], "shards/00007");
    assert_eq!(lines(0)[8], "total: 0 of ");

    fixture.observe_all(&[finished(3, MB, 100), finished(5, MB, 100)]);
    fixture.screen.tick();
    let shown = lines(0);
    assert_eq!(shown[3..8], ["shards/00004", "shards/00006", "shards/00007", "shards/00008", "shards/00009"]);
    assert!(
        fixture.term.contents().contains("\n✓ shards/00005.bin  1 MB in 0.1 s (10 MB/s)\nshards/00000.bin")
    );
    assert!(fixture.end(1).starts_with("total: 2 of 10000 files"), "{}", fixture.end(1));
}

#[test]
fn a_low_terminal_keeps_the_sums() {
    let fixture = fixture(80, 5, false);
    fixture.observe_all(&[qwen(), started(0), started(2), started(3)]);
    fixture.observe_all(&[warning("1"), warning("2"), warning("3")]);
    fixture.screen.tick();
    fixture.screen.tick();
    assert_eq!(fixture.term.contents().lines().count(), 5);
    assert!(fixture.end(1).starts_with("total: 1 of 4 files"), "{}", fixture.end(1));
    assert!(fixture.term.contents().starts_with("warning: 3\n"), "{}", fixture.term.contents());
}

#[test]
fn a_file_from_the_cache_has_its_size_and_time_behind_a_comma() {
    let fixture = fixture(80, 24, false);
    let elapsed = Duration::from_millis(300);
    let finished =
        Event::Finished { file: 3, outcome: Outcome::Cached, fetched: 0, elapsed, sources: Vec::new() };
    fixture.observe_all(&[qwen(), started(3), finished]);
    fixture.screen.finish();
    assert_eq!(fixture.end(1), "✓ vae/qwen_image_vae.safetensors  from the cache, 254 MB in 0.3 s");
}

#[test]
fn the_end_leaves_what_happened_and_no_bar() {
    let fixture = two_seconds(80);
    fixture.observe_all(&[failed(0, "no source is left; try again later"), finished(2, 1_416 * MB, 21_000)]);
    fixture.screen.finish();
    fixture.screen.finish();
    let left = "\
4 files, 31.8 GB: 1 present, 1 to resume, 2 to fetch; 22.1 GB to go, 120 GB free
✓ vae/qwen_image_vae.safetensors  254 MB in 3.1 s (81.9 MB/s)
✗ diffusion_models/qwen_image_fp8_e4m3fn.safetensors  no source is left; try
  again later
✓ text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors  9.42 GB, of which 1.42 GB
  fetched in 21 s (67.4 MB/s)";
    assert_eq!(fixture.term.contents(), left);
    // The caller's output follows directly below.
    fixture.term.write_line("done").unwrap();
    assert_eq!(fixture.term.contents(), format!("{left}\ndone"));
}

#[test]
fn nothing_is_drawn_where_nothing_happened() {
    let fixture = fixture(80, 24, false);
    fixture.screen.tick();
    fixture.screen.finish();
    assert_eq!(fixture.term.moves_since_last_check(), "");
}

#[test]
fn a_check_before_the_plan_is_shown_and_goes_away() {
    let fixture = fixture(60, 24, false);
    let path = "text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors".parse().unwrap();
    fixture.observe_all(&[Event::Waiting { holder: ".provision.lock, process 7".to_owned() }]);
    fixture.screen.tick();
    fixture.observe_all(&[Event::Acquired, Event::Checking { path, size: 9_418 * MB }]);
    fixture.screen.tick();
    assert!(fixture.end(1).starts_with("checking files on disk"), "{}", fixture.term.contents());
    assert!(fixture.end(1).contains('…'));
    fixture.observe_all(&[qwen()]);
    fixture.screen.tick();
    assert!(!fixture.term.contents().contains("checking"), "{}", fixture.term.contents());
}

#[test]
fn names_and_reasons_cannot_reach_the_terminal() {
    for colour in [false, true] {
        let fixture = fixture(80, 40, colour);
        for event in hostile() {
            fixture.observe_all(&[event]);
            fixture.screen.tick();
        }
        let contents = fixture.term.contents();
        assert!(!contents.chars().any(|c| is_unsafe(c) && c != '\n'), "{contents:?}");
        assert!(contents.starts_with("waiting for another run, which holds x warning: forged"));
        let moves = fixture.term.moves_since_last_check();
        assert!(!moves.contains("[2J") && !moves.contains("owned"), "{moves}");
    }
}

#[test]
fn hidden_terminals_are_not_drawn_on() {
    // Standard error may or may not be a terminal in tests; neither may panic or hang.
    let lines = Lines::marks(Verbosity::Normal, Paint { colour: false });
    if let Some(bars) = Bars::on_stderr(lines, FakeClock::default().clock()) {
        bars.finish();
    }
}
