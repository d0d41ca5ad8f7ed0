//! Writes entries into the lock, and prints a line for each.

use std::collections::HashMap;
use std::ops::ControlFlow;

use crate::cli::exit::{Code, Failure};
use crate::cli::units;
use crate::cli::{print_line, say};
use camino::Utf8Path;
use provision_core::model_path::ModelPath;
use provision_core::source_url::SourceUrl;
use provision_core::terminal_text::TerminalText;
use provision_lock::edit::{Document, EditError, Outcome};
use provision_lock::entry::Entry;
use provision_lock::entry_builder::{BuiltEntry, PreparedEntry};
use provision_lock::file::{LockWait, edit};
use provision_lock::source::Source;

use super::EditFailure;
use super::session::{Failures, HostSession};

/// The wait for another editor, with a message that names it.
pub(super) fn lock_wait() -> LockWait<'static> {
    LockWait::announcing(&|holder| {
        say(format_args!("waiting for {holder}, which is changing the lock (Ctrl-C to give up)"));
    })
}

/// Entries to be written into a lock.
pub(super) struct Writing<'a> {
    session: &'a HostSession,
    pub(super) path: &'a Utf8Path,
    /// Only say what would be written.
    pub(super) is_dry_run: bool,
    entries: Vec<Entry>,
    /// The number of entries written or tried.
    written: usize,
    /// The files that a dry run does not read, with their declared sizes.
    unread: Vec<(ModelPath, Option<u64>)>,
    tally: Counts,
}

/// The outcome of each path, for the summary.
#[derive(Default)]
struct Counts {
    changes: HashMap<ModelPath, (Change, u64)>,
    /// The models of the lock, and their bytes.
    lock: Option<(usize, u64)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Added,
    Updated,
    Unchanged,
}

impl<'a> Writing<'a> {
    pub(super) fn new(session: &'a HostSession, path: &'a Utf8Path, is_dry_run: bool) -> Self {
        let (entries, unread, tally) = (Vec::new(), Vec::new(), Counts::default());
        Self { session, path, is_dry_run, entries, written: 0, unread, tally }
    }

    /// True if the file would have to be read for its digest; a dry run says so instead.
    pub(super) fn note_unread(&mut self, entry: &PreparedEntry) -> bool {
        if !entry.has_to_be_read() {
            return false;
        }
        report_unread(entry.path(), entry.size(), entry.source());
        self.unread.push((entry.path().clone(), entry.size()));
        true
    }

    /// The paths of the entries, and of those that a dry run left out.
    pub(super) fn paths(&self) -> impl Iterator<Item = &ModelPath> {
        let unread = self.unread.iter().map(|(path, _)| path);
        self.entries.iter().map(|entry| &entry.path).chain(unread)
    }

    /// One line: the entries that were written, the lock's path, and the size of the whole lock.
    pub(super) fn summarize(&self) {
        let (Counts { changes, lock }, would) = (&self.tally, self.is_dry_run);
        let of = |wanted| changes.values().filter(move |(change, _)| *change == wanted);
        let added: u64 = of(Change::Added).map(|(_, bytes)| bytes).sum();
        let mut parts = Vec::new();
        for (change, verb) in
            [(Change::Added, "added"), (Change::Updated, "updated"), (Change::Unchanged, "unchanged")]
        {
            let count = of(change).count();
            let size =
                if change == Change::Added { format!(", {}", units::bytes(added)) } else { String::new() };
            match count {
                0 => {}
                count if would && change != Change::Unchanged => {
                    parts.push(format!("{} would be {verb}{size}", entries(count)));
                }
                count => parts.push(format!("{} {verb}{size}", entries(count))),
            }
        }
        if !self.unread.is_empty() {
            let sizes: Vec<Option<u64>> = self.unread.iter().map(|(_, size)| *size).collect();
            let count = units::count(sizes.len(), "file");
            parts.push(format!("{count} to be read first: {}", total(&sizes)));
        }
        if parts.is_empty() {
            return;
        }
        let whole = lock.filter(|(_, bytes)| !would && *bytes != added);
        let whole =
            whole.map(|(models, bytes)| format!("; {} in all, {}", entries(models), units::bytes(bytes)));
        let end = if would { "; nothing was written" } else { "" };
        print_line(format_args!("{}: {}{}{end}", self.path, parts.join("; "), whole.unwrap_or_default()));
    }

    /// Adds an entry. If its bytes were read, all entries are written at once, since the next result may take hours.
    /// Breaks if the lock cannot be written, so that no more bytes are read in vain.
    pub(super) fn take(&mut self, made: BuiltEntry, failures: &mut Failures) -> ControlFlow<()> {
        self.entries.push(made.entry);
        if !made.was_read {
            return ControlFlow::Continue(());
        }
        self.session.finish_drawing();
        self.flush(failures)
    }

