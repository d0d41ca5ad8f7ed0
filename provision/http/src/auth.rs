//! Authentication: credentials per host, and the bearer tokens that registries issue.

pub(crate) mod bearer;
pub mod credentials;
pub mod registries;
