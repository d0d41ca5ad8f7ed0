//! The system's resolver: `getaddrinfo`, on a thread for each lookup, since it may block for minutes.

use std::net::{IpAddr, ToSocketAddrs as _};
use std::time::Duration;

use super::lookup_error::LookupError;
use super::lookups::{LookupResult, Lookups, Running};

/// Lookups for which a caller waits `limit` at most; `getaddrinfo` has a limit of its own.
pub(crate) fn lookups(limit: Duration) -> Lookups {
    Lookups::new(limit, |host, running: Running| {
        let thread = std::thread::Builder::new().name("lookup".to_owned());
        // Without a thread there is no answer: dropping `running` says so.
        let _ = thread.spawn(move || running.end(lookup(&host)));
    })
}

fn lookup(host: &str) -> LookupResult {
    let found = (host, 0).to_socket_addrs().map_err(|error| {
        // EAI_AGAIN; the standard library has no kind for it, so the text is compared.
        let unanswered = error.to_string().contains("Temporary failure in name resolution");
        if unanswered { LookupError::Unanswered } else { LookupError::Absent }
    })?;
    let addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    if addresses.is_empty() { Err(LookupError::Absent) } else { Ok(addresses) }
}
