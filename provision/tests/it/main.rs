//! Integration tests over real sockets and real directories, a file per subject. A test of a case of the fault
//! catalogue begins with its number.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod both_clients;
mod cache;
mod clean;
mod comfyui;
mod command_line;
mod completion;
mod container_scripts;
mod credentials;
mod ensure;
mod faults;
mod fetching;
mod fixture;
mod hub;
mod importing;
mod init;
mod install_script;
mod interrupt;
mod local_copies;
mod lock_commands;
mod lock_pieces;
mod metadata;
mod owner;
mod piece_lists;
mod pieces;
mod program;
mod read_files;
mod resume;
mod reuse;
mod secrets;
mod sets;
mod several_lists;
mod side_by_side;
mod skip;
mod sources;
mod store;
mod store_addresses;
mod store_lists;
mod store_server;
mod stores_first;
mod torrents;
mod updates;
mod verify_pieces;
mod warm;
mod wrong_pieces;
