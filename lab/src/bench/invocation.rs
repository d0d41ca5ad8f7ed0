//! A command to be measured, as data.

use std::process::Command;

use camino::Utf8PathBuf;

/// What is run.
#[derive(Debug, Clone)]
pub(super) struct Invocation {
    pub(super) program: Utf8PathBuf,
    pub(super) arguments: Vec<String>,
    /// What it sees besides `PATH` and an empty `HOME`: no proxy, token or configuration of a person's has any business
    /// in a measurement.
    pub(super) environment: Vec<(&'static str, String)>,
}

impl Invocation {
    pub(super) fn new<A: Into<String>>(
        program: impl Into<Utf8PathBuf>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let arguments = arguments.into_iter().map(Into::into).collect();
        Self { program: program.into(), arguments, environment: Vec::new() }
    }

    pub(super) fn with<A: Into<String>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    pub(super) fn see(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// The command, behind `before`: a program that is to start it, with its options.
    pub(super) fn command(&self, before: &[&str]) -> Command {
        let mut words = before.iter().copied().chain([self.program.as_str()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).args(&self.arguments).env_clear();
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}
