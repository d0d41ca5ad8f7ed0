//! The process around a run: its output, signals, name lookups (faults 107 to 109 and 112).

mod lookups;
mod name_server;
mod output;
mod stops;
mod texts;
