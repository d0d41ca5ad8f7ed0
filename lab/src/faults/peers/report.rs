//! What was seen, as lines for whoever watches and as a table for the page. Pure.

use std::fmt::{self, Write as _};

use super::tool::{Found, Peer, Tool};
use super::verdict::{Seen, Verdict};
use crate::faults::catalogue::Case;

/// One trial of one tool.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) case: u8,
    pub(super) label: String,
    pub(super) tool: Tool,
    /// `None`: it makes no sense with this tool.
    pub(super) seen: Option<Seen>,
}

impl Line {
    pub(super) fn new(case: u8, label: &str, tool: Tool, seen: Option<Seen>) -> Self {
        Self { case, label: label.to_owned(), tool, seen }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { case, label, tool, seen } = self;
        let name = tool.name();
        write!(f, "{case:02} {name:7} ")?;
        match seen {
            None => write!(f, "not run: it takes one address only")?,
            Some(seen) => {
                let Seen { exit, file, is_marked, went } = seen;
                write!(f, "{exit}, {file}")?;
                if *is_marked {
                    write!(f, ", marked by a control file")?;
                }
                for words in went {
                    write!(f, ", {words}")?;
                }
                if seen.verdict() == Verdict::Silent {
                    write!(f, "  <-- WRONG BYTES UNDER THE FINAL NAME AND EXIT 0")?;
                }
            }
        }
        write!(f, "  ({label})")
    }
}

pub(super) fn details(lines: &[Line]) -> String {
    lines.iter().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "    {line}");
        text
    })
}

/// How many of its trials come to that.
struct Worst<'a> {
    seen: &'a Seen,
    verdict: Verdict,
    of: usize,
    runs: usize,
}

/// The worst of a tool's runs for a case; going where it should not is worse than any failure that is said.
fn worst(lines: &[Line], case: u8, tool: Tool) -> Option<Worst<'_>> {
    let runs: Vec<&Seen> = lines
        .iter()
        .filter(|line| line.case == case && line.tool == tool)
        .filter_map(|line| line.seen.as_ref())
        .collect();
    let badness = |seen: &Seen| (seen.verdict() == Verdict::Silent, !seen.went.is_empty(), seen.verdict());
    let seen = runs.iter().copied().max_by_key(|seen| badness(seen))?;
    let verdict = seen.verdict();
    let of = runs.iter().filter(|other| other.verdict() == verdict).count();
    Some(Worst { seen, verdict, of, runs: runs.len() })
}

/// The table, with what was run above it.
pub(super) fn table(cases: &[Case], tools: &[Found], missing: &[Peer], lines: &[Line], limit: u64) -> String {
    let mut text = String::from("\n");
    for found in tools {
        let usual = match found.tool {
            Tool::Ours => "provision fetch --lock LOCK --dest DIR",
            Tool::Other(peer) => peer.usual(),
        };
        let _ = writeln!(text, "- **{}** {}: `{usual}`", found.name(), found.version);
    }
    for peer in missing {
        let _ = writeln!(text, "- **{}** was not found, and was not run", peer.name());
    }
    let tried: Vec<&Case> =
        cases.iter().filter(|case| lines.iter().any(|line| line.case == case.number)).collect();
    text.push_str(&counts(&tried, tools, lines, limit));
    let names: Vec<_> = tools.iter().map(Found::name).collect();
    let _ = writeln!(text, "| | what goes wrong | wrong and exit 0 | {} |", names.join(" | "));
    let _ = writeln!(text, "|--:|---|---{}|", "|---".repeat(tools.len()));
    for case in tried {
        let worst: Vec<_> = tools.iter().map(|found| worst(lines, case.number, found.tool)).collect();
        let is_silent =
            |worst: &Option<Worst<'_>>| worst.as_ref().is_some_and(|worst| worst.verdict == Verdict::Silent);
        let silent: Vec<_> = tools
            .iter()
            .zip(&worst)
            .filter(|(_, worst)| is_silent(worst))
            .map(|(found, _)| found.name())
            .collect();
        let cells: Vec<_> = worst.iter().map(|worst| worst.as_ref().map_or("—".to_owned(), cell)).collect();
        let silent = if silent.is_empty() { String::new() } else { format!("**{}**", silent.join(", ")) };
        let _ = writeln!(text, "| {} | {} | {silent} | {} |", case.number, case.what, cells.join(" | "));
    }
    text.push('\n');
    text
}

