//! A queue of items that several threads work on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The number of files that take the time, of files of these lengths: those of an eighth of the longest or more.
pub(crate) fn long(lengths: impl Iterator<Item = u64> + Clone) -> usize {
    let longest = lengths.clone().max().unwrap_or(0);
    lengths.filter(|length| *length >= longest / 8).count()
}

/// Items, the largest first, so that the last one to end is small.
pub(crate) struct Queue<'a, I> {
    items: &'a [I],
    order: Vec<usize>,
    next: AtomicUsize,
}

impl<'a, I> Queue<'a, I> {
    fn new(items: &'a [I], size: impl Fn(&I) -> u64) -> Self {
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(size(&items[*at])));
        Self { items, order, next: AtomicUsize::new(0) }
    }

    /// The next item and its position.
    pub(crate) fn take(&self) -> Option<(usize, &'a I)> {
        let at = *self.order.get(self.next.fetch_add(1, Ordering::Relaxed))?;
        Some((at, &self.items[at]))
    }
}

/// Calls `work` for each of `items` on `threads` threads, and returns the results in order.
pub(crate) fn each<I: Sync, T: Send>(
    items: &[I],
    size: impl Fn(&I) -> u64,
    threads: usize,
    work: impl Fn(&I) -> T + Sync,
) -> Vec<T> {
    let results = Mutex::new(Vec::with_capacity(items.len()));
    run(&Queue::new(items, size), threads.min(items.len()), &|queue| {
        while let Some((at, item)) = queue.take() {
            let result = work(item);
            results.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Calls `work` on `threads` threads, each of which takes items off the queue, two at a time, until it is empty. Items
/// of one size are taken in their order.
pub(crate) fn each_in_pairs<I: Sync>(
    items: &[I],
    size: impl Fn(&I) -> u64,
    threads: usize,
    work: &(dyn Fn(&Queue<'_, I>) + Sync),
) {
    // With a thread for each item, one item a thread is faster than two side by side.
    let threads =
        if items.len() <= threads { items.len() } else { threads.min(items.len().div_ceil(2)).max(1) };
    run(&Queue::new(items, size), threads, work);
}

fn run<I: Sync>(queue: &Queue<'_, I>, threads: usize, worker: &(dyn Fn(&Queue<'_, I>) + Sync)) {
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // The others do the work of a thread that the system refuses.
            let _ = std::thread::Builder::new().spawn_scoped(scope, || worker(queue));
        }
        worker(queue);
    });
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_large_file_is_not_slowed_by_small_ones() {
        let long = |lengths: &[u64]| super::long(lengths.iter().copied());
        assert_eq!([long(&[]), long(&[40, 1, 1]), long(&[40, 5, 4]), long(&[0, 0])], [0, 1, 2, 2]);
    }
}
