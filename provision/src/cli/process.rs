//! What the process is told before it does anything: how to keep memory, how many files it may have open, and that what
//! it makes is its own.

/// To be called before there are threads.
pub fn prepare() {
    use_one_pool();
    raise_file_limit();
    keep_own_rights();
}

/// The umask may take rights from others, not from whoever runs this: what one run makes, it has to open again, and so
/// has the next. Under `umask 0777` the file of the destination's lock could be opened by root alone, once and for ever.
fn keep_own_rights() {
    use rustix::fs::Mode;
    use rustix::process::umask;
    let inherited = umask(Mode::RWXG | Mode::RWXO);
    umask(inherited - Mode::RWXU);
}

/// Keeps memory in one pool. glibc gives threads pools of their own, up to eight times as many as there are cores, and
/// each keeps what it once needed; here bytes are received by one thread and let go by another, in few and large pieces,
/// so that many pools cost memory (a third of it, measured) and gain nothing.
fn use_one_pool() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it sets a number; there is one thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Many connections and many files: as many descriptors as the system lets this process have.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
