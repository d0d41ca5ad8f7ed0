//! The results of a run, as data.
//!
//! `target/bench/report.json` is this [`Report`]:
//!
//! ```text
//! command           the command line
//! environment       facts in words, by name: the machine, its load before and after, each program's version, and how to
//!                   install a peer that was not found
//! outcomes[]        one for each scenario, in the order in which they ran
//!   scenario        its name
//!   setting         origin, set and destination in words
//!   rows[]
//!     tool          its name; "before" is the program of --against, "without a list" is ours without piece lists
//!     check         "itself", "afterwards" (sha256sum on all cores) or "none"
//!     case          distinguishes rows of one tool
//!     bytes         the size of the set
//!     ideal_seconds the shortest time that the origin allows, if it limits
//!     rounds[]      wall_seconds, cpu_seconds, peak_bytes: each round as measured, without warm-ups;
//!                   fetched_again (resume): the share of the bytes that were sent twice
//!     summary       the medians, and the largest peak
//!     ours          ours divided by this row of the same case: wall, cpu; not for ours
//!   notes[]         tools that did not take part, with the reason; sets that were made smaller
//! ```
//!
//! A field that does not apply is null. There is no date: a report is as good as its machine and versions.

use std::collections::BTreeMap;

use serde::Serialize;

use super::meter::Measurement;
use super::tool::{BEFORE, Check, LISTLESS, OURS};

/// The results of a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) command: String,
    pub(super) environment: BTreeMap<&'static str, String>,
    pub(super) outcomes: Vec<Outcome>,
}

/// The result of a scenario.
#[derive(Debug, Default, Serialize)]
pub(super) struct Outcome {
    pub(super) scenario: String,
    pub(super) setting: String,
    pub(super) rows: Vec<Row>,
    pub(super) notes: Vec<String>,
    /// The quantity that the chart shows.
    #[serde(skip)]
    pub(super) metric: Metric,
}

/// A quantity that is compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Metric {
    #[default]
    WallTime,
    PeakMemory,
    FetchedAgain,
}

/// The measurements of a tool in one case.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Row {
    pub(super) tool: &'static str,
    pub(super) check: Check,
    pub(super) case: Option<String>,
    pub(super) bytes: u64,
    pub(super) ideal_seconds: Option<f64>,
    pub(super) rounds: Vec<Measurement>,
    pub(super) summary: Measurement,
    pub(super) ours: Option<Ratio>,
}

/// Ours divided by another row.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Ratio {
    pub(super) wall: f64,
    pub(super) cpu: f64,
}

impl Row {
    pub(super) fn new(tool: &'static str, check: Check, bytes: u64) -> Self {
        Self { tool, check, bytes, ..Self::default() }
    }

    pub(super) fn is_ours(&self) -> bool {
        self.tool == OURS
    }

    pub(super) fn is_own(&self) -> bool {
        [OURS, BEFORE, LISTLESS].contains(&self.tool)
    }

    /// The tool, its verification and the case.
    pub(super) fn label(&self) -> String {
        let tool = self.tool_label();
        self.case.as_ref().map_or_else(|| tool.clone(), |case| format!("{tool}, {case}"))
    }

    /// The tool and its verification.
    pub(super) fn tool_label(&self) -> String {
        match self.check {
            Check::Itself => self.tool.to_owned(),
            Check::Afterwards => format!("{} + sha256sum", self.tool),
            Check::None => format!("{}, unverified", self.tool),
        }
    }
}

impl Outcome {
    /// Summarizes the rounds, and divides ours by the other rows.
    pub(super) fn summarize(&mut self) {
        for row in &mut self.rows {
            row.summary = Measurement::summary(&row.rounds);
        }
        let ours: Vec<_> = self.rows.iter().filter(|row| row.is_ours()).cloned().collect();
        for row in self.rows.iter_mut().filter(|row| !row.is_ours()) {
            let ours = ours.iter().find(|ours| ours.case == row.case).map(|ours| ours.summary);
            row.ours = ours.map(|ours| Ratio {
                wall: ours.wall_seconds / row.summary.wall_seconds,
                cpu: ours.cpu_seconds / row.summary.cpu_seconds,
            });
        }
    }

    /// Ours takes longer than a tool that took part and verifies by itself.
    pub(super) fn is_slower_than(&self, tool: &str) -> bool {
        let mut rows = self.rows.iter().filter(|row| row.tool == tool && row.check == Check::Itself);
        rows.any(|row| row.ours.is_some_and(|ratio| ratio.wall > 1.0))
    }
}

