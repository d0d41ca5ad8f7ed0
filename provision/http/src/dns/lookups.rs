//! Lookups in the background: one per name at a time, of which no other work waits (fault 109).
//!
//! `getaddrinfo` blocks for as long as the system's configuration says: with a dead name server and a long search list
//! that is minutes. Its threads are not those of the runtime, which the disk's writes need and whose end waits for
//! them. A caller stops waiting at its limit. The lookup goes on, and its answer is there for the next try.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::lookup_error::LookupError;

/// The most lookups at the same time. Each may be a thread.
const MOST: usize = 256;
/// The shortest and the longest time for which addresses are remembered.
const REMEMBERED: [Duration; 2] = [Duration::from_secs(1), Duration::from_mins(5)];

/// The addresses of a name, in the order in which they are tried; never empty.
pub(crate) type LookupResult = Result<Vec<IpAddr>, LookupError>;

/// Starts a lookup of a name, and returns at once.
type Start = Box<dyn Fn(String, Running) + Send + Sync>;

/// All lookups of a client.
pub(crate) struct Lookups {
    start: Start,
    /// The longest time that a caller waits.
    limit: Duration,
    slots: Arc<Semaphore>,
    hosts: Arc<Mutex<HashMap<String, Lookup>>>,
}

enum Lookup {
    Running(watch::Receiver<Option<LookupResult>>),
    Found { addresses: Vec<IpAddr>, until: Instant },
}

/// A lookup that was started. The resolver calls [`Self::end`]; dropping it means that there is no answer.
pub(crate) struct Running {
    host: String,
    began: Instant,
    hosts: Arc<Mutex<HashMap<String, Lookup>>>,
    result: watch::Sender<Option<LookupResult>>,
    _slot: OwnedSemaphorePermit,
}

impl Lookups {
    pub(crate) fn new(limit: Duration, start: impl Fn(String, Running) + Send + Sync + 'static) -> Self {
        Self { start: Box::new(start), limit, slots: Arc::new(Semaphore::new(MOST)), hosts: Arc::default() }
    }

    /// The addresses of `host`: remembered, from the lookup that is running, or from a new one. A failure is not
    /// remembered.
    pub(crate) async fn lookup(&self, host: &str) -> LookupResult {
        let waiting = async {
            if let Some(known) = self.known(host) {
                return known.result().await;
            }
            let slot = self.slots.clone().acquire_owned().await.map_err(|_| LookupError::Unanswered)?;
            self.known_or_started(host, slot).result().await
        };
        tokio::time::timeout(self.limit, waiting).await.unwrap_or(Err(LookupError::Unanswered))
    }

    /// Forgets the addresses of `host`, because none of them connects; a running lookup goes on.
    pub(crate) fn forget(&self, host: &str) {
        let mut hosts = lock(&self.hosts);
        if matches!(hosts.get(host), Some(Lookup::Found { .. })) {
            hosts.remove(host);
        }
    }

    fn known(&self, host: &str) -> Option<Lookup> {
        lock(&self.hosts).get(host).filter(|known| known.counts()).map(Lookup::share)
    }

    fn known_or_started(&self, host: &str, slot: OwnedSemaphorePermit) -> Lookup {
        let mut hosts = lock(&self.hosts);
        hosts.retain(|_, known| known.counts());
        if let Some(known) = hosts.get(host) {
            return known.share();
        }
        let (result, results) = watch::channel(None);
        hosts.insert(host.to_owned(), Lookup::Running(results.clone()));
        drop(hosts);
        let (host, began, hosts) = (host.to_owned(), Instant::now(), self.hosts.clone());
        (self.start)(host.clone(), Running { host, began, hosts, result, _slot: slot });
        Lookup::Running(results)
    }
}

impl Lookup {
    fn counts(&self) -> bool {
        match self {
            Self::Running(_) => true,
            Self::Found { until, .. } => Instant::now() < *until,
        }
    }

    fn share(&self) -> Self {
        match self {
            Self::Running(results) => Self::Running(results.clone()),
            Self::Found { addresses, until } => Self::Found { addresses: addresses.clone(), until: *until },
        }
    }

