//! PNG: chunks of length, kind, content and checksum. The texts may be before or after the picture's data.

use std::io;

use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

use super::{MAX_TEXT, Parts, Texts, decoded, exif};

pub(super) fn read(file: &mut Parts<'_>, texts: &mut Texts) -> io::Result<()> {
    let mut at = 8;
    while let Some([a, b, c, d, kind @ ..]) = file.head::<8>(at)? {
        let length = u64::from(u32::from_be_bytes([a, b, c, d]));
        let content = at + 8;
        if matches!(&kind, b"tEXt" | b"zTXt" | b"iTXt" | b"eXIf") {
            // A chunk that is too large is skipped; one that leads beyond the file is the last one.
            let bytes = file.metadata(content, length, texts)?;
            if &kind == b"eXIf" {
                exif::read(&bytes, texts);
            } else {
                let _ = text(kind, &bytes, texts);
            }
        }
        if &kind == b"IEND" {
            break;
        }
        at = content + length + 4;
    }
    Ok(())
}

/// Reads a chunk of text: the key, a zero, and a rest in the form of its kind. `None` if it has another form.
fn text(kind: [u8; 4], chunk: &[u8], texts: &mut Texts) -> Option<()> {
    let (key, rest) = split(chunk)?;
    let key = str::from_utf8(key).ok()?;
    let (is_packed, content) = match &kind {
        b"tEXt" => (false, rest),
        b"zTXt" => (true, rest.strip_prefix(&[0])?),
        // Flag and method of the compression, the language, and the translated key.
        _ => {
            let (&[flag, _method], rest) = rest.split_first_chunk()?;
            (flag == 1, split(split(rest)?.1)?.1)
        }
    };
    texts.take(key, || {
        if !is_packed {
            return Some(decoded(content));
        }
        let text = decompress_to_vec_zlib_with_limit(content, MAX_TEXT as usize).ok()?;
        Some(decoded(&text))
    });
    Some(())
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == 0)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}
