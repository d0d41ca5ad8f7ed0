//! EXIF: a TIFF directory of tags. `ComfyUI` writes texts `prompt:{…}` as the camera's model and `workflow:{…}` as its
//! maker; other programs use other tags, or an object in the user's comment. So each text counts, whatever its tag.

use super::Texts;

/// The bytes before the directory in most files.
pub(super) const HEADER: &[u8] = b"Exif\0\0";

/// The most tags of a directory that are read.
const MAX_TAGS: u32 = 1024;

const DESCRIPTION: u16 = 0x010e;
const DIRECTORY: u16 = 0x8769;
const USER_COMMENT: u16 = 0x9286;

/// The types of texts: Pillow writes a comment as bytes.
const BYTES: u16 = 1;
const ASCII: u16 = 2;
const UNDEFINED: u16 = 7;

/// TIFF data with its byte order.
struct Tiff<'a> {
    bytes: &'a [u8],
    is_little: bool,
}

pub(super) fn read(bytes: &[u8], texts: &mut Texts) {
    let bytes = bytes.strip_prefix(HEADER).unwrap_or(bytes);
    let is_little = bytes.starts_with(b"II");
    if !is_little && !bytes.starts_with(b"MM") {
        return;
    }
    let tiff = Tiff { bytes, is_little };
    let Some(first) = tiff.long(4) else { return };
    if let Some(below) = tiff.directory(first, texts) {
        tiff.directory(below, texts);
    }
}

impl Tiff<'_> {
    /// Reads the texts of the directory at `at`. Returns the position of the EXIF directory.
    fn directory(&self, at: usize, texts: &mut Texts) -> Option<usize> {
        let count = u32::from(self.short(at)?).min(MAX_TAGS);
        let (mut below, mut has_comment) = (None, false);
        for entry in (0..count as usize).map(|index| at + 2 + 12 * index) {
            let Some((tag, kind)) = self.short(entry).zip(self.short(entry + 2)) else {
                texts.is_damaged = true;
                break;
            };
            let value = || {
                let length = self.long(entry + 4)?;
                let at = if length <= 4 { entry + 8 } else { self.long(entry + 8)? };
                self.bytes.get(at..at.checked_add(length)?)
            };
            match (tag, kind) {
                (DIRECTORY, _) => below = self.long(entry + 8),
                (_, BYTES | ASCII | UNDEFINED) => match value() {
                    // The first one, because each costs time.
                    Some(text) if tag == USER_COMMENT => {
                        if !std::mem::replace(&mut has_comment, true) {
                            texts.take_comment(&user_comment(text));
                        }
                    }
                    Some(text) if tag == DESCRIPTION => texts.take_comment(text),
                    Some(text) => drop(texts.take_labelled(text)),
                    None => texts.is_damaged = true,
                },
                _ => {}
            }
        }
        below
    }

    fn short(&self, at: usize) -> Option<u16> {
        let bytes: [u8; 2] = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.is_little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    fn long(&self, at: usize) -> Option<usize> {
        let bytes: [u8; 4] = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.is_little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) } as usize)
    }
}

/// A user's comment begins with eight bytes that name its encoding. Some writers leave them out.
fn user_comment(comment: &[u8]) -> Vec<u8> {
    if let Some(text) = comment.strip_prefix(b"UNICODE\0") {
        // The byte order is not always the directory's. A JSON text begins with a character below 256.
        let is_big = text.first() == Some(&0);
        let units = text.as_chunks::<2>().0.iter();
        let units: Vec<u16> = units
            .map(|&pair| if is_big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) })
            .collect();
        return String::from_utf16_lossy(&units).into_bytes();
    }
    comment.strip_prefix(b"ASCII\0\0\0").or(comment.strip_prefix(&[0; 8])).unwrap_or(comment).to_owned()
}
