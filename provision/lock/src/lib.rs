//! Edits `models.lock`: what is asked for, where it goes, and the file itself.
//!
//! `provision` reads a lock; this crate writes one. They are apart because what runs in a container never writes a lock,
//! and should not carry what that takes. Nothing here asks a host: a [`source`] is taken apart and put together, a
//! [`layout`] is worked out from names, other tools' lists are read ([`import`]), and an [`edit`] changes the text. So all of
//! it can be tested without a server, and the part that does ask hosts has only that to do.
//!
//! Modules are listed from what knows least to what knows most; each may use those above it only.

pub mod entry;
pub mod expiry;
pub mod source;

pub mod edit;
pub mod import;
pub mod layout;
pub mod listing;

pub mod file;
