//! The C library's allocator, told what this program is like.

/// Keeps memory in one pool. glibc gives threads pools of their own, up to eight times as many as there are cores, and
/// each keeps what it once needed; here bytes are received by one thread and let go by another, in few and large pieces,
/// so that many pools cost memory (a third of it, measured) and gain nothing. To be called before there are threads.
pub fn use_one_pool() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it sets a number; there is one thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
