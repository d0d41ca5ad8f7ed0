//! Session with the hosts, shared by the lock verbs: the HTTP client, messages about waits, exit codes of failures.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::cli::arguments::{DestinationArg, Patience};
use crate::cli::exit::{Code, Failure};
use crate::cli::progress::{Mode, Progress, Verbosity, Work};
use crate::cli::{draw, environment, process, say, units};
use camino::Utf8PathBuf;
use clap::Args;
use provision_core::backoff::RetryPolicy;
use provision_core::event::{Event, Observer};
use provision_core::lockfile::TakenPaths;
use provision_core::shortened_list::shortened_list;
use provision_core::source_url::SourceUrl;
use provision_core::terminal_text::TerminalText;
use provision_disk::is_in_layer;
use provision_engine::unpinned::{CacheLimit, UnpinnedError};
use provision_http::metadata::{OnWait, Wait};
use provision_http::{HttpClient, RequestError, Sources};
use provision_lock::digest_reader::{DigestError, DigestReader, ReadCache};
use provision_lock::entry_builder::{EntryBuilder, EntryError};
use provision_lock::resolve::{Kind, Resolver};

use super::local_files::FilesArgs;

/// The directories for bytes that must be read.
#[derive(Debug, Clone, Args)]
pub(super) struct Parts {
    /// The cache that keeps files without a digest from their host, for the next fetch [default:
    /// `$XDG_CACHE_HOME/provision`, else `~/.cache/provision`]
    #[arg(long, value_name = "DIR", env = "PROVISION_CACHE")]
    cache: Option<Utf8PathBuf>,
    /// The most bytes that the cache keeps, such as 20G; the files that were used longest ago go first. A file without
    /// room goes below --dest [default: 50G for the user's cache, where nothing makes room; no limit for --cache]
    #[arg(long, value_name = "SIZE", env = "PROVISION_CACHE_SIZE", value_parser = units::parse_size)]
    cache_size: Option<u64>,
    /// The directory for those files without a cache, as a fetch has it.
    #[command(flatten)]
    at: DestinationArg,
}

/// The most bytes in the user's cache, if nothing else is said.
const CACHE_SIZE: u64 = 50_000_000_000;

impl Parts {
    /// True if the destination is called `models`.
    pub(super) fn is_models(&self) -> bool {
        self.at.path().file_name() == Some("models")
    }

    /// The location of their files afterwards.
    pub(super) fn files(&self) -> FilesArgs {
        FilesArgs { at: self.at.clone(), cache: self.cache.clone() }
    }

    /// The cache. One that the user named is bounded only on request: it may be shared. The layer of a container that
    /// exists for this command goes away with it, so the user's cache is not kept there.
    fn cache(&self) -> Option<ReadCache> {
        let asked = self.cache_size.map(|bytes| CacheLimit { bytes, evicts: true });
        if let Some(directory) = self.cache.clone() {
            return Some(ReadCache { directory, limit: asked });
        }
        let is_lost = |directory: &Utf8PathBuf| process::is_first() && is_in_layer(directory);
        let directory = environment::user_cache().filter(|directory| !is_lost(directory))?;
        // A fetch may have stored its models there, so nothing goes unless a size was asked for.
        let limit = asked.unwrap_or(CacheLimit { bytes: CACHE_SIZE, evicts: false });
        Some(ReadCache { directory, limit: Some(limit) })
    }
}

/// The time limit for an answer's head. Two of them end within the minute that a lock verb gives a silent host.
const HEAD_TIMEOUT: Duration = Duration::from_secs(25);

/// A session with hosts.
pub(super) struct HostSession {
    runtime: tokio::runtime::Runtime,
    origin: Arc<HttpClient>,
    retry: RetryPolicy,
    drawn: Arc<Drawn>,
}

impl HostSession {
    /// A session that asks the user's own sources.
    pub(super) fn start(patience: Patience) -> Result<Self, Failure> {
        Self::start_for(Sources::Own, patience)
    }

    pub(super) fn start_for(sources: Sources, patience: Patience) -> Result<Self, Failure> {
        let (mut config, warnings) = environment::origin()?;
        config.head_timeout = HEAD_TIMEOUT;
        config.sources = sources;
        for warning in warnings {
            say(format_args!("warning: {warning}"));
        }
        let origin = HttpClient::new(config).map_err(|error| Failure::new(Code::Usage, error))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Code::Unexpected, error))?;
        Ok(Self { runtime, origin, retry: patience.in_lock(), drawn: Arc::default() })
    }

    /// The URL as it is asked, for messages.
    pub(super) fn asked(&self, url: &SourceUrl) -> SourceUrl {
        self.origin.effective(url)
    }

    pub(super) fn resolver(&self) -> Resolver {
        Resolver::new(&self.origin, self.retry.clone(), on_wait())
    }

    pub(super) fn builder(&self, parts: &Parts, allow_expiring: bool) -> Result<EntryBuilder, Failure> {
        let observer: Arc<dyn Observer> = self.drawn.clone();
        let at = parts.at.with_installation()?;
        let reader =
            DigestReader::new(self.origin.clone(), self.retry.clone(), on_wait(), at.path(), observer)
                .with_cache(parts.cache())
                .with_folders(at.installation().folders.clone());
        let taken = TakenPaths::default();
        Ok(EntryBuilder { resolver: self.resolver(), reader, allow_expiring, taken })
    }

    /// Waits for a result, then finishes the progress display.
    pub(super) fn wait_for<T>(&self, future: impl Future<Output = T>) -> T {
        let answer = self.runtime.block_on(future);
        self.finish_drawing();
        answer
    }

    /// Removes progress from the screen before other output.
    pub(super) fn finish_drawing(&self) {
        self.drawn.finish();
    }
}

