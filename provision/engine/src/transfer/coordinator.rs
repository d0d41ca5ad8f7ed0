//! The coordinator: it receives the result of every task, asks `policy` for the next step, and starts that step.

mod checkpoints;
mod companions;
mod hosts;
mod pieces;
mod restarts;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};

use super::claim::{self, ClaimEnd, ClaimTask};
use super::claim_handle::Handle;
use super::file_error::FileError;
use super::policy::{Circumstances, Decision, FilePolicy, Step};
use super::provenance::Senders;
use super::silent_hosts::SilentHosts;
use super::target::Target;
use super::{DownloadResult, Shared, TICK, TransferConfig};
use provision_core::event::{Event, Outcome};
use provision_core::schedule::{self, ClaimId, FileId, SlotId, SourceId};
use provision_disk::{DiskError, Installed, WrongPiece};
use provision_http::sniff::{self, SniffedContent};
use provision_http::{Connection, FirstHead, HttpClient, RequestError};

pub(super) use companions::Stores;

/// The result of a task that the coordinator started.
pub(super) enum TaskResult {
    Claim(Box<ClaimEnd>),
    /// With the content that the first bytes look like, if the digest is wrong.
    Installed(FileId, Result<Installed, DiskError>, Option<SniffedContent>),
    Reset(FileId, Result<(), DiskError>),
    /// With the wrong pieces, which the part has no more, and their senders.
    Dropped(FileId, Result<Vec<(WrongPiece, Senders)>, DiskError>),
    /// With the files whose journal failed.
    Journaled(Vec<(FileId, DiskError)>),
    Checkpoint(Vec<(FileId, DiskError)>),
}

pub(super) enum Phase {
    Transferring,
    /// Waits until the revoked claims have ended, then takes this step.
    Draining(Step),
    /// A blocking job has the part: it installs or resets it.
    Busy,
    Done(Result<Option<Installed>, FileError>),
}

pub(super) struct TransferState {
    pub(super) target: Arc<Target>,
    pub(super) policy: FilePolicy,
    pub(super) phase: Phase,
    pub(super) resumed: u64,
    pub(super) began: Option<Duration>,
    pub(super) elapsed: Duration,
    pub(super) shown: usize,
    pub(super) connections: usize,
    pub(super) retries: u32,
    /// The host that gave no answer to the last request: the source's, or one that it redirected to.
    pub(super) silent_host: Option<String>,
    /// The end of the wait before its source's first claim.
    pub(super) not_before: Duration,
    /// The sources that gave bytes of which some were wrong.
    pub(super) suspects: Vec<usize>,
    /// A job takes wrong pieces out of the part.
    pub(super) is_dropping: bool,
    /// Wrong pieces that the part has no more, and that no source is blamed for yet.
    pub(super) wrong_pieces: Vec<(WrongPiece, Senders)>,
    /// Bytes of wrong pieces.
    pub(super) dropped: u64,
}

pub(super) struct InFlight {
    file: FileId,
    source: SourceId,
    began: Duration,
    handle: Arc<Handle>,
    first_head: Arc<FirstHead>,
    /// The bytes moved when the stall clock last started, and the time of that start.
    moved: u64,
    since: Duration,
}

pub(super) struct Coordinator {
    pub(super) shared: Arc<Shared>,
    pub(super) origin: Arc<HttpClient>,
    pub(super) config: TransferConfig,
    pub(super) files: Vec<TransferState>,
    /// Files that are not done.
    pub(super) unfinished: usize,
    /// Files that have connections, or had some at the last `Connections` event.
    pub(super) live: BTreeSet<FileId>,
    pub(super) in_flight: HashMap<ClaimId, InFlight>,
    /// Idle connections that wait for their slot's next claim. The flag is true after the first request.
    pub(super) idle: HashMap<SlotId, (Connection, bool)>,
    pub(super) tasks: JoinSet<TaskResult>,
    pub(super) journaling: bool,
    pub(super) journaled: Duration,
    pub(super) checkpointing: bool,
    pub(super) checkpointed: Duration,
    pub(super) stopping: bool,
    pub(super) silent_hosts: SilentHosts,
    pub(super) stores: Stores,
}

