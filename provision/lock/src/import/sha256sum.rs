//! `sha256sum`'s output: digest, a space, a mode character (space for text, `*` for binary), name. A line that begins
//! with a backslash has escapes in its name. `--tag` and other systems' `sha256` write `SHA256 (NAME) = DIGEST`.

use provision_core::digest::Sha256;

use super::{Format, LineProblem, List, ListPosition, Sum, digest, lines};

pub(super) fn read(name: &str, text: &str) -> List {
    let mut list = List::new(Format::Sha256sum);
    for (number, text) in lines(text) {
        let place = ListPosition::line(name, number);
        match line(text) {
            Ok((sha256, name)) => list.sums.push(Sum { name, sha256, place }),
            Err(problem) => list.leave_out_line(problem, &place),
        }
    }
    list
}

/// Parses one line.
pub(super) fn line(line: &str) -> Result<(Sha256, String), LineProblem> {
    let (escaped, line) = match line.strip_prefix('\\') {
        Some(line) => (true, line),
        None => (false, line),
    };
    let (hex, name) = if let Some(rest) = line.strip_prefix("SHA256 (") {
        let (name, hex) = rest.rsplit_once(") = ").ok_or(LineProblem::Sum)?;
        (hex, name)
    } else {
        let (hex, rest) = line.split_once(' ').ok_or(LineProblem::Sum)?;
        let name = rest.strip_prefix([' ', '*']).ok_or(LineProblem::Sum)?;
        (hex, name)
    };
    if name.is_empty() || !hex.bytes().all(|c| c.is_ascii_hexdigit()) {
        return Err(LineProblem::Sum);
    }
    let sha256 = digest(hex).map_err(LineProblem::Digest)?;
    Ok((sha256, if escaped { unescape(name) } else { name.to_owned() }))
}

fn unescape(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    let mut characters = name.chars();
    while let Some(c) = characters.next() {
        match (c, c == '\\') {
            (_, true) => match characters.next() {
                Some('n') => plain.push('\n'),
                Some('r') => plain.push('\r'),
                Some(other) => plain.push(other),
                None => plain.push('\\'),
            },
            (c, false) => plain.push(c),
        }
    }
    plain
}
