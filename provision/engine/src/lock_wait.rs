//! The wait for a directory's lock, until it is free, the time is up, or the run is stopped.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use provision_core::event::{Event, Observer};
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

/// Waits for the lock of `destination`, for `wait` at most.
///
/// A holder on another machine is watched for a few seconds even if `wait` is shorter, until it is known whether it
/// still renews its lease. Otherwise a run without a wait could never take over an expired lock.
///
/// # Errors
/// The lock file cannot be read or written.
pub async fn lock(
    destination: &Destination,
    wait: Duration,
    observer: &dyn Observer,
    interrupted: &mut watch::Receiver<bool>,
) -> Result<LockWait, StoreError> {
    let started = Instant::now();
    let mut announced = false;
    let mut attempt = LockAttempt::default();
    loop {
        let holder = match attempt.try_acquire(destination)? {
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

/// Ends when the run has to stop; never if the sender is gone.
pub(crate) async fn stop_requested(interrupted: &mut watch::Receiver<bool>) {
    if interrupted.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}
