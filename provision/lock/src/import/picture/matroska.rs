//! `WebM` and MKV: nested elements of identifier, length and content. `Segment/Tags/Tag/SimpleTag` has a name and a
//! text.
//!
//! The tags precede the frames in files of `ComfyUI` and `FFmpeg`. A cluster of unknown length ends the search: it is a
//! stream, and nothing but frames follows.

use std::io;

use super::{Parts, Texts, decoded};

const SEGMENT: u64 = 0x1853_8067;
const TAGS: u64 = 0x1254_c367;
const TAG: u64 = 0x7373;
const SIMPLE_TAG: u64 = 0x67c8;
const TAG_NAME: u64 = 0x45a3;
const TAG_STRING: u64 = 0x4487;

/// An element's head: identifier, length of the content (`None`: unknown), and its own length.
struct Head {
    id: u64,
    length: Option<u64>,
    size: usize,
}

pub(super) fn read(file: &mut Parts<'_>, texts: &mut Texts) -> io::Result<()> {
    let mut at = 0;
    loop {
        // Shorter at the end of the file.
        let length = file.length.saturating_sub(at).min(12);
        let Some(head) = file.read(at, length)?.as_deref().and_then(head) else { break };
        let content = at + head.size as u64;
        if head.id == SEGMENT {
            at = content;
            continue;
        }
        let Some(length) = head.length else { break };
        if head.id == TAGS {
            tags(&file.metadata(content, length, texts)?, texts);
        }
        at = content.saturating_add(length);
    }
    Ok(())
}

fn tags(bytes: &[u8], texts: &mut Texts) {
    for tag in elements(bytes).filter_map(|(id, content)| (id == TAG).then_some(content)) {
        for simple in elements(tag).filter_map(|(id, content)| (id == SIMPLE_TAG).then_some(content)) {
            let of = |wanted| elements(simple).find(|(id, _)| *id == wanted).map(|(_, content)| content);
            let (Some(name), Some(text)) = (of(TAG_NAME), of(TAG_STRING)) else { continue };
            let name = decoded(name);
            if name.eq_ignore_ascii_case("comment") {
                texts.take_comment(text);
            } else {
                texts.take(&name, || Some(decoded(text)));
            }
        }
    }
}

/// The elements of `bytes`, up to the first one that leads beyond them.
fn elements(mut bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    std::iter::from_fn(move || {
        let head = head(bytes)?;
        let end = head.size.checked_add(usize::try_from(head.length?).ok()?)?;
        let content = bytes.get(head.size..end)?;
        bytes = &bytes[end..];
        Some((head.id, content))
    })
}

/// The leading zeros of a number's first byte say how many bytes follow. An identifier keeps its marker bit, a length
/// does not.
fn head(bytes: &[u8]) -> Option<Head> {
    let number = |at: usize| {
        let first = *bytes.get(at)?;
        let size = first.leading_zeros() as usize + 1;
        let all = bytes.get(at..at.checked_add(size)?).filter(|_| size <= 8)?;
        Some((all.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)), size))
    };
    let (id, of_id) = number(0)?;
    let (marked, of_length) = number(of_id)?;
    let length = marked & ((1 << (7 * of_length)) - 1);
    let is_unknown = length == (1 << (7 * of_length)) - 1;
    Some(Head { id, length: (!is_unknown).then_some(length), size: of_id + of_length })
}
