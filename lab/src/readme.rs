//! `cargo lab readme`: runs the commands of README.md and `docs/*.md` as written.
//!
//! A line before each fenced block of commands (`console`, `sh`, `bash`, `shell`) says how the block is treated:
//!
//! ```text
//! <!-- ci: run -->                 run in the workspace's root by `bash -e`
//! <!-- ci: run against the testbed's Hub -->
//!                                  run in a folder below `target`, with the testbed's Hub (`hub`); every model for
//!                                  which its workflow.json has a URL must arrive, byte for byte
//! <!-- ci: run by .ci/run -->      run by that file, which has to contain the commands word for word
//! <!-- ci: run by cargo lab containers -->
//!                                  run by that command with a Docker engine
//! <!-- ci: run by cargo lab containers in a repository -->
//!                                  the same, in a repository of one's own; the blocks of a document share one
//! <!-- ci: run by cargo lab containers in a repository whose branch has moved -->
//!                                  the same, after the Hub's branch got another commit
//! <!-- ci: example -->             not run: it needs a network, a token, or a day
//! ```
//!
//! A block without such a line is an error, so that no block is forgotten. The commands of a block are its lines that
//! begin with `$ `, with their continuations after a backslash. Other lines are output.
//!
//! README.md and ARCHITECTURE.md also have a limit for their length.

#![expect(clippy::print_stdout, reason = "the commands and their treatment are the command's output")]

pub(crate) mod hub;

use std::fmt;

use anyhow::{Context as _, Result, bail, ensure};
use xshell::{Shell, cmd};

use crate::project;
use crate::tools::files::files_below;
use crate::tools::scratch::Scratch;
use hub::HubFixture;

const RUN: &str = "run";
const HUB: &str = "run against the testbed's Hub";
const CI_SCRIPT: &str = "run by .ci/run";
pub(crate) const CONTAINERS: &str = "run by cargo lab containers";
pub(crate) const REPOSITORY: &str = "run by cargo lab containers in a repository";
pub(crate) const REPOSITORY_MOVED: &str =
    "run by cargo lab containers in a repository whose branch has moved";
const EXAMPLE: &str = "example";

/// The documents must have a block for each.
const TAGS: [&str; 7] = [RUN, HUB, CI_SCRIPT, CONTAINERS, REPOSITORY, REPOSITORY_MOVED, EXAMPLE];

/// The first pages and the most lines that they may have: a newcomer reads each in one sitting.
const LIMITS: [(&str, usize); 2] = [("README.md", 150), ("ARCHITECTURE.md", 180)];

/// A fenced block of commands.
#[derive(Debug)]
pub(crate) struct Block {
    /// The file and the line of the fence: `README.md:12`.
    pub(crate) place: String,
    /// One of [`TAGS`].
    pub(crate) tag: &'static str,
    pub(crate) commands: Vec<String>,
}

pub(crate) fn run() -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    for (file, limit) in LIMITS {
        let lines = sh.read_file(file)?.lines().count();
        ensure!(lines <= limit, "{file} has {lines} lines, more than {limit}: move details to docs/");
    }
    let blocks = blocks()?;
    for tag in TAGS {
        ensure!(
            blocks.iter().any(|block| block.tag == tag),
            "README.md and docs/*.md have no block with <!-- ci: {tag} -->: one was lost, or its tag is wrong"
        );
    }
    for block in blocks {
        println!("{block}");
        block.check(&sh).with_context(|| block.place.clone())?;
    }
    Ok(())
}

/// The blocks of README.md and `docs/*.md`.
pub(crate) fn blocks() -> Result<Vec<Block>> {
    let root = project::root();
    let mut files = vec![root.join("README.md")];
    for entry in root.join("docs").read_dir_utf8()? {
        files.push(entry?.into_path());
    }
    files.retain(|file| file.extension() == Some("md"));
    files.sort();
    let mut blocks = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        blocks.extend(parse(file.strip_prefix(root)?.as_str(), &text)?);
    }
    Ok(blocks)
}

