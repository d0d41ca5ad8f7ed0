//! The programs that the benchmark compares: how each is found and how it is told what to fetch.
//!
//! Each peer gets the options that suit the job best, and as many connections as ours has by default. The reasons stand
//! with the options.

use std::process::Command;
use std::{fs, io};

use camino::{Utf8Path, Utf8PathBuf};
use clap::ValueEnum;
use xshell::{Shell, cmd};

use super::file_set::{BenchFile, FileSet};
use crate::project;

/// Makes aria2c keep its progress when it is killed; its default saves it once a minute.
pub(super) const ARIA2C_RESUME: [&str; 2] = ["--continue=true", "--auto-save-interval=1"];

/// A program that fetches files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tool {
    /// This program.
    #[value(skip)]
    Ours,
    /// An older build of this program, from `--against`.
    #[value(skip)]
    Before,
    /// aria2c
    Aria2c,
    /// curl -Z
    Curl,
    /// The Hugging Face Hub's accelerator, called by a small script
    HfTransfer,
}

impl Tool {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Before => "before",
            Self::Aria2c => "aria2c",
            Self::Curl => "curl",
            Self::HfTransfer => "hf-transfer",
        }
    }

    /// The command that installs it.
    pub(super) fn install_hint(self) -> &'static str {
        match self {
            Self::Ours | Self::Before => "cargo build --release",
            Self::Aria2c => "apt-get install aria2",
            Self::Curl => "apt-get install curl",
            Self::HfTransfer => "pip install --no-deps --target target/bench/peers hf_transfer",
        }
    }

    pub(super) fn is_own(self) -> bool {
        matches!(self, Self::Ours | Self::Before)
    }

    /// Compares digests by itself.
    pub(super) fn can_verify(self) -> bool {
        self.is_own() || self == Self::Aria2c
    }

    /// Fetches each file over a single connection.
    pub(super) fn is_unsegmented(self) -> bool {
        self == Self::Curl
    }
}

/// Files to fetch, their origin and their destination.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transfer<'a> {
    pub(super) set: &'a FileSet,
    /// The URL above the files, without a slash at its end.
    pub(super) base: &'a str,
    /// Every file goes to its path below this directory.
    pub(super) destination: &'a Utf8Path,
    /// The certificate authority of the origin.
    pub(super) authority: Option<&'a Utf8Path>,
    /// The number of connections that ours may use, instead of its default.
    pub(super) connections: Option<u16>,
    /// The folder for lists and scripts.
    pub(super) lists: &'a Utf8Path,
}

/// A tool that is installed here.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) tool: Tool,
    pub(super) path: Utf8PathBuf,
    pub(super) version: String,
}

impl Program {
    /// Looks for a peer, and asks it for its version.
    pub(super) fn find(sh: &Shell, tool: Tool) -> Option<Self> {
        // The interpreter's own path: what is on PATH may be a script that looks for it, at a cost of its own.
        let ask = "import hf_transfer, sys; from importlib.metadata import version; \
                   print(sys.executable); print('hf_transfer', version('hf_transfer'))";
        let name = tool.name();
        let command = if tool == Tool::HfTransfer {
            cmd!(sh, "python3 -c {ask}").env("PYTHONPATH", wheels())
        } else {
            cmd!(sh, "{name} --version")
        };
        let answer = command.quiet().ignore_stderr().read().ok()?;
        let mut lines = answer.lines();
        let path = if tool == Tool::HfTransfer { lines.next()? } else { name }.into();
        Some(Self { tool, path, version: lines.next()?.trim().to_owned() })
    }

    /// Writes what the tool reads, and returns its command. With `verify` it is told the digests, if it takes any.
    pub(super) fn download(&self, transfer: &Transfer<'_>, verify: bool) -> io::Result<Command> {
        let mut command = match self.tool {
            Tool::Ours | Tool::Before => self.own_download(transfer)?,
            Tool::Aria2c => self.aria2c(transfer, verify)?,
            Tool::Curl => self.curl(transfer)?,
            Tool::HfTransfer => self.hf_transfer(transfer)?,
        };
        // OpenSSL and rustls read it; tools with an option of their own get that, too.
        command.envs(transfer.authority.map(|authority| ("SSL_CERT_FILE", authority)));
        Ok(command)
    }

    fn own_download(&self, transfer: &Transfer<'_>) -> io::Result<Command> {
        let lock = transfer.lists.join("models.lock");
        write_lock(&lock, transfer.set, transfer.base)?;
        let mut command = self.fetch(&lock, transfer.destination);
        if let Some(number) = transfer.connections.map(|number| number.to_string()) {
            command.args(["--connections", &number, "--connections-per-host", &number]);
        }
        Ok(command)
    }

