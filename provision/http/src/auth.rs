//! Credentials: tokens per host, netrc entries and the tokens that registries issue.

pub(crate) mod bearer;
pub mod credentials;
