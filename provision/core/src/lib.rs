//! Values and rules that every part of the program shares: the lock, digests, ranges, the schedule, the journal's text.
//!
//! Nothing here does I/O, reads a clock or an environment variable, or is async.

pub mod backoff;
pub mod bencode;
pub mod byte_range;
pub mod byte_size;
pub mod digest;
pub mod event;
pub mod gguf;
pub mod journal;
pub mod lockfile;
pub mod model_path;
pub mod piece_index;
pub mod piece_list;
pub mod redact;
pub mod safetensors;
pub mod schedule;
pub mod shortened_list;
pub mod source_url;
pub mod store_address;
pub mod terminal_text;
pub mod torrent;
pub mod xml;