impl Block {
    fn check(&self, sh: &Shell) -> Result<()> {
        let script = self.commands.join("\n");
        match self.tag {
            CI_SCRIPT => {
                let text = sh.read_file(".ci/run")?;
                let missing = self.commands.iter().find(|command| !text.contains(command.as_str()));
                ensure!(missing.is_none(), ".ci/run does not contain the command {missing:?}");
                Ok(())
            }
            RUN => succeeds(sh, &script),
            HUB => {
                let scratch = Scratch::create(sh.create_dir("target/readme")?, "run-")?;
                let hub = HubFixture::start(scratch.path(), None)?;
                succeeds(sh, &hub.script(&script))?;
                let found = files_below(sh, &hub.folder)?;
                for model in hub::WORKFLOW_MODELS {
                    let path = found.iter().find(|path| path.ends_with(model));
                    let path = path.with_context(|| format!("the commands brought no {model}"))?;
                    let bytes = std::fs::read(hub.folder.join(path))?;
                    ensure!(bytes == hub::content(model).to_vec(), "{path} has other bytes");
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn succeeds(sh: &Shell, script: &str) -> Result<()> {
    let output = cmd!(sh, "bash -e -u -o pipefail -c {script}").quiet().ignore_status().output()?;
    ensure!(
        output.status.success(),
        "these commands failed ({}):\n{script}\n--- standard output\n{}\n--- standard error\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    Ok(())
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.tag)?;
        self.commands.iter().try_for_each(|command| write!(f, "\n    $ {command}"))
    }
}

/// The blocks of a document.
fn parse(file: &str, text: &str) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut tag = None;
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let (place, line) = (format!("{file}:{}", index + 1), line.trim());
        if let Some(name) = line.strip_prefix("<!-- ci:").and_then(|rest| rest.strip_suffix("-->")) {
            let known = TAGS.into_iter().find(|known| *known == name.trim());
            tag = Some(known.with_context(|| format!("{place}: `ci:{name}` is none of {TAGS:?}"))?);
        } else if let Some(language) = line.strip_prefix("```") {
            let body: Vec<_> =
                lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```").collect();
            let tag = tag.take();
            if !matches!(language.trim(), "console" | "sh" | "bash" | "shell") {
                continue;
            }
            let Some(tag) = tag else {
                bail!(
                    "{place}: add a tag above this block, such as <!-- ci: run --> or <!-- ci: example -->"
                );
            };
            let commands = commands(&body);
            ensure!(
                !commands.is_empty() || tag == EXAMPLE,
                "{place}: no line of this block begins with `$ `, so there is nothing to run"
            );
            blocks.push(Block { place, tag, commands });
        } else if !line.is_empty() {
            tag = None;
        }
    }
    Ok(blocks)
}

/// The lines of a block that begin with `$ `, with their continuations.
fn commands(body: &[&str]) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut continues = false;
    for line in body {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (_, Some(command)) if continues => command.extend(["\n", line]),
            (Some(command), _) => commands.push(command.to_owned()),
            _ => continue,
        }
        continues = line.ends_with('\\');
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_the_prompted_lines_with_their_continuations() {
        let body = ["$ a --one \\", "    --two", "printed", "$ b", "$c", ""];
        assert_eq!(commands(&body), ["a --one \\\n    --two", "b"]);
    }

    #[test]
    fn a_block_has_the_tag_right_above_it() {
        let text = "\
<!-- ci: run -->

```console
$ true
```

<!-- ci: run by .ci/run -->
```sh
$ cargo test
```

<!-- ci: run against the testbed's Hub -->
```sh
$ true
```

```toml
version = 1
```

<!-- ci: example -->
```console
nothing
```
";
        let blocks = parse("f", text).unwrap();
        let tags: Vec<_> = blocks.iter().map(|block| (block.place.as_str(), block.tag)).collect();
        assert_eq!(tags, [("f:3", RUN), ("f:8", CI_SCRIPT), ("f:13", HUB), ("f:22", EXAMPLE)]);
    }

    /// The document promises it. A pipeline is one command.
    #[test]
    fn each_question_has_at_most_three_commands() {
        let file = project::root().join("docs/questions.md");
        let text = std::fs::read_to_string(file).unwrap();
        let mut questions = 0;
        for question in text.split("\n## ").skip(1) {
            let title = question.lines().next().unwrap_or_default();
            let blocks = parse("docs/questions.md", question).unwrap();
            let lines = blocks.iter().flat_map(|block| &block.commands);
            let commands: Vec<_> = lines
                .flat_map(|line| line.split(['&', ';']).flat_map(|part| part.split("||")))
                .filter(|command| !command.trim().is_empty())
                .collect();
            assert!((1..=3).contains(&commands.len()), "{title}: {commands:#?}");
            questions += 1;
        }
        assert_eq!(questions, 10, "the title says ten");
    }

    #[test]
    fn a_forgotten_or_misspelt_tag_is_an_error() {
        for text in [
            "```console\n$ true\n```\n",
            "<!-- ci: run -->\ntext between\n```console\n$ true\n```\n",
            "<!-- ci: run -->\n```toml\n```\n```sh\n$ true\n```\n",
            "<!-- ci: rnu -->\n```console\n$ true\n```\n",
            "<!-- ci: run -->\n```console\ntrue\n```\n",
        ] {
            assert!(parse("f", text).is_err(), "{text}");
        }
    }
}
