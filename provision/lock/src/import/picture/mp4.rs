//! MP4, MOV and AVIF: boxes of length, kind and content, some of which contain boxes.
//!
//! A video's metadata is in `moov/udta/meta` (MOV: `moov/meta`). `keys` has the names, and each item of `ilst` has the
//! number of its name; items with a fixed kind, such as the comment, need no name. A picture's EXIF is an item, whose
//! position `iloc` gives.

use std::io;

use super::{Parts, Texts, exif};

const COMMENT: &[u8] = b"\xa9cmt";

/// The content of a box, as positions in the file.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u64,
    end: u64,
}

/// The boxes in `span`, in order. A box that leads beyond it is the last one and ends there.
fn inside(file: &mut Parts<'_>, span: Span) -> io::Result<Vec<([u8; 4], Span)>> {
    let mut boxes = Vec::new();
    let mut at = span.start;
    while at.saturating_add(8) <= span.end
        && let Some([a, b, c, d, kind @ ..]) = file.head::<8>(at)?
    {
        let (head, length) = match u32::from_be_bytes([a, b, c, d]) {
            0 => (8, span.end - at),
            1 => match file.head::<8>(at + 8)? {
                Some(length) => (16, u64::from_be_bytes(length)),
                None => break,
            },
            length => (8, u64::from(length)),
        };
        if length < head {
            break;
        }
        let end = at.saturating_add(length).min(span.end);
        boxes.push((kind, Span { start: at + head, end }));
        at = end;
    }
    Ok(boxes)
}

fn find(file: &mut Parts<'_>, span: Span, kind: [u8; 4]) -> io::Result<Option<Span>> {
    Ok(inside(file, span)?.into_iter().find(|(found, _)| *found == kind).map(|(_, span)| span))
}

fn content(file: &mut Parts<'_>, span: Span, texts: &mut Texts) -> io::Result<Vec<u8>> {
    file.metadata(span.start, span.end.saturating_sub(span.start), texts)
}

fn whole(file: &Parts<'_>) -> Span {
    Span { start: 0, end: file.length }
}

pub(super) fn video(file: &mut Parts<'_>, texts: &mut Texts) -> io::Result<()> {
    let Some(movie) = find(file, whole(file), *b"moov")? else {
        texts.is_damaged = true;
        return Ok(());
    };
    let user = find(file, movie, *b"udta")?;
    for parent in user.into_iter().chain([movie]) {
        if let Some(meta) = find(file, parent, *b"meta")? {
            items(file, meta, texts)?;
        }
    }
    Ok(())
}

/// Reads the metadata items of `meta`.
fn items(file: &mut Parts<'_>, mut meta: Span, texts: &mut Texts) -> io::Result<()> {
    // MP4 has a version before the boxes, MOV has not.
    if !matches!(file.head::<8>(meta.start)?, Some([_, _, _, _, b'h', b'd', b'l', b'r'])) {
        meta.start += 4;
    }
    let names = match find(file, meta, *b"keys")? {
        Some(keys) => names(&content(file, keys, texts)?),
        None => Vec::new(),
    };
    let Some(list) = find(file, meta, *b"ilst")? else { return Ok(()) };
    for (kind, item) in inside(file, list)? {
        let index = (u32::from_be_bytes(kind) as usize).checked_sub(1);
        let name = index.and_then(|index| names.get(index)).map(String::as_str);
        let is_comment = kind == COMMENT || name.is_some_and(|name| name.eq_ignore_ascii_case("comment"));
        let is_named = name.is_some_and(|name| ["workflow", "prompt"].contains(&&*name.to_ascii_lowercase()));
        if !is_comment && !is_named {
            continue;
        }
        let Some(data) = find(file, item, *b"data")? else { continue };
        let data = content(file, data, texts)?;
        // The type and the language.
        let Some(text) = data.get(8..) else { continue };
        if is_comment {
            texts.take_comment(text);
        } else {
            texts.take(name.unwrap_or_default(), || Some(super::decoded(text)));
        }
    }
    Ok(())
}

/// The names of `keys`: a version, their number, and for each its length, a namespace and the name.
fn names(keys: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = keys.get(8..).unwrap_or_default();
    while let Some(length) = rest.first_chunk().map(|length| u32::from_be_bytes(*length) as usize) {
        let Some(name) = rest.get(8..length) else { break };
        names.push(String::from_utf8_lossy(name).into_owned());
        rest = &rest[length..];
    }
    names
}

pub(super) fn picture(file: &mut Parts<'_>, texts: &mut Texts) -> io::Result<()> {
    let Some(mut meta) = find(file, whole(file), *b"meta")? else { return Ok(()) };
    meta.start += 4;
    let (Some(items), Some(places)) = (find(file, meta, *b"iinf")?, find(file, meta, *b"iloc")?) else {
        return Ok(());
    };
    // A version and the number of items precede them.
    let version = file.head::<1>(items.start)?;
    let head = if version == Some([0]) { 6 } else { 8 };
    let items = Span { start: items.start + head, ..items };
    let mut exif_item = None;
    for (_, info) in inside(file, items)? {
        if let Some([2, _, _, _, high, low, _, _, b'E', b'x', b'i', b'f']) = file.head::<12>(info.start)? {
            exif_item = Some(u16::from_be_bytes([high, low]));
        }
    }
    let Some(item) = exif_item else { return Ok(()) };
    let places = content(file, places, texts)?;
    let Some((at, length)) = place_of(&places, item) else {
        texts.is_damaged = true;
        return Ok(());
    };
    let bytes = file.metadata(at, length, texts)?;
    // The position of the directory precedes it.
    exif::read(bytes.get(4..).unwrap_or_default(), texts);
    Ok(())
}

/// The position and length of `item`'s first extent, from the content of an `iloc` of version 0 or 1.
fn place_of(places: &[u8], item: u16) -> Option<(u64, u64)> {
    let mut rest = places;
    let mut number = |size: usize| {
        let bytes = rest.split_off(..size)?;
        Some(bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)))
    };
    let version = number(4)? >> 24;
    let sizes = number(2)? as usize;
    let size = |shift: usize| (sizes >> shift & 15).min(8);
    let (of_offset, of_length, of_base) = (size(12), size(8), size(4));
    let of_index = if version == 1 { size(0) } else { 0 };
    // Without them, extents would have no bytes, and no end.
    if version > 1 || of_offset == 0 || of_length == 0 {
        return None;
    }
    for _ in 0..number(2)? {
        let id = number(2)?;
        let method = if version == 1 { number(2)? & 15 } else { 0 };
        number(2)?;
        let base = number(of_base)?;
        for extent in 0..number(2)? {
            number(of_index)?;
            let (offset, length) = (number(of_offset)?, number(of_length)?);
            // Another method counts from another box.
            if id == u64::from(item) && extent == 0 {
                return (method == 0).then_some((base.checked_add(offset)?, length));
            }
        }
    }
    None
}
