//! The wait for a directory's lock, until it is free, the time is up, or the run is stopped.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use provision_core::event::{Event, Observer};
use provision_core::model_path::ModelPath;
use provision_disk::{Acquire, Destination, DestinationLock, DiskError, LockAttempt};

/// The pause between two attempts, in milliseconds. A lock holder works for seconds or minutes. Two runs that link each
/// other's directories try at different times.
const PAUSE: RangeInclusive<u64> = 50..=150;

/// The locks of a run.
#[derive(Debug)]
pub struct Locks {
    /// The lock of the destination.
    pub main: DestinationLock,
    /// Those of the directories that its links and folders lead to: runs with other destinations may write there.
    pub linked: Vec<DestinationLock>,
}

impl Locks {
    /// True if no other run can work in any of the directories, as for [`DestinationLock::is_exclusive`].
    pub fn is_exclusive(&self) -> bool {
        self.main.is_exclusive() && self.linked.iter().all(DestinationLock::is_exclusive)
    }
}

/// The end of a wait.
#[derive(Debug)]
pub enum LockWait<T = Locks> {
    /// This run holds the locks.
    Acquired(T),
    /// A lock is still held by another run.
    TimedOut {
        /// The lock's path and the known facts about its holder.
        holder: String,
        /// The time that this run waited.
        waited: Duration,
    },
    /// The run was stopped.
    Stopped,
}

/// Waits for the lock of `destination`, for `wait` at most. With `paths`, it also waits for the directories that links
/// on the way to these files lead to, and for runs in destinations above or below. Without them, other directories do
/// not matter: a cache may lie in the destination of its own run.
///
/// A holder on another machine is watched for a few seconds even if `wait` is shorter, until it has renewed its lease
/// or lost it. Otherwise a run without a wait could never take over an expired lock.
///
/// # Errors
/// A lock file cannot be read or written.
pub async fn lock(
    destination: &Destination,
    paths: Option<&[&ModelPath]>,
    wait: Duration,
    observer: &dyn Observer,
    interrupted: &mut watch::Receiver<bool>,
) -> Result<LockWait, DiskError> {
    let mut attempts = Attempts::default();
    until_acquired(wait, observer, interrupted, || attempts.try_once(destination, paths)).await
}

/// Waits, as [`lock`] does, for the locks of the directories that links on the way to the file at `path` lead to. The
/// run holds `main`, the destination's own.
///
/// # Errors
/// A lock file cannot be read or written.
pub async fn lock_linked(
    destination: &Destination,
    main: &DestinationLock,
    path: &ModelPath,
    wait: Duration,
    observer: &dyn Observer,
    interrupted: &mut watch::Receiver<bool>,
) -> Result<LockWait<Vec<DestinationLock>>, DiskError> {
    let mut attempts = Attempts::default();
    until_acquired(wait, observer, interrupted, || attempts.try_linked(destination, main, &[path])).await
}

/// The result of one attempt, and if the lease of the lock that is held is watched.
type Attempt<T> = Result<(Acquire<T>, bool), DiskError>;

/// Repeats `once` until it acquires, or the wait is over.
async fn until_acquired<T>(
    wait: Duration,
    observer: &dyn Observer,
    interrupted: &mut watch::Receiver<bool>,
    mut once: impl FnMut() -> Attempt<T>,
) -> Result<LockWait<T>, DiskError> {
    let started = Instant::now();
    let mut announced = false;
    loop {
        let (holder, is_watching) = match once()? {
            (Acquire::Acquired(locks), _) => {
                if announced {
                    observer.observe(&Event::Acquired);
                }
                return Ok(LockWait::Acquired(locks));
            }
            (Acquire::Held(holder), is_watching) => (holder, is_watching),
        };
        if started.elapsed() >= wait && !is_watching {
            return Ok(LockWait::TimedOut { holder, waited: started.elapsed() });
        }
        if !announced {
            observer.observe(&Event::Waiting { holder });
            announced = true;
        }
        let pause = Duration::from_millis(fastrand::u64(PAUSE));
        let left = if is_watching { pause } else { wait.saturating_sub(started.elapsed()) };
        tokio::select! {
            () = tokio::time::sleep(pause.min(left)) => {}
            () = stop_requested(interrupted) => return Ok(LockWait::Stopped),
        }
    }
}

