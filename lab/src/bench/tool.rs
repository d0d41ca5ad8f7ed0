//! The programs that the benchmark compares: how each is found and how it is told what to fetch.
//!
//! Each peer gets the options that suit the job best, and as many connections as ours has by default. The reasons stand
//! with the options.

use std::fs;
use std::process::Command;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use clap::ValueEnum;
use serde::Serialize;
use xshell::{Shell, cmd};

use super::file_set::{BenchFile, FileSet};
use super::origin::Origin;
use crate::project;
use crate::tools::lock_text;

/// A program that fetches files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tool {
    /// This program, in this version or in that of `--against`.
    #[value(skip)]
    Ours,
    /// aria2c
    Aria2c,
    /// curl -Z
    Curl,
    /// The Hugging Face Hub's accelerator, called by a small script
    HfTransfer,
}

impl Tool {
    /// The verifications that are measured. Ours cannot be told not to verify; curl and hf-transfer cannot verify.
    pub(super) fn checks(self) -> &'static [Check] {
        match self {
            Self::Ours => &[Check::Itself],
            Self::Aria2c => &[Check::Itself, Check::None],
            Self::Curl | Self::HfTransfer => &[Check::Afterwards, Check::None],
        }
    }
}

/// The names of this program in a report: that of this version, and of the one of `--against`.
pub(super) const OURS: &str = "ours";
pub(super) const BEFORE: &str = "before";
/// Ours with a lock that names no piece list.
pub(super) const LISTLESS: &str = "without a list";

/// The verification that a row's cost includes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Check {
    /// By the tool, while it fetches or after.
    #[default]
    Itself,
    /// By `sha256sum` on all cores, after the tool.
    Afterwards,
    /// None: the tool does less than ours.
    None,
}

/// Each peer with its name, and the shell commands that print its version and that install it.
pub(super) const PEERS: [(Tool, &str, &str, &str); 3] = [
    (Tool::Aria2c, "aria2c", "aria2c --version", "apt-get install aria2"),
    (Tool::Curl, "curl", "curl --version", "apt-get install curl"),
    (
        Tool::HfTransfer,
        "hf-transfer",
        "PYTHONPATH=target/bench/peers python3 -c \
         'import hf_transfer, importlib.metadata as m; print(m.version(\"hf_transfer\"))'",
        "pip install --no-deps --target target/bench/peers hf_transfer",
    ),
];

/// Files to fetch, their origin and their destination.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transfer<'a> {
    pub(super) set: &'a FileSet,
    pub(super) origin: &'a Origin,
    /// Every file goes to its path below this directory.
    pub(super) destination: &'a Utf8Path,
    /// The number of connections that ours may use, instead of its default.
    pub(super) connections: Option<u16>,
    /// The run is killed, and another one resumes it.
    pub(super) keeps_progress: bool,
    /// The folder for lists and scripts.
    pub(super) lists: &'a Utf8Path,
}

/// A tool that is installed here.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) tool: Tool,
    pub(super) name: &'static str,
    pub(super) path: Utf8PathBuf,
    pub(super) version: String,
}

