//! `fetch-models` and `provision fetch`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use super::arguments::{EnsureArgs, FetchArgs, LayersArg, LocksAndDestination, ReuseModeArg};
use super::environment::Network;
use super::exit::{Code, Failure, code_of};
use super::locks::{Access, Texts};
use super::progress::{self, Progress, Verbosity, Work};
use super::signals::{self, StoppableRun};
use super::{environment, infohashes, locks, print_line, report, say, units};
use provision_core::event::{Event, Outcome, Planned};
use provision_core::lockfile::{Lockfile, Model};
use provision_core::model_path::ModelPath;
use provision_core::shortened_list::shortened_list;
use provision_core::terminal_text::TerminalText;
use provision_disk::{DiskError, processors};
use provision_engine::fetch::{self, FetchError, FileReport, Job, Local, Report, Verify};
use provision_engine::piece_lists::ListPlaces;
use provision_http::{ClientConfig, HttpClient};

/// Fetches the models.
///
/// # Errors
/// Every failure that ends the program with another code than 0.
pub fn run(args: &FetchArgs, layers: &LayersArg, default_lock: &str) -> Result<(), Failure> {
    let (args, mut network) = (&args.with_installation()?, Network::default());
    let texts = read(args, default_lock, &mut network)?;
    let local = Local { reuse: args.machine.reuse(None), ..Local::default() };
    let LayersArg { layers: Some(layers), expect_layers } = layers else {
        return provide(args, local, (&texts, texts.lists()), &mut network);
    };
    if args.machine.reuse_mode == ReuseModeArg::Link {
        let why = "--layers sets modes, and a file that --reuse-mode link installs is another program's, too; give one of them";
        return Err(Failure::new(Code::Usage, why));
    }
    if args.dry_run {
        let why = "--layers moves fetched files, and --dry-run fetches none; give one of them";
        return Err(Failure::new(Code::Usage, why));
    }
    if args.place.at.is_of_comfyui() {
        let why = "--layers moves files out of the destination, and --comfyui keeps them where ComfyUI finds them; give \
                   --dest instead";
        return Err(Failure::new(Code::Usage, why));
    }
    let lock = texts.join()?;
    // A layer takes the files out of the destination. The target of a link is another user's or program's folder.
    let place = LocksAndDestination { no_follow: true, ..args.place.clone() };
    let args = &FetchArgs { place, ..args.clone() };
    super::layers::check(args, &lock, layers, expect_layers)?;
    let provide = || provide(args, local.clone(), (&texts, texts.lists()), &mut network);
    super::layers::lay_out(args, &lock, layers, provide, || draw(args))
}

/// `provision ensure`: a fetch that reads the baked directory first, and the Hub's cache if the environment names it.
///
/// # Errors
/// Every failure that ends the program with another code than 0.
pub fn ensure(args: &EnsureArgs, default_lock: &str) -> Result<(), Failure> {
    let baked = args.baked().map_err(|error| Failure::new(Code::Usage, format!("--baked: {error}")))?;
    let (args, baked_lists) = (args.fetch().with_installation()?, args.baked_lists());
    let mut network = Network::default();
    let texts = read(&args, default_lock, &mut network)?;
    let local = Local { baked, reuse: args.machine.reuse(environment::hub_cache()), ..Local::default() };
    let mut lists = texts.lists();
    lists.directories.extend(baked_lists);
    provide(&args, local, (&texts, lists), &mut network)
}

fn read(args: &FetchArgs, default_lock: &str, network: &mut Network) -> Result<Texts, Failure> {
    let mut asking = if args.offline { Access::Never } else { Access::with(network) };
    asking.retry(args.config().transfer.retry);
    locks::read_all(&args.place, default_lock, &mut asking)
}

/// Runs the job, then keeps locks from an address beside the models.
fn provide(
    args: &FetchArgs,
    local: Local,
    (texts, lists): (&Texts, ListPlaces),
    network: &mut Network,
) -> Result<(), Failure> {
    let done = install(args, local, (texts, lists), network);
    if !args.dry_run {
        texts.keep(&args.place.dest());
    }
    done.map_err(|failure| args.place.at.installation().explain(failure))
}

