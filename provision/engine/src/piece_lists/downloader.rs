//! Fetches lists: from the site's stores in their order, then from below the addresses of the locks.
//!
//! A list saves time, so little is spent on it. A place that fails is asked once more if that may help at once, and
//! then no more in this run; one that does not have a list is asked for the next one. A few lists are fetched at a
//! time, within a budget of memory: a place may send as many bytes as the longest list of the model has.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Cause, PieceLists, checked};
use crate::lock_wait::stop_requested;
use provision_core::digest::Sha256;
use provision_core::lockfile::Model;
use provision_core::piece_list::{DIRECTORY, MAX_LIST, PieceList};
use provision_core::source_url::SourceUrl;
use provision_core::store_address::StoreAddress;
use provision_http::{HttpClient, Remedy, RequestError};

/// Lists that are fetched at a time.
const AT_ONCE: usize = 8;
/// The memory of the lists that are being fetched, in KiB.
const BUDGET: u64 = (2 * MAX_LIST) >> 10;
/// The longest time for one list at one place, both requests together.
const PATIENCE: Duration = Duration::from_secs(10);
/// The time that each list adds to the longest time for all.
const EACH: Duration = Duration::from_millis(100);
/// A second request begins at most so long after the first one.
const SOON: Duration = Duration::from_secs(2);
/// The shortest wait before it.
const PAUSE: Duration = Duration::from_millis(500);

/// The network of a run.
pub(super) struct ListDownloader {
    origin: Arc<HttpClient>,
    places: Vec<ListSource>,
    interrupted: watch::Receiver<bool>,
    /// The lists that were asked for.
    asked: Mutex<HashSet<Sha256>>,
    memory: Arc<Semaphore>,
}

/// A place that is asked.
struct ListSource {
    at: At,
    /// It has failed. The run goes on without it.
    is_out: AtomicBool,
}

enum At {
    Store(StoreAddress),
    /// Below the address of this lock.
    Lock(SourceUrl),
}

impl ListSource {
    fn new(at: At) -> Self {
        Self { at, is_out: AtomicBool::new(false) }
    }

    fn is_out(&self) -> bool {
        self.is_out.load(Ordering::Relaxed)
    }

    fn leave_out(&self) {
        self.is_out.store(true, Ordering::Relaxed);
    }

    fn url_of(&self, list: &Sha256) -> Option<SourceUrl> {
        match &self.at {
            At::Store(store) => store.source_of_list(list),
            // A relative reference drops the query (RFC 3986, section 5.2.2), which signs the lock and nothing else.
            At::Lock(lock) => {
                let url = lock.as_url().join(&format!("{DIRECTORY}/{list}")).ok()?;
                SourceUrl::from_url(url).ok()
            }
        }
    }
}

/// The end of a search for a list.
enum Answer {
    /// It was found, or its mistake is recorded.
    Done,
    /// No place has it.
    Nowhere,
    /// The last failure.
    Failed(String),
}

impl ListDownloader {
    pub(super) fn new(
        origin: Arc<HttpClient>,
        stores: &[StoreAddress],
        locks: &[SourceUrl],
        interrupted: watch::Receiver<bool>,
    ) -> Self {
        let stores = stores.iter().filter(|store| !matches!(store, StoreAddress::Directory(_)));
        let stores = stores.map(|store| ListSource::new(At::Store(store.clone())));
        let places = stores.chain(locks.iter().map(|lock| ListSource::new(At::Lock(lock.clone())))).collect();
        let memory = Arc::new(Semaphore::new(BUDGET as usize));
        Self { origin, places, interrupted, asked: Mutex::default(), memory }
    }

    fn is_stopped(&self) -> bool {
        *self.interrupted.borrow()
    }

    /// True for the first call with this list.
    fn is_new(&self, list: &Sha256) -> bool {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(*list)
    }

    /// Asks one place, twice if that may help at once.
    async fn ask(&self, url: &SourceUrl, most: u64) -> Result<Vec<u8>, Failure> {
        let begun = Instant::now();
        let request = async || {
            let answer = tokio::time::timeout_at(begun + PATIENCE, self.origin.document(url, most)).await;
            answer.unwrap_or_else(|_| Err(RequestError::stalled(url, PATIENCE)))
        };
        let error = match request().await {
            Ok(bytes) => return Ok(bytes),
            Err(error) => error,
        };
        let wait = match error.remedy() {
            Remedy::Retry { wait, .. } => wait.unwrap_or_default().max(PAUSE),
            _ => return Err(error.into()),
        };
        if begun.elapsed() + wait > SOON {
            return Err(error.into());
        }
        tokio::time::sleep(wait).await;
        request().await.map_err(Failure::from)
    }
}