/// The headline: how many cases end silently wrong, and how many go where they should not.
fn counts(cases: &[&Case], tools: &[Found], lines: &[Line], limit: u64) -> String {
    let count = |found: &Found, is: fn(&Seen) -> bool| {
        let has = |case: &&&Case| {
            lines.iter().any(|line| {
                line.case == case.number && line.tool == found.tool && line.seen.as_ref().is_some_and(is)
            })
        };
        format!("{} {}", found.name(), cases.iter().filter(has).count())
    };
    let each =
        |is: fn(&Seen) -> bool| tools.iter().map(|found| count(found, is)).collect::<Vec<_>>().join(", ");
    let cases = cases.len();
    let runs = lines.iter().filter(|line| line.seen.is_some()).count();
    format!(
        "\nOf {cases} cases ({runs} runs, {limit} s at most each), **wrong bytes under the final name and exit 0**: {}. \
         Went on where it should not, or sent the token on: {}.\n\n",
        each(|seen| seen.verdict() == Verdict::Silent),
        each(|seen| !seen.went.is_empty()),
    )
}

fn cell(worst: &Worst<'_>) -> String {
    let Worst { seen, verdict, of, runs } = worst;
    let exit = seen.exit;
    let mut text = match verdict {
        Verdict::Right => "exact".to_owned(),
        Verdict::Complained => format!("exact, {exit}"),
        Verdict::Failed => exit.to_string(),
        Verdict::Marked => format!("{exit}, marked part"),
        Verdict::Part => format!("{exit}, part left"),
        Verdict::NoEnd => "no end".to_owned(),
        Verdict::NoEndPart => "no end, unmarked bytes left".to_owned(),
        Verdict::Wrong => format!("{exit}, wrong bytes left"),
        Verdict::Nothing => "exit 0, nothing there".to_owned(),
        Verdict::Silent => "**wrong, exit 0**".to_owned(),
    };
    // Where all runs came to the same, that is what it does.
    if of < runs && *verdict != Verdict::Right {
        let _ = write!(text, " ({of} of {runs})");
    }
    for words in &seen.went {
        let _ = write!(text, ", **{words}**");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::catalogue::Group;
    use crate::faults::peers::verdict::{Exit, Final};

    fn line(case: u8, tool: Tool, exit: Exit, file: Final) -> Line {
        let seen = Seen { exit, file, is_marked: false, went: Vec::new() };
        Line::new(case, "label", tool, Some(seen))
    }

    #[test]
    fn the_worst_run_of_a_case_is_shown_and_the_silent_ones_have_a_column() {
        let case = |number| {
            let (what, outcome) = (format!("w{number}"), String::new());
            Case { number, group: Group::Ranges, what, outcome }
        };
        let cases = [case(1), case(2), case(3)];
        let curl = Tool::Other(Peer::Curl);
        let mut sent = line(2, curl, Exit::Code(0), Final::Exact);
        sent.seen.as_mut().unwrap().went.push("token sent on");
        let lines = [
            line(1, Tool::Ours, Exit::Code(0), Final::Exact),
            line(1, Tool::Ours, Exit::Code(4), Final::Absent),
            line(1, curl, Exit::Code(33), Final::Before),
            line(1, curl, Exit::Code(0), Final::Wrong),
            line(2, Tool::Ours, Exit::NoEnd, Final::Absent),
            sent,
            Line::new(2, "label", Tool::Other(Peer::Wget), None),
        ];
        let mut tools = vec![];
        for tool in [Tool::Ours, curl, Tool::Other(Peer::Wget)] {
            tools.push(Found::for_tests(tool, "1.0"));
        }
        let text = table(&cases, &tools, &[Peer::Aria2c], &lines, 90);
        assert!(
            text.contains("| 1 | w1 | **curl** | exit 4 (1 of 2) | **wrong, exit 0** (1 of 2) | — |"),
            "{text}"
        );
        assert!(text.contains("| 2 | w2 |  | no end | exact, **token sent on** | — |"), "{text}");
        assert!(!text.contains("w3"), "a case that was not run has no row");
        assert!(text.contains("exit 0**: ours 0, curl 1, wget 0."), "{text}");
        assert!(text.contains("or sent the token on: ours 0, curl 1, wget 0."), "{text}");
        assert!(text.contains("**aria2c** was not found"), "{text}");
        assert!(lines[3].to_string().contains("WRONG BYTES UNDER THE FINAL NAME AND EXIT 0"));
        assert!(!lines[2].to_string().contains("WRONG"));
    }
}
