//! Work on many items by a fixed number of threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;

/// The number of processors that this process may use.
#[expect(clippy::disallowed_methods, reason = "a command asks once")]
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The results of `work` on every item, in the items' order. At most `jobs` calls run at the same time.
pub(crate) fn map<T: Sync, R: Send>(items: &[T], jobs: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let claims = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        claims.map_while(|index| Some((index, work(items.get(index)?)))).collect::<Vec<_>>()
    };
    let mut results: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.min(items.len())).map(|_| scope.spawn(worker)).collect();
        let joined = workers.into_iter().map(ScopedJoinHandle::join);
        joined.flat_map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::map;

    #[test]
    fn results_keep_the_order_of_the_items() {
        let items: Vec<u32> = (0..100).collect();
        assert_eq!(map(&items, 3, |item| item * 2), (0..100).map(|item| item * 2).collect::<Vec<_>>());
        assert!(map(&items[..0], 3, |item| *item).is_empty());
    }
}
