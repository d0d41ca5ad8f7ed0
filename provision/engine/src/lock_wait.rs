//! The wait for a directory's lock, until it is free, the time is up, or the run is stopped.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use provision_core::event::{Event, Observer};
use provision_core::model_path::ModelPath;
use provision_disk::{Acquire, Destination, DestinationLock, LockAttempt, StoreError};

/// The pause between two attempts. A lock holder works for seconds or minutes.
const PAUSE: Duration = Duration::from_millis(100);

/// The end of a wait.
#[derive(Debug)]
pub enum LockWait<T = DestinationLock> {
    /// This run holds the lock, or all locks.
    Acquired(T),
    /// The lock is still held by another run.
    TimedOut {
        /// The lock's path and what is known of its holder.
        holder: String,
        /// The time that this run waited.
        waited: Duration,
    },
    /// The run was stopped.
    Stopped,
}

/// Waits for the lock of `destination`, for `wait` at most, and for the runs whose destinations lie above it or, where files at
/// `paths` lie, below it. Without `paths`, other directories do not matter: a cache may lie in the destination of its own run.
///
/// A holder on another machine is watched for a few seconds even if `wait` is shorter, until it is known whether it
/// still renews its lease. Otherwise a run without a wait could never take over an expired lock.
///
/// # Errors
/// The lock file cannot be read or written.
pub async fn lock(
    destination: &Destination,
    paths: Option<&[&ModelPath]>,
    wait: Duration,
    observer: &dyn Observer,
    interrupted: &mut watch::Receiver<bool>,
) -> Result<LockWait, StoreError> {
    let mut attempt = LockAttempt::default();
    let mut own = None;
    let once = || {
        let tried = try_once(destination, paths, &mut attempt, &mut own)?;
        Ok((tried, attempt.is_watching()))
    };
    until_acquired(wait, observer, interrupted, once).await
}

/// Waits for the locks of the directories that the links of a destination lead to, as [`lock`] does. Takes all or none: a run that kept
/// some of them while it waits for another one could wait for a run that waits for it.
///
/// # Errors
/// A lock file cannot be read or written.
pub async fn lock_linked(
    main: &DestinationLock,
    linked: &[Destination],
    wait: Duration,
    observer: &dyn Observer,
    interrupted: &mut watch::Receiver<bool>,
) -> Result<LockWait<Vec<DestinationLock>>, StoreError> {
    let mut attempts: Vec<LockAttempt> = linked.iter().map(|_| LockAttempt::default()).collect();
    let once = || {
        let mut locks: Vec<DestinationLock> = Vec::new();
        for (destination, attempt) in linked.iter().zip(&mut attempts) {
            let lock = match attempt.try_acquire(destination)? {
                Acquire::Acquired(lock) => lock,
                Acquire::Held(holder) => return Ok((Acquire::Held(holder), attempt.is_watching())),
            };
            let own: Vec<_> = locks.iter().chain([main]).collect();
            if let Some(holder) = lock.held_above(destination, &own) {
                return Ok((Acquire::Held(holder), false));
            }
            locks.push(lock);
        }
        Ok((Acquire::Acquired(locks), false))
    };
    until_acquired(wait, observer, interrupted, once).await
}

/// Repeats `once`, which also tells if a lease is watched, until it acquires, or the wait is over.
async fn until_acquired<T>(
    wait: Duration,
    observer: &dyn Observer,
    interrupted: &mut watch::Receiver<bool>,
    mut once: impl FnMut() -> Result<(Acquire<T>, bool), StoreError>,
) -> Result<LockWait<T>, StoreError> {
    let started = Instant::now();
    let mut announced = false;
    loop {
        let (holder, is_watching) = match once()? {
            (Acquire::Acquired(lock), _) => {
                if announced {
                    observer.observe(&Event::Acquired);
                }
                return Ok(LockWait::Acquired(lock));
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
        let left = if is_watching { PAUSE } else { wait.saturating_sub(started.elapsed()) };
        tokio::select! {
            () = tokio::time::sleep(PAUSE.min(left)) => {}
            () = stop_requested(interrupted) => return Ok(LockWait::Stopped),
        }
    }
}

/// Tries to acquire the lock. `own` keeps it while a run below the destination works.
fn try_once(
    destination: &Destination,
    paths: Option<&[&ModelPath]>,
    attempt: &mut LockAttempt,
    own: &mut Option<DestinationLock>,
) -> Result<Acquire, StoreError> {
    let lock = match own.take() {
        Some(lock) => lock,
        None => match attempt.try_acquire(destination)? {
            Acquire::Acquired(lock) => lock,
            held @ Acquire::Held(_) => return Ok(held),
        },
    };
    let Some(paths) = paths else { return Ok(Acquire::Acquired(lock)) };
    if let Some(holder) = lock.held_above(destination, &[]) {
        return Ok(Acquire::Held(holder));
    }
    match lock.held_below(destination, paths.iter().copied()) {
        Some(holder) => {
            *own = Some(lock);
            Ok(Acquire::Held(holder))
        }
        None => Ok(Acquire::Acquired(lock)),
    }
}

/// Ends when the run has to stop; never if the sender is gone.
pub(crate) async fn stop_requested(interrupted: &mut watch::Receiver<bool>) {
    if interrupted.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}
