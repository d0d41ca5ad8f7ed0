//! The run's report as JSON, for `--report`.
//!
//! ```json
//! {"version":1,"complete":true,"by_marker":false,
//!  "files":[{"path":"vae/x.safetensors","size":253806246,"outcome":"fetched","source":"https://…","fetched":253806246,
//!            "resumed":0,"reused":0,"seconds":3.1,"connections":12,"retries":0,"error":null}],
//!  "totals":{"files":1,"bytes":253806246,"fetched":253806246,"resumed":0,"reused":0,"seconds":3.2,"connections":12,
//!            "retries":0}}
//! ```
//!
//! `outcome` is `present`, `fetched`, `copied` (from a file of the set with the same bytes), `baked`, `linked`,
//! `cached`, `reused` (`source` is then the file of the other program's store), `failed`, or `unfinished` (interrupted,
//! or a dry run). `seconds` of a file run from its first request to its install; files overlap, so they do not add up.
//! `connections` is the most at one time, for the totals the sum over files. `sources` is there if several sources gave
//! bytes, or a store did: `[{"source":"https://…","fetched":200000000}]`. `proven_by` is `pieces` or `digest`, and
//! absent if only the marker vouches for the file. `dropped` is there if pieces were wrong: their bytes, which were
//! fetched again. `reused` are bytes copied by piece from other files on this machine. In a dry run `here` is there
//! instead: the bytes that they should have, by their piece lists.

use camino::Utf8Path;
use serde::Serialize;

use super::exit::{Code, Failure};
use provision_core::event::{Outcome, PlannedFile, SourceBytes};
use provision_core::piece_list::VerifiedBy;
use provision_disk::Destination;
use provision_engine::fetch::{FileReport, Report};

#[derive(Serialize)]
struct Text<'a> {
    version: u32,
    complete: bool,
    by_marker: bool,
    files: Vec<File<'a>>,
    totals: Totals,
}

#[derive(Serialize)]
struct File<'a> {
    path: &'a str,
    size: u64,
    outcome: &'static str,
    source: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    sources: &'a [SourceBytes],
    fetched: u64,
    resumed: u64,
    reused: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    here: Option<u64>,
    #[serde(skip_serializing_if = "is_zero")]
    dropped: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    proven_by: Option<VerifiedBy>,
    seconds: f64,
    connections: usize,
    retries: u32,
    error: Option<String>,
}

#[derive(Serialize)]
struct Totals {
    files: usize,
    bytes: u64,
    fetched: u64,
    resumed: u64,
    reused: u64,
    seconds: f64,
    connections: usize,
    retries: u32,
}

/// Writes `report` to `path`, whole or not at all.
pub fn write(path: &Utf8Path, report: &Report) -> Result<(), Failure> {
    let totals = Totals {
        files: report.files.len(),
        bytes: report.files.iter().map(|file| file.size).sum(),
        fetched: report.files.iter().map(|file| file.fetched).sum(),
        resumed: report.files.iter().map(|file| file.resumed).sum(),
        reused: report.files.iter().map(|file| file.reused).sum(),
        seconds: seconds(report.elapsed),
        connections: report.files.iter().map(|file| file.connections).sum(),
        retries: report.files.iter().map(|file| file.retries).sum(),
    };
    let files = report.files.iter().zip(&report.plan).map(one).collect();
    let text =
        Text { version: 1, complete: report.is_complete(), by_marker: report.by_marker, files, totals };
    let mut bytes =
        serde_json::to_vec_pretty(&text).map_err(|error| Failure::new(Code::Unexpected, error))?;
    bytes.push(b'\n');
    let (directory, name) = check(path)?;
    Ok(directory.root().write_small(name, &bytes)?)
}

/// Checks before the run that a report can be written to `path`.
pub fn check(path: &Utf8Path) -> Result<(Destination, &str), Failure> {
    let name = path
        .file_name()
        .ok_or_else(|| Failure::new(Code::Usage, format!("--report {path} is not a file's path")))?;
    let directory = path.parent().filter(|parent| !parent.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
    let directory = Destination::open(directory)?.ok_or_else(|| {
        Failure::new(
            Code::Usage,
            format!("--report: the directory {directory} does not exist; create it, or give another path"),
        )
    })?;
    match directory.root().find(name)?.obstacle() {
        Some(what) => Err(Failure::new(Code::Usage, format!("--report {path} is {what}, not a file"))),
        None => Ok((directory, name)),
    }
}

fn one<'a>((file, planned): (&'a FileReport, &PlannedFile)) -> File<'a> {
    File {
        path: file.path.as_str(),
        size: file.size,
        outcome: match &file.result {
            Ok(Some(Outcome::Present)) => "present",
            Ok(Some(Outcome::Fetched)) => "fetched",
            Ok(Some(Outcome::Copied)) => "copied",
            Ok(Some(Outcome::Baked)) => "baked",
            Ok(Some(Outcome::Linked)) => "linked",
            Ok(Some(Outcome::Cached)) => "cached",
            Ok(Some(Outcome::Reused)) => "reused",
            Ok(Some(Outcome::Pushed)) => "pushed",
            Ok(None) => "unfinished",
            Err(_) => "failed",
        },
        source: file.source.as_deref(),
        sources: &file.sources,
        fetched: file.fetched,
        resumed: file.resumed,
        reused: file.reused,
        dropped: file.dropped,
        proven_by: file.verified_by,
        here: Some(planned.here).filter(|here| *here > 0 && matches!(file.result, Ok(None))),
        seconds: seconds(file.elapsed),
        connections: file.connections,
        retries: file.retries,
        error: file.result.as_ref().err().map(provision_engine::transfer::FileError::reason),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

fn seconds(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}
