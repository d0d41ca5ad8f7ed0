//! The sections of a page that commands write. Comments mark their ends.

use anyhow::{Context as _, Result};

/// The catalogue's table.
pub(super) const TABLE: &str = "faults";
/// The table of other tools.
pub(super) const PEERS: &str = "peers";

/// The page with `text` between the markers of `name`.
pub(super) fn replace(page: &str, name: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->\n"));
    let parts = page.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) = parts.with_context(|| {
        format!("the page has no line `<!-- {name}: begin -->` before `<!-- {name}: end -->`: put both back")
    })?;
    Ok([before, &begin, text, &end, after].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE_TEXT: &str = "# A\n\n<!-- faults: begin -->\nold\n<!-- faults: end -->\n\nb\n";

    #[test]
    fn the_text_between_the_markers_is_replaced() {
        let new = replace(PAGE_TEXT, TABLE, "new\nlines\n").unwrap();
        assert_eq!(new, "# A\n\n<!-- faults: begin -->\nnew\nlines\n<!-- faults: end -->\n\nb\n");
    }

    #[test]
    fn a_page_without_markers_is_an_error() {
        assert!(replace(PAGE_TEXT, PEERS, "x").unwrap_err().to_string().contains("peers: begin"));
        assert!(replace("<!-- faults: end -->\n<!-- faults: begin -->\n", TABLE, "x").is_err());
    }
}
