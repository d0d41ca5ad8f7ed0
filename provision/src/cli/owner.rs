//! The owner of the working directory, whom a process of root becomes.
//!
//! A container on a laptop runs as root, and root's files in a mounted folder belong to root on the host, too. With
//! `PROVISION_AS_OWNER`, which the image `provision` sets, files belong to the folder's owner.

use super::environment;
use super::exit::{Code, Failure};

/// Becomes the owner of the working directory, if the variable asks for it, the process is root's and the directory is
/// not. Call it before any thread starts: the C library changes the user of every thread, but a run must not begin as
/// root.
///
/// # Errors
/// Without the right to change users, which a container may withhold.
pub fn become_owner() -> Result<(), Failure> {
    if !environment::wants_owner() || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let Ok(folder) = rustix::fs::stat(".") else { return Ok(()) };
    let (user, group) = (folder.st_uid, folder.st_gid);
    if user == 0 {
        return Ok(());
    }
    // A secret that is mounted into a container may be root's alone.
    environment::keep_logins();
    // The order: without root's user id the others cannot change.
    // SAFETY: the calls take numbers, and an empty list that is not read.
    let changed = unsafe {
        libc::setgroups(0, std::ptr::null()) == 0 && libc::setgid(group) == 0 && libc::setuid(user) == 0
    };
    if changed {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(Failure::new(
        Code::Usage,
        format!(
            "root cannot become user {user}, the owner of the working directory: {error}; run the container with --user \
             {user}:{group}, or set PROVISION_AS_OWNER=0 to stay root"
        ),
    ))
}
