//! Work on many files by several threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Calls `work` for each of `items` on `threads` threads, the largest first, so that the last one to end is a small one,
/// and returns the results in order.
pub(crate) fn each<I: Sync, T: Send>(
    items: &[I],
    size: impl Fn(&I) -> u64,
    threads: usize,
    work: impl Fn(&I) -> T + Sync,
) -> Vec<T> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(size(&items[*at])));
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(items.len()));
    let worker = || {
        while let Some(at) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = work(&items[*at]);
            results.lock().unwrap_or_else(PoisonError::into_inner).push((*at, result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(items.len()) {
            scope.spawn(worker);
        }
        worker();
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}