impl Coordinator {
    pub(super) fn is_done(&self) -> bool {
        let interrupted =
            || self.files.iter().all(|file| matches!(file.phase, Phase::Done(_) | Phase::Transferring));
        let idle = self.in_flight.is_empty() && !self.checkpointing && !self.journaling;
        idle && (self.unfinished == 0 || (self.stopping && interrupted()))
    }

    /// Starts a task for every claim that the schedule grants.
    pub(super) fn launch(&mut self) {
        while !self.stopping {
            let now = self.shared.now();
            let Some(claim) = self.shared.schedule().next(now) else { return };
            let idle = self.idle.remove(&claim.slot);
            let (mut connection, served) = idle.unwrap_or_else(|| (self.origin.connection(), false));
            self.live.insert(claim.file);
            let file = &mut self.files[claim.file.0];
            if file.began.is_none() {
                file.began = Some(now);
                let source = file.policy.source().to_string();
                self.shared.observer.observe(&Event::Started { file: file.target.index, source });
            }
            let handle = Arc::new(Handle::default());
            let source = &file.target.sources[claim.source.0];
            let task = ClaimTask {
                claim,
                // The client replaces the host itself.
                source: source.url.clone(),
                is_companion: claim.source.0 != file.policy.position(),
                ask_range: file.policy.may_ask_ranges(),
                served,
                began: now,
                unresolved: source.unresolved.load(Ordering::Relaxed),
                handle: handle.clone(),
            };
            let (file_id, source) = (claim.file, claim.source);
            let first_head = connection.watch();
            let flight =
                InFlight { file: file_id, source, began: now, handle, first_head, moved: 0, since: now };
            self.in_flight.insert(claim.id, flight);
            self.shared.buffers.share_among(self.in_flight.len());
            let (shared, target) = (self.shared.clone(), file.target.clone());
            self.tasks.spawn(async move {
                TaskResult::Claim(Box::new(claim::fetch(shared, target, task, connection).await))
            });
        }
    }

