//! Signals: the first asks the run to stop where it can go on later, the second ends it at once.
//!
//! What asks for one stop may send two signals: `timeout` signals the process and its group, a terminal's hang-up comes
//! from the shell and from the kernel, and some supervisors send SIGTERM to every process of a container and to the
//! first of it. So a signal that follows the first within half a second says the same thing again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::exit::Code;

/// How long after the first signal another one is taken for the same wish.
const ONE_WISH: Duration = Duration::from_millis(500);

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// To stop where it can go on later.
    Stop,
    /// Nothing that was not said before.
    Same,
    /// To end at once.
    End,
}

/// What a signal asks for that comes at `now`, where the first one came at `first`.
fn wish(first: Option<Instant>, now: Instant) -> Wish {
    match first {
        None => Wish::Stop,
        Some(first) if now.saturating_duration_since(first) < ONE_WISH => Wish::Same,
        Some(_) => Wish::End,
    }
}

/// Which signal came first, if any.
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
        let mut first = None;
        loop {
            let number = tokio::select! {
                _ = hang_up.recv() => 1,
                _ = interrupt.recv() => 2,
                _ = terminate.recv() => 15,
                _ = too_large.recv() => continue,
            };
            let now = Instant::now();
            match wish(first, now) {
                Wish::Stop => {
                    first = Some(now);
                    noted.0.store(number, Ordering::Relaxed);
                    super::say("stopping; what has arrived is kept (again to stop at once)");
                    let _ = stop.send(true);
                }
                Wish::Same => {}
                Wish::End => {
                    super::say("stopped at once");
                    std::process::exit(128 + i32::from(number));
                }
            }
        }
    });
    Ok((stopped, caught))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_85_two_signals_within_half_a_second_are_one_wish() {
        let first = Instant::now();
        let after = |millis| wish(Some(first), first + Duration::from_millis(millis));
        assert_eq!(wish(None, first), Wish::Stop);
        assert_eq!([after(0), after(20), after(499)], [Wish::Same; 3]);
        assert_eq!([after(500), after(60_000)], [Wish::End; 2]);
    }
}
