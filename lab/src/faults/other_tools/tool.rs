//! The tools, and the command lines with which people download a large file.
//!
//! No tool gets a digest: commands that people paste have none. (aria2c takes one with `--checksum`.) Further options
//! only silence a tool and keep its configuration files out.

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use clap::ValueEnum;
use xshell::{Shell, cmd};

use super::case::Case;
use super::origins::{FILE, TOKEN};
use crate::tools::lock_text;
use crate::tools::process::Run;
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

    /// The arguments of a download.
    fn arguments(self, case: &Case, models: &Utf8Path, authority: &Utf8Path) -> Vec<String> {
        let ca_certificate = format!("--ca-certificate={authority}");
        let mut words: Vec<String> = match self {
            Self::Aria2c => vec!["--no-conf=true".to_owned(), ca_certificate],
            Self::Curl => ["-q", "-sS", "--cacert", authority.as_str()].map(str::to_owned).into(),
            Self::Wget => vec!["--no-config".to_owned(), "-nv".to_owned(), ca_certificate],
        };
        if case.with_token {
            words.extend(["--header".to_owned(), format!("Authorization: Bearer {TOKEN}")]);
        }
        for word in self.usage().split(' ').skip(1) {
            match word {
                "DIR" => words.push(models.to_string()),
                "NAME" => words.push(FILE.to_owned()),
                "DIR/NAME" => words.push(models.join(FILE).into()),
                "URL" | "URL…" => words.extend(case.urls.iter().cloned()),
                option => words.push(option.to_owned()),
            }
        }
        words
    }

    pub(super) fn name(self) -> &'static str {
        self.usage().split(' ').next().unwrap_or_default()
    }
}

impl Tool {
    /// The installed tool.
    pub(super) fn find(sh: &Shell, peer: Peer) -> Result<Self> {
        let program = peer.name();
        let said = cmd!(sh, "{program} --version").quiet().ignore_stderr().read();
        let said = said.with_context(|| format!("{program} is not installed"))?;
        // "curl 7.88.1 (x86_64…) libcurl/…", "GNU Wget 1.21.3 built on…", "aria2 version 1.36.0"
        let is_number = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
        let version = said.split_whitespace().find(is_number).unwrap_or("of unknown version").to_owned();
        Ok(Self { peer: Some(peer), program: program.into(), version })
    }

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

    /// Adds the program, its arguments and its variables for a download into `folder/models`.
    pub(super) fn configure(
        &self,
        run: Run,
        case: &Case,
        folder: &Utf8Path,
        authority: &Utf8Path,
    ) -> Result<Run> {
        let run = run.args(&[self.program.as_str()]);
        let Some(peer) = self.peer else {
            let (lock, models) = (folder.join("models.lock"), folder.join("models"));
            std::fs::write(&lock, lock_text(case)?)?;
            let run = run.args(&["fetch-models", "--lock", lock.as_str(), "--dest", models.as_str()]);
            let run = run.args(&["--progress", "none"]).env("SSL_CERT_FILE", authority);
            let host: Vec<_> = case.urls[0].split('/').take(3).collect();
            return Ok(if case.with_token {
                run.env("HF_ENDPOINT", host.join("/")).env("HF_TOKEN", TOKEN)
            } else {
                run
            });
        };
        Ok(run.args(&peer.arguments(case, &folder.join("models"), authority)))
    }
}

fn lock_text(case: &Case) -> Result<String> {
    let [url, mirrors @ ..] = &case.urls[..] else { anyhow::bail!("case {} has no URL", case.number) };
    let model = lock_text::model(FILE, url, case.content.size(), &case.content.sha256_hex());
    Ok(format!("{}{model}mirrors = {mirrors:?}\n", lock_text::VERSION))
}

#[cfg(test)]
mod tests {
    use provision_testbed::Content;

    use super::*;

    #[test]
    fn each_tool_gets_its_usual_arguments_and_the_token() {
        let case = |urls: &[&str], with_token| Case {
            number: 43,
            content: Content::bytes("abc"),
            before: None,
            urls: urls.iter().map(|url| (*url).to_owned()).collect(),
            with_token,
        };
        let (redirect, mirrors) = (case(&["http://a/x"], true), case(&["http://a/x", "http://b/x"], false));
        let arguments =
            |peer: Peer, case: &Case| peer.arguments(case, "/d/models".into(), "/ca".into()).join(" ");
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
