//! Edits of `models.lock`: sources, host APIs, importers, and the file itself.
//!
//! The fetch side only reads a lock; this crate writes one. The two are apart because a container never writes a lock
//! and should not carry the code for it. Most modules make no request: [`source`] parses a source as a person names it,
//! [`placement`] finds the file's folder, [`import`] reads other tools' lists, [`edit`] changes the text. [`resolve`]
//! asks hosts about a source without downloading it, and [`digest_reader`] reads the bytes of a file whose host
//! publishes no digest. [`entry_builder`] and [`check`] combine these into lock entries and verdicts.
//!
//! Modules are listed bottom-up; each may use only those above it.

pub mod entry;
pub mod expiry;
pub mod source;
pub mod web_seeds;

pub mod edit;
pub mod import;
pub mod listing;
pub mod placement;

pub mod file;

pub mod atomic_write;

pub mod piece_files;

pub mod digest_reader;
pub mod resolve;

pub mod check;
pub mod entry_builder;
