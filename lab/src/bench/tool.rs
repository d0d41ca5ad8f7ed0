//! The programs that the benchmark compares: how each is found and how it is told what to fetch.
//!
//! Each peer gets the options that suit the job best, and as many connections as ours has by default. The reasons stand
//! with the options.

use std::fs;
use std::process::Command;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use clap::ValueEnum;
use provision_core::digest::Sha256;
use provision_core::piece_list::{DIRECTORY, Lister};
use provision_testbed::Content;
use serde::Serialize;
use xshell::{Shell, cmd};

use super::file_set::{BenchFile, FileSet, blocks};
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

/// The names of this program in a report: that of this version, and of the one of `--against`.
pub(super) const OURS: &str = "ours";
pub(super) const BEFORE: &str = "before";
/// Ours with a lock that names no piece list, beside ours with lists.
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

/// A tool that is installed here.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) tool: Tool,
    pub(super) name: &'static str,
    pub(super) path: Utf8PathBuf,
    /// The lock names a piece list for each file.
    pub(super) has_lists: bool,
}

impl Program {
    pub(super) fn new(tool: Tool, name: &'static str, path: impl Into<Utf8PathBuf>) -> Self {
        Self { tool, name, path: path.into(), has_lists: false }
    }

    /// The verifications that are measured. Ours cannot be told not to verify; curl and hf-transfer cannot verify.
    pub(super) fn checks(&self) -> &'static [Check] {
        match self.tool {
            Tool::Ours => &[Check::Itself],
            Tool::Aria2c => &[Check::Itself, Check::None],
            Tool::Curl | Tool::HfTransfer => &[Check::Afterwards, Check::None],
        }
    }

    /// Writes what the tool reads to `folder`, and returns its command. Every file goes to its path below `destination`,
    /// which has the files' directories. The tool is told the digests where it is to verify.
    pub(super) fn download(
        &self,
        sh: &Shell,
        origin: &Origin,
        set: &FileSet,
        destination: &Utf8Path,
        check: Check,
        folder: &Utf8Path,
    ) -> Result<Command> {
        let (base, authority) = (&origin.base, origin.authority.as_ref());
        let (program, list) = (&self.path, folder.join("list"));
        let write = |entry: &dyn Fn(&BenchFile) -> String| sh.write_file(&list, set.list(entry));
        let mut command: Command = match self.tool {
            Tool::Ours => self.fetch(&self.write_lock(folder, set, base)?, destination),
            Tool::Aria2c => {
                write(&|BenchFile { path, content }| {
                    let sum = || format!("  checksum=sha-256={}\n", content.sha256_hex());
                    let sum = if check == Check::Itself { sum() } else { String::new() };
                    format!("{base}/{path}\n  dir={destination}\n  out={path}\n{sum}")
                })?;
                // aria2c takes at most 16 connections for a file. Allocation is for rotating disks.
                let options = ["-x16", "-s16", "-k1M", "--file-allocation=none", "--no-conf", "--quiet"];
                // All files at once, but not thousands of connections.
                let at_once = set.0.len().min(32).to_string();
                // For a run that is killed: the default saves the progress once a minute.
                let resume = ["--continue=true", "--auto-save-interval=1"];
                let authority = authority.map(|authority| format!("--ca-certificate={authority}"));
                cmd!(sh, "{program} {options...} {resume...} -j {at_once} -i {list} {authority...}").into()
            }
            Tool::Curl => {
                write(&|file| format!("url = \"{base}/{0}\"\noutput = \"{destination}/{0}\"\n", file.path))?;
                // As many transfers as ours has connections.
                let options = ["--disable", "--silent", "--show-error", "--fail", "--parallel-max", "64"];
                let authority = authority.iter().flat_map(|authority| ["--cacert", authority.as_str()]);
                cmd!(sh, "{program} {options...} --parallel --config {list} {authority...}").into()
            }
            Tool::HfTransfer => {
                let script = folder.join("hf_transfer.driver.py");
                sh.write_file(&script, include_str!("hf_transfer.py"))?;
                write(&|file| format!("{base}/{0}\t{destination}/{0}\n", file.path))?;
                // The interpreter's own path: what is on PATH may be a script that looks for it, at a cost of its own.
                let python = cmd!(sh, "python3 -c 'import sys; print(sys.executable)'").quiet().read()?;
                // The folder that [`PEERS`] has pip install to.
                let wheels = project::root().join("target/bench/peers");
                cmd!(sh, "{python} {script} {list}").env("PYTHONPATH", wheels).into()
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

    /// Writes a `models.lock` of the set to a folder, with the piece lists that it names, and returns its path.
    pub(super) fn write_lock(&self, folder: &Utf8Path, set: &FileSet, base: &str) -> Result<Utf8PathBuf> {
        fs::create_dir_all(folder.join(DIRECTORY))?;
        let mut text = lock_text::VERSION.to_owned();
        for BenchFile { path, content } in &set.0 {
            let url = format!("{base}/{path}");
            text += &lock_text::model(path, &url, content.size(), &content.sha256_hex());
            if self.has_lists
                && let Some(list) = list_of(content)?
            {
                let digest = Sha256::of(&list).to_string();
                fs::write(folder.join(DIRECTORY).join(&digest), list)?;
                text.extend(["pieces = \"", &digest, "\"\n"]);
            }
        }
        let lock = folder.join("models.lock");
        fs::write(&lock, text)?;
        Ok(lock)
    }
}

/// The bytes of a file's piece list. A short file has none.
fn list_of(content: &Content) -> Result<Option<Vec<u8>>> {
    let mut lister = Lister::new(content.size());
    blocks(content).for_each(|block| lister.update(&block));
    Ok(lister.finish(content.sha256_hex().parse()?).write())
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
            let program = Program::new(Tool::Ours, BEFORE, path);
            let fetch = program.fetch(Utf8Path::new("models.lock"), Utf8Path::new("models"));
            assert_eq!(fetch.get_args().next(), Some(command.as_ref()), "{path}");
        }
    }
}
