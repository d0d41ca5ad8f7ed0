//! An origin for code that is not async.

use std::io;
use std::ops::Deref;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::control::Control;
use crate::counters::Counters;
use crate::origin::{Origin, OriginConfig};

/// An [`Origin`] with a runtime of its own. All that can be done with it is in [`Control`]. It stops when it is
/// dropped, without waiting; [`BlockingOrigin::stop`] waits.
#[derive(Debug)]
pub struct BlockingOrigin {
    // Both are there until they are taken to stop.
    origin: Option<Origin>,
    runtime: Option<Runtime>,
    control: Control,
}

/// [`BlockingOrigin::wait_for`] waited in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitedInVain {
    /// How long.
    pub timeout: Duration,
    /// What the counters were in the end.
    pub counters: Counters,
}

impl std::fmt::Display for WaitedInVain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not within {:?}: {:?}", self.timeout, self.counters)
    }
}

impl std::error::Error for WaitedInVain {}

impl BlockingOrigin {
    /// Binds and begins to serve on [`OriginConfig::threads`] threads.
    pub fn start(config: OriginConfig) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(config.threads.max(1))
            .thread_name("testbed-origin")
            .enable_all()
            .build()?;
        let origin = runtime.block_on(Origin::start(config))?;
        let control = origin.control();
        Ok(Self { origin: Some(origin), runtime: Some(runtime), control })
    }

    /// Stops: when this returns, nobody listens and every connection is closed. Not to be called from async code.
    pub fn stop(mut self) {
        if let (Some(origin), Some(runtime)) = (self.origin.take(), self.runtime.take()) {
            runtime.block_on(origin.stop());
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }

    /// Waits until the counters satisfy `done` and returns those. Not to be called from async code.
    pub fn wait_for(
        &self,
        timeout: Duration,
        done: impl FnMut(&Counters) -> bool,
    ) -> Result<Counters, WaitedInVain> {
        let in_vain = || WaitedInVain { timeout, counters: self.control.counters() };
        let Some(runtime) = &self.runtime else { return Err(in_vain()) };
        let waited =
            runtime.block_on(async { tokio::time::timeout(timeout, self.control.wait_for(done)).await });
        waited.map_err(|_| in_vain())
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
        self.origin.take();
        if let Some(runtime) = self.runtime.take() {
            // The only way that is allowed inside another runtime, too.
            runtime.shutdown_background();
        }
    }
}
