//! The emulated processors, and what a program sees of them.
//!
//! Every aarch64 processor that qemu emulates has the instructions for SHA-256; that of a Raspberry Pi 4 has not. A
//! program learns of them from the kernel's auxiliary vector (getauxval(3)). So one processor's vector is edited before
//! the program's first instruction, through qemu's stub for a debugger.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;

use crate::real::RealFixture;
use crate::tools::wait;
use crate::tools::wheel::MODEL;

/// A processor.
#[derive(Debug)]
pub(super) struct Processor {
    pub(super) name: &'static str,
    /// qemu's name of it.
    model: &'static str,
    /// The program sees the instructions for cryptography.
    has_cryptography: bool,
    /// Parts of the names of the checks that run on it.
    pub(super) checks: &'static [&'static str],
}

/// The digest of each file.
const DIGESTS: &str = "http: every file";
const KILLS: &str = "killed, terminated, interrupted";

pub(super) const PROCESSORS: &[Processor] = &[
    Processor {
        name: "max",
        model: "max",
        has_cryptography: true,
        checks: &[DIGESTS, "https with a CA", KILLS],
    },
    // Of the first version of the architecture, which has no instructions for atomic changes.
    Processor { name: "cortex-a57", model: "cortex-a57", has_cryptography: true, checks: &[DIGESTS] },
    Processor {
        name: "cortex-a57 without cryptography",
        model: "cortex-a57",
        has_cryptography: false,
        // Emulated, TLS without AES instructions takes minutes.
        checks: &[DIGESTS, KILLS],
    },
];

impl Processor {
    /// The shell command before the program and its arguments. `socket` is a path for it alone.
    pub(super) fn command(&self, socket: &Utf8Path) -> Result<String> {
        let this = std::env::current_exe()?;
        let model = self.model;
        if self.has_cryptography {
            return Ok(format!("exec qemu-aarch64-static -cpu {model}"));
        }
        // `$$`: two runs may be at work at once.
        let (this, socket) = (this.display(), format!("'{socket}'.$$"));
        let hide = format!("'{this}' cross --hide-cryptography {socket}");
        Ok(format!("{hide} &\nexec qemu-aarch64-static -cpu {model} -g {socket}"))
    }
}

/// Requires that a fetch hashes by the processor's instructions, or by others where it has none for the program.
/// `fixture` runs this processor.
pub(super) fn uses_sha256(fixture: &RealFixture, processor: &Processor) -> Result<()> {
    let mut lock = fixture.lock();
    lock.entries.retain(|entry| !entry.path.ends_with(MODEL));
    let log = fixture.scratch.fresh("instructions");
    // qemu writes each instruction that it translates.
    let run = fixture.fetch(&lock, &fixture.destination())?.env("QEMU_LOG", "in_asm");
    let ended = run.env("QEMU_LOG_FILENAME", &log).exits(0)?;
    let text = std::fs::read_to_string(&log).with_context(|| ended.to_string())?;
    ensure!(text.contains(" bl ") || text.contains("\tbl\t"), "qemu wrote no instructions to {log}");
    let found = text.contains("sha256h");
    ensure!(found == processor.has_cryptography, "instructions for SHA-256 ran: {found}");
    Ok(())
}

/// `AT_HWCAP` (getauxval(3)), and the bits of AES, PMULL, SHA1, SHA2, SHA3, SM3, SM4 and SHA512 in its value (Linux,
/// arch/arm64/include/uapi/asm/hwcap.h).
const AT_HWCAP: u64 = 16;
const CRYPTOGRAPHY: u64 = 0b1111 << 3 | 0b111 << 17 | 1 << 21;

/// Connects to the stub of a program that has not begun, clears the bits in its auxiliary vector, and lets it run.
pub(super) fn hide_cryptography(socket: &Utf8Path) -> Result<()> {
    let connected = || Ok(UnixStream::connect(socket).ok());
    let mut stub = Stub(wait::until("qemu's debugger stub", Duration::from_secs(20), connected)?);
    // After x0 to x30, each of 16 hexadecimal digits. The stack begins with argc, then come argv, a zero, the
    // environment, a zero, and the vector's pairs.
    let registers = stub.ask("g")?;
    let pointer = words(registers.get(31 * 16..32 * 16).context("qemu sent too few registers")?)?[0];
    let mut at = pointer + 8 * (stub.word(pointer)? + 2);
    while stub.word(at)? != 0 {
        at += 8;
    }
    at += 8;
    while stub.word(at)? != AT_HWCAP {
        ensure!(stub.word(at)? != 0, "the auxiliary vector has no AT_HWCAP");
        at += 16;
    }
    let value = (stub.word(at + 8)? & !CRYPTOGRAPHY).swap_bytes();
    ensure!(stub.ask(&format!("M{:x},8:{value:016x}", at + 8))? == "OK", "qemu did not write the vector");
    stub.ask("D").map(drop)
}

/// The remote protocol of gdb ("Remote Protocol", GDB's manual): `$PAYLOAD#SUM`, acknowledged by `+`.
struct Stub(UnixStream);

impl Stub {
    fn ask(&mut self, request: &str) -> Result<String> {
        let sum = request.bytes().fold(0, u8::wrapping_add);
        write!(self.0, "${request}#{sum:02x}")?;
        let mut answer = Vec::new();
        while !answer.contains(&b'#') {
            let mut byte = [0];
            self.0.read_exact(&mut byte)?;
            answer.extend(byte);
        }
        self.0.read_exact(&mut [0; 2])?;
        self.0.write_all(b"+")?;
        let answer = String::from_utf8(answer)?;
        let payload = answer.trim_end_matches('#').rsplit('$').next();
        Ok(payload.unwrap_or_default().to_owned())
    }

    /// The word of the program's memory at an address.
    fn word(&mut self, address: u64) -> Result<u64> {
        Ok(words(&self.ask(&format!("m{address:x},8"))?)?[0])
    }
}

/// The words of memory that the stub writes as digits, the lowest byte first.
fn words(digits: &str) -> Result<Vec<u64>> {
    let chunks = digits.as_bytes().chunks_exact(16);
    let word = |chunk: &[u8]| Ok(u64::from_str_radix(std::str::from_utf8(chunk)?, 16)?.swap_bytes());
    let words = chunks.map(word).collect::<Result<Vec<_>>>()?;
    ensure!(!words.is_empty(), "qemu answered {digits:?}");
    Ok(words)
}
