//! Lists of addresses, one a line, with or without the path in a second column (pget's `multifile` has it always).

use super::{Format, LineProblem, List, Place, Wanted, Why, lines};
use crate::source::Source;

pub(super) fn read(name: &str, text: &str, format: Format) -> List {
    let mut list = List::new(format);
    for (number, line) in lines(text) {
        let place = Place::line(name, number);
        // An address has no white space, so a `#` behind some is a comment.
        let columns: Vec<&str> =
            line.split_whitespace().take_while(|column| !column.starts_with('#')).collect();
        let (address, destination) = match columns[..] {
            [address] => (address, None),
            [address, destination] if !destination.contains("://") => (address, Some(destination)),
            _ => {
                list.leave_out_line(LineProblem::Columns { found: columns.len() }, &place);
                continue;
            }
        };
        let source: Source = match address.parse() {
            Ok(source) => source,
            Err(error) => {
                list.leave_out(destination.unwrap_or("an address"), Why::Source(error), &place);
                continue;
            }
        };
        let directory = destination.filter(|path| path.ends_with('/'));
        let path = destination.filter(|path| !path.ends_with('/'));
        let last = path.and_then(|path| path.rsplit('/').next()).map(str::to_owned);
        list.wanted.push(Wanted {
            name: last.or_else(|| source.file_name()).unwrap_or_default(),
            source,
            mirrors: Vec::new(),
            path: path.map(str::to_owned),
            directory: directory.map(str::to_owned),
            size: None,
            sha256: None,
            place,
        });
    }
    list
}
