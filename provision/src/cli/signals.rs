//! Signals: the first one stops the run so that it can resume, the second one ends it at once.
//!
//! One request to stop may arrive as two signals. `timeout` signals the process and its group, a hang-up comes from the
//! shell and from the kernel, and some supervisors send SIGTERM to every process of a container. So a signal within half
//! a second of the first one counts as the same request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::exit::Code;

/// The time within which a second signal counts as the same request.
const ONE_WISH: Duration = Duration::from_millis(500);

/// The request of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// Stop so that a later run can resume.
    Stop,
    /// The same request again.
    Same,
    /// End at once.
    End,
}

/// The request of a signal at `now`, after a first one at `first`.
fn wish(first: Option<Instant>, now: Instant) -> Wish {
    match first {
        None => Wish::Stop,
        Some(first) if now.saturating_duration_since(first) < ONE_WISH => Wish::Same,
        Some(_) => Wish::End,
    }
}

/// The first signal that came, if any.
#[derive(Debug, Clone, Default)]
pub struct Caught(Arc<AtomicU8>);

impl Caught {
    /// The exit code of the first signal.
    pub fn code(&self) -> Option<Code> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Code::HungUp),
            2 => Some(Code::Interrupted),
            _ => Some(Code::Terminated),
        }
    }
}

/// A hang-up or interrupt; `None` if it was ignored when the program started. `nohup` and a shell's `&` start programs that way,
/// and mean it (fault 106).
fn unless_ignored(kind: SignalKind) -> std::io::Result<Option<Signal>> {
    // SAFETY: zero is a value of each field, and the call only reads the present action into it.
    let (result, action) = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        (libc::sigaction(kind.as_raw_value(), std::ptr::null(), &raw mut action), action)
    };
    let is_ignored = result == 0 && action.sa_sigaction == libc::SIG_IGN;
    if is_ignored { Ok(None) } else { signal(kind).map(Some) }
}

/// The next signal of this kind; never, if the signal is ignored.
async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Starts listening on the current runtime. The receiver turns true with the first signal.
pub fn listen() -> std::io::Result<(watch::Receiver<bool>, Caught)> {
    /// A write past the file size limit raises it. It is caught, so that the write fails with an error instead.
    const SIGXFSZ: i32 = 25;
    let (stop, stopped) = watch::channel(false);
    let caught = Caught::default();
    let mut hang_up = unless_ignored(SignalKind::hangup())?;
    let mut interrupt = unless_ignored(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut too_large = signal(SignalKind::from_raw(SIGXFSZ))?;
    let noted = caught.clone();
    tokio::spawn(async move {
        let mut first = None;
        loop {
            let number = tokio::select! {
                () = next(&mut hang_up) => 1,
                () = next(&mut interrupt) => 2,
                _ = terminate.recv() => 15,
                _ = too_large.recv() => continue,
            };
            let now = Instant::now();
            match wish(first, now) {
                Wish::Stop => {
                    first = Some(now);
                    noted.0.store(number, Ordering::Relaxed);
                    // First, since the message may block: a stopped terminal, or a pipe that is not read.
                    let _ = stop.send(true);
                    super::say("stopping; received bytes are kept (repeat to stop at once)");
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
