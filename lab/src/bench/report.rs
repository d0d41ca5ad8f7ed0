//! What a run found out, as data.
//!
//! `target/bench/report.json` is this [`Report`]:
//!
//! ```text
//! schema            1; another number means that something below has changed its meaning
//! command           what was typed
//! machine           cores, processor, kernel, memory_bytes, load_before, load_after (1, 5, 15 minutes)
//! versions[]        tool, version: of everything that took part
//! missing[]         tool, hint: peers that were not found, and how to get them
//! outcomes[]        one for each scenario, in the order in which they ran
//!   scenario        its name
//!   setting         origin, set, destination, in words
//!   ideal_seconds   the shortest time that the origin allows, where it limits; for all rows
//!   rows[]
//!     tool          its name
//!     check         "itself", "afterwards" (sha256sum on all cores) or "none"
//!     case          what distinguishes rows of one tool, or nothing
//!     x             the case as a number, where it is one on an axis
//!     files, bytes  what was fetched or hashed
//!     ideal_seconds where it differs from row to row
//!     rounds[]      wall_seconds, cpu_seconds, peak_bytes: each round as measured; warm-ups are left out
//!     summary       the medians of the times, and the largest peak
//!     ours          ours divided by this row, of the same case: wall, cpu, peak; not for ours
//!     fetched_again share of the bytes that came twice (resume)
//!     sockets       how many the command opened (noop)
//!   notes[]         who did not take part, and why; what was made smaller
//! ```
//!
//! Whatever does not apply is absent. There is no date in it: a report is as good as its machine and versions.

use serde::Serialize;

use super::measure::Measurement;
use super::scenario::Scenario;
use super::statistics;
use super::tool::Tool;

/// A run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    schema: u32,
    pub(super) command: String,
    pub(super) machine: Machine,
    pub(super) versions: Vec<Version>,
    pub(super) missing: Vec<Missing>,
    pub(super) outcomes: Vec<Outcome>,
}

impl Report {
    pub(super) fn new(
        command: String,
        machine: Machine,
        versions: Vec<Version>,
        missing: Vec<Missing>,
    ) -> Self {
        Self { schema: 1, command, machine, versions, missing, outcomes: Vec::new() }
    }
}

/// Where it ran.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Machine {
    pub(super) cores: usize,
    pub(super) processor: String,
    pub(super) kernel: String,
    pub(super) memory_bytes: u64,
    pub(super) load_before: [f64; 3],
    pub(super) load_after: [f64; 3],
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Version {
    pub(super) tool: &'static str,
    pub(super) version: String,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Missing {
    pub(super) tool: &'static str,
    pub(super) hint: &'static str,
}

/// A scenario's answer.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) scenario: &'static str,
    pub(super) setting: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ideal_seconds: Option<f64>,
    pub(super) rows: Vec<Row>,
    pub(super) notes: Vec<String>,
}

/// Who compared the digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Check {
    /// The tool, while it fetched or after.
    Itself,
    /// `sha256sum` on all cores when the tool was done; its cost is in the numbers.
    Afterwards,
    /// Nobody: what the tool does is less than what ours does.
    None,
}

/// A tool's numbers in one case.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub(super) tool: &'static str,
    pub(super) check: Check,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) case: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) x: Option<f64>,
    pub(super) files: usize,
    pub(super) bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ideal_seconds: Option<f64>,
    pub(super) rounds: Vec<Measurement>,
    pub(super) summary: Measurement,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ours: Option<Ratio>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fetched_again: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sockets: Option<usize>,
}

/// Ours divided by theirs.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Ratio {
    pub(super) wall: f64,
    pub(super) cpu: f64,
    pub(super) peak: f64,
}

impl Row {
    pub(super) fn new(
        tool: &'static str,
        check: Check,
        (files, bytes): (usize, u64),
        rounds: Vec<Measurement>,
    ) -> Self {
        let summary = statistics::summary(&rounds);
        Self {
            tool,
            check,
            case: None,
            x: None,
            files,
            bytes,
            ideal_seconds: None,
            rounds,
            summary,
            ours: None,
            fetched_again: None,
            sockets: None,
        }
    }

    pub(super) fn is_ours(&self) -> bool {
        self.tool == Tool::Ours.name()
    }

    /// The tool, and what has to be known to compare it.
    pub(super) fn label(&self) -> String {
        match self.check {
            Check::Itself => self.tool.to_owned(),
            Check::Afterwards => format!("{} + sha256sum", self.tool),
            Check::None => format!("{}, unverified", self.tool),
        }
    }

    pub(super) fn megabytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.summary.wall_seconds / 1e6
    }
}

