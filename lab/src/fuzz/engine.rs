//! Running a target's program (libFuzzer) and reading what it says.

use std::fs::{self, File};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};

use super::Target;
use crate::project;

/// The longest that one input may take, in seconds.
const LONGEST_INPUT: u32 = 1;
/// How the engine ends when an input took longer.
const TIMED_OUT: i32 = 70;
/// How often an input that took too long is tried alone: on a busy machine the clock runs on while nothing does.
const TRIES: usize = 3;
/// How many such false alarms are believed to be the machine's.
const FALSE_ALARMS: usize = 3;

/// What a search has done.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ran {
    pub(super) inputs: u64,
    pub(super) new: u64,
    pub(super) peak_megabytes: u64,
    pub(super) seconds: f64,
}

/// The programs, and what they may take.
#[derive(Debug)]
pub(super) struct Engine {
    programs: Utf8PathBuf,
    memory: u64,
}

impl Engine {
    pub(super) fn new(programs: Utf8PathBuf, memory: u64) -> Self {
        Self { programs, memory }
    }

    /// A program with the limits that hold for all, in a directory of its own.
    pub(super) fn command(&self, name: &str) -> Result<Command> {
        let at = Self::directory(name);
        fs::create_dir_all(at.join("artifacts")).with_context(|| format!("making {at}/artifacts"))?;
        let mut command = Command::new(self.programs.join(name));
        command
            .current_dir(project::root())
            .arg(format!("-timeout={LONGEST_INPUT}"))
            .arg(format!("-rss_limit_mb={}", self.memory))
            .arg(format!("-artifact_prefix={at}/artifacts/"));
        Ok(command)
    }

    /// Where a target's log, findings and new inputs are.
    pub(super) fn directory(name: &str) -> Utf8PathBuf {
        project::root().join("target/fuzz").join(name)
    }

    /// Searches from the saved corpus on. Fails at the first finding, and says how to repeat it.
    pub(super) fn search(&self, target: Target, time: Duration) -> Result<Ran> {
        let name = target.name();
        let at = Self::directory(&name);
        let found = at.join("corpus");
        fs::create_dir_all(&found).with_context(|| format!("making {found}"))?;
        let started = Instant::now();
        let mut ran = Ran::default();
        for _ in 0..=FALSE_ALARMS {
            let left = time.saturating_sub(started.elapsed()).as_secs().max(1);
            let log = at.join("log");
            let mut command = self.command(&name)?;
            command
                .arg(format!("-max_total_time={left}"))
                .arg(format!("-max_len={}", target.longest()))
                .args(["-print_final_stats=1", "-reload=0"])
                .args([found.as_str(), project::root().join("lab/fuzz/corpus").join(&name).as_str()]);
            let status = logged(&mut command, &log)?;
            let said = read(&log)?;
            ran.inputs += statistic(&said, "number_of_executed_units");
            ran.new += statistic(&said, "new_units_added");
            ran.peak_megabytes = ran.peak_megabytes.max(statistic(&said, "peak_rss_mb"));
            ran.seconds = started.elapsed().as_secs_f64();
            if status.success() {
                return Ok(ran);
            }
            let input = artifact(&said);
            if status.code() == Some(TIMED_OUT)
                && let Some(input) = &input
                && !self.repeats(&name, input)?
            {
                let _ = fs::remove_file(input);
                continue;
            }
            bail!("{}", self.report(&name, &said, input.as_deref(), &log));
        }
        bail!(
            "{name}: inputs took longer than {LONGEST_INPUT} s and never again when they were tried alone: this machine is too busy"
        );
    }

    /// Whether an input that took too long does so alone.
    fn repeats(&self, name: &str, input: &Utf8Path) -> Result<bool> {
        for _ in 0..TRIES {
            let log = Self::directory(name).join("repeat.log");
            if logged(self.command(name)?.arg(input), &log)?.success() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn report(&self, name: &str, said: &str, input: Option<&Utf8Path>, log: &Utf8Path) -> String {
        let why: Vec<_> = said
            .lines()
            .skip_while(|line| !line.contains("panicked at") && !line.contains("ERROR: libFuzzer"))
            .take(6)
            .collect();
        let program = self.programs.join(name);
        let again = input.map_or_else(
            || "it left no input".to_owned(),
            |input| format!("again: {program} -timeout={LONGEST_INPUT} {input}"),
        );
        format!("{name}: FOUND\n{}\n{again}\nall that it said: {log}", why.join("\n"))
    }
}

/// Runs a command to its end, all that it says into `log`.
pub(super) fn logged(command: &mut Command, log: &Utf8Path) -> Result<ExitStatus> {
    let file = File::create(log).with_context(|| format!("making {log}"))?;
    let same = file.try_clone().with_context(|| format!("making {log}"))?;
    command
        .stdout(file)
        .stderr(same)
        .status()
        .with_context(|| format!("running {}", command.get_program().display()))
}

pub(super) fn read(log: &Utf8Path) -> Result<String> {
    // Inputs are shown as they are.
    Ok(String::from_utf8_lossy(&fs::read(log).with_context(|| format!("reading {log}"))?).into_owned())
}

/// The input that a search ended with.
pub(super) fn artifact(said: &str) -> Option<Utf8PathBuf> {
    said.lines().find_map(|line| line.split_once("Test unit written to ")).map(|(_, path)| path.trim().into())
}

fn statistic(said: &str, name: &str) -> u64 {
    let line =
        said.lines().find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
}