fn on_wait() -> OnWait {
    Arc::new(|wait: &Wait| say(TerminalText(wait)))
}

/// Draws one file after another, each as a run of its own.
#[derive(Default)]
struct Drawn {
    progress: Mutex<Option<Arc<dyn Progress>>>,
    /// The directory that the next file is read into.
    place: Mutex<String>,
}

impl Drawn {
    fn finish(&self) {
        let current = lock(&self.progress).take();
        if let Some(progress) = current {
            progress.finish();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Observer for Drawn {
    fn observe(&self, event: &Event) {
        if let Event::Opened { destination, .. } = event {
            destination.clone_into(&mut lock(&self.place));
            return;
        }
        if matches!(event, Event::Planned { .. }) {
            self.finish();
            let work = Work::Read(lock(&self.place).clone());
            *lock(&self.progress) = Some(draw(Mode::Auto, Verbosity::Normal, work));
        }
        let current = lock(&self.progress).clone();
        match (current, event) {
            (Some(progress), _) => progress.observe(event),
            // Before the first file.
            (None, Event::Warning { message }) => say(TerminalText(format_args!("warning: {message}"))),
            _ => {}
        }
    }
}

/// The exit code for a host's answer.
pub(super) fn code_of(kind: Kind) -> Code {
    match kind {
        Kind::Untrusted => Code::Usage,
        Kind::Unreachable | Kind::Gone => Code::Network,
        Kind::Refused => Code::Refused,
        Kind::Differs => Code::Integrity,
    }
}

/// The exit code for an entry that could not be made.
pub(super) fn code_of_entry(error: &EntryError) -> Code {
    match (error.kind(), error) {
        (Some(kind), _) => code_of(kind),
        (None, EntryError::Digest { error: DigestError::Download(UnpinnedError::Busy { .. }), .. }) => {
            Code::Busy
        }
        (None, EntryError::Digest { .. }) => Code::Disk,
        (None, _) => Code::Usage,
    }
}

/// The failures of single models.
#[derive(Debug, Default)]
pub(super) struct Failures {
    all: Vec<(Code, String)>,
    /// Failures of hosts that gave no answer, each with the entries that it counts for.
    silences: Vec<(String, Vec<String>)>,
}

/// The entries that a message names, if more share its failure.
const NAMED: usize = 3;

impl Failures {
    pub(super) fn add(&mut self, code: Code, message: impl std::fmt::Display) {
        // An error of a lock has several lines. Texts of hosts and lists are in any of them.
        let message = message.to_string();
        let lines: Vec<String> = message.lines().map(|line| TerminalText(line).to_string()).collect();
        self.all.push((code, lines.join("\n")));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.silences.is_empty()
    }

    /// Adds the failure of `entry`. One of a host that gives no answer is told once for all its entries (fault 98).
    pub(super) fn add_of_host(
        &mut self,
        code: Code,
        entry: impl std::fmt::Display,
        silence: Option<&RequestError>,
        message: impl std::fmt::Display,
    ) {
        let Some(silence) = silence.map(ToString::to_string) else { return self.add(code, message) };
        let entry = TerminalText(entry).to_string();
        match self.silences.iter_mut().find(|(other, _)| *other == silence) {
            Some((_, entries)) => entries.push(entry),
            None => self.silences.push((silence, vec![entry])),
        }
    }

    /// Ends with the worst failure, as a fetch does: integrity before refusal before disk before network.
    pub(super) fn conclude(mut self, what: &str) -> Result<(), Failure> {
        let count = self.all.len() + self.silences.iter().map(|(_, entries)| entries.len()).sum::<usize>();
        for (silence, entries) in std::mem::take(&mut self.silences) {
            self.add(Code::Network, format_args!("{}: {silence}", shortened_list(entries, NAMED)));
        }
        let rank = |code: &Code| match code {
            Code::Integrity => 7,
            Code::Refused => 6,
            Code::Disk => 5,
            Code::Busy => 4,
            Code::Network => 3,
            Code::Lock => 2,
            Code::Usage => 1,
            _ => 8,
        };
        let Some(worst) = self.all.iter().map(|(code, _)| *code).max_by_key(rank) else { return Ok(()) };
        if let ([(_, message)], 1) = (&self.all[..], count) {
            return Err(Failure::new(worst, format!("{what}: {message}")));
        }
        let mut message = format!("{what}: {}", units::count(count, "failure"));
        for (_, one) in &self.all {
            message = format!("{message}\n  {one}");
        }
        Err(Failure::new(worst, message))
    }
}
