//! An injection: a job, the number of one of its calls, and what happens there. Its text form repeats it.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum as _;

use super::job::Job;

/// An error of the kernel: its name, and its number on Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(&'static str, i32);

/// A call that was interrupted has to be made again.
pub(super) const EINTR: Errno = Errno("EINTR", 4);
const ERRNOS: [Errno; 6] = [
    Errno("ENOSPC", 28),
    Errno("EIO", 5),
    Errno("EROFS", 30),
    Errno("EDQUOT", 122),
    Errno("EACCES", 13),
    EINTR,
];
/// The first of these can last. An interruption cannot.
const LASTING: usize = 3;

/// The disturbance at the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// SIGKILL before the call.
    Kill,
    /// SIGKILL after it.
    KillAfter,
    /// Half of a write is done.
    Short,
    /// The call fails.
    Fail(Errno),
    /// The call and all later ones fail.
    FailOn(Errno),
}

impl Action {
    pub(super) fn kills() -> Vec<Self> {
        vec![Self::Kill, Self::KillAfter]
    }

    pub(super) fn failures() -> Vec<Self> {
        let lasting = ERRNOS.into_iter().take(LASTING).map(Self::FailOn);
        ERRNOS.into_iter().map(Self::Fail).chain(lasting).chain([Self::Short]).collect()
    }

    /// The tracer's word for it.
    pub(super) fn tracer_word(self) -> String {
        match self {
            Self::Fail(Errno(_, number)) => format!("error={number}"),
            Self::FailOn(Errno(_, number)) => format!("errors={number}"),
            action => action.to_string(),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill => f.write_str("kill"),
            Self::KillAfter => f.write_str("kill-after"),
            Self::Short => f.write_str("short"),
            Self::Fail(Errno(name, _)) => f.write_str(name),
            Self::FailOn(Errno(name, _)) => write!(f, "{name}+"),
        }
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
        let Ok(job) = Job::from_str(job, false) else {
            bail!(
                "no job {job}; there are {}",
                Job::value_variants().iter().map(Job::to_string).collect::<Vec<_>>().join(", ")
            )
        };
        let actions = [Action::kills(), Action::failures()].concat();
        let lasting = ERRNOS.into_iter().map(Action::FailOn);
        let action = actions.into_iter().chain(lasting).find(|known| known.to_string() == action);
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
