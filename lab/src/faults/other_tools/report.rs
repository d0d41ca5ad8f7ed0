//! The table of the page. Pure.

use std::fmt::Write as _;

use super::tool::Tool;
use super::verdict::Verdict;
use crate::faults::catalogue;

/// The tools, the totals and a row for each case. `verdicts` has those of all tools on the first case, then those on the
/// second; `None` where a tool cannot do a case. A run took at most `limit` seconds.
pub(super) fn table(
    tools: &[Tool],
    cases: &[&catalogue::Case],
    verdicts: &[Option<Verdict>],
    limit: u64,
) -> String {
    let mut text = String::from("\n");
    for tool in tools {
        let _ = writeln!(text, "- **{}** {}: `{}`", tool.name(), tool.version, tool.command_line());
    }
    let totals = |is: fn(&&Verdict) -> bool| {
        let total = |(index, tool): (usize, &Tool)| {
            let own = verdicts.iter().skip(index).step_by(tools.len());
            format!("{} {}", tool.name(), own.flatten().filter(is).count())
        };
        tools.iter().enumerate().map(total).collect::<Vec<_>>().join(", ")
    };
    let _ = writeln!(
        text,
        "\nOf {} cases ({} runs, {limit} s at most each), **wrong bytes under the final name and exit 0**: {}. \
         Went on where it should not, or sent the token on: {}.\n",
        cases.len(),
        verdicts.iter().flatten().count(),
        totals(|verdict| verdict.is_silent_error()),
        totals(|verdict| !verdict.trespasses.is_empty()),
    );
    let names: Vec<_> = tools.iter().map(Tool::name).collect();
    let _ = writeln!(text, "| | what goes wrong | {} |", names.join(" | "));
    let _ = writeln!(text, "|--:|---{}|", "|---".repeat(tools.len()));
    let cell = |verdict: &Option<Verdict>| verdict.as_ref().map_or("—".to_owned(), Verdict::to_string);
    for (case, verdicts) in cases.iter().zip(verdicts.chunks(tools.len())) {
        let cells = verdicts.iter().map(cell).collect::<Vec<_>>().join(" | ");
        let _ = writeln!(text, "| {} | {} | {cells} |", case.number, case.what);
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::catalogue::Case;
    use crate::faults::other_tools::tool::{OURS, PEERS};
    use crate::faults::other_tools::verdict::Final;

    #[test]
    fn silent_errors_and_trespasses_are_counted_and_shown() {
        let case = |number| {
            let (what, outcome) = (format!("w{number}"), String::new());
            Case { number, group: "Ranges".to_owned(), what, outcome }
        };
        let cases = [case(1), case(2)];
        let verdict = |code, file, trespasses: &[&'static str]| {
            let trespasses = trespasses.to_vec();
            Some(Verdict { exit: Some(code), file, is_marked: false, trespasses })
        };
        let right = verdict(0, Final::Exact, &[]);
        let went = verdict(0, Final::Exact, &["token sent on"]);
        let verdicts =
            [right, verdict(0, Final::Wrong, &[]), None, verdict(4, Final::Absent, &[]), went, None];
        let tools = [OURS, PEERS[1], PEERS[2]].map(|usage| Tool {
            usage,
            program: "p".into(),
            version: "1.0".to_owned(),
        });
        let text = table(&tools, &cases.each_ref(), &verdicts, 90);
        for expected in [
            "- **curl** 1.0: `curl -fL -C - --retry 5 -o DIR/NAME URL`\n",
            "Of 2 cases (4 runs, 90 s at most each)",
            "exit 0**: ours 0, curl 1, wget 0.",
            "or sent the token on: ours 0, curl 1, wget 0.",
            "| 1 | w1 | exact | **wrong, exit 0** | — |\n",
            "| 2 | w2 | exit 4 | exact, **token sent on** | — |\n",
        ] {
            assert!(text.contains(expected), "no {expected:?} in {text}");
        }
    }
}
