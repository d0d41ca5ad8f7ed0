//! WebP: a RIFF file, whose chunk `EXIF` has the texts.

use std::io;

use super::{Parts, Texts, exif};

pub(super) fn read(file: &mut Parts<'_>, texts: &mut Texts) -> io::Result<()> {
    let mut at = 12;
    while let Some([kind @ .., a, b, c, d]) = file.head::<8>(at)? {
        let length = u64::from(u32::from_le_bytes([a, b, c, d]));
        let content = at + 8;
        if &kind == b"EXIF" {
            exif::read(&file.metadata(content, length, texts)?, texts);
        }
        // A chunk of odd length has a byte of padding.
        at = content + length + length % 2;
    }
    Ok(())
}
