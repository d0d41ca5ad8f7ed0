//! The parts of a page that commands write, between comments that name them.

use std::ops::Range;

/// The catalogue's table.
pub(super) const TABLE: &str = "faults";
/// What other tools made of it.
pub(super) const PEERS: &str = "peers";

/// A page that cannot be written into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unmarked {
    #[error(
        "docs/reliability.md has no line `<!-- {0}: begin -->` with a `<!-- {0}: end -->` after it: put both back"
    )]
    Missing(&'static str),
}

/// What is between the markers of `name`.
pub(super) fn section<'a>(page: &'a str, name: &'static str) -> Result<&'a str, Unmarked> {
    inside(page, name).map(|range| &page[range])
}

/// The page with `text` between the markers of `name`.
pub(super) fn replace(page: &str, name: &'static str, text: &str) -> Result<String, Unmarked> {
    let range = inside(page, name)?;
    Ok([&page[..range.start], text, &page[range.end..]].concat())
}

fn inside(page: &str, name: &'static str) -> Result<Range<usize>, Unmarked> {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->\n"));
    let found = page.find(&begin).and_then(|at| {
        let start = at + begin.len();
        Some(start..start + page[start..].find(&end)?)
    });
    found.ok_or(Unmarked::Missing(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE_TEXT: &str = "# A\n\n<!-- faults: begin -->\nold\n<!-- faults: end -->\n\nb\n";

    #[test]
    fn what_is_between_the_markers_is_read_and_replaced() {
        assert_eq!(section(PAGE_TEXT, TABLE), Ok("old\n"));
        let new = replace(PAGE_TEXT, TABLE, "new\nlines\n").unwrap();
        assert_eq!(new, "# A\n\n<!-- faults: begin -->\nnew\nlines\n<!-- faults: end -->\n\nb\n");
        assert_eq!(section(&new, TABLE), Ok("new\nlines\n"));
    }

    #[test]
    fn a_page_without_markers_is_left_alone() {
        assert_eq!(section(PAGE_TEXT, PEERS), Err(Unmarked::Missing("peers")));
        assert!(replace("<!-- faults: end -->\n<!-- faults: begin -->\n", TABLE, "x").is_err());
    }
}
