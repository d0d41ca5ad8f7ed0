use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::super::messages::Lines;
use super::super::testing::*;
use super::super::text::Paint;
use super::super::{Verbosity, clock};
use super::*;
use provision_core::event::Planned;

fn json(to: impl Sink + 'static, clock: &FakeClock) -> (Json, Written) {
    let people = Written::default();
    let lines = Lines::words(Verbosity::Normal, Paint { colour: false });
    let plain = Plain::new(lines, Box::new(people.clone()), clock.clock());
    (Json::new(Box::new(to), plain, clock.clock()), people)
}

fn plan() -> Event {
    planned(&[("a", 1000, 0, Planned::Fetch), ("b", 9, 4, Planned::Resume)])
}

fn values(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn sum_of_received(text: &str, file: usize) -> u64 {
    let is_it = |value: &&serde_json::Value| value["event"] == "received" && value["file"] == file;
    values(text).iter().filter(is_it).map(|value| value["bytes"].as_u64().unwrap()).sum()
}

#[test]
fn events_are_objects_with_their_time_and_people_get_lines() {
    let (clock, out) = (FakeClock::default(), Written::default());
    let (json, people) = json(out.clone(), &clock);
    observe_all(&json, &[Event::Acquired, plan()]);
    clock.forward(1_234);
    observe_all(
        &json,
        &[
            started(0),
            received(0, 100),
            // Held back.
            received(0, 200),
            received(1, 5),
            received(0, 300),
            Event::Retry {
                file: 0,
                files: 1,
                left: Duration::ZERO,
                source: SOURCE.to_owned(),
                reason: "reset".to_owned(),
                failures: 1,
                limit: 5,
                wait: Duration::from_micros(1_500_400),
            },
            received(0, 250),
        ],
    );
    clock.forward(100);
    observe_all(&json, &[received(0, 50), received(0, 100), finished(0, 1000, 100), received(1, 7)]);
    json.finish();
    json.finish();
    assert_eq!(
        out.text(),
        r#"{"at":0.0,"event":"acquired"}
{"at":0.0,"event":"planned","files":[{"path":"a","size":1000,"held":0,"plan":"fetch"},{"path":"b","size":9,"held":4,"plan":"resume"}],"to_fetch":1005,"needed":1005,"free":120000000000}
{"at":1.234,"event":"started","file":0,"source":"https://h.example/m"}
{"at":1.234,"event":"received","file":0,"bytes":100}
{"at":1.234,"event":"received","file":1,"bytes":5}
{"at":1.234,"event":"received","file":0,"bytes":500}
{"at":1.234,"event":"retry","file":0,"files":1,"source":"https://h.example/m","reason":"reset","failures":1,"limit":5,"wait":1.5,"left":0.0}
{"at":1.334,"event":"received","file":0,"bytes":300}
{"at":1.334,"event":"received","file":0,"bytes":100}
{"at":1.334,"event":"finished","file":0,"outcome":"fetched","fetched":1000,"elapsed":0.1}
{"at":1.334,"event":"received","file":1,"bytes":7}
"#
    );
    assert!(
        people.text().starts_with("acquired the lock, continuing\n2 files, 1.01 kB: "),
        "{}",
        people.text()
    );
}

#[test]
fn a_file_has_ten_received_a_second_and_no_byte_is_lost() {
    let (clock, out) = (FakeClock::default(), Written::default());
    let (json, _) = json(out.clone(), &clock);
    observe_all(&json, &[plan()]);
    for _ in 0..3_000 {
        clock.forward(1);
        observe_all(&json, &[received(0, 3), received(0, 4)]);
    }
    observe_all(&json, &[failed(0, "no")]);
    let count = values(&out.text()).iter().filter(|value| value["event"] == "received").count();
    assert!((30..=31).contains(&count), "{count}");
    assert_eq!(sum_of_received(&out.text(), 0), 21_000);
}

#[test]
fn many_threads_lose_no_byte_and_a_files_end_comes_last() {
    let out = Written::default();
    let plain = Plain::new(
        Lines::words(Verbosity::Quiet, Paint { colour: false }),
        Box::new(Written::default()),
        clock(),
    );
    let json = Json::new(Box::new(out.clone()), plain, clock());
    observe_all(&json, &[plan()]);
    let running = AtomicUsize::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    json.observe(&received(0, 1));
                    json.observe(&received(1, 2));
                }
                if running.fetch_sub(1, Relaxed) == 1 {
                    json.observe(&finished(0, 40_000, 1));
                }
            });
        }
    });
    let text = out.text();
    assert_eq!(sum_of_received(&text, 0), 40_000);
    let last = values(&text).iter().rposition(|value| value["file"] == 0).unwrap();
    assert_eq!(values(&text)[last]["event"], "finished");
    drop(json);
    assert_eq!(sum_of_received(&out.text(), 1), 80_000);
}

#[test]
fn unsafe_characters_are_escaped_without_loss() {
    let (clock, out) = (FakeClock::default(), Written::default());
    let (json, people) = json(out.clone(), &clock);
    let events = hostile();
    observe_all(&json, &events);
    for text in [out.text(), people.text()] {
        assert!(!text.chars().any(|c| is_unsafe(c) && c != '\n'), "{text:?}");
    }
    let values = values(&out.text());
    assert_eq!(values.len(), events.len());
    assert_eq!(values[0]["holder"], "\u{1b}[2J\u{1b}]0;owned\u{7}x\r\nwarning: forged\u{9b}31m\u{202e}");
}

/// Fails, and counts how often it was asked.
struct Counting(Arc<AtomicUsize>);

impl Sink for Counting {
    fn put(&mut self, lines: &str, must: bool) -> io::Result<()> {
        self.0.fetch_add(1, Relaxed);
        Closed.put(lines, must)
    }

    fn is_behind(&self) -> bool {
        false
    }
}

#[test]
fn fault_107_an_unread_stream_gets_what_the_plan_bounds() {
    let (clock, out) = (FakeClock::default(), Unread::default());
    let (json, people) = json(out.clone(), &clock);
    observe_all(&json, &[plan(), started(0), Event::Connections { file: 0, count: 3 }, warning("x")]);
    for _ in 0..1_000 {
        clock.forward(1_000);
        observe_all(&json, &[received(0, 1), warning("y")]);
    }
    observe_all(&json, &[finished(0, 1000, 100)]);
    let text = out.written.text();
    let events: Vec<_> =
        values(&text).iter().map(|value| value["event"].as_str().unwrap().to_owned()).collect();
    assert_eq!(events, ["planned", "started", "warning", "received", "finished"], "{text}");
    assert_eq!(sum_of_received(&text, 0), 1_000);
    out.reads.store(true, Relaxed);
    observe_all(&json, &[warning("z")]);
    let text = out.written.text();
    assert!(text.contains("\"1001 lines lost, because") && text.contains("\"z\""), "{text}");
    assert!(people.text().contains("warning: z"));
}

#[test]
fn a_reader_that_has_gone_is_not_written_to_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let clock = FakeClock::default();
    let (json, people) = json(Counting(Arc::clone(&asked)), &clock);
    observe_all(&json, &hostile());
    json.finish();
    assert_eq!(asked.load(Relaxed), 1);
    assert!(people.text().contains("warning: "));
}
