//! The tools, and the command lines with which people download a large file.
//!
//! No tool gets a digest: commands that people paste have none. (aria2c takes one with `--checksum`.) Further options only
//! silence a tool and keep its configuration files out.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use clap::ValueEnum;
use xshell::{Shell, cmd};

use super::case::Case;
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

/// An installed tool.
#[derive(Debug, Clone)]
pub(super) struct Tool {
    /// `None`: this project's program.
    pub(super) peer: Option<Peer>,
    pub(super) program: Utf8PathBuf,
    pub(super) version: String,
}

impl Peer {
    /// The command line, with words for the file's directory, its name and its URLs.
    fn usage(self) -> &'static str {
        match self {
            Self::Aria2c => "aria2c -x16 -s16 -k1M --continue=true -d DIR -o NAME URL…",
            Self::Curl => "curl -fL -C - --retry 5 -o DIR/NAME URL",
            Self::Wget => "wget -c -t 5 -P DIR URL",
        }
    }

    pub(super) fn name(self) -> &'static str {
        self.usage().split(' ').next().unwrap_or_default()
    }

    /// The installed tool, if there is one.
    pub(super) fn find(self, sh: &Shell) -> Option<Tool> {
        let program = self.name();
        let said = cmd!(sh, "{program} --version").quiet().ignore_stderr().read().ok()?;
        // "curl 7.88.1 (x86_64…) libcurl/…", "GNU Wget 1.21.3 built on…", "aria2 version 1.36.0"
        let is_number = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
        let version = said.split_whitespace().find(is_number)?.to_owned();
        Some(Tool { peer: Some(self), program: program.into(), version })
    }
}

impl Tool {
    /// `cargo xtask fetch-models`, which has the same engine as the runtime binary.
    pub(super) fn ours(sh: &Shell) -> Result<Self> {
        let program = program::xtask(sh)?;
        // The last change of the program: the page that `--write` changes is a commit, too.
        let commit = cmd!(sh, "git log -1 --format=%h -- provision/src").quiet().ignore_stderr().read();
        let version = commit.map_or_else(|_| "unknown".to_owned(), |commit| format!("commit {commit}"));
        Ok(Self { peer: None, program, version })
    }

    pub(super) fn name(&self) -> &'static str {
        self.peer.map_or("ours", Peer::name)
    }

    /// The command line for the page.
    pub(super) fn usage(&self) -> &'static str {
        self.peer.map_or("provision fetch --lock LOCK --dest DIR", Peer::usage)
    }

    /// Returns true if the tool can do the case: curl and wget take one URL for a file.
    pub(super) fn can_run(&self, case: &Case) -> bool {
        case.urls.len() == 1 || !matches!(self.peer, Some(Peer::Curl | Peer::Wget))
    }

    /// Adds the arguments and variables for a download into `folder/models`.
    pub(super) fn configure(
        &self,
        command: &mut Command,
        case: &Case,
        folder: &Utf8Path,
        authority: &Utf8Path,
    ) -> Result<()> {
        let models = folder.join("models");
        let ca_certificate = format!("--ca-certificate={authority}");
        let Some(peer) = self.peer else {
            let lock = folder.join("models.lock");
            std::fs::write(&lock, lock_text(case)?)?;
            command.args(["fetch-models", "--lock", lock.as_str(), "--dest", models.as_str()]);
            command.args(["--progress", "none"]).env("SSL_CERT_FILE", authority);
            if case.with_token {
                let host: Vec<_> = case.urls[0].split('/').take(3).collect();
                command.env("HF_ENDPOINT", host.join("/")).env("HF_TOKEN", TOKEN);
            }
            return Ok(());
        };
        match peer {
            Peer::Aria2c => command.args(["--no-conf=true", &ca_certificate]),
            Peer::Curl => command.args(["-q", "-sS", "--cacert", authority.as_str()]),
            Peer::Wget => command.args(["--no-config", "-nv", &ca_certificate]),
        };
        if case.with_token {
            command.args(["--header", &format!("Authorization: Bearer {TOKEN}")]);
        }
        for word in peer.usage().split(' ').skip(1) {
            match word {
                "DIR" => command.arg(&models),
                "NAME" => command.arg(FILE),
                "DIR/NAME" => command.arg(models.join(FILE)),
                "URL" | "URL…" => command.args(&case.urls),
                option => command.arg(option),
            };
        }
        Ok(())
    }
}

fn lock_text(case: &Case) -> Result<String> {
    let (size, sha256) = (case.content.size(), case.content.sha256_hex());
    let [url, mirrors @ ..] = &case.urls[..] else { anyhow::bail!("case {} has no URL", case.number) };
    let mut text = format!("version = 1\n\n[[model]]\npath = {FILE:?}\nurl = {url:?}\n");
    write!(text, "mirrors = {mirrors:?}\nsize = {size}\nsha256 = {sha256:?}\n")?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::peers::sandbox::Sandbox;

    #[test]
    fn each_tool_gets_its_usual_arguments_and_the_token() {
        let sandbox = Sandbox::start(false).unwrap();
        let redirect = Case::prepare(43, &sandbox).unwrap();
        let mirrors = Case::prepare(16, &sandbox).unwrap();
        let arguments = |peer, case: &Case| {
            let tool = Tool { peer: Some(peer), program: "p".into(), version: String::new() };
            let mut command = Command::new("p");
            tool.configure(&mut command, case, "/d".into(), "/ca".into()).unwrap();
            let words: Vec<_> = command.get_args().map(|word| word.to_str().unwrap()).collect();
            words.join(" ")
        };
        let token = format!("--header Authorization: Bearer {TOKEN}");
        let url = &redirect.urls[0];
        for (peer, expected) in [
            (Peer::Aria2c, format!("{token} -x16 -s16 -k1M --continue=true -d /d/models -o {FILE} {url}")),
            (Peer::Curl, format!("{token} -fL -C - --retry 5 -o /d/models/{FILE} {url}")),
            (Peer::Wget, format!("{token} -c -t 5 -P /d/models {url}")),
        ] {
            let arguments = arguments(peer, &redirect);
            assert!(arguments.ends_with(&expected), "{arguments}");
            assert_eq!(peer.name(), peer.to_possible_value().unwrap().get_name());
        }
        assert!(arguments(Peer::Aria2c, &mirrors).ends_with(&mirrors.urls.join(" ")));
        let can = |peer| Tool { peer, program: "p".into(), version: String::new() }.can_run(&mirrors);
        assert_eq!(
            [None, Some(Peer::Aria2c), Some(Peer::Curl), Some(Peer::Wget)].map(can),
            [true, true, false, false]
        );
        assert!(lock_text(&mirrors).unwrap().contains(&format!("mirrors = [{:?}]\n", mirrors.urls[1])));
    }
}
