//! The sources of one command, step by step: checked without a host, asked for, and only then read and written.
//!
//! Each step covers all sources before the next one begins. A download may take hours, so no mistake of the command line and no
//! collision of two paths is left to be found after one.

use std::collections::HashMap;
use std::ops::ControlFlow;

use provision_core::terminal_text::TerminalText;
use provision_lock::edit::Document;
use provision_lock::entry_builder::{AddRequest, EntryBuilder, EntryError, PreparedEntry};
use provision_lock::file::check_writable;
use provision_lock::import::{ImportedModel, Place, SamePath};
use provision_lock::placement::PlacementError;
use provision_lock::source::Source;

use super::EditFailure;
use super::command_line;
use super::question::{self, Meanings};
use super::session::{Failures, HostSession, code_of_entry};
use super::write::{Writing, is_another_of_its_address};
use crate::cli::exit::Code;
use crate::cli::{say, units};

/// A source of a command, with its position in a list.
pub(super) struct Wanted<'a> {
    pub(super) request: AddRequest,
    pub(super) place: Option<&'a Place>,
}

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
    pub(super) fn check<'w>(&mut self, wanted: Vec<Wanted<'w>>) -> Vec<Wanted<'w>> {
        wanted.into_iter().filter_map(|mut wanted| self.check_one(&mut wanted).map(|()| wanted)).collect()
    }

    fn check_one(&mut self, wanted: &mut Wanted<'_>) -> Option<()> {
        loop {
            match self.builder.check(&wanted.request) {
                Ok(()) => return Some(()),
                Err(error) => self.settle(wanted, &error)?,
            }
        }
    }

    /// Asks the hosts of the sources, and adds their files to the lock. Breaks if the lock cannot be written.
    pub(super) fn add(&mut self, wanted: Vec<Wanted<'_>>) -> ControlFlow<()> {
        let mut prepared = Vec::with_capacity(wanted.len());
        for mut wanted in wanted {
            if let Some(entries) = self.prepare(&mut wanted) {
                prepared.extend(entries.into_iter().map(|entry| (entry, wanted.place)));
            }
        }
        let mut prepared = self.without_collisions(prepared);
        if self.writing.is_dry_run {
            prepared.retain(|(entry, _)| !self.writing.note_unread(entry));
        } else {
            self.announce_reads(&prepared)?;
        }
        prepared.into_iter().try_for_each(|(entry, place)| self.finish(entry, place))
    }

    fn prepare(&mut self, wanted: &mut Wanted<'_>) -> Option<Vec<PreparedEntry>> {
        loop {
            match self.session.wait_for(self.builder.prepare(&wanted.request)) {
                Ok(entries) => return Some(entries),
                Err(error) => self.settle(wanted, &error)?,
            }
        }
    }

    /// Refuses what a read could only confirm: two files of one path, and another file in the place of a lock's entry. Without a
    /// declared digest, nothing shows that the bytes are the same.
    fn without_collisions<'p>(
        &mut self,
        prepared: Vec<(PreparedEntry, Option<&'p Place>)>,
    ) -> Vec<(PreparedEntry, Option<&'p Place>)> {
        let mut first: HashMap<_, (Source, bool)> = HashMap::new();
        let (mut kept, mut refused) = (Vec::with_capacity(prepared.len()), Vec::new());
        for (entry, place) in prepared {
            let is_unread = entry.sha256().is_none();
            let path = entry.path().clone();
            let (other, other_is_unread) =
                first.entry(path.clone()).or_insert_with(|| (entry.source().clone(), is_unread));
            let is_second = kept.iter().any(|(known, _): &(PreparedEntry, _)| *known.path() == path);
            let older = self.document.get(&path).filter(|_| is_unread);
            let why = if is_second && (is_unread || *other_is_unread) {
                format!(
                    "{path} is given twice, as {other} and as {}, and no host declares both digests; give one of them \
                     another --path, or add it as a --mirror if it has the same bytes",
                    entry.source()
                )
            } else if older.is_some_and(|older| is_another_of_its_address(&older, &path, entry.url())) {
                format!("{path}: {}", super::write::PutFailure::AnotherFile)
            } else {
                kept.push((entry, place));
                continue;
            };
            refused.push(match place {
                Some(place) => format!("{place}: {why}"),
                None => why,
            });
        }
        for why in refused {
            self.failures.add(Code::Usage, TerminalText(why));
        }
        kept
    }

    /// Checks that the lock can be written before hours are spent on a file, and says how much has to be read.
    fn announce_reads(&mut self, prepared: &[(PreparedEntry, Option<&Place>)]) -> ControlFlow<()> {
        let unread = prepared.iter().filter(|(entry, _)| entry.sha256().is_none());
        let sizes: Vec<u64> = unread.map(|(entry, _)| entry.size()).collect();
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
                units::bytes(sizes.iter().sum())
            ));
        }
        ControlFlow::Continue(())
    }

    fn finish(&mut self, prepared: PreparedEntry, place: Option<&Place>) -> ControlFlow<()> {
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

    /// Adds another source of a path: a mirror if its host declares the digest of the path's entry (fault 113).
    pub(super) fn add_again(&mut self, again: SamePath, request: AddRequest) -> ControlFlow<()> {
        let ImportedModel { source, place, .. } = &again.model;
        if self.writing.is_unread(&again.model) {
            return ControlFlow::Continue(());
        }
        let Some(path) = again.model.destination().ok().filter(|path| self.writing.has(path)) else {
            // The first source failed.
            let checked = self.check(vec![Wanted { request, place: Some(place) }]);
            return self.add(checked);
        };
        match self.session.wait_for(self.builder.another(&request)) {
            Ok((url, Some(sha256))) => {
                let from = format!("{source} at {place}");
                self.writing.take_mirror(&path, &from, url, sha256, &mut self.failures);
            }
            Ok((_, None)) => self.failures.add(Code::Usage, again.unused()),
            Err(error) => self.fail(source, Some(place), &error),
        }
        ControlFlow::Continue(())
    }

    /// Asks a person for the meaning of a path, if that is the error, and corrects the request. Otherwise the error is one of the
    /// failures.
    fn settle(&mut self, wanted: &mut Wanted<'_>, error: &EntryError) -> Option<()> {
        if let Some(meaning) = Meanings::of(error).and_then(|meanings| question::ask(&meanings)) {
            wanted.request.explicit = Some(meaning);
            return Some(());
        }
        self.fail(&wanted.request.source, wanted.place, error);
        None
    }

    fn fail(&mut self, source: &Source, place: Option<&Place>, error: &EntryError) {
        let why = match error {
            // The command below names the folders once.
            EntryError::Placement { what, error: PlacementError::Unknown { .. } } if place.is_some() => {
                format!(
                    "{what}: neither the list nor the source names its folder; add it with `{}`{}",
                    command_line::add(what, "FOLDER/"),
                    command_line::remark(what),
                )
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
