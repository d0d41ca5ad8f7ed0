//! The sources of one command, step by step: checked without a host, asked for, and only then read and written.
//!
//! Each step covers all sources before the next one begins. A download may take hours, so mistakes of the command line
//! and collisions of paths are found before the first one.

use std::collections::HashMap;
use std::fmt::Display;
use std::ops::ControlFlow;

use futures_util::{StreamExt as _, stream};
use provision_core::model_path::ModelPath;
use provision_lock::edit::Document;
use provision_lock::entry::Entry;
use provision_lock::entry_builder::{AddRequest, EntryBuilder, EntryError, PreparedEntry};
use provision_lock::file::check_writable;
use provision_lock::import::ListPosition;
use provision_lock::placement::PlacementError;
use provision_lock::source::Source;

use super::EditFailure;
use super::answer_progress::AnswerProgress;
use super::command_line;
use super::path_question::{self, Meanings};
use super::session::{Failures, HostSession, code_of_entry};
use super::write::{Writing, is_another_of_its_address, total};
use crate::cli::exit::Code;
use crate::cli::{say, units};

/// A source of a command, with its position in a list.
pub(super) struct WantedSource<'a> {
    pub(super) request: AddRequest,
    pub(super) place: Option<&'a ListPosition>,
}

/// An entry as its hosts describe it, with the source's position in a list.
type Sourced<'p> = (PreparedEntry, Option<&'p ListPosition>);

/// The sources that are asked for at the same time. Hosts count the requests of minutes, which does not change with it.
const AT_ONCE: usize = 8;

/// The sources of one command.
pub(super) struct Batch<'a> {
    pub(super) session: &'a HostSession,
    pub(super) builder: EntryBuilder,
    pub(super) writing: Writing<'a>,
    pub(super) failures: Failures,
    /// The lock at the command's start.
    pub(super) document: &'a Document,
}

