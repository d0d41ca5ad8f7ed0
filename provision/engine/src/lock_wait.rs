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
pub enum LockWait {
    /// The lock is held by this run.
    Acquired(DestinationLock),
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
    let started = Instant::now();
    let mut announced = false;
    let mut attempt = LockAttempt::default();
    let mut own = None;
    loop {
        let holder = match try_once(destination, paths, &mut attempt, &mut own)? {
            Acquire::Acquired(lock) => {
                if announced {
                    observer.observe(&Event::Acquired);
                }
                return Ok(LockWait::Acquired(lock));
            }
            Acquire::Held(holder) => holder,
        };
        if started.elapsed() >= wait && !attempt.is_watching() {
            return Ok(LockWait::TimedOut { holder, waited: started.elapsed() });
        }
        if !announced {
            observer.observe(&Event::Waiting { holder });
            announced = true;
        }
        let left = if attempt.is_watching() { PAUSE } else { wait.saturating_sub(started.elapsed()) };
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
    if let Some(holder) = lock.held_above(destination) {
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
