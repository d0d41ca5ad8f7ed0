//! The options of the sources of files: the patience with hosts, sources beside each other, and this machine's own
//! files.

use std::time::Duration;

use camino::Utf8PathBuf;
use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};

use super::super::units;
use provision_core::backoff::RetryPolicy;
use provision_engine::fetch::{Reuse, ReuseMode, Store};

/// The default time without a byte that ends the last source of a fetch.
const GIVE_UP: Duration = Duration::from_mins(1);
/// The same of a container start, whose network may come late.
pub(super) const GIVE_UP_AT_START: Duration = Duration::from_mins(5);
/// The same of a lock verb: a person waits.
const GIVE_UP_IN_LOCK: Duration = Duration::from_secs(10);

/// The patience with hosts.
#[derive(Args, Debug, Clone, Copy)]
pub struct Patience {
    /// Failures in a row, without a byte gained, that end a source; given alone, no time is waited for [default: 5]
    #[arg(long, value_name = "N", env = "PROVISION_RETRIES", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub retries: Option<u32>,
    /// The time without a byte that must pass, too, before the last source ends, such as 90s [default: 1m, for ensure
    /// 5m, for lock 10s]
    #[arg(long, value_name = "TIME", env = "PROVISION_GIVE_UP_AFTER", value_parser = units::parse_duration)]
    pub give_up_after: Option<Duration>,
}

impl Patience {
    /// The retry policy; `usual` is the command's time without a byte.
    pub(super) fn policy(self, usual: Duration) -> RetryPolicy {
        let usual_policy = RetryPolicy::default();
        let unasked = if self.retries.is_some() { Duration::ZERO } else { usual };
        RetryPolicy {
            retries: self.retries.unwrap_or(usual_policy.retries),
            give_up_after: self.give_up_after.unwrap_or(unasked),
            ..usual_policy
        }
    }

    /// The retry policy of a fetch.
    pub fn in_fetch(self) -> RetryPolicy {
        self.policy(GIVE_UP)
    }

    /// The retry policy of a lock verb.
    pub fn in_lock(self) -> RetryPolicy {
        self.policy(GIVE_UP_IN_LOCK)
    }
}

/// The sources of a file that are used at the same time.
#[derive(Args, Debug, Clone, Default)]
pub struct SourcesArgs {
    /// Ask one source of a file at a time: the next one only when it fails
    #[arg(long, env = "PROVISION_ONE_SOURCE", value_parser = FalseyValueParser::new())]
    pub one_source: bool,
    /// Ask the lock's addresses beside stores that together give less for ten seconds; in bytes/s, such as 50M
    /// [default: only where no store has the file]
    #[arg(long, value_name = "RATE", env = "PROVISION_ORIGIN_BELOW", value_parser = units::parse_rate)]
    pub origin_below: Option<u64>,
    /// Never ask the lock's addresses: a file that no store has fails
    #[arg(long, env = "PROVISION_STORE_ONLY", value_parser = FalseyValueParser::new(), conflicts_with = "origin_below")]
    pub store_only: bool,
}

/// The use of the disks and the memory of this machine.
#[derive(Args, Debug, Clone)]
pub struct MachineArgs {
    /// Any directory of models, such as a Hugging Face cache or ollama's: it is only read, and what it has is not
    /// downloaded (repeatable)
    #[arg(long, value_name = "DIR", env = "PROVISION_REUSE", value_delimiter = ',')]
    pub reuse: Vec<Utf8PathBuf>,
    /// The way of reused files into the destination
    #[arg(long, value_name = "HOW", env = "PROVISION_REUSE_MODE", value_enum, default_value_t = ReuseModeArg::Copy)]
    pub reuse_mode: ReuseModeArg,
    /// Read the complete set into free memory once, the smallest files first, as far as they fit: the next program
    /// finds them there
    #[arg(long, env = "PROVISION_WARM", value_parser = FalseyValueParser::new())]
    pub warm: bool,
}

impl MachineArgs {
    /// The stores of other programs. The variables of those programs name `more`; a store that is named twice is one.
    pub fn reuse(&self, more: Option<Store>) -> Reuse {
        // A comma at the end of a list names nothing.
        let named = self.reuse.iter().filter(|path| !path.as_str().is_empty());
        let named = named.map(|path| Store { path: path.clone(), variable: None });
        let more = more.filter(|store| !self.reuse.contains(&store.path));
        let mode = match self.reuse_mode {
            ReuseModeArg::Copy => ReuseMode::Copy,
            ReuseModeArg::Link => ReuseMode::Link,
        };
        Reuse { stores: named.chain(more).collect(), mode }
    }
}

/// The way of a reused file into the destination.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReuseModeArg {
    /// Copy it (sharing blocks where the file system can)
    Copy,
    /// Make it one file with the other program's, by a hard link; a copy where that is not possible
    Link,
}