impl Outcome {
    pub(super) fn new(scenario: Scenario, setting: String, mut rows: Vec<Row>, notes: Vec<String>) -> Self {
        let ours: Vec<_> = rows.iter().filter(|row| row.is_ours()).cloned().collect();
        for row in rows.iter_mut().filter(|row| !row.is_ours()) {
            let ours = ours.iter().find(|ours| ours.case == row.case).map(|ours| ours.summary);
            row.ours = ours.map(|ours| Ratio {
                wall: ours.wall_seconds / row.summary.wall_seconds,
                cpu: ours.cpu_seconds / row.summary.cpu_seconds,
                peak: ours.peak_bytes as f64 / row.summary.peak_bytes as f64,
            });
        }
        Self { scenario: scenario.name(), setting, ideal_seconds: None, rows, notes }
    }

    /// The ideal for a row.
    pub(super) fn ideal(&self, row: &Row) -> Option<f64> {
        row.ideal_seconds.or(self.ideal_seconds)
    }

    /// Ours divided by the tool's time, where it verifies by itself.
    pub(super) fn ratio(&self, tool: Tool) -> Option<f64> {
        let row = self.rows.iter().find(|row| row.tool == tool.name() && row.check == Check::Itself);
        row.and_then(|row| row.ours).map(|ratio| ratio.wall)
    }
}

/// A report with one of everything, for the tests of what is made from it.
#[cfg(test)]
pub(super) fn example() -> Report {
    let of = |wall_seconds, cpu_seconds, peak_bytes| Measurement { wall_seconds, cpu_seconds, peak_bytes };
    let machine = Machine {
        cores: 2,
        processor: "A <fast> processor".to_owned(),
        kernel: "6.1.0".to_owned(),
        memory_bytes: 24_000_000_000,
        load_before: [0.0, 0.1, 0.2],
        load_after: [2.0, 1.0, 0.5],
    };
    let set = (4, 1_500_000_000);
    let rows = vec![
        Row::new("ours", Check::Itself, set, vec![of(1.0, 2.0, 30_000_000), of(1.5, 2.2, 31_000_000)]),
        Row::new("aria2c", Check::Itself, set, vec![of(2.5, 3.0, 40_000_000)]),
        Row::new("curl", Check::None, set, vec![of(1.0, 1.0, 10_000_000)]),
    ];
    let notes = vec!["wget did not take part: it <broke>".to_owned()];
    let mut capped = Outcome::new(Scenario::Capped, "4 MB/s for each connection".to_owned(), rows, notes);
    capped.ideal_seconds = Some(1.25);
    let growth = [(1.0, "1 file"), (10.0, "10 files"), (100.0, "100 files")];
    let rows = growth.into_iter().flat_map(|(x, case)| {
        ["ours", "aria2c"].map(|tool| {
            let wall = if tool == "ours" { 1.0 } else { 2.0 } + x / 100.0;
            let mut row =
                Row::new(tool, Check::Itself, (x as usize, 1_000_000), vec![of(wall, 1.0, 20_000_000)]);
            row.case = Some(case.to_owned());
            row.x = Some(x);
            row
        })
    });
    let growth =
        Outcome::new(Scenario::Growth, "files of equal total size".to_owned(), rows.collect(), Vec::new());
    let version = Version { tool: "ours", version: "abc1234".to_owned() };
    let missing = Missing { tool: "wget2", hint: "apt-get install wget2" };
    let mut report = Report::new("cargo lab bench".to_owned(), machine, vec![version], vec![missing]);
    report.outcomes = vec![capped, growth];
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: Option<f64>, b: f64) -> bool {
        a.is_some_and(|a| (a - b).abs() < 1e-9)
    }

    #[test]
    fn ours_is_divided_by_theirs_of_the_same_case() {
        let report = example();
        assert!(close(report.outcomes[0].ratio(Tool::Aria2c), 0.5));
        assert!(report.outcomes[0].ratio(Tool::Wget).is_none());
        let ratios: Vec<_> = report.outcomes[1]
            .rows
            .iter()
            .map(|row| row.ours.map(|ratio| (ratio.wall * 1e3).round() / 1e3))
            .collect();
        assert_eq!(ratios, [None, Some(0.502), None, Some(0.524), None, Some(0.667)]);
    }

    #[test]
    fn json_has_what_its_description_says_and_leaves_out_what_does_not_apply() {
        let json = serde_json::to_value(example()).unwrap();
        assert_eq!(json["schema"], 1);
        let capped = &json["outcomes"][0];
        assert_eq!(capped["scenario"], "capped");
        assert_eq!(capped["ideal_seconds"], 1.25);
        assert_eq!(capped["rows"][0]["rounds"][1]["wall_seconds"], 1.5);
        assert_eq!(capped["rows"][0]["summary"]["peak_bytes"], 31_000_000);
        assert_eq!(capped["rows"][2]["check"], "none");
        assert_eq!(capped["rows"][1]["ours"]["wall"], 0.5);
        for absent in ["case", "x", "sockets", "fetched_again", "ours"] {
            assert!(capped["rows"][0].get(absent).is_none(), "{absent}");
        }
    }
}
