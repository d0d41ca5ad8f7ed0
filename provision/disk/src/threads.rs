//! Shared work: several threads do it, and the first failure ends them all.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Builder;

/// The most threads of one work. Each has two blocks in memory.
const MAX_THREADS: usize = 16;

/// The number of processors that this process may use, at least 1. The first call reads the control group's limit, which
/// costs eleven system calls: a set of thousands of small files would pay them for each.
pub fn processors() -> usize {
    #[expect(clippy::disallowed_methods, reason = "the one call")]
    static COUNT: LazyLock<usize> =
        LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from));
    *COUNT
}

/// Ends the work of the other threads if its own one panics.
struct StopOnPanic<'a>(&'a AtomicBool);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        self.0.fetch_or(std::thread::panicking(), Ordering::Relaxed);
    }
}

/// Calls `work` on `threads` threads at most, of which the calling one asks `keep_going`. The first failure or panic
/// ends the others, and is the result. Otherwise that of the calling thread is.
pub(crate) fn share<T: Send, E: Send>(
    threads: usize,
    keep_going: &mut dyn FnMut() -> Result<bool, E>,
    work: impl Fn(&mut dyn FnMut() -> Result<bool, E>) -> Result<T, E> + Sync,
) -> Result<T, E> {
    share_by(Builder::new, threads, keep_going, work)
}

fn share_by<T: Send, E: Send>(
    builder: impl Fn() -> Builder,
    threads: usize,
    keep_going: &mut dyn FnMut() -> Result<bool, E>,
    work: impl Fn(&mut dyn FnMut() -> Result<bool, E>) -> Result<T, E> + Sync,
) -> Result<T, E> {
    let stop = AtomicBool::new(false);
    // An error comes with whether it is the first one: the others may follow from it.
    let run = |keep_going: &mut dyn FnMut() -> Result<bool, E>| {
        let _guard = StopOnPanic(&stop);
        let mut go_on = || if stop.load(Ordering::Relaxed) { Ok(false) } else { keep_going() };
        work(&mut go_on).map_err(|error| (!stop.swap(true, Ordering::Relaxed), error))
    };
    std::thread::scope(|scope| {
        let help = || run(&mut || Ok(true));
        // Those that the system refuses, as a limit of processes lets it, are not needed.
        let spawn = |_| builder().spawn_scoped(scope, help).ok();
        let helpers: Vec<_> = (1..threads.min(MAX_THREADS)).map_while(spawn).collect();
        let mut result = run(keep_going);
        for helper in helpers {
            let helped = helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            if result.is_ok() || matches!(helped, Err((true, _))) {
                result = helped.and(result);
            }
        }
        result.map_err(|(_, error)| error)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Mutex;
    use std::thread::{self, ThreadId};

    use super::*;

    const MANY: usize = 1_000_000;

    /// Shares work of [`MANY`] steps of the calling thread, where each helper calls `help`. Returns the calling
    /// thread's steps.
    fn steps_beside(help: impl Fn() -> Result<(), &'static str> + Sync) -> (Result<(), &'static str>, usize) {
        let (mut steps, caller) = (0, thread::current().id());
        let mut keep_going = || {
            steps += 1;
            thread::yield_now();
            Ok(true)
        };
        let work = |keep_going: &mut dyn FnMut() -> Result<bool, &'static str>| {
            if thread::current().id() != caller {
                return help();
            }
            for _ in 0..MANY {
                if !keep_going()? {
                    return Err("interrupted");
                }
            }
            Ok(())
        };
        let ended =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| share(3, &mut keep_going, work)));
        (ended.unwrap_or(Err("panic")), steps)
    }

    #[test]
    fn a_helper_that_fails_ends_the_others() {
        let (shared, steps) = steps_beside(|| Err("unreadable"));
        assert_eq!(shared, Err("unreadable"));
        assert!(steps < MANY, "the calling thread worked in vain");
        let (shared, steps) = steps_beside(|| panic!("a helper's bug"));
        assert_eq!(shared, Err("panic"));
        assert!(steps < MANY, "the calling thread worked in vain");
    }

    /// The number of threads that work is shared by.
    fn sharers(builder: impl Fn() -> Builder) -> usize {
        let seen: Mutex<HashSet<ThreadId>> = Mutex::default();
        let work = |_: &mut dyn FnMut() -> Result<bool, ()>| {
            seen.lock().unwrap().insert(thread::current().id());
            Ok(())
        };
        share_by(builder, 1000, &mut || Ok(true), work).unwrap();
        seen.into_inner().unwrap().len()
    }

    #[test]
    fn threads_are_bounded_and_may_be_refused() {
        assert_eq!(sharers(Builder::new), MAX_THREADS);
        assert_eq!(
            sharers(|| Builder::new().stack_size(usize::MAX / 8)),
            1,
            "the calling thread does the work"
        );
    }
}