fn install(
    args: &FetchArgs,
    local: Local,
    (texts, lists): (&Texts, ListPlaces),
    network: &mut Network,
) -> Result<(), Failure> {
    let started = Instant::now();
    let config = args.config();
    let quick_look = config.verify == Verify::Marker && !config.force && !config.dry_run;
    if quick_look
        && args.choice.is_everything()
        && args.report.is_none()
        && !args.machine.warm
        && let Some((files, marker)) = fetch::marker_covers_texts(&args.place.dest(), &config, &texts.texts())
    {
        // A complete set needs no setup, not even a parsed lock: a container then starts in milliseconds.
        up_to_date(args, marker, files);
        return Ok(());
    }
    let lock = texts.join()?;
    let models = locks::select(&lock, &args.choice.clone().into())?;
    locks::check_destination(&args.place)?;
    if let Some(path) = &args.report {
        report::check(path)?;
    }
    if quick_look && fetch::marker_covers(&args.place.dest(), &config, (&lock, &lists), &models) {
        up_to_date(args, lock.marker().to_owned(), models.len());
        if let Some(path) = &args.report {
            report::write(path, &Report::all_present(&models, started, true))?;
        }
        return super::warm::run(args, &models);
    }
    for message in args.place.at.installation().missing_bases(&models) {
        say(format_args!("warning: {message}"));
    }
    let origin = if config.offline || config.dry_run { ClientConfig::default() } else { network.config()? };
    let report = fetch(args, local, (&lock, lists), models.clone(), origin)?;
    conclude(args, &report)?;
    super::warm::run(args, &models)
}

fn up_to_date(args: &FetchArgs, name: String, files: usize) {
    let progress = draw(args);
    progress.observe(&Event::MarkerValid { name, files });
    progress.finish();
}

/// Runs the engine with progress as `args` say, until it is done or told to stop. The demo uses it, too.
///
/// # Errors
/// The run as a whole failed. Failures of single files are in the report.
pub fn fetch(
    args: &FetchArgs,
    local: Local,
    (lock, lists): (&Lockfile, ListPlaces),
    models: Vec<&Model>,
    origin: ClientConfig,
) -> Result<Report, Failure> {
    let stores = infohashes::fill(args.stores()?, args.torrents.as_deref(), &models)?;
    let origin = HttpClient::new(origin).map_err(|error| Failure::new(Code::Usage, error))?;
    let runtime = runtime()?;
    let progress = draw(args);
    let run = StoppableRun::begin();
    let result = runtime.block_on(fetch::run(Job {
        lock,
        models,
        destination: args.place.dest(),
        local: Local { cache: args.cache.clone(), other_cache: environment::user_cache(), ..local },
        stores,
        lists: ListPlaces { makes: args.pieces, ..lists },
        config: args.config(),
        origin,
        observer: observer(&progress),
        interrupted: run.0.clone(),
    }));
    progress.finish();
    drop(run);
    let written = match (&args.report, &result) {
        (Some(path), Ok(report)) => report::write(path, report),
        _ => Ok(()),
    };
    let report = interrupted(result);
    if let (Err(failure), true) = (&written, report.as_ref().map_or(true, |report| !report.is_complete())) {
        // The run's own failure decides the exit code.
        say(format_args!("warning: the report was not written: {failure}"));
        return report;
    }
    written.and(report)
}

/// The threads of a run.
///
/// # Errors
/// The machine has no room for them.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(processors().clamp(2, 4))
        .max_blocking_threads(16)
        .enable_all()
        .build()
        .map_err(not_started)
}

/// Threads or signal handlers could not be set up, for example for lack of descriptors.
fn not_started(error: std::io::Error) -> Failure {
    const SHORT: [i32; 2] = [libc::EMFILE, libc::ENFILE];
    if error.raw_os_error().is_some_and(|number| SHORT.contains(&number)) {
        let message = format!("no file descriptor left to start with: {error}; raise `ulimit -n`");
        return Failure::new(Code::Disk, message);
    }
    Failure::new(Code::Unexpected, error)
}

fn interrupted(result: Result<Report, FetchError>) -> Result<Report, Failure> {
    let code = signals::caught().unwrap_or(Code::Interrupted);
    match result {
        Ok(report) if report.interrupted => {
            let kept: u64 = report.files.iter().map(|file| file.fetched + file.resumed + file.reused).sum();
            let kept = match kept {
                // Bytes copied from this machine are not counted.
                0 => String::new(),
                kept => format!(" with {} on disk", units::bytes(kept)),
            };
            Err(Failure::new(code, format!("interrupted{kept}; rerun to resume")))
        }
        Err(error @ FetchError::Interrupted) => Err(Failure::new(code, error)),
        result => Ok(result?),
    }
}