/// The failure of a place.
struct Failure {
    /// It may have other lists.
    is_absence: bool,
    why: String,
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        // A bucket whose keys may not list it answers 403 for an object that is not there.
        let is_absence = match &error {
            RequestError::Missing { .. } => true,
            RequestError::Refused { status, .. } => *status == 403,
            _ => false,
        };
        Self { is_absence, why: error.to_string() }
    }
}

impl PieceLists {
    /// Fetches the lists of `models` that this machine lacks, and keeps them. A list that cannot be fetched is a
    /// warning.
    pub async fn fetch(self: &Arc<Self>, models: &[&Model]) {
        let Some(downloader) = &self.downloader else { return };
        let is_lacking = |model: &&&Model| {
            let is_lacking =
                |pin| !downloader.is_stopped() && self.of(model).is_none() && downloader.is_new(&pin);
            model.pieces.is_some_and(is_lacking)
        };
        let lacking: Vec<&Model> =
            tokio::task::block_in_place(|| models.iter().filter(is_lacking).copied().collect());
        let end = Instant::now() + PATIENCE * 2 + EACH * lacking.len() as u32;
        let fetching = async {
            let mut tasks = JoinSet::new();
            for model in lacking {
                if tasks.len() >= AT_ONCE {
                    tasks.join_next().await;
                }
                let (lists, model) = (self.clone(), model.clone());
                tasks.spawn(async move { lists.fetch_one(&model, end).await });
            }
            while tasks.join_next().await.is_some() {}
        };
        let mut interrupted = downloader.interrupted.clone();
        tokio::select! {
            () = fetching => {}
            () = stop_requested(&mut interrupted) => {}
        }
        self.warn();
    }

    async fn fetch_one(&self, model: &Model, end: Instant) {
        let (Some(downloader), Some(pin)) = (&self.downloader, model.pieces) else { return };
        let most = PieceList::max_bytes(model.size);
        let memory = downloader.memory.acquire_many((most >> 10).min(BUDGET) as u32).await;
        let answer = tokio::time::timeout_at(end, self.search(downloader, model, &pin, most)).await;
        drop(memory);
        let name = || format!("{DIRECTORY}/{pin}");
        match answer {
            Ok(Answer::Done) => {}
            Ok(Answer::Nowhere) => {
                let places = if downloader.places.is_empty() { "" } else { " or where else this run looks" };
                self.note(Cause::Missing, model, || format!("{} is not beside the lock{places}", name()));
            }
            Ok(Answer::Failed(why)) => self.note(Cause::Unfetched, model, || why),
            Err(_) => self.note(Cause::Unfetched, model, || format!("{} takes too long", name())),
        }
    }

    async fn search(&self, downloader: &ListDownloader, model: &Model, pin: &Sha256, most: u64) -> Answer {
        let mut answer = Answer::Nowhere;
        for place in downloader.places.iter().filter(|place| !place.is_out()) {
            let Some(url) = place.url_of(pin) else { continue };
            match downloader.ask(&url, most).await {
                Ok(bytes) => {
                    let error = match checked(model, pin, &bytes) {
                        Ok(list) => {
                            self.take(pin, &bytes, list);
                            self.found(model);
                            return Answer::Done;
                        }
                        Err(error) => error,
                    };
                    self.note_error(model, pin, &url.to_string(), &error);
                    if error.is_of_the_lock() {
                        return Answer::Done;
                    }
                    place.leave_out();
                    answer = Answer::Done;
                }
                Err(Failure { is_absence: true, .. }) => {}
                Err(Failure { why, .. }) => {
                    place.leave_out();
                    answer = Answer::Failed(why);
                }
            }
        }
        answer
    }

    /// Keeps a list that was fetched: on disk, or else in memory.
    fn take(&self, pin: &Sha256, bytes: &[u8], list: PieceList) {
        let is_kept = || self.kept.as_ref().is_some_and(|kept| kept.keep(pin, bytes));
        if tokio::task::block_in_place(is_kept) {
            return;
        }
        let mut unkept = self.unkept.lock().unwrap_or_else(PoisonError::into_inner);
        let held: usize = unkept.iter().map(|(_, list)| list.pieces().len()).sum();
        if ((held + list.pieces().len()) as u64) < MAX_LIST / 48 {
            unkept.push((*pin, Arc::new(list)));
        }
    }
}
