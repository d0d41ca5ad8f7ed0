//! Name resolution: the caller's own names (`given`), then the system's resolver (`system`) or, in a static binary, our
//! own (`stub`), both in the background (`lookups`).
//!
//! In a static binary, glibc's `getaddrinfo` would load the modules that /etc/nsswitch.conf names: shared objects that
//! were built for another glibc, run inside this process. So a static build never calls it. Every other build does:
//! there a name means the same as for the machine's other programs, also by mDNS, a VPN or a directory.

mod given;
mod lookup_error;
mod lookups;
#[cfg(any(test, all(target_feature = "crt-static", target_env = "gnu")))]
mod stub;
#[cfg(not(all(target_feature = "crt-static", target_env = "gnu")))]
mod system;

pub use given::Hosts;
pub(crate) use lookup_error::LookupError;
pub(crate) use lookups::Lookups;
#[cfg(all(target_feature = "crt-static", target_env = "gnu"))]
pub(crate) use stub::lookups;
#[cfg(not(all(target_feature = "crt-static", target_env = "gnu")))]
pub(crate) use system::lookups;