fn observer(progress: &Arc<dyn Progress>) -> Arc<dyn provision_core::event::Observer> {
    progress.clone()
}

fn draw(args: &FetchArgs) -> Arc<dyn Progress> {
    super::draw(args.progress, args.output.verbosity(), Work::Install)
}

/// The files that a message names, if more fail for one reason.
const NAMED: usize = 2;

/// Prints the result and returns its code.
///
/// # Errors
/// A file is not installed.
pub fn conclude(args: &FetchArgs, report: &Report) -> Result<(), Failure> {
    if args.dry_run {
        return show_plan(args, report);
    }
    let failures: Vec<_> =
        report.files.iter().filter_map(|file| Some((&file.path, file.result.as_ref().err()?))).collect();
    if failures.is_empty() {
        if !report.is_complete() {
            return Err(Failure::new(
                Code::Unexpected,
                "not every file was installed, without an error; run again",
            ));
        }
        if args.output.verbosity() > Verbosity::Quiet && !report.by_marker {
            say(summary(report));
        }
        return Ok(());
    }
    let heading =
        format!("{} of {} not installed:", failures.len(), units::count(report.files.len(), "file"));
    let message = by_reason(heading, failures.iter().map(|(path, error)| (*path, error.reason())));
    let code = code_of(failures.iter().map(|(_, error)| *error));
    Err(Failure::new(code, message))
}

/// The failures of files below a heading, those with the same reason in one line.
pub(super) fn by_reason<'a>(
    heading: String,
    failures: impl Iterator<Item = (&'a ModelPath, String)>,
) -> String {
    let mut by_reason: Vec<(String, Vec<&ModelPath>)> = Vec::new();
    // A set of thousands of files may have as many reasons, since most name an address.
    let mut places: HashMap<String, usize> = HashMap::new();
    for (path, reason) in failures {
        let reason = TerminalText(reason).to_string();
        let place = *places.entry(reason.clone()).or_insert(by_reason.len());
        match by_reason.get_mut(place) {
            Some((_, paths)) => paths.push(path),
            None => by_reason.push((reason, vec![path])),
        }
    }
    by_reason.iter().fold(heading, |message, (reason, paths)| {
        let reason = progress::with_short_addresses(reason);
        message + &format!("\n  {}: {reason}", shortened_list(paths, NAMED))
    })
}

/// One line: the number of files, their outcomes, the time.
pub fn summary(report: &Report) -> String {
    const WORDS: [(Outcome, &str); 6] = [
        (Outcome::Fetched, "fetched"),
        (Outcome::Baked, "copied from the baked directory"),
        (Outcome::Linked, "linked to the baked directory"),
        (Outcome::Cached, "from the cache"),
        (Outcome::Copied, "copied"),
        (Outcome::Present, "present"),
    ];
    let count = |wanted| {
        report
            .files
            .iter()
            .filter(|file| matches!(&file.result, Ok(Some(outcome)) if *outcome == wanted))
            .count()
    };
    let parts: Vec<String> = WORDS
        .into_iter()
        .filter(|(outcome, _)| count(*outcome) > 0)
        .map(|(outcome, word)| format!("{} {word}", count(outcome)))
        .chain(reused(report))
        .collect();
    let bytes: u64 = report.files.iter().map(|file| file.size).sum();
    let sum = |of: fn(&FileReport) -> u64| report.files.iter().map(of).sum::<u64>();
    let (fetched, resumed) = (sum(|file| file.fetched), sum(|file| file.resumed));
    let from_here = sum(|file| file.reused);
    let seconds = report.elapsed.as_secs_f64().max(0.001);
    let mut line = format!(
        "done: {}, {} ({})",
        units::count(report.files.len(), "file"),
        units::bytes(bytes),
        parts.join(", ")
    );
    if fetched > 0 {
        line = format!(
            "{line}; {} received in {} ({})",
            units::bytes(fetched),
            units::duration(report.elapsed),
            units::rate(fetched as f64 / seconds)
        ) + &by_source(report);
    } else {
        line = format!("{line} in {}", units::duration(report.elapsed));
    }
    if from_here > 0 {
        line = format!("{line}, {} reused from files on this machine", units::bytes(from_here));
    }
    if resumed > 0 {
        line = format!("{line}, {} were there from an earlier run", units::bytes(resumed));
    }
    line
}

