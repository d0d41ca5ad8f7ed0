//! An origin for code that is not async.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::control::Control;
use crate::counters::Counters;
use crate::origin::{Origin, OriginConfig};

/// An [`Origin`] with a runtime of its own. It derefs to [`Control`]. Dropping it stops it without waiting;
/// [`BlockingOrigin::stop`] waits.
#[derive(Debug)]
pub struct BlockingOrigin {
    control: Control,
    /// `None` only while it stops.
    running: Option<(Origin, Runtime)>,
}

/// [`BlockingOrigin::wait_for`] timed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitTimeout {
    /// The time waited.
    pub timeout: Duration,
    /// The counters at the end.
    pub counters: Counters,
}

impl fmt::Display for WaitTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the origin's counters are not as expected after {:?}: {:?}", self.timeout, self.counters)
    }
}

impl std::error::Error for WaitTimeout {}

impl BlockingOrigin {
    /// Binds the address and begins to serve on [`OriginConfig::threads`] threads.
    pub fn start(config: OriginConfig) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(config.threads.max(1))
            .thread_name("testbed-origin")
            .enable_all()
            .build()?;
        let origin = runtime.block_on(Origin::start(config))?;
        Ok(Self { control: origin.control(), running: Some((origin, runtime)) })
    }

    /// Stops. When this returns, the port is free and every connection is closed. Panics in async code.
    pub fn stop(mut self) {
        if let Some((origin, runtime)) = self.running.take() {
            runtime.block_on(origin.stop());
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }

    /// Waits until the counters satisfy `done`, and returns them. Panics in async code.
    pub fn wait_for(
        &self,
        timeout: Duration,
        done: impl FnMut(&Counters) -> bool,
    ) -> Result<Counters, WaitTimeout> {
        let timed_out = || WaitTimeout { timeout, counters: self.control.counters() };
        let (_, runtime) = self.running.as_ref().ok_or_else(timed_out)?;
        let waiting = async { tokio::time::timeout(timeout, self.control.wait_for(done)).await };
        runtime.block_on(waiting).map_err(|_| timed_out())
    }

    /// A handle for other threads and callbacks.
    pub fn control(&self) -> Control {
        self.control.clone()
    }
}

impl Deref for BlockingOrigin {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.control
    }
}

impl Drop for BlockingOrigin {
    fn drop(&mut self) {
        if let Some((origin, runtime)) = self.running.take() {
            drop(origin);
            // Dropping a runtime inside another one panics; this does not.
            runtime.shutdown_background();
        }
    }
}
