//! Edits `models.lock`: what is asked for, where it goes, and the file itself.
//!
//! `provision` reads a lock; this crate writes one. They are apart because what runs in a container never writes a lock,
//! and should not carry what that takes. Most of it asks no host: a [`source`] is taken apart and put together, a
//! [`layout`] is worked out from names, other tools' lists are read ([`import`]), and an [`edit`] changes the text. What
//! does ask has only that to do: [`resolve`] learns what a source is without fetching it, [`stream`] reads the bytes of one
//! whose digest nobody says, and [`make`] and [`check`] put that together into entries and verdicts.
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

pub mod resolve;
pub mod stream;

pub mod check;
pub mod make;
