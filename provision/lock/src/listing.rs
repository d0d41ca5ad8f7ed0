//! A lock's contents as rows: a table for people, JSON for programs.
//!
//! "Pinned" means that the download URL names the bytes for good; a "moving" URL may serve other bytes later, which the
//! digest check would then refuse. The shown source is the one that `lock update` follows, so a pinned URL often stands
//! beside a branch's name. Queries (invariant I6) and control characters, which a terminal would obey, are left out.

use std::fmt::Write as _;

use provision_core::byte_size::ByteSize;
use provision_core::digest::Sha256;
use provision_core::lockfile::Model;
use serde_json::{Value, json};

use crate::source::Source;
use provision_core::terminal_text::TerminalText;

/// One model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The path below the destination.
    pub path: String,
    /// The length in bytes.
    pub size: u64,
    /// The SHA-256 of the file.
    pub sha256: Sha256,
    /// The SHA-256 of its piece list, if it has one.
    pub pieces: Option<Sha256>,
    /// The groups.
    pub groups: Vec<String>,
    /// The source that `lock update` follows, or else the URL.
    pub source: String,
    /// True if the URL names the bytes for good.
    pub is_pinned: bool,
}

impl Row {
    /// The row of a model.
    pub fn of(model: &Model) -> Self {
        let fetched = Source::of_url(&model.sources[0]);
        // A text that is no source is shown as written, without a query.
        let followed = model.source.as_deref().map(|text| match text.parse::<Source>() {
            Ok(source) => source.to_string(),
            Err(_) => text.split('?').next().unwrap_or_default().to_owned(),
        });
        Self {
            path: model.path.to_string(),
            size: model.size,
            sha256: model.sha256,
            pieces: model.pieces,
            groups: model.groups.clone(),
            source: followed.unwrap_or_else(|| fetched.to_string()),
            is_pinned: fetched.is_pinned(),
        }
    }

    /// `pinned` or `moving`.
    pub fn state(&self) -> &'static str {
        if self.is_pinned { "pinned" } else { "moving" }
    }
}

/// The rows of the models, in their order.
pub fn rows(models: &[&Model]) -> Vec<Row> {
    models.iter().copied().map(Row::of).collect()
}

/// A table with a line per model and a total. If it is wider than the terminal's `columns`, a model takes three lines
/// instead, because wrapped lines are unreadable.
pub fn table(rows: &[Row], columns: Option<usize>) -> String {
    let cells = |row: &Row| {
        let groups = if row.groups.is_empty() { "-".to_owned() } else { row.groups.join(",") };
        [row.path.clone(), ByteSize(row.size).to_string(), groups, row.state().to_owned(), row.source.clone()]
            .map(|cell| TerminalText(cell).to_string())
    };
    let head = ["PATH", "SIZE", "GROUPS", "STATE", "SOURCE"].map(str::to_owned);
    let lines: Vec<[String; 5]> = std::iter::once(head).chain(rows.iter().map(cells)).collect();
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let [path, size, groups, state] = [0, 1, 2, 3].map(width);
    let longest = lines.iter().map(|line| line[4].chars().count()).max().unwrap_or_default();
    let is_too_wide = columns.is_some_and(|columns| path + size + groups + state + longest + 4 * 2 > columns);
    let mut table = String::new();
    for [a, b, c, d, e] in lines.iter().skip(usize::from(is_too_wide)) {
        let _ = if is_too_wide {
            let groups = if c == "-" { String::new() } else { format!(", groups {c}") };
            writeln!(table, "{a}\n  {b}, {d}{groups}\n  {e}")
        } else {
            writeln!(table, "{a:<path$}  {b:>size$}  {c:<groups$}  {d:<state$}  {e}")
        };
    }
    let total: u64 = rows.iter().map(|row| row.size).sum();
    let models = if rows.len() == 1 { "model" } else { "models" };
    let _ = writeln!(table, "{} {models}, {}", rows.len(), ByteSize(total));
    table
}

/// The same as JSON: `{"models": [{path, size, sha256, pieces, groups, source, pinned}], "bytes": total}`.
pub fn json(rows: &[Row]) -> Value {
    let models: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "path": row.path,
                "size": row.size,
                "sha256": row.sha256.to_string(),
                "pieces": row.pieces.map(|list| list.to_string()),
                "groups": row.groups,
                "source": row.source,
                "pinned": row.is_pinned,
            })
        })
        .collect();
    json!({ "models": models, "bytes": rows.iter().map(|row| row.size).sum::<u64>() })
}

#[cfg(test)]
mod tests {
    use provision_core::lockfile::Lockfile;

    use super::*;

    const COMMIT: &str = "1f12b17be14c89b026c51a91d67c32f84bb047bc";

    fn rows_of(models: &[(&str, &str, &str)]) -> Vec<Row> {
        let sha = Sha256::of(b"x");
        let model = |(path, url, more): &(&str, &str, &str)| {
            format!(
                "[[model]]\npath = \"{path}\"\nurl = \"{url}\"\nsize = 253806246\nsha256 = \"{sha}\"\n{more}\n"
            )
        };
        let text = format!("version = 1\n{}", models.iter().map(model).collect::<String>());
        let lock = Lockfile::parse("models.lock", &text).unwrap();
        rows(&lock.models().iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_table_marks_moving_urls_and_shows_no_query() {
        let pinned = format!("https://huggingface.co/o/r/resolve/{COMMIT}/x");
        let rows = rows_of(&[
            ("a", "https://huggingface.co/o/r/resolve/main/x", "groups = [\"g\", \"h\\u001b\"]"),
            ("b", &pinned, "source = \"hf:o/r@main/x\""),
            ("c", "https://h.example/x?sig=canary", ""),
            ("d", "https://h.example/x", "source = \"https://h.example/y?sig=canary\""),
            ("e", "https://h.example/x", "source = \"what?canary\""),
        ]);
        let wide = table(&rows, None);
        assert_eq!(wide, table(&rows, Some(80)));
        assert_eq!(
            wide,
            "PATH    SIZE  GROUPS  STATE   SOURCE\n\
             a     254 MB  g,h·    moving  hf:o/r@main/x\n\
             b     254 MB  -       pinned  hf:o/r@main/x\n\
             c     254 MB  -       moving  https://h.example/x?…\n\
             d     254 MB  -       moving  https://h.example/y?…\n\
             e     254 MB  -       moving  what\n\
             5 models, 1.27 GB\n"
        );
        let narrow = table(&rows[..2], Some(40));
        assert_eq!(
            narrow,
            "a\n  254 MB, moving, groups g,h·\n  hf:o/r@main/x\nb\n  254 MB, pinned\n  hf:o/r@main/x\n2 models, 508 MB\n"
        );
        let json = json(&rows);
        assert!(!json.to_string().contains("canary"), "{json}");
        assert_eq!(json["models"][1]["pinned"], true);
        assert_eq!(json["models"][0]["groups"][0], "g");
        assert_eq!(
            (&json["models"][0]["size"], &json["bytes"]),
            (&253_806_246.into(), &1_269_031_230.into())
        );
    }
}
