//! Several sources of one file: the companions of its lead, and the stores that are out for the run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Coordinator, Phase, TransferState};
use crate::transfer::claim::{ClaimError, ClaimTask};
use crate::transfer::file_error::SourceError;
use crate::transfer::policy::{Circumstances, CompanionStep, Decision, Step};
use provision_core::event::{Event, SourceBytes};
use provision_core::schedule::{FileId, MIN_CLAIM, SourceId};
use provision_core::source_url::SourceUrl;
use provision_http::{Remedy, RequestError};

/// A file with fewer unclaimed bytes gets no further source: a request there costs more than it brings.
const LEAST_SHARED: u64 = 4 * MIN_CLAIM;

/// A store that has never answered is out if a request waits this long for a head.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// The seconds over which the speed of the stores is compared with `TransferConfig::origin_below`.
const SLOW_SECONDS: usize = 10;

/// The stores that are not asked any more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Excluded {
    /// All at this host and port, which gave no answer.
    Host(String),
    /// The store with this number: another one at its host may be right.
    Store(usize),
}

/// The stores of a run, and their state.
#[derive(Debug, Default)]
pub(in crate::transfer) struct Stores {
    /// As messages name them.
    names: Vec<String>,
    /// Those that are not asked any more, with the reason.
    out: BTreeMap<Excluded, String>,
    /// They are too slow: the lock's addresses join.
    are_slow: bool,
    /// Bytes that they had given at the last whole seconds.
    given: VecDeque<u64>,
    counted: Duration,
}

impl Stores {
    pub(in crate::transfer) fn new(names: Vec<String>) -> Self {
        Self { names, ..Self::default() }
    }

    /// The error of a source at stores that are out.
    fn error(&self, out: &Excluded, reason: &str) -> SourceError {
        let store = match out {
            Excluded::Host(authority) => format!("the store at {authority}"),
            Excluded::Store(number) => format!("the store {}", self.names[*number]),
        };
        SourceError::StoreIsOut { store, reason: reason.to_owned() }
    }
}

impl TransferState {
    /// True if the source is one of those.
    fn is_at(&self, source: usize, out: &Excluded) -> bool {
        let store = self.target.sources[source].store;
        match out {
            Excluded::Host(authority) => {
                store.is_some() && self.policy.url_of(source).authority() == *authority
            }
            Excluded::Store(number) => store == Some(*number),
        }
    }

    /// The sources that gave bytes which are held.
    pub(super) fn givers(&self) -> Vec<usize> {
        let sources = self.target.sources.iter().enumerate();
        sources.filter(|(_, source)| source.given.get() > 0).map(|(at, _)| at).collect()
    }

    /// The bytes of each source, if several or a store gave some.
    pub(super) fn sources(&self) -> Vec<SourceBytes> {
        let givers = self.givers();
        let are_news = givers.len() > 1 || givers.iter().any(|at| self.policy.is_store(*at));
        let bytes = |at: usize| SourceBytes {
            source: self.policy.url_of(at).to_string(),
            fetched: self.target.sources[at].given.get(),
        };
        givers.into_iter().filter(|_| are_news).map(bytes).collect()
    }
}

impl Coordinator {
    /// Lets the sources that are free join the files that have work for them.
    pub(super) fn join_companions(&mut self, now: Duration) {
        self.compare_stores(now);
        for id in &self.live {
            let file = &self.files[id.0];
            let lead = file.policy.position();
            let is_ready = self.stores.are_slow || file.target.sources[lead].has_answered();
            if file.target.sources.len() < 2 || !matches!(file.phase, Phase::Transferring) || !is_ready {
                continue;
            }
            if self.shared.schedule().unclaimed(*id) < LEAST_SHARED {
                continue;
            }
            for at in file.policy.companions(now, self.stores.are_slow) {
                let host = self.shared.host(file.policy.url_of(at));
                self.shared.schedule().join(*id, SourceId(at), host);
            }
        }
    }

