//! The emulated processors, and what a program sees of them.
//!
//! Every aarch64 processor that qemu emulates has the instructions for SHA-256; that of a Raspberry Pi 4 has not. A
//! program learns of them from the kernel's auxiliary vector (getauxval(3)). So one processor's vector is edited before
//! the program's first instruction, through qemu's stub for a debugger.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};

use crate::real::RealFixture;
use crate::tools::scratch::Scratch;
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
    /// Writes a program that runs `binary` on this processor. The checks call it as they call `cargo xtask`.
    pub(super) fn program(&self, scratch: &Scratch, binary: &Utf8Path) -> Result<Utf8PathBuf> {
        let mut command = format!("exec qemu-aarch64-static -cpu {}", self.model);
        if !self.has_cryptography {
            // `$$`: two runs may be at work at once.
            let (this, socket) = (std::env::current_exe()?, format!("'{}'.$$", scratch.fresh("gdb")));
            let this = this.display();
            command = format!("'{this}' cross --hide-cryptography {socket} &\n{command} -g {socket}");
        }
        let text = format!(
            "#!/bin/sh\n# By `cargo lab cross`.\n\
             [ \"$1\" != fetch-models ] || {{ shift && set -- fetch \"$@\"; }}\n{command} '{binary}' \"$@\"\n"
        );
        let path = scratch.file("emulated", text)?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        Ok(path)
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
    let text = fs::read_to_string(&log).with_context(|| ended.to_string())?;
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
    let stream = wait::until("qemu's debugger stub", Duration::from_secs(20), connected)?;
    let mut stub = Stub(BufReader::new(stream));
    // After x0 to x30, each of 16 hexadecimal digits. The stack begins with argc, then come argv, a zero, the
    // environment, a zero, and the vector's pairs.
    let registers = stub.ask("g")?;
    let pointer = word(registers.get(31 * 16..).context("qemu sent too few registers")?)?;
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
struct Stub(BufReader<UnixStream>);

impl Stub {
    fn ask(&mut self, request: &str) -> Result<String> {
        let sum = request.bytes().fold(0, u8::wrapping_add);
        write!(self.0.get_mut(), "${request}#{sum:02x}")?;
        let mut answer = Vec::new();
        self.0.read_until(b'#', &mut answer)?;
        self.0.read_exact(&mut [0; 2])?;
        self.0.get_mut().write_all(b"+")?;
        let answer = String::from_utf8(answer)?;
        let (_, payload) = answer.rsplit_once('$').context("qemu sent no packet")?;
        Ok(payload.trim_end_matches('#').to_owned())
    }

    /// The word of the program's memory at an address.
    fn word(&mut self, address: u64) -> Result<u64> {
        word(&self.ask(&format!("m{address:x},8"))?)
    }
}

/// The first word of memory that the stub writes as digits, the lowest byte first.
fn word(digits: &str) -> Result<u64> {
    let digits = digits.get(..16).with_context(|| format!("qemu answered {digits:?}"))?;
    Ok(u64::from_str_radix(digits, 16)?.swap_bytes())
}
