//! Helpers that several commands share: programs, servers, certificates, test data, and builds of the programs under
//! test.

pub(crate) mod access_log;
pub(crate) mod certificates;
pub(crate) mod files;
pub(crate) mod lock_text;
pub(crate) mod name_server;
pub(crate) mod namespace;
pub(crate) mod nginx;
pub(crate) mod parallel;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod programs;
pub(crate) mod registry;
pub(crate) mod relay;
pub(crate) mod scratch;
pub(crate) mod steps;
pub(crate) mod token_service;
pub(crate) mod wait;
pub(crate) mod wheel;
