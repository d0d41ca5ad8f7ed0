//! What is struck: a job, the number of a call in it, and what happens there. As text, so that a failure can say how to
//! repeat it.

#![expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use fastrand::Rng;

use super::context::CrashContext;
use super::job::Job;
use super::tracer::Call;
use super::{errors, kills};

/// A system's word for what failed, with its number on Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Errno {
    Enospc,
    Eio,
    Edquot,
    Erofs,
    Eacces,
    Eintr,
}

impl Errno {
    pub(super) const ALL: [Self; 6] =
        [Self::Enospc, Self::Eio, Self::Edquot, Self::Erofs, Self::Eacces, Self::Eintr];

    pub(super) fn number(self) -> i32 {
        match self {
            Self::Enospc => 28,
            Self::Eio => 5,
            Self::Edquot => 122,
            Self::Erofs => 30,
            Self::Eacces => 13,
            Self::Eintr => 4,
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", format!("{self:?}").to_uppercase())
    }
}

/// What happens at the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// SIGKILL before it is executed.
    Kill,
    /// SIGKILL after it.
    KillAfter,
    /// It fails.
    Fail(Errno),
    /// It fails, and so does every later one.
    FailOn(Errno),
    /// Half of what is to be written is.
    Short,
}

impl Action {
    /// For the tracer.
    pub(super) fn word(self) -> String {
        match self {
            Self::Kill => "kill".to_owned(),
            Self::KillAfter => "kill-after".to_owned(),
            Self::Fail(errno) => format!("error={}", errno.number()),
            Self::FailOn(errno) => format!("errors={}", errno.number()),
            Self::Short => "short".to_owned(),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail(errno) => write!(f, "{errno}"),
            Self::FailOn(errno) => write!(f, "{errno}+"),
            action => f.write_str(&action.word()),
        }
    }
}

impl FromStr for Action {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let all = [Self::Kill, Self::KillAfter, Self::Short]
            .into_iter()
            .chain(Errno::ALL.map(Self::Fail))
            .chain(Errno::ALL.map(Self::FailOn));
        let found = all.into_iter().find(|action| action.to_string() == text);
        found.with_context(|| format!("no action {text}: kill, kill-after, short, ENOSPC, ENOSPC+, …"))
    }
}

/// A strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Injection {
    pub(super) job: Job,
    /// The call's number, over all threads, from 1.
    pub(super) at: u64,
    pub(super) action: Action,
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.job.name(), self.at, self.action)
    }
}

impl FromStr for Injection {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.splitn(3, ':');
        let (Some(job), Some(at), Some(action)) = (parts.next(), parts.next(), parts.next()) else {
            bail!("a strike is JOB:N:ACTION, such as fetch:17:kill")
        };
        let job = Job::ALL.into_iter().find(|known| known.name() == job);
        Ok(Self {
            job: job
                .with_context(|| format!("no such job; there are {}", Job::ALL.map(Job::name).join(", ")))?,
            at: at.parse()?,
            action: action.parse()?,
        })
    }
}

impl Injection {
    /// What repeats it.
    pub(super) fn repeat(&self) -> String {
        format!(
            "to repeat: cargo lab crash --strike {self} (threads take turns differently: it may take several)"
        )
    }

    /// This strike, twenty times.
    pub(super) fn again(&self, context: &CrashContext, seed: u64) -> Result<()> {
        let strikes = vec![*self; 20];
        let summary = match self.action {
            Action::Kill | Action::KillAfter => kills::strike_all(context, strikes)?,
            _ => errors::strike_all(context, strikes)?.1,
        };
        println!("{}\n(seed {seed})", summary.table("call"));
        Ok(())
    }
}

/// `count` of the calls' numbers: round after round one of each kind of call, so that what is rare is struck, too.
pub(super) fn spread(calls: &[Call], count: usize, rng: &mut Rng) -> Vec<u64> {
    let mut kinds: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for call in calls {
        kinds.entry(call.kind()).or_default().push(call.number);
    }
    let mut kinds: Vec<Vec<u64>> = kinds.into_values().collect();
    let mut chosen = Vec::new();
    for numbers in &mut kinds {
        rng.shuffle(numbers);
    }
    while chosen.len() < count && kinds.iter().any(|numbers| !numbers.is_empty()) {
        // Another order each time: where the count ends midway, no kind is always the one that is left out.
        rng.shuffle(&mut kinds);
        chosen.extend(kinds.iter_mut().filter_map(Vec::pop));
    }
    chosen.truncate(count);
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strike_is_read_as_it_is_written() {
        for text in
            ["fetch:17:kill", "layers:1:kill-after", "link:3:EIO", "cache:9:ENOSPC+", "resume:2:short"]
        {
            assert_eq!(text.parse::<Injection>().unwrap().to_string(), text);
        }
        assert!("fetch:17".parse::<Injection>().is_err());
        assert!("nothing:17:kill".parse::<Injection>().is_err());
        assert!("fetch:17:EPERM".parse::<Injection>().is_err());
    }

    #[test]
    fn every_kind_is_chosen_before_any_is_chosen_twice_and_a_seed_decides() {
        let call = |number, name: &str| Call { number, name: name.to_owned(), what: "/d/.x.part".to_owned() };
        let calls: Vec<_> = (1..=90)
            .map(|number| call(number, "pwrite64"))
            .chain([call(91, "fsync"), call(92, "mkdirat")])
            .collect();
        let chosen = spread(&calls, 5, &mut Rng::with_seed(7));
        assert!(chosen.contains(&91) && chosen.contains(&92), "{chosen:?}");
        assert_eq!(chosen.len(), 5);
        assert_eq!(chosen, spread(&calls, 5, &mut Rng::with_seed(7)));
        assert_eq!(spread(&calls, 1000, &mut Rng::with_seed(7)).len(), 92, "each once");
    }
}
