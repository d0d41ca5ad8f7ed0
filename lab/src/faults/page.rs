//! The sections of a page that commands write. Comments mark their ends.

use std::ops::Range;

use anyhow::{Context as _, Result};

/// The catalogue's table.
pub(super) const TABLE: &str = "faults";
/// The table of other tools.
pub(super) const PEERS: &str = "peers";

/// The text between the markers of `name`.
pub(super) fn section<'a>(page: &'a str, name: &str) -> Result<&'a str> {
    inside(page, name).map(|range| &page[range])
}

/// The page with `text` between the markers of `name`.
pub(super) fn replace(page: &str, name: &str, text: &str) -> Result<String> {
    let range = inside(page, name)?;
    Ok([&page[..range.start], text, &page[range.end..]].concat())
}

fn inside(page: &str, name: &str) -> Result<Range<usize>> {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->\n"));
    let found = page.find(&begin).and_then(|at| {
        let start = at + begin.len();
        Some(start..start + page[start..].find(&end)?)
    });
    found.with_context(|| {
        format!("the page has no line `<!-- {name}: begin -->` before `<!-- {name}: end -->`: put both back")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE_TEXT: &str = "# A\n\n<!-- faults: begin -->\nold\n<!-- faults: end -->\n\nb\n";

    #[test]
    fn the_text_between_the_markers_is_read_and_replaced() {
        assert_eq!(section(PAGE_TEXT, TABLE).unwrap(), "old\n");
        let new = replace(PAGE_TEXT, TABLE, "new\nlines\n").unwrap();
        assert_eq!(new, "# A\n\n<!-- faults: begin -->\nnew\nlines\n<!-- faults: end -->\n\nb\n");
        assert_eq!(section(&new, TABLE).unwrap(), "new\nlines\n");
    }

    #[test]
    fn a_page_without_markers_is_an_error() {
        assert!(section(PAGE_TEXT, PEERS).unwrap_err().to_string().contains("peers: begin"));
        assert!(replace("<!-- faults: end -->\n<!-- faults: begin -->\n", TABLE, "x").is_err());
    }
}
