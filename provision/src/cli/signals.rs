//! Signals: the first one stops a run so that it can resume, or ends a command without a run. The second one ends the
//! process.
//!
//! One request to stop may arrive as two signals. `timeout` signals the process and its group, a hang-up comes from the
//! shell and from the kernel, and some supervisors send SIGTERM to every process of a container. So a signal within
//! half a second of the first one counts as the same request.
//!
//! A thread of its own receives the signals: at any time, also before and after a run, and whatever the other threads
//! wait for (fault 108). The kernel drops signals to the first process of a container unless they are handled or, as
//! here, blocked.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::exit::Code;
use super::output::{self, ERR, Offer};

/// The time within which a second signal counts as the same request.
const SAME_REQUEST: Duration = Duration::from_millis(500);
/// The longest time that a run takes to stop. `docker stop` kills after ten seconds.
const LONGEST_STOP: Duration = Duration::from_secs(8);

/// The request of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StopRequest {
    /// Stop so that a later run can resume.
    Stop,
    /// The same request again.
    Same,
    /// End at once.
    End,
}

/// The request of a signal at `now`, after a first one at `first`.
fn request(first: Option<Instant>, now: Instant) -> StopRequest {
    match first {
        None => StopRequest::Stop,
        Some(first) if now.saturating_duration_since(first) < SAME_REQUEST => StopRequest::Same,
        Some(_) => StopRequest::End,
    }
}

/// The first signal that came, or 0.
static CAUGHT: AtomicI32 = AtomicI32::new(0);
/// The run that a signal stops, if there is one.
static RUN: Mutex<Option<watch::Sender<bool>>> = Mutex::new(None);

fn current_run() -> MutexGuard<'static, Option<watch::Sender<bool>>> {
    RUN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The exit code of the first signal that came, if any.
pub(super) fn caught() -> Option<Code> {
    match CAUGHT.load(Ordering::Relaxed) {
        0 => None,
        libc::SIGHUP => Some(Code::HungUp),
        libc::SIGINT => Some(Code::Interrupted),
        _ => Some(Code::Terminated),
    }
}

/// A run that stops at the first signal, until it is dropped.
pub(super) struct StoppableRun(pub(super) watch::Receiver<bool>);

impl StoppableRun {
    pub(super) fn begin() -> Self {
        let (stop, stopped) = watch::channel(false);
        *current_run() = Some(stop);
        Self(stopped)
    }
}

impl Drop for StoppableRun {
    fn drop(&mut self) {
        current_run().take();
    }
}

/// True if the process ignored this signal when it started. `nohup` and a shell's `&` start programs that way, and mean
/// it (fault 106).
fn is_ignored(number: i32) -> bool {
    // SAFETY: zero is a value of each field, and the call only reads the present action into it.
    let (result, action) = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        (libc::sigaction(number, std::ptr::null(), &raw mut action), action)
    };
    result == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Blocks the signals, and starts the thread that receives them. Call it before any other thread starts. Without a
/// thread the signals keep their default actions.
pub(super) fn listen() {
    // SAFETY: the calls write the sets, which are values without pointers.
    let set = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        // A write past the file size limit raises it. It is blocked, so that the write fails with an error instead.
        libc::sigaddset(&raw mut set, libc::SIGXFSZ);
        for number in [libc::SIGHUP, libc::SIGINT].into_iter().filter(|number| !is_ignored(*number)) {
            libc::sigaddset(&raw mut set, number);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        set
    };
    let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(move || receive(&set));
    if thread.is_err() {
        // SAFETY: as above.
        unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) };
    }
}

fn receive(set: &libc::sigset_t) {
    let mut first = None;
    loop {
        let number = match first {
            None => next(set, None),
            Some(first) => next(set, Some(LONGEST_STOP.saturating_sub(Instant::elapsed(&first)))),
        };
        let Some(number) = number else { end("stopped at once: stopping took too long") };
        if number == libc::SIGXFSZ {
            continue;
        }
        let now = Instant::now();
        match request(first, now) {
            StopRequest::Stop => {
                first = Some(now);
                CAUGHT.store(number, Ordering::Relaxed);
                let Some(run) = &*current_run() else { end("stopped") };
                let _ = run.send(true);
                output::hurry();
                let text = "stopping; received bytes are kept (repeat to stop at once)\n";
                let _ = Offer(&ERR).put(text, true);
            }
            StopRequest::Same => {}
            StopRequest::End => end("stopped at once"),
        }
    }
}

/// Waits for the next of these signals, for `limit` at most.
fn next(set: &libc::sigset_t, limit: Option<Duration>) -> Option<i32> {
    let limit = limit.map(|limit| libc::timespec {
        tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    });
    let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    loop {
        // SAFETY: both pointers are null or lead to values that live until the call returns.
        match unsafe { libc::sigtimedwait(set, std::ptr::null_mut(), limit) } {
            -1 if std::io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN) => return None,
            -1 => {}
            number => return Some(number),
        }
    }
}

/// Ends the process with the code of the first signal.
fn end(message: &str) -> ! {
    output::hurry();
    let _ = Offer(&ERR).put(&format!("{message}\n"), true);
    output::flush();
    std::process::exit(128 + CAUGHT.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_85_two_signals_within_half_a_second_are_one_wish() {
        let first = Instant::now();
        let after = |millis| request(Some(first), first + Duration::from_millis(millis));
        assert_eq!(request(None, first), StopRequest::Stop);
        assert_eq!([after(0), after(20), after(499)], [StopRequest::Same; 3]);
        assert_eq!([after(500), after(60_000)], [StopRequest::End; 2]);
    }
}