    /// Writes the entries that are not written yet. A lock that cannot be written is one of the failures.
    pub(super) fn flush(&mut self, failures: &mut Failures) -> ControlFlow<()> {
        let entries = &self.entries[std::mem::replace(&mut self.written, self.entries.len())..];
        match put(self.path, entries, self.is_dry_run, failures, &mut self.tally) {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => {
                failures.add(failure.code, failure.message);
                ControlFlow::Break(())
            }
        }
    }
}

impl Counts {
    fn count(&mut self, entry: &Entry, outcome: &Outcome) {
        let change = match outcome {
            Outcome::Added => Change::Added,
            Outcome::Updated(_) => Change::Updated,
            Outcome::Unchanged => Change::Unchanged,
        };
        let known = self.changes.entry(entry.path.clone()).or_insert((change, entry.size));
        if known.0 == Change::Unchanged {
            known.0 = change;
        }
    }
}

fn entries(count: usize) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}

/// Writes `entries` one by one into the lock at `path`, and prints the results. A dry run does so in memory.
fn put(
    path: &Utf8Path,
    entries: &[Entry],
    is_dry_run: bool,
    failures: &mut Failures,
    tally: &mut Counts,
) -> Result<(), Failure> {
    if entries.is_empty() {
        return Ok(());
    }
    let mut change = |document: &mut Document| {
        let put = put_each(document, entries)?;
        let models = document.lock().models();
        tally.lock = Some((models.len(), models.iter().map(|model| model.size).sum()));
        Ok(put)
    };
    let outcomes = if is_dry_run {
        change(&mut super::current(path)?)
    } else {
        edit::<_, EditFailure>(path, lock_wait(), change).map(|edited| edited.value)
    };
    for (entry, outcome) in outcomes.map_err(|EditFailure(failure)| failure)? {
        match outcome {
            Ok(outcome) => {
                report(&entry, &outcome, is_dry_run);
                tally.count(&entry, &outcome);
            }
            Err(error) => failures.add(Code::Usage, format!("{}: {error}", entry.path)),
        }
    }
    Ok(())
}

/// An entry as it is put, and the result.
type Put = (Entry, Result<Outcome, PutFailure>);

/// Puts the entries into the document, which has each path once. All at once, because each change parses the whole
/// lock; one by one only if one of them is refused.
fn put_each(document: &mut Document, entries: &[Entry]) -> Result<Vec<Put>, EditFailure> {
    let adapted: Vec<Result<Entry, Box<Entry>>> =
        entries.iter().map(|entry| adapt(document, entry)).collect();
    let accepted: Vec<Entry> = adapted.iter().flatten().cloned().collect();
    let outcomes: Vec<_> = match document.put_all(&accepted) {
        Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
        Err(error @ EditError::Inline { .. }) => return Err(error.into()),
        Err(_) => accepted.iter().map(|entry| document.put(entry)).collect(),
    };
    let mut outcomes = outcomes.into_iter();
    let put = adapted.into_iter().map(|entry| match entry {
        Ok(entry) => (entry, outcomes.next().unwrap_or(Ok(Outcome::Unchanged)).map_err(PutFailure::Edit)),
        Err(entry) => (*entry, Err(PutFailure::AnotherFile)),
    });
    Ok(put.collect())
}

/// The entry with the fields that the lock's entry of its path keeps; as it is if that is another file.
fn adapt(document: &Document, entry: &Entry) -> Result<Entry, Box<Entry>> {
    let mut entry = entry.clone();
    let Some(older) = document.get(&entry.path) else { return Ok(entry) };
    if older.sha256 != entry.sha256 && is_another_of_its_address(&older, &entry.path, &entry.url) {
        return Err(Box::new(entry));
    }
    let followed = entry.source.take();
    entry.keep_from(&older);
    // The new source is followed from now on; another spelling of the same source is no change.
    entry.source = match (&older.source, followed) {
        (Some(older), Some(now)) if !is_same(older, &now) => Some(now),
        (Some(older), Some(_)) => Some(older.clone()),
        (_, followed) => followed,
    };
    Ok(entry)
}

/// A reason that an entry was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum PutFailure {
    #[error(transparent)]
    Edit(EditError),
    /// The path has another file of the same address, and only the query tells them apart.
    #[error(
        "the lock has another file of this address there, which the query chooses; give this one another --path, or remove \
         the other one first"
    )]
    AnotherFile,
}

