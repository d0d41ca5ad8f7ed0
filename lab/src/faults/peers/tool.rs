//! The tools, and the command lines by which people fetch a large file with them.
//!
//! None of them is told a digest: what people paste has none. (aria2c takes one with `--checksum`, and would then see
//! what it cannot see here.) Options that change nothing about the job keep it quiet and away from a person's
//! configuration.

use std::fmt::Write as _;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use clap::ValueEnum;
use xshell::{Shell, cmd};

use super::sandbox::{FILE, TOKEN};
use crate::tools::program;

/// A tool that people would take instead
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// aria2c -x16 -s16 -k1M --continue=true
    Aria2c,
    /// curl -fL -C - --retry 5
    Curl,
    /// wget -c -t 5
    Wget,
}

/// Who is on trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    Ours,
    Other(Peer),
}

/// A tool that is there.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) tool: Tool,
    program: Utf8PathBuf,
    /// What it says when it is asked.
    pub(super) version: String,
}

/// A command, as data.
#[derive(Debug)]
pub(super) struct Invocation {
    /// The program first.
    pub(super) words: Vec<String>,
    /// What it sees besides `PATH` and an empty `HOME`.
    pub(super) environment: Vec<(&'static str, String)>,
}

/// What there is to fetch.
#[derive(Debug)]
pub(super) struct Job<'a> {
    /// In the order in which they are to be asked.
    pub(super) urls: &'a [String],
    pub(super) destination: &'a Utf8Path,
    /// For the lock.
    pub(super) folder: &'a Utf8Path,
    pub(super) size: u64,
    pub(super) sha256: &'a str,
    /// Whether the first address wants the token.
    pub(super) with_token: bool,
    /// The authority of https origins.
    pub(super) authority: &'a Utf8Path,
}

impl Peer {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Aria2c => "aria2c",
            Self::Curl => "curl",
            Self::Wget => "wget",
        }
    }

    /// The command line that people use.
    pub(super) fn usual(self) -> &'static str {
        match self {
            Self::Aria2c => "aria2c -x16 -s16 -k1M --continue=true -d DIR -o NAME URL…",
            Self::Curl => "curl -fL -C - --retry 5 -o DIR/NAME URL",
            Self::Wget => "wget -c -t 5 -P DIR URL",
        }
    }

    pub(super) fn find(self, sh: &Shell) -> Option<Found> {
        let program = self.name();
        let said = cmd!(sh, "{program} --version").quiet().ignore_stderr().read().ok()?;
        // "curl 7.88.1 (x86_64…) libcurl/…", "GNU Wget 1.21.3 built on…", "aria2 version 1.36.0"
        let is_number = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
        let version = said.split_whitespace().find(is_number)?.to_owned();
        Some(Found { tool: Tool::Other(self), program: program.into(), version })
    }
}

impl Tool {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Other(peer) => peer.name(),
        }
    }

    /// Whether one file can have several addresses.
    pub(super) fn takes_mirrors(self) -> bool {
        matches!(self, Self::Ours | Self::Other(Peer::Aria2c))
    }
}

impl Found {
    /// `cargo xtask fetch-models`, which has the same engine as the runtime binary.
    pub(super) fn ours(sh: &Shell) -> Result<Self> {
        let program = program::xtask(sh)?;
        // The last change to the program itself: the page that this writes into is a change, too.
        let commit = cmd!(sh, "git log -1 --format=%h -- provision/src").quiet().ignore_stderr().read();
        let version = commit.map_or_else(|_| "unknown".to_owned(), |commit| format!("commit {commit}"));
        Ok(Self { tool: Tool::Ours, program, version })
    }

    #[cfg(test)]
    pub(super) fn for_tests(tool: Tool, version: &str) -> Self {
        Self { tool, program: Utf8PathBuf::new(), version: version.to_owned() }
    }

