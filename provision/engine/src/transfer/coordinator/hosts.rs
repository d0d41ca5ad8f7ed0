//! Failures that concern a host and not one file: it gives no answer, or it asks for a wait. Every file there learns of
//! them.

use std::time::Duration;

use super::{Coordinator, Phase, TransferState};
use crate::transfer::file_error::SourceError;
use crate::transfer::policy::{Circumstances, Decision};
use provision_core::schedule::FileId;
use provision_http::RequestError;

impl Coordinator {
    /// The next step of a file after a failed request, and the number of files for the report. `asked_source` is true
    /// if the request began at the source itself, `is_empty` if it brought no byte.
    pub(super) fn request_failed(
        &mut self,
        id: FileId,
        error: &RequestError,
        asked_source: bool,
        is_empty: bool,
        at: Circumstances,
    ) -> (Decision, usize) {
        let file = &mut self.files[id.0];
        let source = file.policy.source().clone();
        let position = file.policy.position();
        file.silent_host = error.silent_host().map(str::to_owned);
        // A redirect or an error is an answer, too.
        if let Some(url) = error.url() {
            self.shared.heard(url);
        }
        if asked_source && error.failed_host() != Some(&source.authority()) {
            self.shared.heard(&source);
        }
        if let Some((out, reason)) = self.ends_store(id, position, error) {
            let error = SourceError::Request(error.clone());
            self.store_is_out(&out, &reason, Some((id, error)));
            return (Decision::GoOn, 1);
        }
        let gave_none = |host: &&str| self.last_heard(host).is_none_or(|heard| heard < at.began);
        if let Some(host) = error.silent_host().filter(|_| is_empty).filter(gave_none) {
            return self.host_is_silent(id, host, error, at);
        }
        let decision = self.files[id.0].policy.request_failed(error.clone(), &at);
        let is_of_source = error.url().is_some_and(|url| url.authority() == source.authority());
        if let Some(wait) = decision.pause_of_host().filter(|_| is_of_source) {
            self.host_pauses(id, &source.authority(), error, at.now + wait);
        }
        (decision, 1)
    }

    /// The time of the last answer of a host and port.
    fn last_heard(&self, host: &str) -> Option<Duration> {
        let host = self.shared.known_host(host)?;
        self.shared.schedule().last_heard(host)
    }

    /// A host gave no answer to file `id`, and none to any other. The failure counts for all files there that have no
    /// request under way, and one at a time asks again (fault 98). Returns the file's next step, and the number of
    /// files for the report.
    fn host_is_silent(
        &mut self,
        id: FileId,
        host: &str,
        error: &RequestError,
        at: Circumstances,
    ) -> (Decision, usize) {
        let (row, is_new) = self.silent_hosts.count(host, at.began, at.now, self.last_heard(host));
        let row_of_host = Some((row.failures, row.since));
        let at = Circumstances { row: row_of_host, ..at };
        let decision = self.files[id.0].policy.request_failed(error.clone(), &at);
        if !is_new {
            return (decision, 0);
        }
        let mut files = 1;
        let (mut moves, mut waiting) = (Vec::new(), Vec::new());
        let mut until = match &decision {
            Decision::Wait { wait, .. } => at.now + *wait,
            _ => Duration::MAX,
        };
        for (other, file) in self.idle_files_of(id, host) {
            files += 1;
            match file.policy.host_failed(error.clone(), &at) {
                Decision::Wait { wait, .. } => {
                    until = until.min(at.now + wait);
                    waiting.push(other);
                }
                decision => moves.push((other, decision)),
            }
        }
        for (other, decision) in moves {
            self.decide(other, decision, 0);
        }
        if until < Duration::MAX {
            self.silent_hosts.wait(host, until);
            let host_id = self.shared.known_host(host);
            let mut schedule = self.shared.schedule();
            for other in waiting {
                schedule.pause_file(other, until);
            }
            // A host behind a redirect that has never answered has no claims of its own.
            if let Some(host) = host_id {
                schedule.silence(host, until);
            }
        }
        (decision, files)
    }

    /// A host asks for a wait until `until`. Files that only wait for it move to a source that stands by.
    fn host_pauses(&mut self, id: FileId, host: &str, error: &RequestError, until: Duration) {
        let (now, reason) = (self.shared.now(), error.to_string());
        let waiting = self.idle_files_of(id, host);
        let moves =
            waiting.filter_map(|(other, file)| Some((other, file.policy.host_pauses(&reason, now, until)?)));
        let moves: Vec<_> = moves.collect();
        for (other, decision) in moves {
            self.decide(other, decision, 0);
        }
    }

    /// The files that have their source at this host, or failed there last, and have no request under way, except for
    /// `id`.
    fn idle_files_of(
        &mut self,
        id: FileId,
        host: &str,
    ) -> impl Iterator<Item = (FileId, &mut TransferState)> {
        let shared = self.shared.clone();
        let files = self.files.iter_mut().enumerate().map(|(at, file)| (FileId(at), file));
        files.filter(move |(other, file)| {
            let is_waiting = *other != id && matches!(file.phase, Phase::Transferring);
            let is_there =
                || file.policy.source().authority() == host || file.silent_host.as_deref() == Some(host);
            is_waiting
                && is_there()
                && shared.schedule().active(*other) == 0
                && !shared.schedule().is_complete(*other)
        })
    }
}