    async fn result(self) -> LookupResult {
        match self {
            Self::Found { addresses, .. } => Ok(addresses),
            Self::Running(mut results) => {
                let ended = results.wait_for(Option::is_some).await;
                ended.ok().and_then(|result| result.clone()).unwrap_or(Err(LookupError::Unanswered))
            }
        }
    }
}

impl Running {
    /// Ends the lookup. Addresses are remembered ten times as long as finding them took, and a second at least, so a
    /// slow name server costs each run once.
    pub(crate) fn end(self, result: LookupResult) {
        let [shortest, longest] = REMEMBERED;
        if let Ok(addresses) = &result {
            let until = Instant::now() + (self.began.elapsed() * 10).clamp(shortest, longest);
            let found = Lookup::Found { addresses: addresses.clone(), until };
            lock(&self.hosts).insert(self.host.clone(), found);
        }
        self.result.send_replace(Some(result));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut hosts = lock(&self.hosts);
        if matches!(hosts.get(&self.host), Some(Lookup::Running(_))) {
            hosts.remove(&self.host);
        }
    }
}

fn lock(hosts: &Mutex<HashMap<String, Lookup>>) -> MutexGuard<'_, HashMap<String, Lookup>> {
    hosts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// Lookups that the test ends.
    fn lookups(limit: Duration) -> (Arc<Lookups>, Receiver<Running>) {
        let (started, running) = channel();
        (Arc::new(Lookups::new(limit, move |_, running| drop(started.send(running)))), running)
    }

    fn addresses() -> Vec<IpAddr> {
        vec![IpAddr::from([127, 0, 0, 1])]
    }

    #[tokio::test]
    async fn fault_109_a_late_answer_is_there_for_the_next_try() {
        let (lookups, running) = lookups(Duration::from_millis(20));
        assert_eq!(lookups.lookup("a").await, Err(LookupError::Unanswered));
        assert_eq!(lookups.lookup("a").await, Err(LookupError::Unanswered));
        let first = running.try_recv().unwrap();
        assert!(running.try_recv().is_err(), "one lookup for both tries");
        first.end(Ok(addresses()));
        assert_eq!(lookups.lookup("a").await, Ok(addresses()));
        assert!(running.try_recv().is_err(), "it is remembered");
        lookups.forget("a");
        assert_eq!(lookups.lookup("a").await, Err(LookupError::Unanswered));
        lookups.forget("a");
        running.try_recv().unwrap().end(Ok(addresses()));
        assert_eq!(lookups.lookup("a").await, Ok(addresses()), "a running lookup is not forgotten");
    }

    #[tokio::test]
    async fn fault_109_a_hanging_name_delays_no_other() {
        let (lookups, running) = lookups(Duration::from_mins(1));
        let hanging: Vec<_> = (0..40)
            .map(|n| {
                let lookups = lookups.clone();
                tokio::spawn(async move { lookups.lookup(&format!("hangs{n}")).await })
            })
            .collect();
        let good = tokio::spawn(async move { lookups.lookup("good").await });
        let mut waiting = Vec::new();
        while waiting.len() < 40 {
            tokio::task::yield_now().await;
            for one in running.try_iter() {
                if one.host == "good" { one.end(Ok(addresses())) } else { waiting.push(one) }
            }
        }
        assert_eq!(good.await.unwrap(), Ok(addresses()));
        drop(waiting);
        for one in hanging {
            assert_eq!(one.await.unwrap(), Err(LookupError::Unanswered));
        }
    }

    #[tokio::test]
    async fn a_failure_is_not_remembered() {
        let (lookups, running) = lookups(Duration::from_mins(1));
        for result in [Err(LookupError::Absent), Ok(addresses())] {
            let asking = tokio::spawn({
                let lookups = lookups.clone();
                async move { lookups.lookup("a").await }
            });
            let one = loop {
                tokio::task::yield_now().await;
                if let Ok(one) = running.try_recv() {
                    break one;
                }
            };
            one.end(result.clone());
            assert_eq!(asking.await.unwrap(), result);
        }
    }
}
