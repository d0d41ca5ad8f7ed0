//! The tools, and the command lines with which people download a large file.
//!
//! No tool gets a digest: commands that people paste have none. (aria2c takes one with `--checksum`.) Further options
//! only silence a tool and keep its configuration files out.

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use xshell::{Shell, cmd};

use super::case::Case;
use super::origins::{FILE, TOKEN};
use crate::tools::lock_text;
use crate::tools::program;

/// A tool's name, its silencing options, and the options that people give it. Words in capitals are replaced.
pub(super) type Usage = [&'static str; 3];

/// The tools that people would take instead.
pub(super) const PEERS: [Usage; 3] = [
    [
        "aria2c",
        "--no-conf=true --ca-certificate AUTHORITY",
        "-x16 -s16 -k1M --continue=true -d DIR -o NAME URL…",
    ],
    ["curl", "-q -sS --cacert AUTHORITY", "-fL -C - --retry 5 -o DIR/NAME URL"],
    ["wget", "--no-config -nv --ca-certificate AUTHORITY", "-c -t 5 -P DIR URL"],
];
/// `cargo xtask fetch-models`, which has the same engine as the runtime binary.
pub(super) const OURS: Usage = ["ours", "fetch-models --progress none", "--lock LOCK --dest DIR"];

/// An installed tool.
#[derive(Debug, Clone)]
pub(super) struct Tool {
    pub(super) usage: Usage,
    pub(super) program: Utf8PathBuf,
    pub(super) version: String,
}

impl Tool {
    /// The installed tool of this name.
    pub(super) fn find(sh: &Shell, name: &str) -> Result<Self> {
        let usage = PEERS.into_iter().find(|[known, ..]| *known == name);
        let usage = usage.with_context(|| format!("{name} is none of aria2c, curl and wget"))?;
        let said = cmd!(sh, "{name} --version").quiet().ignore_stderr().read();
        let said = said.with_context(|| format!("{name} is not installed"))?;
        // "curl 7.88.1 (x86_64…) libcurl/…", "GNU Wget 1.21.3 built on…", "aria2 version 1.36.0"
        let is_number = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
        let version = said.split_whitespace().find(is_number).unwrap_or("of unknown version").to_owned();
        Ok(Self { usage, program: name.into(), version })
    }

    pub(super) fn ours(sh: &Shell) -> Result<Self> {
        let program = program::xtask(sh)?;
        // The last change of the program: the page that `--write` changes is a commit, too.
        let commit = cmd!(sh, "git log -1 --format=%h -- provision/src").quiet().ignore_stderr().read();
        let version = commit.map_or_else(|_| "unknown".to_owned(), |commit| format!("commit {commit}"));
        Ok(Self { usage: OURS, program, version })
    }

    pub(super) fn name(&self) -> &'static str {
        self.usage[0]
    }

    fn is_ours(&self) -> bool {
        self.usage == OURS
    }

    /// The command line for the page.
    pub(super) fn command_line(&self) -> String {
        let [name, _, options] = self.usage;
        format!("{} {options}", if self.is_ours() { "provision fetch" } else { name })
    }

    /// Returns true if the tool can do the case: curl and wget take one URL for a file.
    pub(super) fn can_run(&self, case: &Case) -> bool {
        case.urls.len() == 1 || self.is_ours() || self.usage[2].contains("URL…")
    }

    /// The arguments of a download by the lock in `folder` or from its URLs, into `folder/models`.
    pub(super) fn arguments(&self, case: &Case, folder: &Utf8Path, authority: &Utf8Path) -> Vec<String> {
        let models = folder.join("models");
        let replace = |word| match word {
            "AUTHORITY" => vec![authority.to_string()],
            "LOCK" => vec![folder.join("models.lock").into()],
            "DIR" => vec![models.to_string()],
            "NAME" => vec![FILE.to_owned()],
            "DIR/NAME" => vec![models.join(FILE).into()],
            "URL" | "URL…" => case.urls.clone(),
            option => vec![option.to_owned()],
        };
        let [_, silencing, options] = self.usage;
        let token = ["--header".to_owned(), format!("Authorization: Bearer {TOKEN}")];
        let token = token.into_iter().filter(|_| case.with_token && !self.is_ours());
        let silencing = silencing.split(' ').flat_map(replace);
        silencing.chain(token).chain(options.split(' ').flat_map(replace)).collect()
    }
}

/// The lock that this program gets.
pub(super) fn lock_text(case: &Case) -> Result<String> {
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
        let arguments = |usage, case: &Case| {
            let tool = Tool { usage, program: "p".into(), version: String::new() };
            (tool.arguments(case, "/d".into(), "/ca".into()).join(" "), tool.can_run(case))
        };
        let token = format!("--header Authorization: Bearer {TOKEN}");
        for (usage, expected, takes_mirrors) in [
            (PEERS[0], format!("-x16 -s16 -k1M --continue=true -d /d/models -o {FILE} http://a/x"), true),
            (PEERS[1], format!("-fL -C - --retry 5 -o /d/models/{FILE} http://a/x"), false),
            (PEERS[2], "-c -t 5 -P /d/models http://a/x".to_owned(), false),
            (OURS, "--lock /d/models.lock --dest /d/models".to_owned(), true),
        ] {
            let (arguments, can_run) = (arguments(usage, &redirect).0, arguments(usage, &mirrors).1);
            assert!(arguments.ends_with(&expected), "{arguments}");
            assert_eq!((arguments.contains(&token), can_run), (usage != OURS, takes_mirrors), "{usage:?}");
        }
        assert!(arguments(PEERS[0], &mirrors).0.ends_with(&mirrors.urls.join(" ")));
        assert!(lock_text(&mirrors).unwrap().contains(&format!("mirrors = [{:?}]\n", mirrors.urls[1])));
    }
}
