//! JPEG: segments up to the picture's data. `APP1` segments may have EXIF.

use std::io;

use super::{Parts, Texts, exif};

const START_OF_DATA: u8 = 0xda;
const END: u8 = 0xd9;
const APP1: u8 = 0xe1;

pub(super) fn read(file: &mut Parts<'_>, texts: &mut Texts) -> io::Result<()> {
    let mut at = 2;
    while let Some([0xff, marker]) = file.head::<2>(at)? {
        match marker {
            START_OF_DATA | END => break,
            // Padding.
            0xff => at += 1,
            // Markers without content.
            0x01 | 0xd0..=0xd8 => at += 2,
            _ => {
                let Some(length) = file.head::<2>(at + 2)? else { break };
                let length = u64::from(u16::from_be_bytes(length));
                if marker == APP1 {
                    let bytes = file.metadata(at + 4, length.saturating_sub(2), texts)?;
                    if bytes.starts_with(exif::HEADER) {
                        exif::read(&bytes, texts);
                    }
                }
                at += 2 + length;
            }
        }
    }
    Ok(())
}
