//! `store push` and `store check`: fills a store from the files of this machine, and reports the files of a lock that a
//! store has.

use std::sync::Arc;

use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use serde_json::json;

use super::arguments::{Choice, LocksAndDestination, Output, Patience};
use super::environment::{self, Network};
use super::exit::{Code, Failure};
use super::locks::Access;
use super::output::escaped;
use super::progress::{self, Mode, Progress, Verbosity, Work};
use super::signals::{self, StoppableRun};
use super::{fetch, locks, print_line, say, units};
use provision_core::event::Observer;
use provision_core::lockfile::Model;
use provision_core::model_path::{KEPT_LISTS, ModelPath};
use provision_core::store_address::StoreAddress;
use provision_engine::cache::Cache;
use provision_engine::piece_lists::ListPlaces;
use provision_engine::store::{self, LocalFiles, PushError, PushReport, StoreJob, StoredState};
use provision_http::HttpClient;

/// Options of `store`.
#[derive(Args, Debug, Clone)]
pub struct StoreArgs {
    /// The action.
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Subcommand, Debug, Clone)]
enum StoreCommand {
    /// Send the models to a store: from the destination, where they are installed, or from a cache
    Push(Box<PushArgs>),
    /// Ask a store for the last byte of each model; exit 9 if one is missing, 5 if one is wrong
    Check(Box<CheckArgs>),
}

#[derive(Args, Debug, Clone)]
struct PushArgs {
    #[command(flatten)]
    common: Common,
    /// A cache that may have the models, besides the user's own; the first one keeps what an interrupted push needs
    /// (repeatable)
    #[arg(long, value_name = "DIR", env = "PROVISION_CACHE", value_delimiter = ',')]
    cache: Vec<Utf8PathBuf>,
    /// Progress display; auto: bars on a terminal, plain lines elsewhere
    #[arg(long, value_name = "HOW", env = "PROVISION_PROGRESS", value_enum, default_value_t = Mode::Auto)]
    progress: Mode,
}

#[derive(Args, Debug, Clone)]
struct CheckArgs {
    #[command(flatten)]
    common: Common,
    /// Read every byte and verify the digests
    #[arg(long)]
    full: bool,
    /// Print one JSON object: the store, and each file's state
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug, Clone)]
struct Common {
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    place: LocksAndDestination,
    /// The store's address.
    #[arg(
        long,
        value_name = "ADDRESS",
        help = "The store: https://HOST/PATH/{sha256}, oci://HOST/NAME, s3://BUCKET/PREFIX or file:///DIRECTORY"
    )]
    to: String,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    output: Output,
}

/// Runs the command.
///
/// # Errors
/// A model is not at the store in the end, or the store cannot be used.
pub fn run(args: &StoreArgs, default_lock: &str) -> Result<(), Failure> {
    match &args.command {
        StoreCommand::Push(args) => push(args, default_lock),
        StoreCommand::Check(args) => check(args, default_lock),
    }
}

/// Reads the lock, and calls `work` with the job and its runtime.
fn with_job<T>(
    common: &Common,
    default_lock: &str,
    progress: &Arc<dyn Progress>,
    work: impl FnOnce(
        StoreJob<'_>,
        (&LocksAndDestination, ListPlaces),
        &tokio::runtime::Runtime,
    ) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let (place, mut network) = (common.place.with_installation()?, Network::default());
    let address = StoreAddress::parse(&common.to, &environment::named);
    let address = address.map_err(|error| Failure::new(Code::Usage, format!("--to: {error}")))?;
    let texts = locks::read_all(&place, default_lock, &mut Access::with(&mut network))?;
    let lock = texts.join()?;
    let client = HttpClient::new(network.config()?).map_err(|error| Failure::new(Code::Usage, error))?;
    let runtime = fetch::runtime()?;
    let (run, observer) = (StoppableRun::begin(), progress.clone());
    let observer: Arc<dyn Observer> = observer;
    let job = StoreJob {
        models: locks::select(&lock, &common.choice.clone().into())?,
        store: address,
        client,
        retry: common.patience.in_fetch(),
        observer,
        interrupted: run.0.clone(),
    };
    let done = work(job, (&place, texts.lists()), &runtime);
    progress.finish();
    done
}

fn draw(mode: Mode, output: Output) -> Arc<dyn Progress> {
    super::draw(mode, output.verbosity(), Work::Push)
}