/// True if `url` is the address of `older`, except for a query that chooses the file (fault 114). If the address itself
/// ends with the name of the file `path`, another query may be a new version.
pub(super) fn is_another_of_its_address(older: &Entry, path: &ModelPath, url: &SourceUrl) -> bool {
    let bare = |url: &SourceUrl| {
        let mut url = Source::lasting_address(url);
        let query = url.query().map(str::to_owned);
        url.set_query(None);
        (url, query)
    };
    let ((before, old), (url, new)) = (bare(&older.url), bare(url));
    let is_named = url.path_segments().and_then(Iterator::last).is_some_and(|last| last == path.file_name())
        && path.extension().is_some();
    before == url && old != new && !is_named
}

/// Returns true if two texts name the same source.
fn is_same(a: &str, b: &str) -> bool {
    match (a.parse::<Source>(), b.parse::<Source>()) {
        (Ok(a), Ok(b)) => a.is_same(&b),
        _ => a == b,
    }
}

/// The result line of an entry, also for a dry run.
pub(super) fn report(entry: &Entry, outcome: &Outcome, would: bool) {
    let size = units::bytes(entry.size);
    let [added, updated, unchanged] = if would {
        ["would add     ", "would update  ", "unchanged     "]
    } else {
        ["added      ", "updated    ", "unchanged  "]
    };
    match outcome {
        Outcome::Added => {
            // As `lock list` prints it: the file behind the address can change, and `check` and a fetch then say so.
            let is_pinned = Source::of_url(&entry.url).is_pinned();
            let moving = if is_pinned { "" } else { "  (moving)" };
            print_line(format_args!("{added}{}  {size}  {}{moving}", entry.path, TerminalText(from(entry))));
        }
        Outcome::Unchanged => print_line(format_args!("{unchanged}{}  {size}", entry.path)),
        Outcome::Updated(before) => {
            print_line(format_args!("{updated}{}  {}", entry.path, TerminalText(change(before, entry))));
            if before.pieces.is_some() && entry.pieces.is_none() {
                say(format_args!(
                    "note: the piece list of {0} describes the old bytes and is no longer used; `lock pieces {0}` makes one after \
                     the next fetch",
                    entry.path
                ));
            }
            let is_gone = |mirror: &&SourceUrl| **mirror != entry.url && !entry.mirrors.contains(mirror);
            for mirror in before.mirrors.iter().filter(is_gone) {
                say(format_args!(
                    "note: {mirror} is no longer a mirror of {}: it has the old bytes. If it has the new ones, add it again: \
                     `lock add` with --mirror",
                    entry.path
                ));
            }
        }
    }
}

/// The line of a dry run for a file that would have to be read.
pub(super) fn report_unread(path: &ModelPath, size: Option<u64>, source: &Source) {
    let size = size.map_or_else(|| "its host declares no size".to_owned(), units::bytes);
    print_line(format_args!("would read    {path}  to be read: {size}  {}", TerminalText(source)));
}

/// The bytes of files, of which some have no declared size.
pub(super) fn total(sizes: &[Option<u64>]) -> String {
    let known: u64 = sizes.iter().flatten().sum();
    match sizes.iter().filter(|size| size.is_none()).count() {
        0 => units::bytes(known),
        unknown if unknown == sizes.len() => "unknown size".to_owned(),
        unknown => format!("{}, and {unknown} of unknown size", units::bytes(known)),
    }
}

/// The source of an entry, without a query.
fn from(entry: &Entry) -> String {
    entry.source.clone().unwrap_or_else(|| Source::of_url(&entry.url).to_string())
}

/// The fields that changed.
fn change(before: &Entry, now: &Entry) -> String {
    let mut parts = Vec::new();
    if before.sha256 == now.sha256 {
        parts.push("same bytes".to_owned());
    } else {
        parts.push(format!("{} → {}", before.sha256.short(), now.sha256.short()));
        parts.push(format!("{} → {}", units::bytes(before.size), units::bytes(now.size)));
    }
    if before.url != now.url {
        parts.push(match (commit(before), commit(now)) {
            (Some(old), Some(new)) if old != new => format!("commit {} → {}", &old[..8], &new[..8]),
            _ => format!("{} → {}", before.url, now.url),
        });
    }
    if before.mirrors != now.mirrors {
        parts.push(format!("{} → {}", before.mirrors.len(), units::count(now.mirrors.len(), "mirror")));
    }
    match (before.pieces, now.pieces) {
        (old, new) if old == new => {}
        (_, Some(new)) => parts.push(format!("piece list {}", new.short())),
        (_, None) => parts.push("no piece list".to_owned()),
    }
    if before.groups != now.groups {
        parts.push(format!("groups {}", now.groups.join(",")));
    }
    if before.source != now.source {
        parts.push(format!("follows {}", now.source.as_deref().unwrap_or("nothing")));
    }
    parts.join(", ")
}

/// The commit that an address is pinned to.
fn commit(entry: &Entry) -> Option<&str> {
    let mut parts = entry.url.as_url().path().split('/');
    parts.find(|part| part.len() == 40 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
