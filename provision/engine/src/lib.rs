//! The job: from a lock to installed, verified files and a marker.

pub mod cache;
pub mod fetch;
pub mod inspect;
pub mod leftovers;
pub mod lock_wait;
pub mod marker;
pub mod piece_lists;
pub mod store;
#[cfg(test)]
mod test_support;
pub mod torrents;
pub mod transfer;
pub mod unpinned;
pub mod warm;
mod work_queue;

#[cfg(fuzzing)]
#[doc(hidden)]
pub use marker::written_again;