    /// A claim of a companion has ended.
    pub(super) fn companion_ended(
        &mut self,
        task: &ClaimTask,
        result: Result<(), ClaimError>,
        (received, exceeded): (u64, bool),
        seen: Circumstances,
    ) {
        let (id, source) = (task.claim.file, task.claim.source);
        let file = &mut self.files[id.0];
        let is_gone = !self.shared.schedule().has_lane(id, source);
        let step = match result {
            Err(ClaimError::Disk(error)) => {
                return self.decide(id, Decision::Drain(Step::FailOnDisk(error)), 1);
            }
            Ok(()) | Err(ClaimError::Revoked) if is_gone || self.stopping => CompanionStep::Stay,
            Ok(()) | Err(ClaimError::Revoked) if received == 0 => {
                // Another lane took all of it over.
                let error =
                    RequestError::stalled(file.policy.url_of(source.0), seen.now.saturating_sub(seen.began));
                file.target.sources[source.0].forget_place();
                file.policy.companion_failed(source.0, error, &seen)
            }
            Ok(()) if exceeded => {
                file.policy.leaves_for_good(source.0);
                CompanionStep::Leave
            }
            Ok(()) => {
                file.policy.companion_progress(source.0, seen.now);
                CompanionStep::Stay
            }
            Err(ClaimError::Revoked | ClaimError::Unresolved) => CompanionStep::Stay,
            Err(ClaimError::NotRanges | ClaimError::SameHost) => {
                file.policy.leaves_for_good(source.0);
                CompanionStep::Leave
            }
            Err(ClaimError::Sniffed { url, sniffed, written }) => {
                let error = SourceError::Sniffed { url, sniffed, written };
                let reason = error.to_string();
                file.policy.end(source.0, error);
                if written && let Some(decision) = file.policy.read_alone(reason) {
                    return self.decide(id, decision, 1);
                }
                CompanionStep::Leave
            }
            Err(ClaimError::Request(error)) => self.companion_failed(task, error, received, &seen),
        };
        match step {
            CompanionStep::Stay => {}
            CompanionStep::Resolve => self.files[id.0].target.sources[source.0].forget_place(),
            CompanionStep::Leave => self.leave(id, source),
        }
        self.finish_if_complete(id);
    }

    fn companion_failed(
        &mut self,
        task: &ClaimTask,
        error: RequestError,
        received: u64,
        seen: &Circumstances,
    ) -> CompanionStep {
        let (id, source) = (task.claim.file, task.claim.source);
        if let Some(url) = error.url() {
            self.shared.heard(url);
        }
        if let Some((out, reason)) = self.ends_store(id, source.0, &error) {
            self.store_is_out(&out, &reason, Some((id, SourceError::Request(error))));
            return CompanionStep::Stay;
        }
        let file = &mut self.files[id.0];
        let mut schedule = self.shared.schedule();
        if received == 0 && error.is_connection_refused() && !task.served {
            schedule.refused(id, source, seen.now);
        }
        if let Remedy::Retry { wait: Some(wait), throttled: true } = error.remedy() {
            schedule.throttle(id, source, seen.now, seen.now + wait);
        }
        drop(schedule);
        if received == 0 && error.is_transport() {
            file.target.sources[source.0].forget_place();
        }
        let is_absent = matches!(error, RequestError::Missing { status: 404 | 410, .. });
        let is_miss = is_absent && file.policy.is_store(source.0);
        let reason = error.to_string();
        let step = file.policy.companion_failed(source.0, error, seen);
        if file.policy.has_ended(source.0) {
            self.shared.observer.observe(&Event::SourceEnded {
                file: file.target.index,
                files: 1,
                for_now: false,
                is_miss,
                source: file.policy.url_of(source.0).to_string(),
                reason,
                next: Some(file.policy.source().to_string()),
            });
        } else if step == CompanionStep::Leave {
            file.retries += 1;
        }
        step
    }

    pub(super) fn leave(&self, id: FileId, source: SourceId) {
        let revoked = self.shared.schedule().leave(id, source);
        self.wake(&revoked);
    }

    /// The stores that this failure ends for all files, and the reason; `None` if it ends none, or if the source is no
    /// store.
    pub(super) fn ends_store(
        &self,
        id: FileId,
        source: usize,
        error: &RequestError,
    ) -> Option<(Excluded, String)> {
        let file = &self.files[id.0];
        let store = file.target.sources[source].store?;
        let authority = file.policy.url_of(source).authority();
        let host = self.shared.known_host(&authority);
        let has_answered = host.is_some_and(|host| self.shared.schedule().last_heard(host).is_some());
        let out = match error.remedy() {
            Remedy::Stop => Excluded::Store(store),
            Remedy::NextSource if refuses_login(error, file.policy.url_of(source)) => Excluded::Store(store),
            _ if error.silent_host().is_some() && !has_answered => Excluded::Host(authority),
            _ => return None,
        };
        Some((out, error.to_string()))
    }

    /// A store without an answer is left: it must not delay a file that others have.
    pub(super) fn leave_silent_stores(&mut self, now: Duration) {
        let mut silent = BTreeSet::new();
        for flight in self.in_flight.values() {
            let policy = &self.files[flight.file.0].policy;
            // A registry may ask for a login, and its token service be slow: that has the time of any other request.
            let waits = flight.first_head.waits().is_some_and(|wait| wait >= STORE_PATIENCE)
                || now.saturating_sub(flight.began) >= self.config.stall.max(STORE_PATIENCE);
            let is_empty = flight.handle.received.load(Ordering::Relaxed) == 0 && !flight.handle.is_waiting();
            if waits && is_empty && policy.is_store(flight.source.0) && !policy.has_ended(flight.source.0) {
                let authority = policy.url_of(flight.source.0).authority();
                let host = self.shared.known_host(&authority);
                if host.is_none_or(|host| self.shared.schedule().last_heard(host).is_none()) {
                    silent.insert(authority);
                }
            }
        }
        for authority in silent {
            let reason = "no answer in time".to_owned();
            self.store_is_out(&Excluded::Host(authority), &reason, None);
        }
    }

