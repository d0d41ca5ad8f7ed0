//! An aria2 input file (aria2c(1), "Input File"): each file is a line of tab-separated addresses, followed by indented
//! lines with options.

use super::{Format, ImportedModel, LineProblem, List, ListPosition, UnusedReason, digest, lines};
use crate::source::Source;

/// Options that change the request and may contain secrets.
const OF_THE_REQUEST: [&str; 7] =
    ["header", "http-user", "http-passwd", "ftp-user", "ftp-passwd", "load-cookies", "referer"];

#[derive(Default)]
struct Download<'a> {
    place: Option<ListPosition>,
    addresses: Vec<&'a str>,
    out: Option<&'a str>,
    dir: Option<&'a str>,
    checksum: Option<(&'a str, ListPosition)>,
    /// One of the options cannot be read, so the meaning is unknown.
    is_broken: bool,
}

pub(super) fn read(name: &str, text: &str) -> List {
    let mut list = List::new(Format::Aria2);
    let mut download = Download::default();
    for (number, line) in lines(text) {
        let place = ListPosition::line(name, number);
        if !line.starts_with([' ', '\t']) {
            finish(&mut list, std::mem::take(&mut download));
            let addresses = line.split('\t').map(str::trim).filter(|part| !part.is_empty()).collect();
            download = Download { place: Some(place), addresses, ..Download::default() };
            continue;
        }
        if download.place.is_none() {
            list.leave_out_line(LineProblem::OptionFirst, &place);
            continue;
        }
        let Some((key, value)) = line.trim_start().split_once('=') else {
            list.leave_out_line(LineProblem::NoOption, &place);
            download.is_broken = true;
            continue;
        };
        match (key.trim(), value.trim()) {
            ("out", value) => download.out = Some(value),
            ("dir", value) => download.dir = Some(value),
            ("checksum", value) => download.checksum = Some((value, place)),
            (key, _) if OF_THE_REQUEST.contains(&key) => list.leave_out(key, UnusedReason::Option, &place),
            _ => {}
        }
    }
    finish(&mut list, download);
    list
}

fn finish(list: &mut List, download: Download<'_>) {
    let Download { place: Some(place), addresses, out, dir, checksum, is_broken: false } = download else {
        return;
    };
    let (mut sources, mut errors) = (Vec::new(), Vec::new());
    for address in addresses {
        match address.parse::<Source>() {
            Ok(source) => sources.push(source),
            Err(error) => errors.push(error),
        }
    }
    for error in errors {
        let why = if sources.is_empty() { UnusedReason::Source(error) } else { UnusedReason::Mirror(error) };
        list.leave_out(out.unwrap_or("a URL"), why, &place);
    }
    let sha256 = match checksum {
        None => None,
        Some((checksum, at)) => {
            let (kind, hex) = checksum.split_once('=').unwrap_or(("", checksum));
            if kind.eq_ignore_ascii_case("sha-256") {
                match digest(hex) {
                    Ok(sha256) => Some(sha256),
                    Err(error) => {
                        let why = UnusedReason::Line(LineProblem::Checksum(error));
                        return list.leave_out(out.unwrap_or("a file"), why, &at);
                    }
                }
            } else {
                let why = UnusedReason::HashKind { kind: kind.to_owned() };
                list.leave_out(out.unwrap_or("a checksum"), why, &at);
                None
            }
        }
    };
    let mut sources = sources.into_iter();
    let Some(source) = sources.next() else { return };
    // A path in `out` counts only without `dir`; then it is the whole path.
    let path = out.filter(|out| dir.is_none() && out.contains('/')).map(str::to_owned);
    list.models.push(ImportedModel {
        mirrors: sources.collect(),
        path,
        directory: dir.map(str::to_owned),
        sha256,
        ..ImportedModel::new(out.map(str::to_owned), source, place)
    });
}
