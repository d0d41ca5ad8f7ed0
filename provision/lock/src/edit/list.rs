//! Appends to a list in place. The list keeps its form (one line, or a line per item) and its comments.

use super::Splice;
use super::spans::{KeySpan, line_start};

/// Appends `more` behind the last item of `list`, which is not empty.
pub(super) fn append(text: &str, list: &KeySpan, more: &[String], newline: &str) -> Vec<Splice> {
    let Some(last) = list.items.last() else { return Vec::new() };
    let rest = &text[last.end..list.value.end];
    let line = rest.lines().next().unwrap_or_default().trim_start_matches([' ', '\t']);
    let (comma, behind) = match line.strip_prefix(',') {
        Some(behind) => (true, behind),
        None => (false, line),
    };
    if behind.trim_start().starts_with('#') {
        // The comment belongs to the last item and stays on its line.
        let end = last.end + rest.find(['\r', '\n']).unwrap_or(rest.len());
        let indent = indent(text, last.start);
        let mut splices = Vec::new();
        if !comma {
            splices.push((last.end, last.end, ",".to_owned()));
        }
        let count = more.len();
        let lines = more.iter().enumerate().map(|(at, item)| {
            format!("{newline}{indent}{item}{}", if comma || at + 1 < count { "," } else { "" })
        });
        splices.push((end, end, lines.collect()));
        return splices;
    }
    let before = match list.items.as_slice() {
        [.., before, last] => &text[before.end..last.start],
        _ => &text[list.value.start + 1..last.start],
    };
    let separator = if before.contains('#') {
        format!(",{newline}{}", indent(text, last.start))
    } else if list.items.len() > 1 {
        before.to_owned()
    } else if before.contains('\n') {
        format!(",{before}")
    } else {
        ", ".to_owned()
    };
    let items = more.iter().flat_map(|item| [separator.as_str(), item]).collect();
    vec![(last.end, last.end, items)]
}

/// The white space before the text at `at`.
fn indent(text: &str, at: usize) -> &str {
    let line = &text[line_start(text, at)..at];
    &line[..line.len() - line.trim_start().len()]
}