    pub(super) fn name(&self) -> &'static str {
        self.tool.name()
    }

    pub(super) fn command(&self, job: &Job<'_>) -> Result<Invocation> {
        let Job { urls, destination, authority, .. } = job;
        let header = format!("Authorization: Bearer {TOKEN}");
        let first = urls[0].clone();
        let mut words = vec![self.program.to_string()];
        let mut say = |more: &[&str]| words.extend(more.iter().map(|&word| word.to_owned()));
        match self.tool {
            Tool::Ours => return self.our_command(job),
            Tool::Other(Peer::Aria2c) => {
                say(&["--no-conf=true", "-x16", "-s16", "-k1M", "--continue=true"]);
                say(&["-d", destination.as_str(), "-o", FILE, &format!("--ca-certificate={authority}")]);
                if job.with_token {
                    say(&[&format!("--header={header}")]);
                }
                words.extend(urls.iter().cloned());
            }
            Tool::Other(Peer::Curl) => {
                let path = destination.join(FILE);
                say(&["-q", "-sS", "-fL", "-C", "-", "--retry", "5", "-o", path.as_str()]);
                say(&["--cacert", authority.as_str()]);
                if job.with_token {
                    say(&["-H", &header]);
                }
                words.push(first);
            }
            Tool::Other(Peer::Wget) => {
                say(&["--no-config", "-nv", "-c", "-t", "5", "-P", destination.as_str()]);
                say(&[&format!("--ca-certificate={authority}")]);
                if job.with_token {
                    say(&[&format!("--header={header}")]);
                }
                words.push(first);
            }
        }
        Ok(Invocation { words, environment: Vec::new() })
    }

    fn our_command(&self, job: &Job<'_>) -> Result<Invocation> {
        let Job { urls, size, sha256, .. } = job;
        let mirrors: Vec<_> = urls[1..].iter().map(|url| format!("{url:?}")).collect();
        let mut text = format!("version = 1\n\n[[model]]\npath = {FILE:?}\nurl = {:?}\n", urls[0]);
        write!(text, "mirrors = [{}]\nsize = {size}\nsha256 = {sha256:?}\n", mirrors.join(", "))?;
        let lock = job.folder.join("models.lock");
        std::fs::write(&lock, text)?;
        let words = [self.program.as_str(), "fetch-models", "--lock", lock.as_str()];
        let words = words.into_iter().chain(["--dest", job.destination.as_str(), "--progress", "none"]);
        let mut environment = vec![("SSL_CERT_FILE", job.authority.to_string())];
        if job.with_token {
            // The host of the address, with its port: what stands before the path.
            let host = urls[0].split('/').take(3).collect::<Vec<_>>().join("/");
            environment.push(("HF_ENDPOINT", host));
            environment.push(("HF_TOKEN", TOKEN.to_owned()));
        }
        Ok(Invocation { words: words.map(str::to_owned).collect(), environment })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tool_gets_the_usual_words_and_the_token_by_its_own_option() {
        let urls = ["http://127.0.0.1:1/x".to_owned(), "http://127.0.0.2:1/x".to_owned()];
        let job = Job {
            urls: &urls,
            destination: Utf8Path::new("/d"),
            folder: Utf8Path::new("/nowhere"),
            size: 1,
            sha256: "",
            with_token: true,
            authority: Utf8Path::new("/ca"),
        };
        let said = |peer| {
            let found = Found { tool: Tool::Other(peer), program: "p".into(), version: String::new() };
            found.command(&job).unwrap().words.join(" ")
        };
        assert!(said(Peer::Aria2c).contains("-x16 -s16 -k1M --continue=true"));
        assert!(said(Peer::Aria2c).ends_with("http://127.0.0.1:1/x http://127.0.0.2:1/x"));
        assert!(said(Peer::Curl).contains("-fL -C - --retry 5"));
        assert!(said(Peer::Curl).contains("-H Authorization: Bearer "));
        assert!(said(Peer::Wget).contains("-c -t 5") && !said(Peer::Wget).contains("127.0.0.2"));
    }
}