    pub(super) fn ended(&mut self, ended: Result<TaskResult, JoinError>) {
        match ended {
            Ok(TaskResult::Claim(end)) => self.claim_ended(*end),
            Ok(TaskResult::Installed(file, result, sniffed)) => self.installed(file, result, sniffed),
            Ok(TaskResult::Reset(id, result)) => {
                let file = &mut self.files[id.0];
                match result {
                    Ok(()) => self.restart(id),
                    Err(error) => {
                        let error = file.policy.store_failed(error);
                        self.fail(id, error);
                    }
                }
            }
            Ok(TaskResult::Dropped(id, result)) => self.wrong_pieces_dropped(id, result),
            Ok(TaskResult::Journaled(failed)) => {
                (self.journaling, self.journaled) = (false, self.shared.now());
                self.disk_failed(failed);
            }
            Ok(TaskResult::Checkpoint(failed)) => {
                self.checkpointing = false;
                self.checkpointed = self.shared.now();
                self.disk_failed(failed);
            }
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => unreachable!("no task is aborted"),
            },
        }
    }

    fn claim_ended(&mut self, end: ClaimEnd) {
        let ClaimEnd { task, connection, kept, gained, received, exceeded, asked_source, result } = end;
        let now = self.shared.now();
        let id = task.claim.file;
        self.in_flight.remove(&task.claim.id);
        {
            let mut schedule = self.shared.schedule();
            schedule.observe(now, task.claim.id, received);
            let connection = if kept { schedule::Connection::Kept } else { schedule::Connection::Closed };
            schedule.finish(task.claim.id, connection);
        }
        if kept {
            self.idle.insert(task.claim.slot, (connection, true));
        }
        let file = &mut self.files[id.0];
        if !matches!(file.phase, Phase::Transferring) {
            return self.drained(id);
        }
        if file.target.part.get().is_some_and(|part| part.has_list()) {
            file.policy.with_pieces();
        }
        let lead = &file.target.sources[file.policy.position()];
        let incomplete_stream = task.claim.plain && result.is_err();
        let circumstances = Circumstances {
            now,
            began: task.began,
            gained: file.target.led.get(),
            served: task.served && received == 0,
            answered: lead.has_answered(),
            from_host: self.shared.schedule().received_from_host(id),
            row: None,
            random: fastrand::f64(),
        };
        if task.is_companion {
            let answered = file.target.sources[task.claim.source.0].has_answered();
            return self.companion_ended(
                &task,
                result,
                (received, exceeded),
                Circumstances { answered, ..circumstances },
            );
        }
        let mut files = 1;
        let decision = match result {
            Ok(()) | Err(claim::ClaimError::Revoked)
                if received == 0 && !task.claim.plain && !self.stopping =>
            {
                let error = RequestError::stalled(file.policy.source(), self.config.stall);
                let decision = file.policy.fruitless(error, &circumstances, self.config.stall);
                if matches!(decision, Decision::Wait { .. }) {
                    // The redirect target hangs; the source may redirect to another one now.
                    lead.forget_place();
                }
                decision
            }
            Ok(()) => {
                file.policy.progress(now);
                file.silent_host = None;
                if exceeded { file.policy.range_exceeded() } else { file.policy.range_was_exact(now) }
            }
            Err(claim::ClaimError::Revoked | claim::ClaimError::Unresolved | claim::ClaimError::SameHost) => {
                Decision::GoOn
            }
            Err(claim::ClaimError::Disk(error)) => Decision::Drain(Step::FailOnDisk(error)),
            Err(claim::ClaimError::NotRanges) => file.policy.ranges_unsupported(),
            Err(claim::ClaimError::Sniffed { url, sniffed, written }) => {
                file.policy.unexpected_content(url, sniffed, written, now)
            }
            Err(claim::ClaimError::Request(error)) => {
                let refused = gained == 0 && received == 0 && error.is_connection_refused();
                if refused && !task.served {
                    self.shared.schedule().refused(id, task.claim.source, now);
                }
                if received == 0 && error.is_transport() {
                    // The redirect target may have failed, so the source is resolved again.
                    lead.forget_place();
                }
                let is_empty = gained == 0 && received == 0;
                let (decision, of) = self.request_failed(id, &error, asked_source, is_empty, circumstances);
                files = of;
                decision
            }
        };
        if incomplete_stream && !matches!(decision, Decision::Drain(_)) {
            // A stream's claim includes bytes that were held before it. Only the part knows them.
            self.refill(id);
        }
        self.decide(id, decision, files);
    }

    /// Takes the next step of a file. It is reported as a step of `files`; 0 if another file's report includes it.
    fn decide(&mut self, id: FileId, decision: Decision, files: usize) {
        let now = self.shared.now();
        let file = &mut self.files[id.0];
        // A job that has the part meets the same disk failure and reports it.
        if !matches!(file.phase, Phase::Transferring) {
            return;
        }
        match decision {
            Decision::GoOn => {}
            Decision::Resolve => file.target.sources[file.policy.position()].forget_place(),
            Decision::Wait { wait, throttled, reason, failures, left, is_news } => {
                let mut schedule = self.shared.schedule();
                if throttled {
                    schedule.throttle_lead(id, now, now + wait);
                }
                // If others fail with this one, another one asks next: the host may be silent about this one only.
                schedule.pause_file(id, now + wait + if files == 1 { Duration::ZERO } else { TICK });
                drop(schedule);
                if is_news && files > 0 {
                    file.retries += 1;
                    self.shared.observer.observe(&Event::Retry {
                        file: file.target.index,
                        files,
                        source: file.policy.source().to_string(),
                        reason,
                        failures,
                        limit: self.config.retry.retries,
                        wait,
                        left,
                    });
                }
            }
            Decision::Drain(mut step) => {
                if let Step::NextSource(moved) = &mut step {
                    moved.files = files;
                    if let Some(wait) = moved.throttled {
                        self.shared.schedule().throttle_lead(id, now, now + wait);
                    }
                }
                file.phase = Phase::Draining(step);
                let revoked = self.shared.schedule().revoke(id);
                self.wake(&revoked);
                return self.drained(id);
            }
        }
        self.finish_if_complete(id);
    }

    /// Takes the step that a draining file waits for, once none of its claims is in flight.
    fn drained(&mut self, id: FileId) {
        if self.shared.schedule().active(id) > 0 {
            return;
        }
        let file = &mut self.files[id.0];
        if !matches!(file.phase, Phase::Draining(_)) || file.is_dropping {
            return;
        }
        let Phase::Draining(step) = std::mem::replace(&mut file.phase, Phase::Transferring) else { return };
        // A stopped run still reports a disk failure, because the next run cannot resume from those bytes.
        if self.stopping && !matches!(step, Step::FailOnDisk(_)) {
            return;
        }
        let index = file.target.index;
        match step {
            Step::FailOnDisk(error) => {
                let error = file.policy.store_failed(error);
                self.fail(id, error);
            }
            Step::Fail(error) => self.fail(id, *error),
            Step::Restart => self.restart(id),
            Step::StartOver { reason } => self.start_over(id, reason),
            Step::NextSource(moved) => {
                if moved.files > 0 {
                    self.shared.observer.observe(&Event::SourceEnded {
                        file: index,
                        files: moved.files,
                        for_now: moved.for_now,
                        is_miss: moved.is_miss,
                        source: moved.from.to_string(),
                        reason: moved.reason.clone(),
                        next: Some(file.policy.source().to_string()),
                    });
                }
                file.silent_host = None;
                file.not_before = self.shared.now() + moved.wait;
                if moved.start_over {
                    self.start_over(id, moved.reason);
                } else {
                    self.restart(id);
                }
            }
        }
    }

    fn fail(&mut self, id: FileId, error: FileError) {
        let now = self.shared.now();
        self.shared.schedule().close(id);
        let file = &mut self.files[id.0];
        file.elapsed = now.saturating_sub(file.began.unwrap_or(now));
        // The next run cannot use wrong bytes or an empty part.
        if let Some(part) = file.target.part.get() {
            self.shared.hashing.end_file(&file.target, &part);
            if error.condemns_bytes() && !part.has_list() || part.held() == 0 {
                let _ = part.remove();
            } else if error.disk.is_none() {
                let journaled = move || part.journal_written().err().map(|error| (id, error));
                self.tasks.spawn_blocking(move || TaskResult::Journaled(journaled().into_iter().collect()));
            }
        }
        self.shared.observer.observe(&Event::Failed { file: file.target.index, reason: error.reason() });
        file.phase = Phase::Done(Err(error));
        self.unfinished -= 1;
    }

    pub(super) fn finish_complete(&mut self) {
        (0..self.files.len()).for_each(|at| self.finish_if_complete(FileId(at)));
    }

    /// If all bytes of a file are written, starts the job that verifies and installs it.
    fn finish_if_complete(&mut self, id: FileId) {
        let file = &mut self.files[id.0];
        if !matches!(file.phase, Phase::Transferring) || file.is_dropping {
            return;
        }
        if !self.shared.schedule().is_complete(id) || self.lacks_dropped_bytes(id) {
            return;
        }
        let file = &mut self.files[id.0];
        file.began.get_or_insert_with(|| self.shared.now());
        file.phase = Phase::Busy;
        let (target, shared, origin) = (file.target.clone(), self.shared.clone(), self.origin.clone());
        self.tasks.spawn_blocking(move || {
            let installed = target.open().and_then(|part| {
                let verified = shared.hashing.verify(&target, &part)?;
                target.keep_list(&part);
                verified.install()
            });
            let sniffed = match (&installed, target.part.get()) {
                (Err(DiskError::Mismatch { .. }), Some(part)) => {
                    let redactor = target.redactor(&origin);
                    sniff::sniff(&part.read_prefix(sniff::SNIFF_LENGTH), &target.model, &redactor)
                }
                _ => None,
            };
            TaskResult::Installed(id, installed.and_then(|installed| target.deliver(installed)), sniffed)
        });
    }

    fn installed(
        &mut self,
        id: FileId,
        result: Result<Installed, DiskError>,
        sniffed: Option<SniffedContent>,
    ) {
        let now = self.shared.now();
        let file = &mut self.files[id.0];
        match result {
            Ok(installed) => {
                file.elapsed = now.saturating_sub(file.began.unwrap_or(now));
                file.phase = Phase::Done(Ok(Some(installed)));
                self.unfinished -= 1;
                let _ = self.shared.schedule().close(id);
                self.shared.observer.observe(&Event::Finished {
                    file: file.target.index,
                    outcome: Outcome::Fetched,
                    fetched: file.target.gained.get(),
                    elapsed: file.elapsed,
                    sources: file.sources(),
                });
                self.suspects_are_out(id);
                let file = &mut self.files[id.0];
                // Closes the part: ten thousand finished files must not hold ten thousand descriptors.
                file.target.part.take();
            }
            // The final hash or the step after the install was interrupted; the next run repeats it.
            Err(DiskError::Interrupted { .. }) => file.phase = Phase::Transferring,
            Err(error @ DiskError::WrongPieces { .. }) => {
                file.phase = Phase::Transferring;
                if !self.drop_wrong_pieces(id) && !self.stopping {
                    let error = self.files[id.0].policy.store_failed(error);
                    self.fail(id, error);
                }
            }
            Err(DiskError::Mismatch { expected, found, .. }) => {
                file.phase = Phase::Transferring;
                let lead = file.policy.position();
                let mixed = file.target.sources[lead].mixed.load(Ordering::Relaxed);
                let beside = file.target.has_bytes_beside(lead);
                if beside && file.resumed == 0 {
                    file.suspects = file.givers();
                }
                let wrong = (expected, found, sniffed);
                let decision = file.policy.wrong_digest(wrong, (mixed, beside), now);
                self.decide(id, decision, 1);
                self.store_sent_wrong_bytes(id, lead);
            }
            Err(error) => {
                let error = file.policy.store_failed(error);
                self.fail(id, error);
            }
        }
    }

    pub(super) fn tick(&mut self) {
        let now = self.shared.now();
        let changed = {
            let mut schedule = self.shared.schedule();
            for (id, flight) in &self.in_flight {
                schedule.observe(now, *id, flight.handle.received.load(Ordering::Relaxed));
            }
            schedule.tick(now)
        };
        self.wake(&changed);
        self.leave_silent_stores(now);
        self.join_companions(now);
        for flight in self.in_flight.values_mut() {
            let moved = flight.handle.moved.load(Ordering::Relaxed);
            let enough = ((self.config.slowest as f64 * self.config.stall.as_secs_f64()) as u64).max(1);
            if moved - flight.moved >= enough || flight.handle.is_waiting() {
                (flight.moved, flight.since) = (moved, now);
            } else if now.saturating_sub(flight.since) >= self.config.stall {
                flight.handle.stall();
                flight.since = now;
            }
        }
        self.show_connections();
        self.record_written(now);
    }

    fn show_connections(&mut self) {
        let schedule = self.shared.schedule();
        self.live.retain(|id| {
            let (file, count) = (&mut self.files[id.0], schedule.active(*id));
            file.connections = file.connections.max(count);
            if count != file.shown {
                file.shown = count;
                self.shared.observer.observe(&Event::Connections { file: file.target.index, count });
            }
            count > 0 || !matches!(file.phase, Phase::Done(_))
        });
    }

    fn wake(&self, claims: &[ClaimId]) {
        claims.iter().filter_map(|id| self.in_flight.get(id)).for_each(|flight| flight.handle.wake());
    }

    /// Stops the run: every claim writes the bytes that it has received and ends, and no task is started.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
        self.shared.hashing.stop();
        self.in_flight.values().for_each(|flight| flight.handle.stop());
    }

    /// Syncs the unfinished parts, waits for every task, and returns the results.
    pub(super) async fn close(mut self) -> Vec<DownloadResult> {
        if self.files.iter().any(|file| !matches!(file.phase, Phase::Done(_))) {
            self.checkpoint();
        }
        while let Some(ended) = self.tasks.join_next().await {
            self.ended(ended);
        }
        self.shared.hashing.close();
        self.files
            .into_iter()
            .map(|file| DownloadResult {
                index: file.target.index,
                sources: file.sources(),
                result: match file.phase {
                    Phase::Done(result) => result,
                    _ => Ok(None),
                },
                source: file.policy.source().clone(),
                fetched: file.target.gained.get(),
                resumed: file.resumed,
                dropped: file.dropped,
                elapsed: file.elapsed,
                connections: file.connections,
                retries: file.retries,
            })
            .collect()
    }
}