impl Program {
    /// Writes what the tool reads, and returns its command. With `verify` it is told the digests, if it takes any.
    pub(super) fn download(&self, sh: &Shell, transfer: &Transfer<'_>, verify: bool) -> Result<Command> {
        let Transfer { set, origin, destination, lists, .. } = *transfer;
        let (base, authority) = (&origin.base, origin.authority.as_ref());
        let (program, list) = (&self.path, lists.join("list"));
        let write = |entry: &dyn Fn(&BenchFile) -> String| sh.write_file(&list, set.list(entry));
        let mut command: Command = match self.tool {
            Tool::Ours => {
                write_lock(&list, set, base)?;
                let mut command = self.fetch(&list, destination);
                if let Some(number) = transfer.connections.map(|number| number.to_string()) {
                    command.args(["--connections", &number, "--connections-per-host", &number]);
                }
                command
            }
            Tool::Aria2c => {
                write(&|BenchFile { path, content }| {
                    let sum = || format!("  checksum=sha-256={}\n", content.sha256_hex());
                    let sum = if verify { sum() } else { String::new() };
                    format!("{base}/{path}\n  dir={destination}\n  out={path}\n{sum}")
                })?;
                // aria2c takes at most 16 connections for a file. Allocation is for rotating disks.
                let options = ["-x16", "-s16", "-k1M", "--file-allocation=none", "--no-conf", "--quiet"];
                // All files at once, but not thousands of connections.
                let at_once = set.0.len().min(32).to_string();
                // The default saves the progress once a minute.
                let resume = ["--continue=true", "--auto-save-interval=1"];
                let resume = if transfer.keeps_progress { &resume[..] } else { &[] };
                let authority = authority.map(|authority| format!("--ca-certificate={authority}"));
                cmd!(sh, "{program} {options...} {resume...} -j {at_once} -i {list} {authority...}").into()
            }
            Tool::Curl => {
                write(&|file| format!("url = \"{base}/{0}\"\noutput = \"{destination}/{0}\"\n", file.path))?;
                let options = ["--disable", "--silent", "--show-error", "--fail", "--create-dirs"];
                let authority = authority.iter().flat_map(|authority| ["--cacert", authority.as_str()]);
                // As many transfers as ours has connections.
                cmd!(sh, "{program} {options...} --parallel --parallel-max 64 --config {list} {authority...}")
                    .into()
            }
            Tool::HfTransfer => {
                set.create_directories(destination)?;
                let script = lists.join("hf_transfer.driver.py");
                sh.write_file(&script, include_str!("hf_transfer.py"))?;
                write(&|file| format!("{base}/{0}\t{destination}/{0}\n", file.path))?;
                // The interpreter's own path: what is on PATH may be a script that looks for it, at a cost of its own.
                let python = cmd!(sh, "python3 -c 'import sys; print(sys.executable)'").quiet().read()?;
                cmd!(sh, "{python} {script} {list}").env("PYTHONPATH", wheels()).into()
            }
        };
        // OpenSSL and rustls read it; tools with an option of their own get that, too.
        command.envs(authority.map(|authority| ("SSL_CERT_FILE", authority)));
        Ok(command)
    }

    /// A fetch by a program of ours. `xtask` has a longer name for it.
    pub(super) fn fetch(&self, lock: &Utf8Path, destination: &Utf8Path) -> Command {
        let is_xtask = self.path.file_name().is_some_and(|name| name.starts_with("xtask"));
        let name = if is_xtask { "fetch-models" } else { "fetch" };
        let mut command = self.own_command(name, lock, destination);
        command.args(["--progress", "none"]);
        command
    }

    /// A command of a program of ours.
    pub(super) fn own_command(&self, name: &str, lock: &Utf8Path, destination: &Utf8Path) -> Command {
        let mut command = Command::new(&self.path);
        command.args([name, "--lock", lock.as_str(), "--dest", destination.as_str()]);
        command
    }
}

/// Writes a `models.lock` of the set.
pub(super) fn write_lock(path: &Utf8Path, set: &FileSet, base: &str) -> Result<()> {
    Ok(fs::write(path, lock_text::VERSION.to_owned() + &set.list(|file| lock_entry(file, base)))?)
}

/// The text of a file's `[[model]]`.
pub(super) fn lock_entry(BenchFile { path, content }: &BenchFile, base: &str) -> String {
    lock_text::model(path, &format!("{base}/{path}"), content.size(), &content.sha256_hex())
}

/// The folder that [`PEERS`] has pip install to.
fn wheels() -> Utf8PathBuf {
    project::root().join("target/bench/peers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_xtask_fetches_by_its_own_command() {
        for (path, command) in [
            ("target/release/provision", "fetch"),
            ("xtask", "fetch-models"),
            ("/tmp/xtask-9d83281", "fetch-models"),
        ] {
            let program =
                Program { tool: Tool::Ours, name: BEFORE, path: path.into(), version: String::new() };
            let fetch = program.fetch(Utf8Path::new("models.lock"), Utf8Path::new("models"));
            assert_eq!(fetch.get_args().next(), Some(command.as_ref()), "{path}");
        }
    }
}