/// A report with one of everything, for the tests of its renderings.
#[cfg(test)]
pub(super) fn example() -> Report {
    let cost = |wall_seconds, cpu_seconds, peak_bytes| Measurement {
        wall_seconds,
        cpu_seconds,
        peak_bytes,
        fetched_again: None,
    };
    let row = |tool, check, rounds| Row { rounds, ..Row::new(tool, check, 1_500_000_000) };
    let mut rows = vec![
        row("ours", Check::Itself, vec![cost(1.0, 2.0, 30_000_000), cost(1.5, 2.2, 31_000_000)]),
        row("before", Check::Itself, vec![cost(1.25, 1.75, 31_000_000)]),
        row("aria2c", Check::Itself, vec![cost(2.5, 3.0, 40_000_000)]),
        row("curl", Check::None, vec![cost(1.0, 1.0, 10_000_000)]),
    ];
    for row in &mut rows {
        row.ideal_seconds = Some(1.25);
    }
    let capped = Outcome {
        scenario: "capped".to_owned(),
        setting: "4 MB/s for each connection".to_owned(),
        rows,
        notes: vec!["hf-transfer did not take part: it <broke>".to_owned()],
        ..Outcome::default()
    };
    let growth = [(1.0, "1 file"), (10.0, "10 files"), (100.0, "100 files")];
    let rows = growth.into_iter().flat_map(|(x, case)| {
        ["ours", "aria2c"].map(|tool| {
            let wall = if tool == "ours" { 1.0 } else { 2.0 } + x / 100.0;
            let rounds = vec![cost(wall, 1.0, 20_000_000)];
            Row { case: Some(case.to_owned()), ..row(tool, Check::Itself, rounds) }
        })
    });
    let growth = Outcome {
        scenario: "growth".to_owned(),
        setting: "files of equal total size".to_owned(),
        rows: rows.collect(),
        ..Outcome::default()
    };
    let mut outcomes = vec![capped, growth];
    outcomes.iter_mut().for_each(Outcome::summarize);
    Report {
        command: "cargo lab bench".to_owned(),
        environment: BTreeMap::from([
            ("aria2c", "not found; to install it: apt-get install aria2".to_owned()),
            ("processor", "A <fast> processor".to_owned()),
        ]),
        outcomes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_ours_by_theirs_of_the_same_case() {
        let report = example();
        assert!(report.outcomes[0].rows[2].ours.is_some_and(|ratio| (ratio.wall - 0.5).abs() < 1e-9));
        let ratios: Vec<_> = report.outcomes[1]
            .rows
            .iter()
            .map(|row| row.ours.map(|ratio| (ratio.wall * 1e3).round() / 1e3))
            .collect();
        assert_eq!(ratios, [None, Some(0.502), None, Some(0.524), None, Some(0.667)]);
    }

    #[test]
    fn only_a_tool_that_verifies_is_compared() {
        let mut outcome = example().outcomes.swap_remove(0);
        assert!(!outcome.is_slower_than("aria2c"), "half of its time");
        assert!(!outcome.is_slower_than("curl"), "unverified");
        assert!(!outcome.is_slower_than("hf-transfer"), "did not take part");
        outcome.rows[2].rounds[0].wall_seconds = 1.0;
        outcome.summarize();
        assert!(outcome.is_slower_than("aria2c"));
    }

    #[test]
    fn json_has_the_described_fields() {
        let json = serde_json::to_value(example()).unwrap();
        let capped = &json["outcomes"][0];
        assert_eq!(capped["scenario"], "capped");
        assert_eq!(capped["rows"][0]["ideal_seconds"], 1.25);
        assert_eq!(capped["rows"][0]["rounds"][1]["wall_seconds"], 1.5);
        assert_eq!(capped["rows"][0]["summary"]["peak_bytes"], 31_000_000);
        assert_eq!(capped["rows"][1]["ours"]["cpu"], 1.2);
        assert_eq!(capped["rows"][2]["ours"]["wall"], 0.5);
        assert_eq!(capped["rows"][3]["check"], "none");
        assert!(["case", "ours"].iter().all(|field| capped["rows"][0][field].is_null()));
        assert!(capped["rows"][0]["summary"]["fetched_again"].is_null());
    }
}