fn push(args: &PushArgs, default_lock: &str) -> Result<(), Failure> {
    let progress = draw(args.progress, args.common.output);
    let (paths, store, report) =
        with_job(&args.common, default_lock, &progress, |job, (place, lists), runtime| {
            let own = environment::user_cache().filter(|own| !args.cache.contains(own));
            let opened = args.cache.iter().map(|path| Cache::open(path).map(Some));
            let own = own.map(|path| Ok(Cache::open(&path).ok()));
            let caches: Result<Vec<_>, _> = opened.chain(own).collect();
            let caches = caches?.into_iter().flatten().collect();
            let lists = [lists.directories, vec![place.dest().join(KEPT_LISTS)]].concat();
            let having = LocalFiles { destination: place.open()?, caches, lists };
            let paths: Vec<(ModelPath, u64)> =
                job.models.iter().map(|model| (model.path.clone(), model.size)).collect();
            let store = job.store.to_string();
            let report =
                runtime.block_on(store::push(job, &having)).map_err(|error| of_store(&store, &error))?;
            Ok((paths, store, report))
        })?;
    conclude(args, &paths, &store, &report)
}

/// Prints the result and returns its code.
fn conclude(
    args: &PushArgs,
    paths: &[(ModelPath, u64)],
    store: &str,
    report: &PushReport,
) -> Result<(), Failure> {
    let count =
        |sent| report.files.iter().flatten().filter(|end| matches!(end, Ok(was) if *was == sent)).count();
    let tag = report.tag.as_ref();
    if report.files.iter().any(Option::is_none) || report.lists.is_stopped {
        let code = signals::caught().unwrap_or(Code::Interrupted);
        let why = format!("interrupted with {} sent; push again to go on", units::bytes(report.sent));
        return Err(Failure::new(code, why));
    }
    let failures: Vec<(&ModelPath, &PushError)> = paths
        .iter()
        .zip(&report.files)
        .filter_map(|((path, _), end)| Some((path, end.as_ref()?.as_ref().err()?)))
        .collect();
    if !failures.is_empty() {
        let heading = format!("{} of {} not pushed:", failures.len(), units::count(paths.len(), "file"));
        let message =
            fetch::by_reason(heading, failures.iter().map(|(path, error)| (*path, error.to_string())));
        return Err(Failure::new(code_of(failures.iter().map(|(_, error)| *error)), message));
    }
    if let Some(Err(error)) = tag {
        let why =
            "the files are at the registry, but no manifest holds them, so a garbage collection takes them";
        return Err(Failure::new(code_of([error]), format!("{why}: {error}")));
    }
    if args.common.output.verbosity() > Verbosity::Quiet {
        let bytes: u64 = paths.iter().map(|(_, size)| size).sum();
        let (sent, seconds) = (report.sent, report.elapsed.as_secs_f64().max(0.001));
        let rate = match sent {
            0 => String::new(),
            sent => format!(" ({})", units::rate(sent as f64 / seconds)),
        };
        let tag = tag.and_then(|tag| tag.as_ref().ok()).map(|tag| format!("; the tag {tag} holds them"));
        let lists = match report.lists.there {
            0 => String::new(),
            there => format!(", with {}", units::count(there, "piece list")),
        };
        say(format_args!(
            "done: {}, {} at {store}: {} pushed, {} already there{lists}; {} sent in {}{rate}{}",
            units::count(paths.len(), "file"),
            units::bytes(bytes),
            count(true),
            count(false),
            units::bytes(sent),
            units::duration(report.elapsed),
            tag.unwrap_or_default(),
        ));
    }
    Ok(())
}

/// The code for failed files, by their rank in [`fetch`](super::exit::code_of); a file that is not on this machine
/// comes last.
fn code_of<'a>(failures: impl IntoIterator<Item = &'a PushError>) -> Code {
    let rank = |error: &PushError| match error {
        PushError::Nowhere => (0, Code::Incomplete),
        error if error.is_integrity() => (4, Code::Integrity),
        error if error.is_refusal() => (3, Code::Refused),
        error if error.is_disk() => (2, Code::Disk),
        _ => (1, Code::Network),
    };
    failures.into_iter().map(rank).max_by_key(|(rank, _)| *rank).map_or(Code::Unexpected, |(_, code)| code)
}

fn of_store(store: &str, error: &PushError) -> Failure {
    let error_text = progress::with_short_addresses(&error.to_string());
    Failure::new(code_of([error]), format!("{store}: {error_text}"))
}