/// The hosts that the last line names.
const HOSTS: usize = 3;

/// The bytes of each host, if files had several sources or a store: `: 20 GB from cache.example:5000, 1 GB from
/// hub.example`.
fn by_source(report: &Report) -> String {
    if report.files.iter().all(|file| file.sources.is_empty()) {
        return String::new();
    }
    let mut by_host: BTreeMap<&str, u64> = BTreeMap::new();
    for file in report.files.iter().filter(|file| file.fetched > 0) {
        let shares = file.sources.iter().map(|share| (share.source.as_str(), share.fetched));
        let only =
            file.source.as_deref().filter(|_| file.sources.is_empty()).map(|only| (only, file.fetched));
        for (source, fetched) in shares.chain(only) {
            let (_, rest) = source.split_once("://").unwrap_or(("", source));
            *by_host.entry(rest.split('/').next().unwrap_or(rest)).or_default() += fetched;
        }
    }
    let mut hosts: Vec<(&str, u64)> = by_host.into_iter().collect();
    hosts.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let more = hosts.iter().skip(HOSTS).map(|(_, bytes)| *bytes).sum::<u64>();
    let named = hosts.iter().take(HOSTS);
    let parts = named.map(|(host, bytes)| format!("{} from {}", units::bytes(*bytes), TerminalText(host)));
    let others = (more > 0).then(|| format!("{} from others", units::bytes(more)));
    let parts: Vec<String> = parts.chain(others).collect();
    format!(": {}", parts.join(", "))
}

/// The number of files from each store: `2 reused from /data/hub (HF_HOME)`.
fn reused(report: &Report) -> Vec<String> {
    let mut by_store = BTreeMap::new();
    for store in report.files.iter().filter_map(|file| file.store.as_deref()) {
        *by_store.entry(store).or_insert(0_usize) += 1;
    }
    by_store
        .into_iter()
        .map(|(store, count)| format!("{count} reused from {}", TerminalText(store)))
        .collect()
}

/// The plan goes to standard output, since it is the command's result.
fn show_plan(args: &FetchArgs, report: &Report) -> Result<(), Failure> {
    let (mut to_fetch, mut here, mut needed) = (0, 0, 0);
    for (file, result) in report.plan.iter().zip(&report.files) {
        let rest = file.size - file.held;
        let to_go = || match file.here {
            0 => format!("{} of {} to go", units::bytes(rest), units::bytes(file.size)),
            here => format!(
                "{} of {} to go, {} are here",
                units::bytes(rest - here),
                units::bytes(file.size),
                units::bytes(here)
            ),
        };
        let (word, size) = match (&result.result, file.plan) {
            (Err(_), _) => ("refused", units::bytes(file.size)),
            (_, Planned::Present) => ("present", units::bytes(file.size)),
            (_, Planned::Copy) => ("copy", units::bytes(file.size)),
            (_, Planned::Link) => ("link", units::bytes(file.size)),
            (_, Planned::Resume) => ("resume", to_go()),
            (_, Planned::Fetch) if file.here > 0 => ("fetch", to_go()),
            (_, Planned::Fetch) => ("fetch", units::bytes(file.size)),
        };
        print_line(format_args!("{word:<8} {}  {size}", file.path));
        if let Err(error) = &result.result {
            print_line(format_args!("         {}", TerminalText(error.reason())));
            continue;
        }
        if matches!(file.plan, Planned::Fetch | Planned::Resume) {
            to_fetch += rest - file.here;
            here += file.here;
        }
        if file.plan != Planned::Link {
            needed += rest;
        }
    }
    let place = args.place.dest();
    let here = match here {
        0 => String::new(),
        here => format!(" {} here by piece lists,", units::bytes(here)),
    };
    print_line(format_args!(
        "{} to fetch,{here} {} needed in {place}, {} free",
        units::bytes(to_fetch),
        units::bytes(needed),
        units::bytes(report.free)
    ));
    if needed > report.free {
        let error = DiskError::NotEnoughSpace { path: place, needed, free: report.free, option: "--dest" };
        return Err(error.into());
    }
    let failures: Vec<_> = report.files.iter().filter_map(|file| file.result.as_ref().err()).collect();
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(code_of(failures), "the plan cannot be carried out"))
    }
}
