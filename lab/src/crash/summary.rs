//! What became of the strikes, as tables.

use std::collections::BTreeMap;

/// Counts by row and column.
#[derive(Debug, Default, Clone)]
pub(super) struct Summary {
    cells: BTreeMap<(String, String), usize>,
}

impl Summary {
    pub(super) fn add(&mut self, row: impl Into<String>, column: impl Into<String>) {
        *self.cells.entry((row.into(), column.into())).or_default() += 1;
    }

    /// Adds what is in another one.
    pub(super) fn merge(&mut self, other: Self) {
        for (cell, count) in other.cells {
            *self.cells.entry(cell).or_default() += count;
        }
    }

    pub(super) fn total(&self) -> usize {
        self.cells.values().sum()
    }

    pub(super) fn column(&self, wanted: &str) -> usize {
        self.cells.iter().filter(|((_, column), _)| column == wanted).map(|(_, count)| count).sum()
    }

    /// A Markdown table with sums.
    pub(super) fn table(&self, title: &str) -> String {
        let mut columns: Vec<&str> = self.cells.keys().map(|(_, column)| column.as_str()).collect();
        columns.sort_unstable();
        columns.dedup();
        let mut rows: Vec<&str> = self.cells.keys().map(|(row, _)| row.as_str()).collect();
        rows.dedup();
        let mut lines = vec![
            format!("| {title} | {} | all |", columns.join(" | ")),
            format!("|---|{}--:|", "--:|".repeat(columns.len())),
        ];
        for row in rows {
            let count = |column: &&str| self.cells.get(&(row.to_owned(), (*column).to_owned())).copied();
            let counts: Vec<_> = columns.iter().map(count).collect();
            let cells: Vec<_> = counts.iter().map(|n| n.map(|n| n.to_string()).unwrap_or_default()).collect();
            lines.push(format!(
                "| {row} | {} | {} |",
                cells.join(" | "),
                counts.iter().flatten().sum::<usize>()
            ));
        }
        let sums: Vec<_> = columns.iter().map(|column| self.column(column).to_string()).collect();
        lines.push(format!("| all | {} | {} |", sums.join(" | "), self.total()));
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
