//! Makes the piece lists of files that are on this machine. Each file is read once: the same bytes give its SHA-256,
//! which has to be the lock's, and the digests of its pieces, so no list describes other bytes than the lock.

use provision_core::event::Observer;
use provision_core::lockfile::Model;
use provision_core::piece_list::{Lister, PieceList};
use provision_disk::Destination;

use crate::inspect::{self, FileState, HashTarget};
use crate::work_queue;

/// Reads the files of `models` on `threads` threads, the largest first. Returns their states in the order of the
/// models, and the lists of those that are right. A symlink counts as the file that it leads to.
pub fn make(
    destination: &Destination,
    models: &[&Model],
    threads: usize,
    observer: &dyn Observer,
) -> (Vec<FileState>, Vec<Option<PieceList>>) {
    let links: Vec<_> = models.iter().map(|model| destination.link_at(&model.path).ok().flatten()).collect();
    let target = |(model, link)| HashTarget { model, link: Option::as_deref(link) };
    let targets: Vec<_> = models.iter().copied().zip(&links).map(target).collect();
    let read = |target: &HashTarget<'_>| {
        let mut lister = Lister::new(target.model.size);
        let state = inspect::read(destination, target, observer, &mut |block| block.hash_beside(&mut lister));
        let list = state.is_right().then(|| lister.finish(target.model.sha256));
        (state, list)
    };
    work_queue::each(&targets, |target| target.model.size, threads, read).into_iter().unzip()
}
