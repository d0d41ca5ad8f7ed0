//! Signals: the first asks the run to stop where it can go on later, the second ends it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::exit::Code;

/// Which signal came, if any.
#[derive(Debug, Clone, Default)]
pub struct Caught(Arc<AtomicU8>);

impl Caught {
    /// The exit code for the signal that came.
    pub fn code(&self) -> Option<Code> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Code::HungUp),
            2 => Some(Code::Interrupted),
            _ => Some(Code::Terminated),
        }
    }
}

/// Listens from now on, on the runtime that it is called in. The receiver turns true with the first signal.
pub fn listen() -> std::io::Result<(watch::Receiver<bool>, Caught)> {
    /// Raised by a write past the file size limit; caught, so that the write fails with an error instead.
    const SIGXFSZ: i32 = 25;
    let (stop, stopped) = watch::channel(false);
    let caught = Caught::default();
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut too_large = signal(SignalKind::from_raw(SIGXFSZ))?;
    let noted = caught.clone();
    tokio::spawn(async move {
        loop {
            let number = tokio::select! {
                _ = hang_up.recv() => 1,
                _ = interrupt.recv() => 2,
                _ = terminate.recv() => 15,
                _ = too_large.recv() => continue,
            };
            let earlier = noted.0.swap(number, Ordering::Relaxed);
            if earlier != 0 {
                super::say("stopped at once");
                std::process::exit(128 + i32::from(number));
            }
            super::say("stopping; what has arrived is kept (again to stop at once)");
            let _ = stop.send(true);
        }
    });
    Ok((stopped, caught))
}
