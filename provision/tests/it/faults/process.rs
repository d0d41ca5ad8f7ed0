//! The process around a run: name lookups (fault 109).

mod lookups;
mod name_server;
