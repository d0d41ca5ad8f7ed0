//! `provision lock torrent`: a torrent for each installed model, and one for the set.

use std::collections::BTreeMap;

use crate::cli::arguments::{Choice, LocksAndDestination};
use crate::cli::environment::Network;
use crate::cli::exit::{Code, Failure};
use crate::cli::locks::{self, Access};
use crate::cli::{print_line, say, units};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use provision_core::lockfile::Model;
use provision_core::source_url::SourceUrl;
use provision_core::terminal_text::TerminalText;
use provision_core::torrent::{InfoHash, Piece, Torrent, file_name, set_file_name};
use provision_disk::processors;
use provision_engine::inspect::{self, FileState};
use provision_engine::torrents::{PieceHashes, hash_pieces};
use provision_lock::{atomic_write, web_seeds};
use url::Url;

use super::local_files::{code_of, refusal};
use super::session::Failures;

/// Options of `lock torrent`.
#[derive(Debug, Clone, Args)]
pub(crate) struct TorrentArgs {
    /// The models.
    #[command(flatten)]
    choice: Choice,
    /// The directory that the torrents are written into
    #[arg(short, long, value_name = "DIR")]
    output: Utf8PathBuf,
    /// An address below which a server has the files under their lock paths (repeatable): a web seed of each
    /// file's torrent and of the set's torrent
    #[arg(long = "web-seed", value_name = "URL")]
    web_seeds: Vec<String>,
    /// The tracker of the torrents
    #[arg(long, value_name = "URL")]
    tracker: Option<String>,
    /// Locks and destination.
    #[command(flatten)]
    place: LocksAndDestination,
}

/// The address of a `--web-seed`. Messages do not repeat it, which may be a secret.
fn web_seed(text: &str) -> Result<Url, Failure> {
    let url: SourceUrl =
        text.parse().map_err(|error| Failure::new(Code::Usage, format_args!("--web-seed: {error}")))?;
    web_seeds::of_source(&url)
        .map_err(|why| Failure::new(Code::Usage, format_args!("--web-seed {url} is no web seed: {why}")))
}

/// The address of a `--tracker`.
fn tracker(text: &str) -> Result<Url, Failure> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https" | "udp"));
    url.ok_or_else(|| {
        Failure::new(Code::Usage, "--tracker takes an address with http://, https:// or udp://")
    })
}

/// A torrent to write.
struct Draft<'a> {
    torrent: Torrent,
    seeds: Vec<Url>,
    size: u64,
    /// The model's path, or the set's name.
    what: &'a str,
}

pub(crate) fn run(args: &TorrentArgs, default: &str) -> Result<(), Failure> {
    let bases = args.web_seeds.iter().map(|text| web_seed(text)).collect::<Result<Vec<_>, _>>()?;
    let tracker = args.tracker.as_deref().map(tracker).transpose()?;
    let place = args.place.with_installation()?;
    let texts = locks::read_all(&place, default, &mut Access::with(&mut Network::default()))?;
    let lock = texts.join()?;
    let models = locks::select(&lock, &args.choice.clone().into())?;
    locks::check_destination(&place)?;
    let set = set_of(&bases);
    let hashes = match place.open()? {
        Some(destination) => {
            let hashes = hash_pieces(&destination, &models, set.is_some(), processors());
            // As after `verify`: the next fetch replaces wrong files. Without the right to write here, there is only
            // the message.
            let _ = inspect::distrust(&destination, &models, &hashes.states);
            hashes
        }
        None => PieceHashes {
            states: models.iter().map(|_| FileState::Missing).collect(),
            files: models.iter().map(|_| Vec::new()).collect(),
            set: None,
        },
    };
    let mut failures = Failures::default();
    let mut drafts = BTreeMap::new();
    for ((model, state), pieces) in models.iter().zip(&hashes.states).zip(&hashes.files) {
        match state {
            FileState::Right(_) => add(&mut drafts, model, pieces, &bases),
            wrong => failures.add(code_of(wrong), refusal(model, wrong, true, "this again")),
        }
    }
    match (hashes.set, &set) {
        (Some(Ok(pieces)), Some((name, seeds))) if !pieces.is_empty() => {
            let files = models.iter().map(|model| (&model.path, model.size));
            let size = models.iter().map(|model| model.size).sum();
            let torrent = Torrent::of_set(name, files, &pieces);
            drafts.insert(set_file_name(name), Draft { torrent, seeds: seeds.clone(), size, what: name });
        }
        (Some(Err(error)), _) => failures.add(Code::Disk, format_args!("the set: {}", error.reason())),
        _ => {}
    }
    for (file, draft) in drafts {
        let bytes = draft.torrent.encode(&draft.seeds, tracker.as_ref());
        let path = args.output.join(file);
        match atomic_write::put(&path, &bytes, None) {
            Ok(is_new) => report(is_new, &path, &draft, &bytes),
            Err(error) => failures.add(Code::Disk, format_args!("{path} cannot be written: {error}")),
        }
    }
    failures.conclude("no torrent")
}

/// The name and the web seeds of the set's torrent, if there are web seeds and they fit together.
fn set_of(bases: &[Url]) -> Option<(String, Vec<Url>)> {
    let set = web_seeds::of_set(bases);
    if set.is_none() && !bases.is_empty() {
        say(
            "note: no torrent of the set is made: its name is the last folder of --web-seed, so that has to be the same in all \
             of them, of letters, digits, `.`, `_` and `-`",
        );
    }
    set
}

/// Adds the torrent of a model. Two models with one name and the same bytes have one torrent, with the web seeds of
/// both.
fn add<'a>(drafts: &mut BTreeMap<String, Draft<'a>>, model: &'a Model, pieces: &[Piece], bases: &[Url]) {
    if model.size == 0 {
        say(format_args!("note: {} is empty, and no torrent is made of no bytes", model.path));
        return;
    }
    let draft = drafts.entry(file_name(model)).or_insert_with(|| Draft {
        torrent: Torrent::of_file(&model.path, model.size, pieces),
        seeds: Vec::new(),
        size: model.size,
        what: model.path.as_str(),
    });
    for url in &model.sources {
        match web_seeds::of_source(url) {
            Ok(seed) => draft.seeds.push(seed),
            Err(why) => {
                say(TerminalText(format_args!("note: {url} is no web seed of {}: {why}", model.path)));
            }
        }
    }
    draft.seeds.extend(bases.iter().map(|base| web_seeds::below(base, &model.path)));
    let mut seen = std::collections::HashSet::new();
    draft.seeds.retain(|seed| seen.insert(seed.clone()));
}

fn report(is_new: bool, path: &Utf8Path, draft: &Draft<'_>, bytes: &[u8]) {
    let verb = if is_new { "written  " } else { "unchanged" };
    let hash = InfoHash::of(bytes).map(|hash| hash.to_string()).unwrap_or_default();
    print_line(TerminalText(format_args!(
        "{verb}  {hash}  {path}  {}  {}",
        draft.what,
        units::bytes(draft.size)
    )));
    if draft.seeds.is_empty() {
        say(TerminalText(format_args!(
            "note: {} has no web seed: a client gets it only from another one that has the file",
            draft.what
        )));
    }
}