    fn aria2c(&self, transfer: &Transfer<'_>, verify: bool) -> io::Result<Command> {
        /// aria2c takes at most 16 connections for a file. Allocation is for rotating disks.
        const OPTIONS: [&str; 6] = ["-x16", "-s16", "-k1M", "--file-allocation=none", "--no-conf", "--quiet"];
        /// All files at once, but not thousands of connections.
        const FILES_AT_ONCE: usize = 32;
        let Transfer { set, base, destination, authority, lists, .. } = *transfer;
        let list = lists.join("aria2.list");
        let entry = |BenchFile { path, content }: &BenchFile| {
            let target = format!("{base}/{path}\n  dir={destination}\n  out={path}\n");
            if verify { target + &format!("  checksum=sha-256={}\n", content.sha256_hex()) } else { target }
        };
        fs::write(&list, set.list(entry))?;
        let mut command = Command::new(&self.path);
        command.args(OPTIONS).args(["-i", list.as_str()]);
        command.arg(format!("-j{}", set.0.len().min(FILES_AT_ONCE)));
        command.args(authority.map(|authority| format!("--ca-certificate={authority}")));
        Ok(command)
    }

    fn curl(&self, transfer: &Transfer<'_>) -> io::Result<Command> {
        /// As many transfers as ours has connections.
        const OPTIONS: [&str; 5] = ["--disable", "--silent", "--show-error", "--fail", "--create-dirs"];
        const PARALLEL: [&str; 3] = ["--parallel", "--parallel-max", "64"];
        let Transfer { set, base, destination, authority, lists, .. } = *transfer;
        let config = lists.join("curl.config");
        let entry = |BenchFile { path, .. }: &BenchFile| {
            format!("url = \"{base}/{path}\"\noutput = \"{destination}/{path}\"\n")
        };
        fs::write(&config, set.list(entry))?;
        let mut command = Command::new(&self.path);
        command.args(OPTIONS).args(PARALLEL).args(["--config", config.as_str()]);
        command.args(authority.into_iter().flat_map(|authority| ["--cacert", authority.as_str()]));
        Ok(command)
    }

    fn hf_transfer(&self, transfer: &Transfer<'_>) -> io::Result<Command> {
        let Transfer { set, base, destination, lists, .. } = *transfer;
        set.create_directories(destination)?;
        let (script, list) = (lists.join("hf_transfer.driver.py"), lists.join("hf_transfer.list"));
        fs::write(&script, include_str!("hf_transfer.py"))?;
        fs::write(&list, set.list(|file| format!("{base}/{0}\t{destination}/{0}\n", file.path)))?;
        let mut command = Command::new(&self.path);
        command.args([script, list]).env("PYTHONPATH", wheels());
        Ok(command)
    }

    /// A fetch by a program of ours. `xtask` has a longer name for it.
    pub(super) fn fetch(&self, lock: &Utf8Path, destination: &Utf8Path) -> Command {
        let is_xtask = self.path.file_name().is_some_and(|name| name.starts_with("xtask"));
        let mut command =
            self.own_command(if is_xtask { "fetch-models" } else { "fetch" }, lock, destination);
        command.args(["--progress", "none"]);
        command
    }

    /// A verification by a program of ours.
    pub(super) fn verify(&self, lock: &Utf8Path, destination: &Utf8Path) -> Command {
        self.own_command("verify", lock, destination)
    }

    fn own_command(&self, name: &str, lock: &Utf8Path, destination: &Utf8Path) -> Command {
        let mut command = Command::new(&self.path);
        command.args([name, "--lock", lock.as_str(), "--dest", destination.as_str()]);
        command
    }
}

/// Writes a `models.lock` of the set.
pub(super) fn write_lock(path: &Utf8Path, set: &FileSet, base: &str) -> io::Result<()> {
    let entry = |BenchFile { path, content }: &BenchFile| {
        let (size, sha256) = (content.size(), content.sha256_hex());
        format!(
            "\n[[model]]\npath = \"{path}\"\nurl = \"{base}/{path}\"\nsize = {size}\nsha256 = \"{sha256}\"\n"
        )
    };
    fs::write(path, "version = 1\n".to_owned() + &set.list(entry))
}

/// The folder that [`Tool::install_hint`] has pip install to.
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
            let program = Program { tool: Tool::Before, path: path.into(), version: String::new() };
            let fetch = program.fetch(Utf8Path::new("models.lock"), Utf8Path::new("models"));
            assert_eq!(fetch.get_args().next(), Some(command.as_ref()), "{path}");
        }
    }
}
