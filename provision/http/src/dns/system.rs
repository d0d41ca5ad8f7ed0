//! The system's resolver: `getaddrinfo`, on a thread where it may block.

use std::net::IpAddr;
use std::time::Duration;

use super::lookup_error::LookupError;

/// The resolver. It has no state.
#[derive(Debug)]
pub(crate) struct Names;

impl Names {
    /// A new resolver. The limit is ignored: `getaddrinfo` has its own, and the client stops waiting after its time limit.
    pub(crate) fn new(_limit: Duration) -> Self {
        Self
    }

    /// The addresses of `host`, in the order in which they are tried; never empty.
    pub(crate) async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        let found = tokio::net::lookup_host((host, 0)).await.map_err(|error| {
            // EAI_AGAIN; the standard library has no kind for it, so the text is compared.
            let unanswered = error.to_string().contains("Temporary failure in name resolution");
            if unanswered { LookupError::Unanswered } else { LookupError::Absent }
        })?;
        let addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
        if addresses.is_empty() { Err(LookupError::Absent) } else { Ok(addresses) }
    }
}
