//! Work that several threads share.

use std::sync::atomic::{AtomicBool, Ordering};

/// Calls `work` on `threads` threads, of which the calling one asks `keep_going`. The others go on until it fails. Returns its result,
/// or the failure of another one.
pub(crate) fn share<T: Send, E: Send>(
    threads: usize,
    keep_going: &mut dyn FnMut() -> Result<bool, E>,
    work: impl Fn(&mut dyn FnMut() -> Result<bool, E>) -> Result<T, E> + Sync,
) -> Result<T, E> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let help = || work(&mut || Ok(!stop.load(Ordering::Relaxed)));
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(help)).collect();
        let mut result = work(keep_going);
        stop.store(result.is_err(), Ordering::Relaxed);
        for helper in helpers {
            let helped = helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result = result.and_then(|own| helped.map(|_| own));
        }
        result
    })
}
