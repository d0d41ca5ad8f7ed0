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

/// What most tests use.
mod prelude {
    pub(crate) use std::path::{Path, PathBuf};
    pub(crate) use std::process::{Child, Command, Output, Stdio};
    pub(crate) use std::sync::{Arc, Mutex};
    pub(crate) use std::time::{Duration, Instant};

    pub(crate) use provision_core::digest::Sha256;
    pub(crate) use provision_core::event::{Event, Outcome, Planned};
    pub(crate) use provision_core::piece_list::{MAX_PIECE, PieceList, VerifiedBy};
    pub(crate) use provision_core::schedule::Limits;
    pub(crate) use provision_disk::{Acquire, Destination, DestinationLock, PartFile, PartNames};
    pub(crate) use provision_http::{ClientConfig, Credential, HttpClient, ProxyVariable, Roots};
    pub(crate) use provision_testbed::{
        BlockingOrigin, Content, Control, Fault, OriginConfig, Shape, Tls, When, authority,
    };
    pub(crate) use rustix::process::{Pid, Signal};
    pub(crate) use tokio::sync::watch;

    pub(crate) use crate::fixture::{
        Fixture, PATIENCE, chmod, list_of, outcomes, start_encrypted_origin, start_origin, start_proxy,
        within, write,
    };
    pub(crate) use crate::program::{
        BINARY, Ended, Run, as_nobody, copy_program, environment, fetch, program, read_report, report_of,
        run, run_verb, signal, start, start_with_input, strace, verb, wait_until, write_program,
    };
    pub(crate) use crate::secrets::{self, MARK};
    pub(crate) use crate::skip::{
        needs, needs_root, needs_tool, with_mount, with_nobody, with_root, with_strace,
    };
}
