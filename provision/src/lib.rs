//! Puts model files where a container needs them: fast, proven, and never half there.
//!
//! A [`lockfile`] names each file's bytes and where they can be had; [`fetch`] gets what is missing, proves it and
//! installs it, so that a file under its final name always has exactly the bytes that the lock names.
//!
//! Modules are listed from what knows least to what knows most; each may use those above it only.

// Values: no I/O, no clock, no async.
pub mod backoff;
pub mod byte_range;
pub mod digest;
pub mod event;
pub mod lockfile;
pub mod model_path;
pub mod safetensors;
pub mod schedule;
pub mod source_url;
mod workers;

// Edges: the only places that touch the outside.
pub mod origin;
pub mod store;

// The job.
pub mod cache;
pub mod fetch;
pub mod inspect;
pub mod marker;
pub mod transfer;

// The shell.
#[cfg(feature = "cli")]
pub mod cli;

#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
