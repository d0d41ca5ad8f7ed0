//! Workflows inside pictures and videos: `ComfyUI` writes the workflow and the prompt (its API format) into the files
//! that it saves.
//!
//! | file | place |
//! |---|---|
//! | PNG | chunks `tEXt`, `zTXt`, `iTXt` with the keys `workflow` and `prompt`; EXIF |
//! | WebP, JPEG, AVIF | EXIF: texts `workflow:{…}` and `prompt:{…}`, or a comment that is an object with these keys |
//! | MP4, MOV | metadata items `workflow`, `prompt`, or a comment as above |
//! | `WebM`, MKV | the same as tags |
//!
//! A file is told by its first bytes, never by its name. Only metadata is read, and the rest is skipped, so the size of
//! a video does not matter. The files come from strangers: texts, expansion, parts and depth are bounded, and a length
//! that leads beyond the file ends the reading.

mod exif;
mod jpeg;
mod matroska;
mod mp4;
mod png;
mod webp;

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

use serde_json::Value;

/// The largest text and the largest block of metadata, in bytes.
const MAX_TEXT: u64 = 16 << 20;

/// The most parts of a file that are looked at. A PNG of 512 MB has 65,536 in the customary size.
const MAX_PARTS: u32 = 1 << 17;

/// The most texts that are tried although they cannot be unpacked: each may expand to [`MAX_TEXT`] first.
const MAX_FAILED: u8 = 4;

/// A file that can be read at any position.
pub trait ReadSeek: Read + Seek {}

impl<T: Read + Seek> ReadSeek for T {}

/// The kind of a picture or video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// PNG.
    Png,
    /// WebP.
    WebP,
    /// JPEG.
    Jpeg,
    /// AVIF.
    Avif,
    /// MP4 or MOV.
    Mp4,
    /// `WebM` or Matroska.
    Matroska,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Png => "PNG picture",
            Self::WebP => "WebP picture",
            Self::Jpeg => "JPEG picture",
            Self::Avif => "AVIF picture",
            Self::Mp4 => "MP4 video",
            Self::Matroska => "WebM video",
        })
    }
}

/// The texts of a file that are workflows by their names.
#[derive(Debug, Default)]
pub(super) struct Texts {
    /// The workflow.
    pub(super) workflow: Option<String>,
    /// The same in API format.
    pub(super) prompt: Option<String>,
    /// Some metadata is cut off, too large, or cannot be unpacked.
    pub(super) is_damaged: bool,
    /// A comment was read as an object.
    has_object: bool,
    /// The texts that could not be unpacked.
    failed: u8,
}

/// The kind and the texts of the picture or video `file`; `None` if it is none.
///
/// # Errors
/// The file cannot be read.
pub(super) fn texts(file: &mut dyn ReadSeek) -> io::Result<Option<(Kind, Texts)>> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut parts = Parts { file, length, left: MAX_PARTS };
    let Some(kind) = kind(&parts.start()?) else { return Ok(None) };
    let mut texts = Texts::default();
    match kind {
        Kind::Png => png::read(&mut parts, &mut texts)?,
        Kind::WebP => webp::read(&mut parts, &mut texts)?,
        Kind::Jpeg => jpeg::read(&mut parts, &mut texts)?,
        Kind::Avif => mp4::picture(&mut parts, &mut texts)?,
        Kind::Mp4 => mp4::video(&mut parts, &mut texts)?,
        Kind::Matroska => matroska::read(&mut parts, &mut texts)?,
    }
    Ok(Some((kind, texts)))
}

fn kind(start: &[u8]) -> Option<Kind> {
    Some(match start {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Kind::Png,
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Kind::WebP,
        [0xff, 0xd8, 0xff, ..] => Kind::Jpeg,
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', b'f' | b's', ..] => Kind::Avif,
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => Kind::Mp4,
        [0x1a, 0x45, 0xdf, 0xa3, ..] => Kind::Matroska,
        _ => return None,
    })
}

impl Texts {
    /// Keeps `json` if `key` names a workflow or prompt. The first of each counts.
    fn take(&mut self, key: &str, json: impl FnOnce() -> Option<String>) -> bool {
        let slot = if key.eq_ignore_ascii_case("workflow") {
            &mut self.workflow
        } else if key.eq_ignore_ascii_case("prompt") {
            &mut self.prompt
        } else {
            return false;
        };
        if slot.is_none() && self.failed < MAX_FAILED {
            *slot = json();
            self.is_damaged |= slot.is_none();
            self.failed += u8::from(slot.is_none());
        }
        true
    }

    /// Keeps a text of the form `workflow:{…}`.
    fn take_labelled(&mut self, text: &[u8]) -> bool {
        let Some(at) = text.iter().take(16).position(|byte| *byte == b':') else { return false };
        let key = str::from_utf8(&text[..at]).unwrap_or_default();
        self.take(key.trim(), || Some(decoded(&text[at + 1..])))
    }

    /// Keeps a comment: `workflow:{…}`, or an object with workflow and prompt, as objects or as texts. Only the first
    /// object is read, because each costs time.
    fn take_comment(&mut self, text: &[u8]) {
        if self.take_labelled(text) || self.has_object || !text.trim_ascii_start().starts_with(b"{") {
            return;
        }
        self.has_object = true;
        let Ok(Value::Object(object)) = super::json_value(&decoded(text)) else { return };
        for (key, value) in object {
            self.take(&key, || match &value {
                Value::String(text) => Some(text.clone()),
                Value::Object(_) => Some(value.to_string()),
                _ => None,
            });
        }
    }
}

/// UTF-8, or else Latin-1; both as writers in fact write it. Zeros at the end are padding.
fn decoded(text: &[u8]) -> String {
    let end = text.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    let text = &text[..end];
    str::from_utf8(text).map_or_else(|_| text.iter().map(|byte| char::from(*byte)).collect(), str::to_owned)
}

/// A file whose parts are read one by one. Each look counts, so a file of endless tiny parts ends.
struct Parts<'a> {
    file: &'a mut dyn ReadSeek,
    length: u64,
    left: u32,
}

impl Parts<'_> {
    fn start(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.read(0, self.length.min(16))?.unwrap_or_default())
    }

    /// The bytes at `at`; `None` if they are not all in the file, or too many.
    fn read(&mut self, at: u64, length: u64) -> io::Result<Option<Vec<u8>>> {
        let is_inside = at.checked_add(length).is_some_and(|end| end <= self.length);
        if !is_inside || length > MAX_TEXT || self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let mut bytes = vec![0; length as usize];
        self.file.seek(SeekFrom::Start(at))?;
        self.file.read_exact(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// The metadata at `at`; nothing if it is cut off or too large, which the texts then say.
    fn metadata(&mut self, at: u64, length: u64, texts: &mut Texts) -> io::Result<Vec<u8>> {
        let bytes = self.read(at, length)?;
        texts.is_damaged |= bytes.is_none();
        Ok(bytes.unwrap_or_default())
    }

    /// The `N` bytes at `at`.
    fn head<const N: usize>(&mut self, at: u64) -> io::Result<Option<[u8; N]>> {
        Ok(self.read(at, N as u64)?.and_then(|bytes| bytes.try_into().ok()))
    }
}

#[cfg(test)]
mod tests;