fn check(args: &CheckArgs, default_lock: &str) -> Result<(), Failure> {
    let progress = draw(Mode::None, args.common.output);
    with_job(&args.common, default_lock, &progress, |job, _, runtime| {
        let store = job.store.to_string();
        let mut sums = Sums::default();
        let mut files = Vec::new();
        let mut on_held = |model: &Model, held: StoredState, list: Option<StoredState>| {
            let (word, detail) = sums.add(model, &held);
            let list = list.map(|list| sums.add_list(&list));
            if args.json {
                let (path, sha256) = (model.path.as_str(), model.sha256.to_string());
                files.push(json!({
                    "path": path, "size": model.size, "sha256": sha256, "state": word, "detail": detail, "pieces": list,
                }));
            } else {
                let size = units::bytes(model.size);
                let detail = detail.map(|detail| format!(", {detail}")).unwrap_or_default();
                let list = list.filter(|list| *list != THERE).map(|list| format!(", its piece list: {list}"));
                print_line(format_args!(
                    "{word:<8} {}  {size}{detail}{}",
                    model.path,
                    list.unwrap_or_default()
                ));
            }
        };
        let checked = runtime.block_on(store::check(&job, args.full, &mut on_held));
        checked.map_err(|error| of_store(&store, &error))?;
        if args.json {
            let text = json!({ "version": 1, "store": store, "full": args.full, "files": files });
            print_line(escaped(&format!("{text:#}")));
        }
        sums.conclude(&store, &job.models, args)
    })
}

/// The sums of a check.
#[derive(Default)]
struct Sums {
    there: usize,
    bytes: u64,
    missing: usize,
    wrong: usize,
    unknown: Option<Code>,
    /// The piece lists that are there, and all that could be.
    lists: (usize, usize),
}

/// The state of a file that the store has.
const THERE: &str = "there";

impl Sums {
    /// Counts a file. Returns its state in a word, and the details.
    fn add(&mut self, model: &Model, held: &StoredState) -> (&'static str, Option<String>) {
        match held {
            StoredState::There => {
                self.there += 1;
                self.bytes += model.size;
                (THERE, None)
            }
            StoredState::Missing => {
                self.missing += 1;
                ("missing", None)
            }
            StoredState::Wrong(found) => {
                self.wrong += 1;
                ("wrong", Some(format!("has SHA-256 {found}, the lock says {}", model.sha256)))
            }
            StoredState::Unknown(error) => {
                self.unknown = Some(code_of([error]));
                ("unknown", Some(progress::with_short_addresses(&error.to_string())))
            }
        }
    }

    /// Counts a piece list. Returns its state in a word.
    fn add_list(&mut self, held: &StoredState) -> &'static str {
        self.lists.1 += 1;
        match held {
            StoredState::There => {
                self.lists.0 += 1;
                THERE
            }
            StoredState::Unknown(_) => "unknown",
            StoredState::Missing | StoredState::Wrong(_) => "missing",
        }
    }

    fn conclude(&self, store: &str, models: &[&Model], args: &CheckArgs) -> Result<(), Failure> {
        let asked = self.there + self.missing + self.wrong;
        if let Some(code) = signals::caught() {
            return Err(Failure::new(code, "interrupted"));
        }
        let (files, total) =
            (units::count(models.len(), "file"), models.iter().map(|model| model.size).sum());
        if !args.json && args.common.output.verbosity() > Verbosity::Quiet {
            let how = if args.full { "by every byte" } else { "by their last byte" };
            let lists = match self.lists {
                (_, 0) => String::new(),
                (there, all) => format!("; {there} of {}", units::count(all, "piece list")),
            };
            print_line(format_args!(
                "{} of {files} at {store}, {} of {}, {how}{lists}",
                self.there,
                units::bytes(self.bytes),
                units::bytes(total)
            ));
        }
        let failed = |code, why: String| Err(Failure::new(code, why));
        if self.wrong > 0 {
            let why =
                format!("{} of {files} wrong at {store}; remove them there, then push again", self.wrong);
            return failed(Code::Integrity, why);
        }
        if let Some(code) = self.unknown {
            let why = format!("{store} did not say if it has {} of {files}", models.len() - asked);
            return failed(code, why);
        }
        if self.missing > 0 {
            let why = format!("{} of {files} not at {store}; store push fills it", self.missing);
            return failed(Code::Incomplete, why);
        }
        Ok(())
    }
}
