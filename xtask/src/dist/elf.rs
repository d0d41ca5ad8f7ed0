//! What an ELF file wants from the system that it runs on (gABI, chapters 4 and 5). 64 bits, little-endian: every
//! machine that this is built for.

use anyhow::{Context as _, Result, ensure};

const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NEEDED: u64 = 1;
const SHT_SYMTAB: u32 = 2;

/// The parts that make a file static or not.
#[derive(Debug)]
pub(super) struct Elf {
    /// The loader that the kernel is to start (`INTERP`).
    pub(super) interpreter: Option<String>,
    /// Shared libraries (`NEEDED`).
    pub(super) needed: usize,
    /// There is a symbol table: it is not stripped.
    pub(super) has_symbols: bool,
}

impl Elf {
    pub(super) fn parse(file: &[u8]) -> Result<Self> {
        ensure!(file.starts_with(b"\x7fELF\x02\x01"), "it is no 64-bit little-endian ELF file");
        let mut elf = Self { interpreter: None, needed: 0, has_symbols: false };
        let (offset, size, count) = (word(file, 32)?, half(file, 54)?, half(file, 56)?);
        for header in 0..count {
            let at = offset + size * header;
            let body = slice(file, word(file, at + 8)?, word(file, at + 32)?);
            match quad(file, at)? {
                PT_INTERP => {
                    let name = String::from_utf8_lossy(body?).trim_end_matches('\0').to_owned();
                    elf.interpreter = Some(name);
                }
                PT_DYNAMIC => {
                    let tags = body?.chunks_exact(16).map(|entry| word(entry, 0));
                    elf.needed += tags.filter(|tag| matches!(tag, Ok(DT_NEEDED))).count();
                }
                _ => {}
            }
        }
        let (offset, size, count) = (word(file, 40)?, half(file, 58)?, half(file, 60)?);
        for header in 0..count {
            elf.has_symbols |= quad(file, offset + size * header + 4)? == SHT_SYMTAB;
        }
        Ok(elf)
    }
}

fn slice(file: &[u8], at: u64, length: u64) -> Result<&[u8]> {
    let end = at.checked_add(length);
    end.and_then(|end| file.get(at as usize..end as usize)).context("the ELF file is cut off")
}

fn word(file: &[u8], at: u64) -> Result<u64> {
    Ok(u64::from_le_bytes(slice(file, at, 8)?.try_into()?))
}

fn quad(file: &[u8], at: u64) -> Result<u32> {
    Ok(u32::from_le_bytes(slice(file, at, 4)?.try_into()?))
}

fn half(file: &[u8], at: u64) -> Result<u64> {
    Ok(u16::from_le_bytes(slice(file, at, 2)?.try_into()?).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_like_this_one_wants_a_loader_and_libraries() {
        let elf = Elf::parse(&std::fs::read(std::env::current_exe().unwrap()).unwrap()).unwrap();
        assert!(elf.interpreter.as_ref().is_some_and(|name| name.contains("ld-")), "{elf:?}");
        assert!(elf.needed > 0 && elf.has_symbols, "{elf:?}");
    }

    #[test]
    fn what_is_none_or_cut_off_is_refused() {
        let whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        for part in [&b"#!/bin/sh\n"[..], b"", &whole[..40], &whole[..100]] {
            assert!(Elf::parse(part).is_err());
        }
    }
}
