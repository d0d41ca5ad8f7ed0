//! The system's resolver, `getaddrinfo`, on a thread where it may block.

use std::net::IpAddr;
use std::time::Duration;

use super::LookupError;

/// Has no state: the system keeps it.
#[derive(Debug)]
pub(crate) struct Names;

impl Names {
    /// How long a lookup may take is the system's decision; the client gives up after its own time.
    pub(crate) fn new(_limit: Duration) -> Self {
        Self
    }

    /// The addresses of `host`, in the order in which to try them; never none.
    pub(crate) async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        let found = tokio::net::lookup_host((host, 0)).await.map_err(|error| {
            // EAI_AGAIN; the standard library has no kind for it.
            let unanswered = error.to_string().contains("Temporary failure in name resolution");
            if unanswered { LookupError::Unanswered } else { LookupError::Absent }
        })?;
        let addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
        if addresses.is_empty() { Err(LookupError::Absent) } else { Ok(addresses) }
    }
}
