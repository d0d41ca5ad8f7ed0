//! `cargo lab readme`: runs the commands of README.md and `docs/*.md` as written.
//!
//! A line before each fenced block of commands (`console`, `sh`, `bash`, `shell`) says how the block is treated:
//!
//! ```text
//! <!-- ci: run -->                 run in the workspace's root by `bash -e`
//! <!-- ci: run against the testbed's Hub -->
//!                                  run in a directory with a workflow.json, with the testbed's Hub (`hub`)
//! <!-- ci: run by .ci/run -->      run by that file, which has to contain the commands word for word
//! <!-- ci: run by cargo lab containers -->
//!                                  run by that command with a Docker engine
//! <!-- ci: run by cargo lab containers beside a workflow -->
//!                                  the same, in a directory with a workflow.json
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

mod hub;

use std::fmt;
use std::process::Output;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use xshell::{Shell, cmd};

use crate::project;

/// The tags of the treatments. The documents must have a block for each.
const TAGS: [(&str, Treatment); 8] = [
    ("run", Treatment::Run),
    ("run against the testbed's Hub", Treatment::Hub),
    ("run by .ci/run", Treatment::CiScript),
    ("run by cargo lab containers", Treatment::Containers),
    ("run by cargo lab containers beside a workflow", Treatment::ContainersWorkflow),
    ("run by cargo lab containers in a repository", Treatment::Repository),
    ("run by cargo lab containers in a repository whose branch has moved", Treatment::RepositoryMoved),
    ("example", Treatment::Example),
];

/// The first pages and the most lines that they may have: a newcomer reads each in one sitting.
const LIMITS: [(&str, usize); 2] = [("README.md", 150), ("ARCHITECTURE.md", 180)];

/// Runs the commands of README.md and docs/*.md as written
#[derive(Debug, Clone, Args)]
pub(crate) struct ReadmeArgs {
    /// Only list them with their treatment
    #[arg(long)]
    list: bool,
}

/// The treatment of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treatment {
    Run,
    Hub,
    CiScript,
    Containers,
    ContainersWorkflow,
    Repository,
    RepositoryMoved,
    Example,
}

/// A fenced block of commands.
#[derive(Debug)]
pub(crate) struct Block {
    /// The file and the line of the fence: `README.md:12`.
    pub(crate) place: String,
    pub(crate) treatment: Treatment,
    pub(crate) commands: Vec<String>,
}

pub(crate) fn run(args: &ReadmeArgs) -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    for (file, limit) in LIMITS {
        let lines = sh.read_file(file)?.lines().count();
        ensure!(lines <= limit, "{file} has {lines} lines, more than {limit}: move details to docs/");
    }
    let blocks = blocks()?;
    for (tag, treatment) in TAGS {
        let is_used = blocks.iter().any(|block| block.treatment == treatment);
        ensure!(
            is_used,
            "README.md and docs/*.md have no block with <!-- ci: {tag} -->: one was lost, or its tag is wrong"
        );
    }
    for block in blocks {
        println!("{block}");
        if !args.list {
            block.check(&sh).with_context(|| block.place.clone())?;
        }
    }
    Ok(())
}

/// The blocks of README.md and `docs/*.md`.
pub(crate) fn blocks() -> Result<Vec<Block>> {
    let mut files = vec!["README.md".to_owned()];
    for entry in project::root().join("docs").read_dir_utf8()? {
        let entry = entry?;
        if entry.path().extension() == Some("md") {
            files.push(format!("docs/{}", entry.file_name()));
        }
    }
    files.sort();
    let mut blocks = Vec::new();
    for file in files {
        blocks.extend(parse(&file, &std::fs::read_to_string(project::root().join(&file))?)?);
    }
    Ok(blocks)
}

impl Block {
    fn check(&self, sh: &Shell) -> Result<()> {
        let script = self.commands.join("\n");
        match self.treatment {
            Treatment::Example
            | Treatment::Containers
            | Treatment::ContainersWorkflow
            | Treatment::Repository
            | Treatment::RepositoryMoved => Ok(()),
            Treatment::CiScript => {
                let text = sh.read_file(".ci/run")?;
                let missing = self.commands.iter().find(|command| !text.contains(command.as_str()));
                ensure!(missing.is_none(), ".ci/run does not contain the command {missing:?}");
                Ok(())
            }
            Treatment::Run => {
                let bash = cmd!(sh, "bash -e -u -o pipefail -c {script}").quiet().ignore_status();
                succeeded(&script, &bash.output()?)
            }
            Treatment::Hub => {
                let fixture = hub::HubFixture::new()?;
                succeeded(&script, &fixture.run(sh, &script)?)?;
                fixture.verify(sh)
            }
        }
    }
}

fn succeeded(script: &str, output: &Output) -> Result<()> {
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
        let tag = TAGS.iter().find(|(_, treatment)| *treatment == self.treatment).map_or("", |(tag, _)| tag);
        write!(f, "{}: {tag}", self.place)?;
        self.commands.iter().try_for_each(|command| write!(f, "\n    $ {command}"))
    }
}

/// The blocks of a document.
fn parse(file: &str, text: &str) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut treatment = None;
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let (place, line) = (format!("{file}:{}", index + 1), line.trim());
        if let Some(tag) = line.strip_prefix("<!-- ci:").and_then(|rest| rest.strip_suffix("-->")) {
            let known = TAGS.iter().find(|(known, _)| *known == tag.trim());
            let (_, known) = known.with_context(|| format!("{place}: `ci:{tag}` is none of {TAGS:?}"))?;
            treatment = Some(*known);
        } else if let Some(language) = line.strip_prefix("```") {
            let body: Vec<_> =
                lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```").collect();
            let treatment = treatment.take();
            if !matches!(language.trim(), "console" | "sh" | "bash" | "shell") {
                continue;
            }
            let Some(treatment) = treatment else {
                bail!(
                    "{place}: add a tag above this block, such as <!-- ci: run --> or <!-- ci: example -->"
                );
            };
            let commands = commands(&body);
            ensure!(
                !commands.is_empty() || treatment == Treatment::Example,
                "{place}: no line of this block begins with `$ `, so there is nothing to run"
            );
            blocks.push(Block { place, treatment, commands });
        } else if !line.is_empty() {
            treatment = None;
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
    fn a_block_has_the_treatment_of_the_tag_right_above_it() {
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
        let treatments: Vec<_> = blocks.iter().map(|block| (block.place.as_str(), block.treatment)).collect();
        assert_eq!(
            treatments,
            [
                ("f:3", Treatment::Run),
                ("f:8", Treatment::CiScript),
                ("f:13", Treatment::Hub),
                ("f:22", Treatment::Example)
            ]
        );
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
