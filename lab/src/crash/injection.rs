//! An injection: a job, the number of one of its calls, and what happens there. Its text form repeats it.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum as _;

use super::job::Job;

/// The disturbance at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Action {
    pub(super) kind: Kind,
    name: &'static str,
    /// The tracer's word for it. An error has its number on Linux.
    pub(super) tracer_word: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// SIGKILL before the call.
    Kill,
    /// SIGKILL after it.
    KillAfter,
    /// The call is interrupted, or half of a write is done. It has to be made again.
    Again,
    /// The call fails.
    Fail,
    /// The call and all later ones fail.
    FailOn,
}

const fn action(kind: Kind, name: &'static str, tracer_word: &'static str) -> Action {
    Action { kind, name, tracer_word }
}

/// The call is interrupted by a signal, and nothing is done.
pub(super) const EINTR: Action = action(Kind::Again, "EINTR", "error=4");
pub(super) const KILLS: [Action; 2] =
    [action(Kind::Kill, "kill", "kill"), action(Kind::KillAfter, "kill-after", "kill-after")];
pub(super) const FAILURES: [Action; 10] = [
    action(Kind::Fail, "ENOSPC", "error=28"),
    action(Kind::Fail, "EIO", "error=5"),
    action(Kind::Fail, "EROFS", "error=30"),
    action(Kind::Fail, "EDQUOT", "error=122"),
    action(Kind::Fail, "EACCES", "error=13"),
    EINTR,
    action(Kind::FailOn, "ENOSPC+", "errors=28"),
    action(Kind::FailOn, "EIO+", "errors=5"),
    action(Kind::FailOn, "EROFS+", "errors=30"),
    action(Kind::Again, "short", "short"),
];

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// See the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Injection {
    pub(super) job: Job,
    /// The call's number, over all threads, from 1.
    pub(super) at: u64,
    pub(super) action: Action,
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.job, self.at, self.action)
    }
}

impl FromStr for Injection {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let [job, at, action] = text.splitn(3, ':').collect::<Vec<_>>()[..] else {
            bail!("an injection is JOB:N:ACTION, such as fetch:17:kill")
        };
        let job = Job::from_str(job, false).ok().with_context(|| format!("there is no job {job}"))?;
        let action = KILLS.into_iter().chain(FAILURES).find(|known| known.name == action);
        let action =
            action.context("no such action; there are kill, kill-after, short, ENOSPC, ENOSPC+, …")?;
        Ok(Self { job, at: at.parse()?, action })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_injection_parses_from_its_own_text() {
        for text in
            ["fetch:17:kill", "layers:1:kill-after", "link:3:EIO", "cache:9:ENOSPC+", "resume:2:short"]
        {
            assert_eq!(text.parse::<Injection>().unwrap().to_string(), text);
        }
        assert!("fetch:17".parse::<Injection>().is_err());
        assert!("nothing:17:kill".parse::<Injection>().is_err());
        assert!("fetch:17:EPERM".parse::<Injection>().is_err());
    }
}