    /// Stores are not asked any more, for any file. `failure` is the file whose request showed it, with its error.
    pub(super) fn store_is_out(
        &mut self,
        out: &Excluded,
        reason: &str,
        mut failure: Option<(FileId, SourceError)>,
    ) {
        if self.stores.out.insert(out.clone(), reason.to_owned()).is_none() {
            let message = self.stores.error(out, reason).to_string();
            self.shared.observer.observe(&Event::Warning { message });
        }
        let now = self.shared.now();
        for at in 0..self.files.len() {
            let id = FileId(at);
            for source in 0..self.files[at].target.sources.len() {
                let file = &mut self.files[at];
                if !file.is_at(source, out)
                    || file.policy.has_ended(source)
                    || matches!(file.phase, Phase::Done(_))
                {
                    continue;
                }
                let error = failure.take_if(|(failed, _)| *failed == id).map(|(_, error)| error);
                let error = error.unwrap_or_else(|| self.stores.error(out, reason));
                if source != file.policy.position() {
                    file.policy.end(source, error);
                    self.leave(id, SourceId(source));
                } else if matches!(file.phase, Phase::Transferring) {
                    let decision = file.policy.lead_is_out(error, now);
                    self.decide(id, decision, 0);
                }
            }
        }
    }

    /// True if the file's lead went out while the file could not leave it: its claims had to end, or a job had the
    /// part. Then the file leaves it now.
    pub(super) fn leaves_lead_that_is_out(&mut self, id: FileId) -> bool {
        let (now, file) = (self.shared.now(), &mut self.files[id.0]);
        let lead = file.policy.position();
        let Some((out, reason)) = self.stores.out.iter().find(|(out, _)| file.is_at(lead, out)) else {
            return false;
        };
        if file.policy.has_ended(lead) {
            return false;
        }
        let decision = file.policy.lead_is_out(self.stores.error(out, reason), now);
        self.decide(id, decision, 0);
        true
    }

    /// If a store was blamed for wrong bytes of a file, it is out.
    pub(super) fn store_sent_wrong_bytes(&mut self, id: FileId, source: usize) {
        let file = &self.files[id.0];
        if let Some(store) = file.target.sources[source].store.filter(|_| file.policy.has_ended(source)) {
            let reason = format!("it sent wrong bytes for {}", file.target.model.path);
            self.store_is_out(&Excluded::Store(store), &reason, None);
        }
    }

    /// The lead alone had the right bytes, after a mixture was wrong: the other stores that gave some of it are out.
    pub(super) fn suspects_are_out(&mut self, id: FileId) {
        let file = &mut self.files[id.0];
        let suspects = std::mem::take(&mut file.suspects);
        let is_cleared = |at: &usize| file.policy.has_ended(*at) || *at == file.policy.position();
        if suspects.iter().any(|at| file.policy.has_ended(*at)) {
            // The one that sent wrong bytes is known.
            return;
        }
        let suspects = suspects.into_iter().filter(|at| !is_cleared(at));
        let stores: BTreeSet<usize> = suspects.filter_map(|at| file.target.sources[at].store).collect();
        let reason =
            format!("wrong bytes for {} came from it or from a source beside it", file.target.model.path);
        for store in stores {
            self.store_is_out(&Excluded::Store(store), &reason, None);
        }
    }

    /// Counts the bytes that the stores give each second. Once they are too slow for ten seconds, the lock's addresses
    /// join.
    fn compare_stores(&mut self, now: Duration) {
        let Some(below) = self.config.origin_below.filter(|_| !self.stores.are_slow) else { return };
        let leads = |id: &FileId| {
            let file = &self.files[id.0];
            matches!(file.phase, Phase::Transferring) && file.policy.is_store(file.policy.position())
        };
        if !self.live.iter().any(leads) {
            self.stores.given.clear();
            return;
        }
        if now.saturating_sub(self.stores.counted) < Duration::from_secs(1) {
            return;
        }
        self.stores.counted = now;
        let given = self.shared.from_stores.load(Ordering::Relaxed);
        self.stores.given.push_back(given);
        if self.stores.given.len() > SLOW_SECONDS {
            let before = self.stores.given.pop_front().unwrap_or(given);
            self.stores.are_slow = given - before < below.saturating_mul(SLOW_SECONDS as u64);
        }
    }
}

/// True if a store refuses the login itself, for any file. A 403 of a web server may hide one missing file.
fn refuses_login(error: &RequestError, store: &SourceUrl) -> bool {
    match error {
        RequestError::Credentials { .. } => true,
        RequestError::Refused { status, .. } => *status == 401 || store.object().is_some(),
        _ => false,
    }
}