impl Batch<'_> {
    /// Keeps the sources that pass every check that needs no host.
    pub(super) fn check<'w>(&mut self, wanted: Vec<WantedSource<'w>>) -> Vec<WantedSource<'w>> {
        wanted.into_iter().filter_map(|mut wanted| self.check_one(&mut wanted).map(|()| wanted)).collect()
    }

    fn check_one(&mut self, wanted: &mut WantedSource<'_>) -> Option<()> {
        loop {
            match self.builder.check(&wanted.request) {
                Ok(()) => return Some(()),
                Err(error) => self.resolve_path(wanted, &error)?,
            }
        }
    }

    /// Asks the hosts of the sources, and adds their files to the lock. Breaks if the lock cannot be written.
    pub(super) fn add(&mut self, wanted: Vec<WantedSource<'_>>) -> ControlFlow<()> {
        let answers = self.ask(&wanted);
        let mut prepared = Vec::with_capacity(wanted.len());
        for (mut wanted, answer) in wanted.into_iter().zip(answers) {
            if let Some(entries) = self.take(&mut wanted, answer) {
                prepared.extend(entries.into_iter().map(|entry| (entry, wanted.place)));
            }
        }
        let mut prepared = self.one_a_path(prepared);
        if self.writing.is_dry_run {
            prepared.retain(|(entry, _)| !self.writing.note_unread(entry));
        } else {
            self.announce_reads(&prepared)?;
        }
        prepared.into_iter().try_for_each(|(entry, place)| self.finish(entry, place))
    }

    /// Asks the hosts of several sources at the same time. The answers are in the order of the sources.
    fn ask(&self, wanted: &[WantedSource<'_>]) -> Vec<Result<Vec<PreparedEntry>, EntryError>> {
        let mut progress = AnswerProgress::new(wanted.len());
        let questions = stream::iter(wanted).map(|wanted| self.builder.prepare(&wanted.request));
        self.session.wait_for(questions.buffered(AT_ONCE).inspect(|_| progress.answered()).collect())
    }

    /// Takes the paths of a source's entries. In the order of the sources, so that the later one of two is refused.
    fn take(
        &mut self,
        wanted: &mut WantedSource<'_>,
        mut answer: Result<Vec<PreparedEntry>, EntryError>,
    ) -> Option<Vec<PreparedEntry>> {
        loop {
            let taken = answer.and_then(|entries| {
                entries.iter().try_for_each(|entry| self.builder.take(entry.source(), entry.path()))?;
                Ok(entries)
            });
            match taken {
                Ok(entries) => return Some(entries),
                Err(error) => self.resolve_path(wanted, &error)?,
            }
            answer = self.session.wait_for(self.builder.prepare(&wanted.request));
        }
    }

    /// Joins the sources of each path: those of equal digests are one entry with mirrors (fault 113). Others are
    /// refused. A source without a declared digest is refused, too: nothing shows that its bytes are those of another
    /// source, or of the lock's entry.
    fn one_a_path<'p>(&mut self, prepared: Vec<Sourced<'p>>) -> Vec<Sourced<'p>> {
        let mut kept: Vec<Sourced<'p>> = Vec::with_capacity(prepared.len());
        let mut by_path: HashMap<ModelPath, usize> = HashMap::new();
        for (entry, place) in prepared {
            let path = entry.path().clone();
            let older = self.document.get(&path);
            let is_other_source =
                |older: &Entry| Source::lasting_address(&older.url) != Source::lasting_address(entry.url());
            if entry.is_named_by_host() && older.as_ref().is_some_and(is_other_source) {
                self.refuse(
                    place,
                    format_args!(
                        "{path}: the host gives this name, but the lock has the file of another URL there; choose a path for {} \
                         with --path, or with --path-of in an import",
                        entry.source()
                    ),
                );
                continue;
            }
            let may_differ = |older: &Entry| entry.has_to_be_read() && entry.sha256() != Some(older.sha256);
            let older = older.filter(may_differ);
            if older.is_some_and(|older| is_another_of_its_address(&older, &path, entry.url())) {
                self.refuse(place, format_args!("{path}: {}", super::write::PutFailure::AnotherFile));
                continue;
            }
            let at = *by_path.entry(path).or_insert(kept.len());
            let Some(known) = kept.get_mut(at) else {
                kept.push((entry, place));
                continue;
            };
            if entry.has_bytes_of(&known.0) {
                known.0.add_mirrors(entry);
                continue;
            }
            let mut other = (entry, place);
            // A source whose digest and length are known needs no read. A name that a host happens to give displaces no
            // other file.
            let rank = |entry: &PreparedEntry| (!entry.is_named_by_host(), !entry.has_to_be_read());
            if rank(&other.0) > rank(&known.0) {
                std::mem::swap(known, &mut other);
            }
            let why = twice(&known.0, &other.0, place.is_some());
            self.refuse(other.1, why);
        }
        kept
    }

    fn refuse(&mut self, place: Option<&ListPosition>, why: impl Display) {
        match place {
            Some(place) => self.failures.add(Code::Usage, format_args!("{place}: {why}")),
            None => self.failures.add(Code::Usage, why),
        }
    }

    /// Checks that the lock can be written before hours are spent on a file, and says how much has to be read.
    fn announce_reads(&mut self, prepared: &[Sourced<'_>]) -> ControlFlow<()> {
        let unread = prepared.iter().filter(|(entry, _)| entry.has_to_be_read());
        let sizes: Vec<Option<u64>> = unread.map(|(entry, _)| entry.size()).collect();
        if sizes.is_empty() {
            return ControlFlow::Continue(());
        }
        if let Err(error) = check_writable(self.writing.path) {
            let EditFailure(failure) = error.into();
            self.failures.add(failure.code, failure.message);
            return ControlFlow::Break(());
        }
        if sizes.len() > 1 {
            say(format_args!(
                "{} to be read for their digests: {}",
                units::count(sizes.len(), "file"),
                total(&sizes)
            ));
        }
        ControlFlow::Continue(())
    }

    fn finish(&mut self, prepared: PreparedEntry, place: Option<&ListPosition>) -> ControlFlow<()> {
        let source = prepared.source().clone();
        match self.session.wait_for(self.builder.finish(prepared)) {
            Ok(mut made) => {
                // The entry is in the lock without these mirrors.
                for error in std::mem::take(&mut made.lost_mirrors) {
                    self.fail(&source, place, &error);
                }
                self.writing.take(made, &mut self.failures)
            }
            Err(error) => {
                self.fail(&source, place, &error);
                ControlFlow::Continue(())
            }
        }
    }

    /// Asks a person for the meaning of a path, if that is the error, and corrects the request. Otherwise the error is
    /// one of the failures.
    fn resolve_path(&mut self, wanted: &mut WantedSource<'_>, error: &EntryError) -> Option<()> {
        if let Some(meaning) = Meanings::of(error).and_then(|meanings| path_question::ask(&meanings)) {
            wanted.request.explicit = Some(meaning);
            return Some(());
        }
        self.fail(&wanted.request.source, wanted.place, error);
        None
    }

    fn fail(&mut self, source: &Source, place: Option<&ListPosition>, error: &EntryError) {
        let why = match error {
            // The command below names the folders once.
            EntryError::Placement { what, error: PlacementError::Unknown { .. } } if place.is_some() => {
                format!(
                    "{what}: neither the list nor the source names its folder; add it with `{}`{}",
                    command_line::add(what, "FOLDER/"),
                    command_line::remark(what),
                )
            }
            // These texts end with the option of `lock add`.
            EntryError::Placement {
                error: PlacementError::Path { .. } | PlacementError::NoName { .. },
                ..
            }
            | EntryError::Collision { .. }
                if place.is_some() =>
            {
                format!("{error}, in an import with {}", command_line::any_path_of(source))
            }
            error => {
                Meanings::of(error).map_or_else(|| error.to_string(), |meanings| meanings.commands(source))
            }
        };
        let code = code_of_entry(error);
        match place {
            Some(place) => {
                self.failures.add_of_host(code, place, error.silence(), format_args!("{place}: {why}"));
            }
            None => self.failures.add_of_host(code, source, error.silence(), why),
        }
    }
}

/// The refusal of `other`, a second source of the path of `taken`, with the ways out.
fn twice(taken: &PreparedEntry, other: &PreparedEntry, is_in_list: bool) -> String {
    let path = taken.path();
    let described = |entry: &PreparedEntry| {
        let digest =
            entry.sha256().map_or("no digest from its host".to_owned(), |hex| format!("SHA-256 {hex}"));
        let size = entry.size().map_or_else(|| "unknown size".to_owned(), units::bytes);
        format!("{} ({size}, {digest})", entry.source())
    };
    let elsewhere = if is_in_list {
        format!("to import both, give {}", command_line::path_of(other.source(), path.as_str()))
    } else {
        "give one of them another --path".to_owned()
    };
    let what = format!("{path} is listed twice, from {} and from {}", described(taken), described(other));
    if taken.differs_from(other) {
        return format!("{what}, which are different files; only the first of these is taken: {elsewhere}");
    }
    format!(
        "{what}; no digest shows that they are equal, so only the first of these is taken. If they are, run `{}`; if not, {elsewhere}",
        command_line::add_mirror(taken.source(), path.as_str(), other.source()),
    )
}
