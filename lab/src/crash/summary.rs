//! Counts of outcomes, printed as Markdown tables.

use std::collections::{BTreeMap, BTreeSet};

/// Counts by row and column.
#[derive(Debug, Default, Clone)]
pub(super) struct Summary {
    cells: BTreeMap<(String, String), usize>,
}

impl Summary {
    pub(super) fn add(&mut self, row: impl Into<String>, column: impl Into<String>) {
        *self.cells.entry((row.into(), column.into())).or_default() += 1;
    }

    pub(super) fn total(&self) -> usize {
        self.cells.values().sum()
    }

    pub(super) fn column(&self, wanted: &str) -> usize {
        self.cells.iter().filter(|((_, column), _)| column == wanted).map(|(_, count)| count).sum()
    }

    /// A table with sums.
    pub(super) fn table(&self, title: &str) -> String {
        let rows: BTreeSet<_> = self.cells.keys().map(|(row, _)| row).collect();
        let columns: BTreeSet<_> = self.cells.keys().map(|(_, column)| column).collect();
        let line =
            |name: &str, cells: Vec<String>, sum: &str| format!("| {name} | {} | {sum} |", cells.join(" | "));
        let mut lines = vec![line(title, columns.iter().map(ToString::to_string).collect(), "all")];
        lines.push(format!("|---|{}--:|", "--:|".repeat(columns.len())));
        for row in rows {
            let count = |column: &&String| self.cells.get(&(row.clone(), (*column).clone()));
            let cell = |column| count(column).map(ToString::to_string).unwrap_or_default();
            let sum: usize = columns.iter().filter_map(count).sum();
            lines.push(line(row, columns.iter().map(cell).collect(), &sum.to_string()));
        }
        let sums = columns.iter().map(|column| self.column(column).to_string()).collect();
        lines.push(line("all", sums, &self.total().to_string()));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_every_cell_and_its_sums() {
        let mut summary = Summary::default();
        summary.add("fetch", "exit 0");
        summary.add("fetch", "exit 7");
        summary.add("link", "exit 7");
        assert_eq!(
            summary.table("job"),
            "| job | exit 0 | exit 7 | all |\n|---|--:|--:|--:|\n| fetch | 1 | 1 | 2 |\n| link |  | 1 | 1 |\n| all | 1 | 2 | 3 |"
        );
    }
}
