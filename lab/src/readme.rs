//! The README's commands, run as written.
//!
//! A line before each fenced block of commands (`console`, `sh`, `bash`, `shell`) says what is done with it:
//!
//! ```text
//! <!-- ci: run -->                 run here, in the workspace's root, by `bash -e`
//! <!-- ci: run against the testbed's Hub -->
//!                                  run here, in a directory with a workflow.json, the Hub being the testbed's (`hub`)
//! <!-- ci: run by .ci/run -->      not run here: that file runs it, and the commands stand in it, word for word
//! <!-- ci: run by cargo lab containers -->
//!                                  not run here: it needs a Docker engine, and that command runs it
//! <!-- ci: example -->             not run: it needs a network, a token, or a day
//! ```
//!
//! A block without such a line is an error, so that none is forgotten. The commands of a block are its lines that
//! begin with `$ `, with those that a backslash at the end continues; other lines are what they print.

#![expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]

mod hub;

use std::fmt;
use std::process::Output;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use xshell::{Shell, cmd};

use crate::project;

/// The tag of [`Treatment::Containers`].
const CONTAINERS: &str = "run by cargo lab containers";

/// The tag of [`Treatment::Hub`].
const HUB: &str = "run against the testbed's Hub";

/// Runs the README's commands as written
#[derive(Debug, Clone, Args)]
pub(crate) struct ReadmeArgs {
    /// Only list them, with what would be done
    #[arg(long)]
    pub(crate) list: bool,
}

/// What is done with a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Treatment {
    Run,
    /// With the testbed's Hub, in a directory that has a workflow.
    Hub,
    /// By the container checks.
    Containers,
    RunBy(String),
    Example,
}

/// A fenced block of commands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The fence's line, from 1.
    pub(crate) line: usize,
    pub(crate) treatment: Treatment,
    pub(crate) commands: Vec<String>,
}

pub(crate) fn run(args: &ReadmeArgs) -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    let blocks = blocks()?;
    ensure!(
        blocks.iter().any(|block| block.treatment == Treatment::Run),
        "README.md has no block of commands to run: mark one with <!-- ci: run -->"
    );
    for block in &blocks {
        println!("README.md:{}: {}", block.line, block.treatment);
        for command in &block.commands {
            println!("    $ {command}");
        }
        if !args.list {
            block.prove(&sh).with_context(|| format!("README.md:{}", block.line))?;
        }
    }
    Ok(())
}

/// The README's blocks of commands.
pub(crate) fn blocks() -> Result<Vec<Block>> {
    let path = project::root().join("README.md");
    parse(&std::fs::read_to_string(&path)?).context(path)
}

impl Block {
    fn prove(&self, sh: &Shell) -> Result<()> {
        match &self.treatment {
            Treatment::Example | Treatment::Containers => Ok(()),
            Treatment::RunBy(path) => {
                let text = sh.read_file(path)?;
                match self.commands.iter().find(|command| !text.contains(command.as_str())) {
                    None => Ok(()),
                    Some(command) => bail!("`{command}` should be run by {path}, which does not contain it"),
                }
            }
            Treatment::Run => {
                let script = self.commands.join("\n");
                let output =
                    cmd!(sh, "bash -e -u -o pipefail -c {script}").quiet().ignore_status().output()?;
                succeeded(&script, &output)
            }
            Treatment::Hub => {
                let script = self.commands.join("\n");
                let bench = hub::Bench::new()?;
                succeeded(&script, &bench.run(sh, &script)?)?;
                bench.check()
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

impl fmt::Display for Treatment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run => f.write_str("run"),
            Self::RunBy(path) => write!(f, "run by {path}"),
            Self::Hub => f.write_str(HUB),
            Self::Containers => f.write_str(CONTAINERS),
            Self::Example => f.write_str("an example, not run"),
        }
    }
}

fn parse(text: &str) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut treatment = None;
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let line_number = number + 1;
        let line = line.trim();
        if let Some(tag) = line.strip_prefix("<!-- ci:").and_then(|rest| rest.strip_suffix("-->")) {
            treatment = Some(parse_tag(tag.trim()).with_context(|| format!("line {line_number}"))?);
        } else if let Some(language) = line.strip_prefix("```") {
            let body: Vec<_> =
                lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```").collect();
            let treatment = treatment.take();
            if !matches!(language.trim(), "console" | "sh" | "bash" | "shell") {
                continue;
            }
            let Some(treatment) = treatment else {
                bail!(
                    "line {line_number}: say above this block whether CI runs it: <!-- ci: run -->, <!-- ci: example -->"
                );
            };
            let commands = commands(&body);
            ensure!(
                !commands.is_empty() || treatment == Treatment::Example,
                "line {line_number}: no line of this block begins with `$ `, so there is nothing to run"
            );
            blocks.push(Block { line: line_number, treatment, commands });
        } else if !line.is_empty() {
            treatment = None;
        }
    }
    Ok(blocks)
}

fn parse_tag(tag: &str) -> Result<Treatment> {
    match tag {
        "run" => Ok(Treatment::Run),
        HUB => Ok(Treatment::Hub),
        CONTAINERS => Ok(Treatment::Containers),
        "example" => Ok(Treatment::Example),
        _ => match tag.strip_prefix("run by ") {
            Some(path) => Ok(Treatment::RunBy(path.trim().to_owned())),
            None => {
                bail!("`ci: {tag}` is none of `run`, `{HUB}`, `run by PATH`, `{CONTAINERS}` and `example`")
            }
        },
    }
}

fn commands(body: &[&str]) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut continues = false;
    for line in body {
        if continues {
            if let Some(command) = commands.last_mut() {
                command.push('\n');
                command.push_str(line);
            }
        } else if let Some(command) = line.strip_prefix("$ ") {
            commands.push(command.to_owned());
        } else {
            continue;
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
    fn each_block_has_the_treatment_right_above_it() {
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
        let blocks = parse(text).unwrap();
        let treatments: Vec<_> = blocks.iter().map(|block| (block.line, block.treatment.clone())).collect();
        assert_eq!(
            treatments,
            [
                (3, Treatment::Run),
                (8, Treatment::RunBy(".ci/run".to_owned())),
                (13, Treatment::Hub),
                (22, Treatment::Example)
            ]
        );
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
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