/// Tries to take the locks, without waiting.
///
/// # Errors
/// A lock file cannot be read or written.
pub fn try_lock(destination: &Destination, paths: &[&ModelPath]) -> Result<Acquire<Locks>, DiskError> {
    Attempts::default().try_once(destination, Some(paths)).map(|(acquired, _)| acquired)
}

/// The attempts of one run.
#[derive(Default)]
struct Attempts {
    main: LockAttempt,
    /// By the paths of the symlinks.
    linked: HashMap<String, LockAttempt>,
    /// The destination's lock, kept while a run below the destination works.
    own: Option<DestinationLock>,
}

impl Attempts {
    /// Takes all locks or none. A run that kept some while it waits for others could wait for a run that waits for it.
    fn try_once(&mut self, destination: &Destination, paths: Option<&[&ModelPath]>) -> Attempt<Locks> {
        let held = |holder| Ok((Acquire::Held(holder), false));
        let main = match self.own.take() {
            Some(lock) => lock,
            None => match self.main.try_acquire(destination)? {
                Acquire::Acquired(lock) => lock,
                Acquire::Held(holder) => return Ok((Acquire::Held(holder), self.main.is_watching())),
            },
        };
        let Some(paths) = paths else {
            return Ok((Acquire::Acquired(Locks { main, linked: Vec::new() }), false));
        };
        if let Some(holder) = main.held_above(destination, &[]) {
            return held(holder);
        }
        let places: Vec<String> = paths.iter().flat_map(|path| destination.places(path)).collect();
        let inside = places.iter().map(String::as_str).filter(|place| !place.starts_with('/'));
        if let Some(holder) = main.held_below(destination, inside, &[]) {
            self.own = Some(main);
            return held(holder);
        }
        Ok(match self.try_linked(destination, &main, paths)? {
            (Acquire::Acquired(linked), _) => (Acquire::Acquired(Locks { main, linked }), false),
            (Acquire::Held(holder), is_watching) => (Acquire::Held(holder), is_watching),
        })
    }

    /// Takes the locks of all linked directories, or none.
    fn try_linked(
        &mut self,
        destination: &Destination,
        main: &DestinationLock,
        paths: &[&ModelPath],
    ) -> Attempt<Vec<DestinationLock>> {
        let directories = destination.note_links(paths.iter().copied())?;
        let places: Vec<String> = paths.iter().flat_map(|path| destination.places(path)).collect();
        let mut linked = Vec::new();
        for directory in &directories {
            let attempt = self.linked.entry(directory.path.clone()).or_default();
            let lock = match attempt.try_acquire(&directory.destination) {
                Ok(Acquire::Acquired(lock)) => lock,
                Ok(Acquire::Held(holder)) => return Ok((Acquire::Held(holder), attempt.is_watching())),
                // A folder that this user may only read: no file in it is written.
                Err(error) if error.forbids_writing() => continue,
                Err(error) => return Err(error),
            };
            let own: Vec<&DestinationLock> = linked.iter().chain([main]).collect();
            let held = lock.held_above(&directory.destination, &own);
            let held =
                held.or_else(|| lock.held_below(&directory.destination, directory.below(&places), &own));
            if let Some(holder) = held {
                return Ok((Acquire::Held(holder), false));
            }
            linked.push(lock);
        }
        for directory in &directories {
            destination.add_lease_of(&directory.destination);
        }
        // The run before may have installed a file in another directory of its folder.
        destination.forget_choices();
        Ok((Acquire::Acquired(linked), false))
    }
}

/// Ends when the run has to stop; never if the sender is gone.
pub(crate) async fn stop_requested(interrupted: &mut watch::Receiver<bool>) {
    if interrupted.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}
