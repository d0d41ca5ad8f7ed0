//! Names to addresses: by the system's resolver, and in a static binary by our own.
//!
//! glibc's `getaddrinfo` loads the modules that /etc/nsswitch.conf names, also in a static binary: shared objects of
//! whatever root the program was copied into, built for another glibc, run inside this process. So a static build
//! never calls it (`own`). Every other build keeps it: there, a name means what it means to all other programs of
//! the machine, be it by mDNS, a VPN or a directory.

#[cfg(any(test, all(target_feature = "crt-static", target_env = "gnu")))]
mod own;
#[cfg(not(all(target_feature = "crt-static", target_env = "gnu")))]
mod system;

use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::{NotPublic, is_public};
#[cfg(all(target_feature = "crt-static", target_env = "gnu"))]
pub(super) use own::Names;
#[cfg(not(all(target_feature = "crt-static", target_env = "gnu")))]
pub(super) use system::Names;

/// A name without an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum LookupError {
    /// There is no such name, or it has no address.
    #[error("the name does not resolve")]
    Absent,
    /// Whether there is one, nobody said.
    #[error("no name server answered")]
    Unanswered,
}

/// What a client asks, before it connects.
#[derive(Debug)]
pub(super) struct Resolver {
    /// Shared by a run's clients.
    pub(super) names: Arc<Names>,
    /// Leaves out what a public origin may not lead to.
    pub(super) public_only: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (names, public_only) = (self.names.clone(), self.public_only);
        Box::pin(async move {
            let mut addresses = names.lookup(name.as_str()).await?;
            if public_only {
                addresses.retain(|address| is_public(*address));
                if addresses.is_empty() {
                    return Err(NotPublic.into());
                }
            }
            // The port is the URL's.
            Ok(Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}
