//! A thread that calls a function periodically and ends as soon as it is told to.
//!
//! It waits on a channel with a timeout. A sleeping thread would delay the program's exit, or be killed while it draws.

use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::lock;

/// A running thread, ended by [`Ticker::stop`] or by dropping.
pub(super) struct Ticker(Mutex<Option<(Sender<()>, JoinHandle<()>)>>);

impl Ticker {
    /// Calls `tick` every `period`, first after one period. If no thread can be started there are no ticks: progress is
    /// no reason to fail.
    pub(super) fn start(period: Duration, tick: impl Fn() + Send + 'static) -> Self {
        let (stop, stopped) = channel();
        let thread = Builder::new().name("progress".to_owned()).spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(period) {
                tick();
            }
        });
        Self(Mutex::new(thread.ok().map(|thread| (stop, thread))))
    }

    /// Without a thread, for displays that draw only at events, and for tests.
    pub(super) fn none() -> Self {
        Self(Mutex::new(None))
    }

    /// Ends the thread and waits for a running tick.
    pub(super) fn stop(&self) {
        let running = lock(&self.0).take();
        if let Some((stop, thread)) = running {
            drop(stop);
            // The panic hook has reported a tick that panicked.
            let _ = thread.join();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_ticker_ticks_and_stops_at_once() {
        let (ticked, ticks) = channel();
        let ticker = Ticker::start(Duration::from_millis(1), move || {
            let _ = ticked.send(());
        });
        ticks.recv().unwrap();
        ticker.stop();
        ticker.stop();

        let start = Instant::now();
        drop(Ticker::start(Duration::from_hours(1), || ()));
        assert!(start.elapsed() < Duration::from_mins(1));
    }
}
