//! Names to addresses: by the system's resolver, and in a static binary by our own.
//!
//! glibc's `getaddrinfo` loads the modules that /etc/nsswitch.conf names, also in a static binary: shared objects of
//! whatever root the program was copied into, built for another glibc, run inside this process. So a static build
//! never calls it (`own`). Every other build keeps it: there, a name means what it means to all other programs of
//! the machine, be it by mDNS, a VPN or a directory. Before either, names that the caller knows (`given`).

mod given;
#[cfg(any(test, all(target_feature = "crt-static", target_env = "gnu")))]
mod stub;
#[cfg(not(all(target_feature = "crt-static", target_env = "gnu")))]
mod system;

pub use given::Hosts;
#[cfg(all(target_feature = "crt-static", target_env = "gnu"))]
pub(crate) use stub::Names;
#[cfg(not(all(target_feature = "crt-static", target_env = "gnu")))]
pub(crate) use system::Names;

/// A name without an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    /// There is no such name, or it has no address.
    #[error("the name does not resolve")]
    Absent,
    /// Whether there is one, nobody said.
    #[error("no name server answered")]
    Unanswered,
}
