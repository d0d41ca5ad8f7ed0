//! Lists with one URL a line and an optional path in a second column (pget's `multifile` always has one), or a name or
//! path after `|`.
//!
//! After white space, a bare name is a whole path, as pget has it. After `|` it is a name, and the source says the
//! folder.

use super::{Format, ImportedModel, LineProblem, List, ListPosition, UnusedReason, lines};
use crate::source::Source;

pub(super) fn read(name: &str, text: &str, format: Format) -> List {
    let mut list = List::new(format);
    for (number, line) in lines(text) {
        let place = ListPosition::line(name, number);
        // A URL contains no white space, so `#` after white space begins a comment.
        let is_barred = line.contains('|');
        let columns: Vec<&str> = if is_barred {
            let end = line.find(" #").unwrap_or(line.len());
            line[..end].split('|').map(str::trim).collect()
        } else {
            line.split_whitespace().take_while(|column| !column.starts_with('#')).collect()
        };
        let (address, destination) = match columns[..] {
            [address] | [address, ""] => (address, None),
            [address, destination] if !destination.contains("://") => (address, Some(destination)),
            _ => {
                list.leave_out_line(LineProblem::Columns { found: columns.len() }, &place);
                continue;
            }
        };
        let source: Source = match address.parse() {
            Ok(source) => source,
            Err(error) => {
                list.leave_out(destination.unwrap_or("a URL"), UnusedReason::Source(error), &place);
                continue;
            }
        };
        let directory = destination.filter(|path| path.ends_with('/'));
        let path = destination.filter(|path| !path.ends_with('/'));
        let last = path.and_then(|path| path.rsplit('/').next()).map(str::to_owned);
        let path = path.filter(|path| !is_barred || path.contains('/'));
        list.models.push(ImportedModel {
            path: path.map(str::to_owned),
            directory: directory.map(str::to_owned),
            ..ImportedModel::new(last, source, place)
        });
    }
    list
}
