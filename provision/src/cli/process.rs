//! Settings of the process: the name of its command line, memory pools, limits on open files and core files, the umask.

use std::sync::OnceLock;

static INVOCATION: OnceLock<&str> = OnceLock::new();

/// Applies all settings. Call it before any thread starts. `invocation` is the text that a user types before a
/// command: `provision` or `cargo xtask`.
pub fn prepare(invocation: &'static str) {
    let _ = INVOCATION.set(invocation);
    use_one_pool();
    raise_file_limit();
    forbid_core_files();
    keep_own_rights();
}

/// The text that a user types before a command. Messages that name a command begin it with this text.
pub fn invocation() -> &'static str {
    INVOCATION.get().copied().unwrap_or("provision")
}

/// True if this process is the first one of its machine or container, or was started by the first one: `docker run
/// IMAGE COMMAND` and a `RUN` of a Dockerfile.
pub fn is_first() -> bool {
    let (own, parent) = (rustix::process::getpid(), rustix::process::getppid());
    own.is_init() || parent.is_some_and(rustix::process::Pid::is_init)
}

/// Gives the owner all rights in the umask: a run must be able to open again the files that it makes. Under `umask
/// 0777` only root could ever open the destination's lock file.
fn keep_own_rights() {
    use rustix::fs::Mode;
    use rustix::process::umask;
    let inherited = umask(Mode::RWXG | Mode::RWXO);
    umask(inherited - Mode::RWXU);
}

/// Keeps memory in one pool. glibc gives threads up to eight pools a core, and each keeps its peak. Here one thread
/// receives bytes and another frees them, in few and large pieces. More pools cost memory (a third of it, measured) and
/// gain nothing.
fn use_one_pool() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it sets a number, and there is one thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Forbids core files, which would hold the tokens. A limit of 1 byte also stops a core handler, which ignores 0
/// (core(5)).
fn forbid_core_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Core).maximum;
    let current = maximum.map_or(Some(1), |maximum| Some(maximum.min(1)));
    let _ = setrlimit(Resource::Core, Rlimit { current, maximum });
}

/// Raises the limit of open files to the maximum: a run has many connections and many files.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
