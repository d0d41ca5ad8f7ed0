//! The failure of a name lookup, the same for both resolvers.

/// A lookup without an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    /// The name does not exist, or has no address.
    #[error("the name does not resolve")]
    Absent,
    /// No name server answered, so the name may exist.
    #[error("no name server answered")]
    Unanswered,
}
