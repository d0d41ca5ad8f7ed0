//! Names that the library's caller answers itself.
//!
//! For tests and for programs with a resolver of their own: no argument, variable or file of the command line's leads
//! here. It changes where a name leads, and nothing else: certificates, credentials and the rule that a public origin
//! redirects to no private address go by the name and by the address connected to, as ever.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// What is asked for a name before the system's resolver. Knows no name by default.
///
/// Made of a table, or of a function for names whose addresses change from one lookup to the next.
#[derive(Clone, Default)]
pub struct Hosts(Option<Lookup>);

type Lookup = Arc<dyn Fn(&str) -> Option<Vec<IpAddr>> + Send + Sync>;

impl Hosts {
    /// Asks `lookup`, once for each connection that is made. `None` leaves a name to the system's resolver; no address
    /// at all says that the name does not resolve. Names come as they stand in the address: in small letters, without
    /// a port. It must not block.
    pub fn answered_by(lookup: impl Fn(&str) -> Option<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(lookup)))
    }

    /// The addresses of `host`, if it is a name that is known here.
    pub(crate) fn lookup(&self, host: &str) -> Option<Vec<IpAddr>> {
        self.0.as_ref().and_then(|lookup| lookup(host))
    }
}

impl From<BTreeMap<String, Vec<IpAddr>>> for Hosts {
    fn from(table: BTreeMap<String, Vec<IpAddr>>) -> Self {
        Self::answered_by(move |host| table.get(host).cloned())
    }
}

impl<N: Into<String>> FromIterator<(N, Vec<IpAddr>)> for Hosts {
    fn from_iter<T: IntoIterator<Item = (N, Vec<IpAddr>)>>(names: T) -> Self {
        names
            .into_iter()
            .map(|(name, addresses)| (name.into(), addresses))
            .collect::<BTreeMap<String, Vec<IpAddr>>>()
            .into()
    }
}

impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Hosts(..)" } else { "Hosts(none)" })
    }
}
