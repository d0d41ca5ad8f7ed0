//! A queue of files that several threads work on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Items, the largest first, so that the last one to end is small; and their results.
pub(crate) struct Queue<'a, I, T> {
    items: &'a [I],
    order: Vec<usize>,
    next: AtomicUsize,
    results: Mutex<Vec<(usize, T)>>,
}

impl<'a, I, T> Queue<'a, I, T> {
    fn new(items: &'a [I], size: impl Fn(&I) -> u64) -> Self {
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(size(&items[*at])));
        let results = Mutex::new(Vec::with_capacity(items.len()));
        Self { items, order, next: AtomicUsize::new(0), results }
    }

    /// The next item and its position.
    pub(crate) fn take(&self) -> Option<(usize, &'a I)> {
        let at = *self.order.get(self.next.fetch_add(1, Ordering::Relaxed))?;
        Some((at, &self.items[at]))
    }

    /// The item at a position.
    pub(crate) fn item(&self, at: usize) -> &'a I {
        &self.items[at]
    }

    /// Stores the result of an item that was taken.
    pub(crate) fn done(&self, at: usize, result: T) {
        self.results.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
    }

    /// The results, in the order of the items.
    fn finish(self) -> Vec<T> {
        let mut results = self.results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.sort_by_key(|(at, _)| *at);
        results.into_iter().map(|(_, result)| result).collect()
    }
}

/// Calls `work` for each of `items` on `threads` threads, and returns the results in order.
pub(crate) fn each<I: Sync, T: Send>(
    items: &[I],
    size: impl Fn(&I) -> u64,
    threads: usize,
    work: impl Fn(&I) -> T + Sync,
) -> Vec<T> {
    run(items, size, threads.min(items.len()), |queue| {
        while let Some((at, item)) = queue.take() {
            queue.done(at, work(item));
        }
    })
}

/// Calls `work` on `threads` threads, each of which takes items off the queue, two at a time, until it is empty.
pub(crate) fn each_in_pairs<I: Sync, T: Send>(
    items: &[I],
    size: impl Fn(&I) -> u64,
    threads: usize,
    work: impl Fn(&Queue<'_, I, T>) + Sync,
) -> Vec<T> {
    // With a thread for each item, one item a thread is faster than two side by side.
    let threads =
        if items.len() <= threads { items.len() } else { threads.min(items.len().div_ceil(2)).max(1) };
    run(items, size, threads, work)
}

fn run<I: Sync, T: Send>(
    items: &[I],
    size: impl Fn(&I) -> u64,
    threads: usize,
    worker: impl Fn(&Queue<'_, I, T>) + Sync,
) -> Vec<T> {
    let queue = Queue::new(items, size);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| worker(&queue));
        }
        worker(&queue);
    });
    queue.finish()
}
