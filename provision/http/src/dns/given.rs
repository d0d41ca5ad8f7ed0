//! Names that the library's caller resolves itself.
//!
//! For tests, and for programs with a resolver of their own; no argument, variable or file of the command line sets
//! them. They change a name's addresses and nothing else: certificates and credentials still go by the name, and the
//! rule against private addresses by the address.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// A lookup before the system's resolver. The default knows no name.
///
/// It is built from a table, or from a function for names whose addresses change between lookups.
#[derive(Clone, Default)]
pub struct Hosts(Option<Lookup>);

type Lookup = Arc<dyn Fn(&str) -> Option<Vec<IpAddr>> + Send + Sync>;

impl Hosts {
    /// Calls `lookup` for new connections; a document's host is looked up at most once in twenty seconds. `None` leaves
    /// the name to the system's resolver; an empty list means that it does not resolve. Names are in lower case and
    /// without a port. `lookup` must not block.
    pub fn answered_by(lookup: impl Fn(&str) -> Option<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(lookup)))
    }

    /// True if the caller knows no name at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The addresses of `host`, if the caller knows the name.
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
