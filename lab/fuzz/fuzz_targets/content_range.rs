//! `Content-Range`, alone and in a response's head: an accepted range lies within the request's range and the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use provision_core::byte_range::{ByteRange, ContentRange};
use provision_fuzz::{bounded, text};
use provision_http::fuzzing::validate;
use provision_http::{BodyKind, ExpectedBody};

/// The headers that are validated, for the lines of an input in turn.
const HEADERS: [&str; 5] =
    ["content-range", "content-length", "content-type", "content-encoding", "transfer-encoding"];

fuzz_target!(|data: &[u8]| bounded(data, check));

/// An input is four bytes (status, start, length, size) and then a header's value on each line.
fn check(data: &[u8]) {
    let Some((&[status, start, len, size], rest)) = data.split_first_chunk::<4>() else { return };
    let first = rest.split(|b| *b == b'\n').next().unwrap_or_default();
    alone(text(first));
    // Sizes near the end of 64 bits too, where sums overflow.
    let size = if size >= 0xf0 { u64::MAX - u64::from(size & 15) } else { u64::from(size) };
    let wanted = ByteRange::new(u64::from(start), u64::from(start).saturating_add(u64::from(len)).min(size));
    let range = (!wanted.is_empty()).then_some(wanted);
    let status = [206, 200, 416, 204][usize::from(status) % 4];
    let headers: Vec<(&str, &[u8])> = HEADERS.into_iter().zip(rest.split(|b| *b == b'\n')).collect();
    match validate(status, &headers, ExpectedBody { range, size, sha256: None }) {
        Ok(BodyKind::Part { range: taken, .. }) => {
            let wanted = range.expect("a part is accepted only for a range request");
            assert_eq!(status, 206);
            assert!(!taken.is_empty(), "{taken:?} has no byte");
            assert_eq!(taken.start, wanted.start, "the part starts elsewhere");
            assert!(taken.end <= wanted.end && taken.end <= size, "{taken:?} of {wanted:?}, size {size}");
            match ContentRange::parse(text(first)) {
                Some(ContentRange::Part { range, total }) => {
                    assert!(range.start == taken.start && range.end >= taken.end);
                    assert!(total.is_none_or(|total| total == size), "the part is of another file");
                }
                other => panic!("a part is accepted because of {other:?}"),
            }
        }
        Ok(BodyKind::Whole) if status == 206 => {
            assert_eq!(range, None, "a request for a range is answered with the whole file");
            let part = ContentRange::parse(text(first));
            let whole = ContentRange::Part { range: ByteRange::new(0, size), total: Some(size) };
            assert_eq!(part, Some(whole), "the 206 has not the whole file");
        }
        Ok(BodyKind::Whole) => assert_eq!(status, 200),
        Err(_) => {}
    }
}

fn alone(value: &str) {
    match ContentRange::parse(value) {
        Some(parsed @ ContentRange::Part { range, total }) => {
            assert!(!range.is_empty());
            let total = total.map_or("*".to_owned(), |total| total.to_string());
            let again = format!("bytes {}-{}/{total}", range.start, range.end - 1);
            assert_eq!(ContentRange::parse(&again), Some(parsed), "{again}");
            assert_eq!(range.to_header(), format!("bytes={}-{}", range.start, range.end - 1));
        }
        Some(parsed @ ContentRange::Unsatisfied { total }) => {
            assert_eq!(ContentRange::parse(&format!("bytes */{total}")), Some(parsed));
        }
        None => {}
    }
}
